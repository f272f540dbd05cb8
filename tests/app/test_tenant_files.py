"""The files about tenants: credentials and limits. What is wrong is said with its line; what is secret is not said at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from spanlake.app.config import load
from spanlake.app.config_text import effective
from spanlake.app.tenancy.credentials_file import read_credentials
from spanlake.app.tenancy.limit_values import strictest
from spanlake.app.tenancy.limits_file import read_limits_file
from spanlake.app.tenancy.limits_in_force import LimitsInForce
from spanlake.app.tenancy.stored_limits import StoredLimits
from spanlake.model.errors import ConfigError
from spanlake.model.settings import CompactionSettings, LimitSettings, OverrideSettings, QuerySettings, Settings
from spanlake.model.tenancy.limits import SETTING_OF, TenantLimits, default_limits
from spanlake.objectstore.opening import open_store
from spanlake.server.access.credentials import Credential, Role, secret_digest

READ = frozenset({Role.READ})


def credentials(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> tuple[Credential, ...]:
    path = tmp_path / "credentials.yaml"
    path.write_text(text)
    return read_credentials(path, environ or {})


def test_credentials_come_from_the_file_from_other_files_and_from_variables(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    text = f"""
credentials:
  - {{token: here, tenants: [a, b], roles: [read]}}
  - {{token_file: {tmp_path / "token"}, tenants: "*", roles: [read, write, admin]}}
  - {{token_variable: THE_TOKEN, tenants: a, roles: read}}
  - {{user: grafana, password: 'pass:word', tenants: [a], roles: [read]}}
"""
    assert credentials(tmp_path, text, {"THE_TOKEN": "from a variable"}) == (
        Credential(secret_digest("here"), frozenset({"a", "b"}), READ),
        Credential(secret_digest("from a file"), None, frozenset(Role)),
        Credential(secret_digest("from a variable"), frozenset({"a"}), READ),
        Credential(secret_digest("pass:word", user="grafana"), frozenset({"a"}), READ),
    )


def test_credentials_may_be_json(tmp_path: Path) -> None:
    text = '{"credentials": [{"token": "here", "tenants": ["a"], "roles": ["read"]}]}'
    assert credentials(tmp_path, text) == (Credential(secret_digest("here"), frozenset({"a"}), READ),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{tenants: [a], roles: [read]}", ":2: an entry without a user has one of token, token_file, token_variable"),
        ("{token: SECRET, token_file: x, tenants: [a], roles: [read]}", ":2: an entry without a user has one of"),
        ("{user: u, token: SECRET, tenants: [a], roles: [read]}", ":2: an entry with a user has one of password"),
        ("{user: 'a:b', password: SECRET, tenants: [a], roles: [read]}", ":2: a user's name must not be empty, nor have a colon"),
        ("{token: SECRET, roles: [read]}", ":2: the entry has no tenants"),
        ("{token: SECRET, tenants: [], roles: [read]}", ":2: the entry has no tenants"),
        ("{token: SECRET, tenants: [a], roles: []}", ":2: the entry has no roles; expected some of read, write, admin"),
        ("{token: SECRET, tenants: [a], roles: [root]}", ":2: 'root' is not a role"),
        ("{token: SECRET, tenants: [a/b], roles: [read]}", ":2: tenant name 'a/b' is refused"),
        ("{token: SECRET, tenants: [a, '*'], roles: [read]}", ":2: tenants are names, or '*' alone for all"),
        ("{tokken: SECRET, tenants: [a], roles: [read]}", ":2: tokken is not known"),
        ("{token: '', tenants: [a], roles: [read]}", ":2: the secret that token gives is empty"),
        ("{token: [SECRET], tenants: [a], roles: [read]}", ":2: token has a list or mapping"),
        ("{token_file: /no/such, tenants: [a], roles: [read]}", ":2: token_file '/no/such' cannot be read: No such file"),
        ("{token_variable: NONE, tenants: [a], roles: [read]}", ":2: the environment has no variable 'NONE'"),
        ("{token: SECRET, tenants: [a], roles: [read]}, {token: SECRET, tenants: [b], roles: [read]}", ": the same secret is given twice"),
        ("just text", ":2: an entry must be a mapping"),
    ],
)
def test_fault_in_credentials_is_named_with_its_line_and_without_the_secret(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        credentials(tmp_path, f"credentials:\n  [{entry}]\n")
    assert message in str(fault.value)
    assert "SECRET" not in str(fault.value)


@pytest.mark.parametrize("text", ["", "credentials: {}\n", "users: []\n", "- token\n"])
def test_a_file_without_credentials_lets_nobody_in_and_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        credentials(tmp_path, text)


def test_the_effective_settings_name_the_file_and_show_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "credentials.yaml"
    path.write_text("credentials: [{token: very-secret, tenants: '*', roles: [read]}]\n")
    text = effective(load(environ={"SPANLAKE_ACCESS_FILE": str(path)}))
    assert str(path) in text
    assert "very-secret" not in text


# Limits


def limits_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "overrides.yaml"
    path.write_text(text)
    return path


def test_every_limit_has_a_setting_with_its_default() -> None:
    assert set(SETTING_OF) == set(TenantLimits.__dataclass_fields__)
    assert default_limits(Settings()) == TenantLimits()


def test_limits_file_is_read(tmp_path: Path) -> None:
    text = "overrides:\n  acme:\n    ingest_bytes_per_second: 10MB\n    retention_seconds: 30d\n  other: {trace_spans_max: 7}\n  empty:\n"
    assert read_limits_file(limits_file(tmp_path, text)) == {
        "acme": {"ingest_bytes_per_second": 10_000_000, "retention_seconds": 30 * 86400},
        "other": {"trace_spans_max": 7},
        "empty": {},
    }
    assert read_limits_file(limits_file(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("overrides: {a: {ingest_bytes: 1}}", ":1: a: ingest_bytes is not a limit; did you mean ingest_b"),
        ("overrides:\n  a:\n    trace_spans_max: many", ":3: a: trace_spans_max is 'many'; expected a whole number, at least 0"),
        ("overrides: {a: {trace_spans_max: 1.5}}", ":1: a: trace_spans_max is 1.5; expected a whole number"),
        ("overrides: {a: {trace_spans_max: -1}}", ":1: a: trace_spans_max is -1, out of range"),
        ("overrides: {a: {trace_spans_max: [1]}}", ":1: a.trace_spans_max has a list or mapping"),
        ("overrides: {a: {trace_spans_max: 1, trace_spans_max: 2}}", ":1: a.trace_spans_max is given twice"),
        ("overrides: {a: {}, a: {}}", ":1: a is given twice"),
        ("overrides: {'a/b': {}}", ":1: tenant name 'a/b' is refused"),
        ("tenants: {}", ":1: tenants is not known"),
        ("overrides: [a]", ":1: overrides must be a mapping of tenants"),
        ("overrides: {a: 5}", ":1: a must be a mapping of limits"),
        ("a: [", "not YAML"),
    ],
)
def test_fault_in_limits_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        read_limits_file(limits_file(tmp_path, text))
    assert message in str(fault.value)


def in_force(tmp_path: Path, path: Path) -> LimitsInForce:
    settings = Settings(
        limits=LimitSettings(trace_spans_max=5),
        query=QuerySettings(range_seconds_max=60),
        compaction=CompactionSettings(retention_seconds=100),
        overrides=OverrideSettings(file=str(path)),
        retention_by_tenant={"kept": 1000, "acme": 2000},
    )
    return LimitsInForce(settings, StoredLimits(open_store(str(tmp_path / "store"))))


def test_limits_in_force_follow_the_file_and_survive_a_broken_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = limits_file(tmp_path, "overrides: {acme: {trace_spans_max: 7}}")
    limits = in_force(tmp_path, path)
    assert limits.of("anybody") == TenantLimits(trace_spans_max=5, query_range_seconds_max=60, retention_seconds=100)
    assert (limits.of("acme").trace_spans_max, limits.of("acme").retention_seconds) == (7, 2000)
    assert (limits.of("kept").trace_spans_max, limits.of("kept").retention_seconds) == (5, 1000)
    path.write_text("overrides: {acme: {trace_spans_max: broken}}")
    limits.reload()
    limits.reload()
    assert limits.of("acme").trace_spans_max == 7
    assert limits.failures["file"] == 2
    assert [record.message for record in caplog.records].count("the limits of tenants cannot be read, those in force stay") == 1
    path.write_text("overrides: {acme: {retention_seconds: 3000}}")
    limits.reload()
    assert (limits.of("acme").trace_spans_max, limits.of("acme").retention_seconds) == (5, 3000)
    path.unlink()
    limits.reload()
    assert limits.of("acme").retention_seconds == 3000
    assert limits.failures["file"] == 3


def test_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a limit"):
        in_force(tmp_path, limits_file(tmp_path, "overrides: {a: {speed: 1}}"))


def test_several_tenants_at_once_have_the_strictest_of_their_limits(tmp_path: Path) -> None:
    text = "overrides: {a: {query_range_seconds_max: 10}, b: {query_range_seconds_max: 20, query_concurrency_max: 3}}"
    limits = in_force(tmp_path, limits_file(tmp_path, text))
    both = limits.of("a|b")
    assert (both.query_range_seconds_max, both.query_concurrency_max, both.trace_spans_max) == (10, 3, 5)
    assert strictest([TenantLimits(live_bytes_max=0), TenantLimits(live_bytes_max=0)]).live_bytes_max == 0
