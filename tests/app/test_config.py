"""Settings from files, environment and options: precedence, places, and errors that say where and what instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.app.config import Loaded, load
from spanlake.app.config_schema import Choice, Flag, Kind, Number, NumberByName, Text, Value, build, parse, schema_of, show_number, value_of
from spanlake.app.config_text import effective, settings_markdown, show_value
from spanlake.model.errors import ConfigError
from spanlake.model.settings import Settings

MIB = 1 << 20


def load_text(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None, *options: tuple[str, str, str]) -> Loaded:
    file = folder / "spanlake.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(config_file=str(file), environ=environ or {}, options=options)


def error_of(
    folder: Path, *, file: str | bytes = "", environ: Mapping[str, str] | None = None, options: Iterable[tuple[str, str, str]] = ()
) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(folder, file, environ, *options)
    return str(caught.value).replace(str(folder) + "/", "")


def test_settings_are_the_defaults_when_nothing_is_given() -> None:
    assert load(environ={"PATH": "/bin", "SPANLAKER": "x"}) == Loaded(Settings(), {})


def test_later_layer_wins_when_several_give_a_setting(tmp_path: Path) -> None:
    file = "data: from-file\nserver: {host: from-file, http_port: 1, otlp_grpc_port: 1}\nlog:\n  level: debug\n"
    environ = {"SPANLAKE_SERVER_HTTP_PORT": "2", "SPANLAKE_SERVER_OTLP_GRPC_PORT": "2"}
    loaded = load_text(
        tmp_path, file, environ, ("server.otlp_grpc_port", "3", "--otlp-grpc-port"), ("data", "a", "--data"), ("data", "b", "--set")
    )
    server = loaded.settings.server
    assert (loaded.settings.data, server.host, server.http_port, server.otlp_grpc_port) == ("b", "from-file", 2, 3)
    assert loaded.places == {
        "data": "option --set",
        "server.host": f"file {tmp_path}/spanlake.yaml:2",
        "server.http_port": "environment SPANLAKE_SERVER_HTTP_PORT",
        "server.otlp_grpc_port": "option --otlp-grpc-port",
        "log.level": f"file {tmp_path}/spanlake.yaml:4",
    }


def test_file_is_named_by_the_environment_when_no_option_names_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: a")
    (tmp_path / "b.yaml").write_text("data: b")
    environ = {"SPANLAKE_CONFIG": str(tmp_path / "a.yaml")}
    assert load(environ=environ).settings.data == "a"
    assert load(environ=environ, config_file=str(tmp_path / "b.yaml")).settings.data == "b"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "server:\n  # http_port: 1\nlog: ~\n"])
def test_file_gives_nothing_when_it_or_its_sections_are_empty(tmp_path: Path, text: str) -> None:
    assert load_text(tmp_path, text) == Loaded(Settings(), {})


def test_file_takes_dotted_names_and_anchors(tmp_path: Path) -> None:
    server = load_text(tmp_path, "server.http_port: &port 7\nserver: {otlp_http_port: *port}\n").settings.server
    assert (server.http_port, server.otlp_http_port) == (7, 7)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("server:\n  http_prot: 1\n", "file spanlake.yaml:2: server.http_prot is not a setting; did you mean server.http_port?"),
        ("\nhttp_port: 1\n", "file spanlake.yaml:2: http_port is not a setting; did you mean server.http_port?"),
        ("sever:\n  http_port: 1\n", "file spanlake.yaml:1: sever is not a setting; did you mean server?"),
        ("zzz: 1\n", "file spanlake.yaml:1: zzz is not a setting; `spanlake config` lists all"),
        ("server: {<<: {host: x}}\n", "file spanlake.yaml:1: server.<< is not a setting; "),
        ("data: a\nserver:\n  host: x\n  host: y\n", "file spanlake.yaml:4: server.host is given twice, first at file spanlake.yaml:3"),
        ("log.level: info\nlog: {level: info}\n", "file spanlake.yaml:2: log.level is given twice, first at file spanlake.yaml:1"),
        ("server: 5\n", "file spanlake.yaml:1: server must be a mapping of settings"),
        ("- data\n", "file spanlake.yaml:1: the file must be a mapping of settings"),
        ("? [a]\n: 1\n", "file spanlake.yaml:1: a name in the file is not plain text"),
        ("data:\n", "file spanlake.yaml:1: data has no value; expected text"),
        ("data: [a]\n", "file spanlake.yaml:1: data has a list or mapping; expected text"),
        ("data: {a: b}\n", "file spanlake.yaml:1: data takes text, not a mapping"),
        (
            "server: {http_port: 70000}\n",
            "file spanlake.yaml:1: server.http_port is 70000, out of range; expected a whole number, 0 to 65535",
        ),
        ("server: {http_port: http}\n", "file spanlake.yaml:1: server.http_port is 'http'; expected a whole number, 0 to 65535"),
        ("server: {multitenancy: maybe}\n", "file spanlake.yaml:1: server.multitenancy is 'maybe'; allowed: true, false"),
        ("wal: {fsync: sometimes}\n", "file spanlake.yaml:1: wal.fsync is 'sometimes'; allowed: always, interval, never"),
        (
            "query:\n  trace_bytes_max: 1\n",
            "file spanlake.yaml:2: query.trace_bytes_max is 1, out of range; expected a whole number of bytes or a size such as",
        ),
        ("retention_by_tenant: {a: 1d, a: 2d}\n", "file spanlake.yaml:1: retention_by_tenant.a is given twice"),
        ("a: [\n", "file spanlake.yaml:2: not YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "file spanlake.yaml:2: not YAML: but found another document"),
        (b"data: \xff\n", "file spanlake.yaml: not YAML: 'utf-8' codec can't decode byte 0xff in position 6: invalid start byte"),
        ("[" * 5000, "file spanlake.yaml: not YAML: maximum recursion depth exceeded"),
        (b"#" * (1 << 20) + b"\n", "file spanlake.yaml: longer than 1048576 bytes"),
    ],
)
def test_file_error_names_place_and_remedy(tmp_path: Path, file: str | bytes, message: str) -> None:
    assert error_of(tmp_path, file=file).startswith(message)


def test_file_error_says_why_when_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file .*/nowhere\.yaml: cannot be read: No such file or directory"):
        load(config_file=str(tmp_path / "nowhere.yaml"), environ={})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(config_file=str(tmp_path), environ={})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("SPANLAKE_SERVER_HTTP_PROT", "1", "SPANLAKE_SERVER_HTTP_PROT is not a setting; did you mean SPANLAKE_SERVER_HTTP_PORT?"),
        ("SPANLAKE_HTTP_PORT", "1", "SPANLAKE_HTTP_PORT is not a setting; did you mean SPANLAKE_SERVER_HTTP_PORT?"),
        ("SPANLAKE_CONFG", "1", "SPANLAKE_CONFG is not a setting; did you mean SPANLAKE_CONFIG?"),
    ],
)
def test_environment_error_suggests_a_variable_when_one_is_unknown(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert error_of(tmp_path, environ={name: text}) == f"environment: {message}"


def test_environment_error_names_the_variable_when_a_value_is_bad(tmp_path: Path) -> None:
    message = error_of(tmp_path, environ={"SPANLAKE_SERVER_HTTP_PORT": ""})
    assert message == "environment SPANLAKE_SERVER_HTTP_PORT: server.http_port is ''; expected a whole number, 0 to 65535"


def test_environment_may_name_the_directory_of_compiled_kernels() -> None:
    assert load(environ={"SPANLAKE_KERNEL_CACHE": "/opt/kernels"}) == Loaded(Settings(), {})


def test_environment_of_service_discovery_is_not_ours() -> None:
    environ = {
        "SPANLAKE_SERVICE_HOST": "10.0.0.1",
        "SPANLAKE_SERVICE_PORT": "3200",
        "SPANLAKE_SERVICE_PORT_HTTP": "3200",
        "SPANLAKE_PORT": "tcp://10.0.0.1:3200",
        "SPANLAKE_PORT_3200_TCP": "tcp://10.0.0.1:3200",
        "SPANLAKE_PORT_3200_TCP_ADDR": "10.0.0.1",
        "SPANLAKE_QUERY_SERVICE_HOST": "10.0.0.2",
        "SPANLAKE_QUERY_PORT": "tcp://10.0.0.2:3200",
        "SPANLAKE_QUERY_PORT_3200_TCP_PROTO": "tcp",
    }
    assert load(environ=environ) == Loaded(Settings(), {})


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("server.http_prot", "1", "option --set: server.http_prot is not a setting; did you mean server.http_port?"),
        ("server", "1", "option --set: server is not a setting; did you mean server.host?"),
        ("server.http_port", "x", "option --set: server.http_port is 'x'; expected a whole number, 0 to 65535"),
    ],
)
def test_option_error_names_the_option(tmp_path: Path, path: str, text: str, message: str) -> None:
    assert error_of(tmp_path, options=[(path, text, "--set")]) == message


BYTES = Number(whole=True, unit="bytes", least=0, most=None)
SECONDS = Number(whole=False, unit="seconds", least=0, most=None)
WHOLE_SECONDS = Number(whole=True, unit="seconds", least=0, most=3600)
SHARE = Number(whole=False, unit="", least=0.01, most=1)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (BYTES, "64MiB", 64 * MIB),
        (BYTES, "64 mib", 64 * MIB),
        (BYTES, "1.5KiB", 1536),
        (BYTES, "64MB", 64_000_000),
        (BYTES, "7B", 7),
        (BYTES, "1_000", 1000),
        (BYTES, " 1e6 ", 1_000_000),
        (SECONDS, "14d", 14 * 86400.0),
        (SECONDS, "1h30m", 5400.0),
        (SECONDS, "250ms", 0.25),
        (SECONDS, "0.5", 0.5),
        (SECONDS, "1w", 604800.0),
        (WHOLE_SECONDS, "2m", 120),
        (WHOLE_SECONDS, "2000ms", 2),
        (SHARE, "1", 1.0),
        (SHARE, "0.01", 0.01),
        (Flag(), "Yes", True),
        (Flag(), "off", False),
        (Text(), "", ""),
        (Choice(("a", "b")), "b", "b"),
        (NumberByName(SECONDS), "acme=30d, other=7", {"acme": 2592000.0, "other": 7.0}),
        (NumberByName(SECONDS), "", {}),
        (NumberByName(SECONDS), {"acme": "1m"}, {"acme": 60.0}),
    ],
)
def test_text_means_value(kind: Kind, text: str | dict[str, str], value: Value) -> None:
    parsed = parse(kind, text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            BYTES,
            [
                "",
                "MiB",
                "64 iB",
                "-1",
                "1.5",
                "0.3KiB",
                "5s",
                "nan",
                "inf",
                "0x10",
                "1e999",
                "1e99",
                "٣",
                "9" * 65,
                "1__0",
                "9223372036854775808",
            ],
        ),
        (SECONDS, ["5x", "5 s", "1h 30m", "-5s", "64MiB", "1:30", "s", "infinity"]),
        (WHOLE_SECONDS, ["1500ms", "3601", "2h"]),
        (SHARE, ["0", "0.0099", "1.01", "50%", "1s"]),
        (Flag(), ["", "2", "truee"]),
        (Choice(("a", "b")), ["", "A", "c"]),
        (NumberByName(SECONDS), ["acme", "=5", "acme=", "acme=x", "acme=-1", {"acme": "x"}]),
        (Text(), [{"a": "b"}]),
    ],
)
def test_text_is_refused_when_it_means_no_value(kind: Kind, texts: list[str | dict[str, str]]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"expected|allowed|takes"):
            parse(kind, text)


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (64 * MIB, "bytes", "64MiB"),
        (1000, "bytes", "1000B"),
        (1209600.0, "seconds", "14d"),
        (90.0, "seconds", "90s"),
        (0.05, "seconds", "0.05s"),
    ],
)
def test_number_is_shown_with_the_largest_exact_unit(number: float, unit: str, text: str) -> None:
    assert show_number(number, "bytes" if unit == "bytes" else "seconds") == text


def test_defaults_are_values_that_would_be_accepted() -> None:
    for leaf in schema_of().leaves.values():
        if not isinstance(leaf.kind, NumberByName):
            assert parse(leaf.kind, show_value(leaf.default, leaf.kind).replace("''", "")) == leaf.default, leaf.path


def values_of(kind: Kind) -> st.SearchStrategy[Value]:
    match kind:
        case Flag():
            return st.booleans()
        case Text():
            return st.text(st.characters(exclude_categories=["Cs"]))
        case Choice(words):
            return st.sampled_from(words)
        case Number():
            return numbers_of(kind)
        case NumberByName(number):
            return st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), numbers_of(number).map(float), max_size=3)


def numbers_of(kind: Number) -> st.SearchStrategy[int | float]:
    most = 1e12 if kind.most is None else kind.most
    assert kind.least is not None
    return st.integers(int(kind.least), int(most)) if kind.whole else st.floats(kind.least, most)


ANY_VALUES = st.fixed_dictionaries({}, optional={leaf.path: values_of(leaf.kind) for leaf in schema_of().leaves.values()})


@settings(max_examples=30, deadline=None)
@given(values=ANY_VALUES)
def test_effective_text_loads_as_the_same_settings(values: dict[str, Value], tmp_path_factory: pytest.TempPathFactory) -> None:
    built = build(Settings, values)
    again = load_text(tmp_path_factory.mktemp("effective"), effective(Loaded(built, {})))
    assert again.settings == built
    assert set(again.places) == set(schema_of().leaves)


def test_effective_text_shows_meaning_and_place_of_every_setting(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "compaction: {retention_seconds: 30d}", {"SPANLAKE_RETENTION_BY_TENANT": "acme=7d"})
    text = effective(loaded)
    assert "\n  # spans older than this are removed; 0 keeps them for ever\n  retention_seconds: 2592000  # 30d, file " in text
    assert "\nretention_by_tenant: {acme: 604800.0}  # acme=7d, environment SPANLAKE_RETENTION_BY_TENANT\n" in text
    assert "  keep_alive_seconds: 75  # default\n" in text
    for leaf in schema_of().leaves.values():
        assert leaf.meaning in text
    assert yaml.safe_load(text)["server"]["http_port"] == Settings().server.http_port


def test_markdown_names_every_setting_and_variable() -> None:
    text = settings_markdown()
    for leaf in schema_of().leaves.values():
        assert f"| `{leaf.path}`<br>`{leaf.variable}` | " in text
    assert all(line.count(" | ") == 3 for line in text.splitlines() if line.startswith("| `"))


def test_built_tree_has_the_given_values_and_defaults_elsewhere() -> None:
    built = build(Settings, {"server.http_port": 5})
    assert value_of(built, "server.http_port") == 5
    assert value_of(built, "server.host") == Settings().server.host
