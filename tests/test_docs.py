"""The documentation is true: links lead somewhere, commands parse, examples run, and every metric and message is the program's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from serving import serving

from spanlake.app.assemble import build_system
from spanlake.app.cli.main import build_parser
from spanlake.app.config_schema import schema_of
from spanlake.app.load.traces import TraceTemplates
from spanlake.model.settings import IngestSettings, Settings
from spanlake.server.listeners import Listeners

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]
OPERATING = (ROOT / "docs/operating.md").read_text()
SOURCE = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))

LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """Without code blocks."""
    return FENCE.sub("", text)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as code forges make them."""
    headings = re.findall(r"^#+ (.*)$", prose(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def cells_under(heading: str, column: int = 1) -> Iterator[str]:
    """The cells of a column (from 1) of the first table under a heading of docs/operating.md."""
    section = OPERATING.partition(f"\n{heading}\n")[2]
    assert section, heading
    table = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[0]
    for row in table.splitlines()[2:]:
        yield row.split("|")[column].strip()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    broken = []
    for target in LINK.findall(prose(document.read_text())):
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if re.match(r"[a-z]+://", target):
            continue
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


def commands() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for _, block in FENCE.findall(document.read_text()):
            for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    del words[0]
                if words and words[0].endswith("spanlake"):
                    yield document.name, shlex.join(words[1:])


@pytest.mark.parametrize(("document", "command"), sorted(set(commands())))
def test_commands_are_understood(document: str, command: str) -> None:
    build_parser().parse_args(shlex.split(command))


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_mentioned_exist(name: str) -> None:
    known = schema_of().leaves
    sections = {path.partition(".")[0] for path in known if "." in path}
    words = (word.partition("=")[0] for word in CODE.findall(prose((ROOT / name).read_text())))
    mentioned = (word for word in words if re.fullmatch(r"[a-z]+\.[a-z_]+", word) and word.partition(".")[0] in sections)
    assert [word for word in mentioned if word not in known] == []


def test_architecture_names_files_that_exist() -> None:
    named = [word for word in CODE.findall((ROOT / "ARCHITECTURE.md").read_text()) if re.fullmatch(r"[\w/]+(/|\.py)", word)]
    assert len(named) > 20
    places = (ROOT / "src/spanlake", ROOT, ROOT / "src/spanlake/server")
    assert [word for word in named if not any((place / word).exists() for place in places)] == []


def test_architecture_names_every_package() -> None:
    layers = FENCE.findall((ROOT / "ARCHITECTURE.md").read_text())[0][1]
    packages = {path.parent.name for path in (ROOT / "src/spanlake").glob("*/__init__.py")}
    assert packages == set(re.findall(r"\w+", " ".join(line[:33] for line in layers.splitlines())))


def test_readme_names_every_benchmark() -> None:
    measured = (ROOT / "README.md").read_text().partition("<!-- measured: begin")[2].partition("<!-- measured: end -->")[0]
    assert sorted(set(re.findall(r"\(bench/(bench_\w+\.py)\)", measured))) == sorted(
        path.name for path in (ROOT / "bench").glob("bench_*.py")
    )


# Monitoring


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[CollectorRegistry]:
    """All metrics of a server that was put together and not started."""
    settings = Settings(data=str(tmp_path / "data"))
    system = build_system(settings, "")
    Listeners(system.core, settings.server, settings.query)
    yield system.registry
    system.stop(flush=False)


def exposed_names(registry: CollectorRegistry) -> set[str]:
    return {family.name + "_total" * (family.type == "counter") for family in registry.collect()}


def test_every_metric_is_documented(registry: CollectorRegistry) -> None:
    documented = {cell.strip("`").partition("{")[0] for cell in cells_under("## Metrics")}
    prefixes = tuple(name[:-1] for name in documented if name.endswith("*"))
    exposed = exposed_names(registry)
    assert sorted(name for name in exposed - documented if not name.startswith(prefixes)) == [], "add them to docs/operating.md"
    assert sorted(name for name in documented - exposed if not name.endswith("*")) == [], "no longer exposed"


def test_alerts_use_metrics_that_exist(registry: CollectorRegistry) -> None:
    alerts = OPERATING.partition("\n### Alerts")[2].partition("\n## ")[0]
    used = set(re.findall(r"spanlake_\w+", alerts))
    assert len(used) > 5
    assert used <= exposed_names(registry)


def test_metrics_that_are_mentioned_exist(registry: CollectorRegistry) -> None:
    mentioned = {name for document in DOCUMENTS for name in re.findall(r"`(spanlake_\w+)`", document.read_text())}
    assert mentioned <= exposed_names(registry)


def test_messages_are_the_programs() -> None:
    """Each part of a message between the dots is in the sources, whatever a format string has in between."""
    messages = [*cells_under("## Trouble, by message"), *cells_under("## Back-pressure", column=2)]
    parts = [part.strip(" `") for message in messages for part in message.split("…")]
    assert len(messages) > 20
    assert [part for part in parts if part and part not in SOURCE] == []


# Examples


def python_blocks(name: str) -> list[str]:
    return [block for language, block in FENCE.findall((ROOT / name).read_text()) if language == "python"]


@pytest.mark.filterwarnings("default")
def test_readme_opens_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    system = build_system(Settings(ingest=IngestSettings(cut_interval_seconds=3600)), "")
    system.start()
    system.wait_until_ready()
    assert system.readiness() == ""
    system.pipeline.accept("single-tenant", TraceTemplates(0, spans_per_payload=500).payload(0, 1_790_000_000 * 10**9))
    system.stop(flush=True)
    blocks = [block for block in python_blocks("README.md") if "data/tables/single-tenant" in block]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "resource.service.name" in printed
    assert "span.http.route" in printed


@pytest.mark.parametrize("program", [ROOT / "examples/otel_python.py", "README.md"])
def test_sdk_examples_send_spans(program: Path | str, tmp_path: Path) -> None:
    if isinstance(program, str):
        source = next(block for block in python_blocks(program) if "OTLPSpanExporter" in block)
        program = tmp_path / "readme.py"
        program.write_text(source)
    with serving() as served:
        environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{served.ports.otlp_grpc}"}
        run = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True, env=environment, timeout=60)
        assert len(served.receiver.pushed) == 1, run.stderr
        assert b"POST /checkout" in served.receiver.pushed[0][1]
