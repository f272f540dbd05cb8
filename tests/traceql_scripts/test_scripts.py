"""Every behaviour script, against the naive evaluator: the expectations agree with each other and with an independent reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from naive import Answer, search_traces
from naive_metrics import query_instant, query_range
from naive_spans import Trace, traces_of
from naive_tags import values
from script_language import Section, parse_script
from script_running import all_sections, failures
from series_answers import SeriesAnswer


@dataclass(frozen=True, slots=True)
class NaiveAnswers:
    """The naive evaluator over some traces."""

    traces: list[Trace]

    def search(self, query: str, overlaps_ns: tuple[int, int] | None, limit: int) -> Answer:
        return search_traces(query, self.traces, overlaps_ns=overlaps_ns, limit=limit)

    def metrics(self, query: str, window_ns: tuple[int, int], step_ns: int, exemplars_max: int) -> SeriesAnswer:
        if not step_ns:
            return SeriesAnswer(query_instant(query, self.traces, window_ns=window_ns))
        return SeriesAnswer(query_range(query, self.traces, window_ns=window_ns, step_ns=step_ns))

    def tag_values(self, tag: str, filter_text: str) -> list[list[str]]:
        return values(tag, filter_text, self.traces)


@pytest.mark.parametrize("section", all_sections(), ids=[section.name for section in all_sections()])
def test_script_holds_for_the_naive_evaluator(section: Section) -> None:
    traces = traces_of(span for push in section.pushes for span in push)
    found = failures(section, NaiveAnswers(traces))
    assert not found, "\n".join(found)


def test_every_row_of_the_decisions_has_a_section() -> None:
    rows = {f"C{number}" for number in range(1, 13)} | {f"B{number}" for number in range(1, 36)}
    assert {row for section in all_sections() for row in section.rows} == rows


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        ("a1: 1(x=1)", ""),
        ("a1: 1", ""),
        ("a1: 1(x=1.0)", "expected"),
        ("a1: 1()", "expected"),
        ("a1: 1(name:=`a`)".replace("`", '"'), "expected"),
        ("a1: 1 2", "expected"),
        ("a1: 1 | count()=1", "expected"),
        ("a2: 1", "expected"),
        ("nothing", "not expected"),
        ("error", "an error"),
        ('a1 has {"ms": 1}', ""),
        ('a1 has {"ms": 2}', "a1.ms"),
    ],
)
def test_runner_finds_what_is_wrong(tmp_path: Path, expectation: str, problem: str) -> None:
    script = tmp_path / "one.script"
    script.write_text(f"section one\nload\ntrace a1\nspan 1 .x=1\nsearch {{ span.x = 1 }}\n{expectation}\n")
    (section,) = parse_script(script, {})
    found = "\n".join(failures(section, NaiveAnswers(traces_of(section.pushes[0]))))
    assert bool(found) is bool(problem)
    assert problem in found
