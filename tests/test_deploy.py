"""The files under deploy/ cannot be run here. So everything in them that the code knows is looked up: options, settings, ports, files,
metrics, queries; and what Grafana's data source reads is spelled as it reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from spanlake.app.assemble import build_system
from spanlake.app.cli.main import build_parser
from spanlake.app.config import load
from spanlake.model.settings import ServerSettings, Settings
from spanlake.server.listeners import Listeners
from spanlake.traceql import check, parse

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[\w.-]*")
NOT_SETTINGS = {"SPANLAKE_KERNEL_CACHE"}
PORTS = {getattr(ServerSettings(), name) for name in ("http_port", "grpc_port", "otlp_grpc_port", "otlp_http_port")}


def read_yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


COMPOSE = read_yaml("docker-compose.yaml")
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("spanlake:")}
SOURCES = read_yaml("grafana/provisioning/datasources/spanlake.yaml")["datasources"]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/spanlake.json").read_text())


# The Dockerfile: (instruction, rest of the line with continuations joined)

INSTRUCTIONS = [
    (line.split(None, 1)[0], line.split(None, 1)[1])
    for line in re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()
    if line.strip() and not line.startswith("#")
]


def rest_of(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def test_images_are_pinned() -> None:
    bases = [rest.split()[0] for rest in rest_of("FROM")]
    assert len(set(bases)) == 1, "kernels are compiled for the Python that runs them"
    images = [*bases, *(service["image"] for service in COMPOSE["services"].values())]
    assert [image for image in images if not PINNED.fullmatch(image)] == []


def test_image_is_copied_from_files_that_exist_and_are_not_ignored() -> None:
    copied = [word for rest in rest_of("COPY") if not rest.startswith("--from") for word in rest.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sorted(kept) == sorted(copied)


def test_image_has_warm_kernels_for_a_user_that_is_not_root() -> None:
    names = [name for name, _ in INSTRUCTIONS]
    assert rest_of("USER") == ["spanlake"]
    assert [rest for rest in rest_of("RUN") if rest.startswith("spanlake ")] == ["spanlake warmup"]
    warmup = next(place for place, (_, rest) in enumerate(INSTRUCTIONS) if rest == "spanlake warmup")
    assert names.index("USER") < warmup, "whoever runs the server compiles its kernels"
    made = next(rest for rest in rest_of("RUN") if "useradd" in rest)
    assert environment()["SPANLAKE_KERNEL_CACHE"] in made
    assert environment()["SPANLAKE_DATA"] in made


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for rest in rest_of("ENV") for pair in rest.split())


def test_environment_is_settings() -> None:
    given = [environment(), *({**environment(), **service.get("environment", {})} for service in OURS.values())]
    for variables in given:
        ours = {name: value for name, value in variables.items() if name.startswith("SPANLAKE_") and name not in NOT_SETTINGS}
        settings = load(environ=ours).settings
        assert settings.server.host == "0.0.0.0", "the other containers must reach it"
        assert settings.data == "/var/lib/spanlake"


def test_exposed_ports_are_the_servers() -> None:
    assert {int(port) for rest in rest_of("EXPOSE") for port in rest.split()} == PORTS
    assert f"127.0.0.1:{ServerSettings().http_port}/ready" in rest_of("HEALTHCHECK")[0]


# Commands and services


def commands() -> Iterator[list[str]]:
    (entrypoint,) = rest_of("ENTRYPOINT")
    assert json.loads(entrypoint) == ["spanlake"]
    yield json.loads(rest_of("CMD")[0])
    yield from (rest.split()[1:] for rest in rest_of("RUN") if rest.startswith("spanlake "))
    yield from (service["command"] for service in OURS.values())


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_commands_exist_with_their_options(command: list[str]) -> None:
    arguments = build_parser().parse_args(command)
    assert callable(arguments.run)


def test_services_find_each_other_under_ports_that_are_served() -> None:
    texts = [json.dumps(part) for part in (COMPOSE, SOURCES, read_yaml("prometheus.yml"))]
    ours = {int(port) for text in texts for port in re.findall(r"\bspanlake:(\d{4})\b", text)}
    assert ours == {3200, 4317}
    assert ours <= PORTS
    hosts = {host for source in SOURCES for host in re.findall(r"//(\w+):", source["url"])}
    assert hosts <= set(COMPOSE["services"])
    published = [mapping.split(":") for service in OURS.values() for mapping in service.get("ports", [])]
    assert all(address == "127.0.0.1" and outer == inner and int(inner) in PORTS for address, outer, inner in published)


def test_volumes_are_files_that_exist_or_are_declared() -> None:
    mounts = [volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    assert [name for name in mounts if name.startswith(".") and not (DEPLOY / name).exists()] == []
    assert {name for name in mounts if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert OURS["spanlake"]["volumes"] == [f"spanlake:{environment()['SPANLAKE_DATA']}"]
    assert (DEPLOY / OURS["spanlake"]["build"]["context"] / OURS["spanlake"]["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_grafana_looks_for_the_dashboard_where_it_is_mounted() -> None:
    (provider,) = read_yaml("grafana/provisioning/dashboards/spanlake.yaml")["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in COMPOSE["services"]["grafana"]["volumes"]


# Data sources


def test_data_source_says_what_grafana_reads() -> None:
    by_type = {source["type"]: source for source in SOURCES}
    assert set(by_type) == {"tempo", "prometheus", "loki"}
    ours = by_type["tempo"]["jsonData"]
    assert ours["streamingEnabled"] == {"search": True, "metrics": True}
    uids = {kind: source["uid"] for kind, source in by_type.items()}
    assert ours["serviceMap"]["datasourceUid"] == ours["tracesToMetrics"]["datasourceUid"] == uids["prometheus"]
    assert ours["tracesToLogsV2"]["datasourceUid"] == uids["loki"]
    assert by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"] == [{"name": "traceID", "datasourceUid": uids["tempo"]}]
    assert by_type["loki"]["jsonData"]["derivedFields"][0]["datasourceUid"] == uids["tempo"]
    assert [source["name"] for source in SOURCES if source.get("isDefault")] == ["spanlake"]


@pytest.mark.parametrize(
    ("line", "trace_id"),
    [
        ("level=info traceID=0af7651916cd43dd8448eb211c80319c done", "0af7651916cd43dd8448eb211c80319c"),
        ('{"trace_id":"0af7651916cd43dd8448eb211c80319c"}', "0af7651916cd43dd8448eb211c80319c"),
        ("traceId: 8448eb211c80319c", "8448eb211c80319c"),
        ("trace=1", None),
    ],
)
def test_trace_ids_are_found_in_logs(line: str, trace_id: str | None) -> None:
    (field,) = next(source for source in SOURCES if source["type"] == "loki")["jsonData"]["derivedFields"]
    found = re.search(field["matcherRegex"], line)
    assert (found[1] if found else None) == trace_id


def test_dollars_are_written_twice_where_grafana_reads_its_environment() -> None:
    text = re.sub(r"#.*", "", (DEPLOY / "grafana/provisioning/datasources/spanlake.yaml").read_text())
    assert re.findall(r"(?<!\$)\$(?!\$)", text.replace("$$", "")) == []


# The dashboard


def targets() -> list[dict[str, Any]]:
    return [target for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_dashboard_uses_data_sources_that_are_provisioned() -> None:
    known = {(source["type"], source["uid"]) for source in SOURCES}
    used = {(one["datasource"]["type"], one["datasource"]["uid"]) for one in [*DASHBOARD["panels"], *targets()]}
    assert used <= known


def test_dashboard_queries_are_traceql() -> None:
    queries = [target["query"] for target in targets() if target["datasource"]["type"] == "tempo"]
    assert queries
    for query in queries:
        check(parse(query), regex_problem=lambda _: None)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[CollectorRegistry]:
    """All metrics of a server that was put together and not started."""
    settings = Settings(data=str(tmp_path / "data"))
    system = build_system(settings, "")
    Listeners(system.core, settings.server, settings.query)
    yield system.registry
    system.stop(flush=False)


def sample_names(registry: CollectorRegistry) -> set[str]:
    """What Prometheus finds, also of metrics that have no sample yet."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + suffix for family in registry.collect() for suffix in suffixes.get(family.type, ("",))}


def test_dashboard_shows_metrics_that_exist(registry: CollectorRegistry) -> None:
    used = {name for target in targets() if "expr" in target for name in re.findall(r"\b(?:spanlake|process)_\w+", target["expr"])}
    assert len(used) > 15
    assert used <= sample_names(registry)


def test_dashboard_panels_do_not_overlap_and_have_different_ids() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (place["x"] + right, place["y"] + down)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for right in range(place["w"])
        for down in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
