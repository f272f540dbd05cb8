"""Every behaviour script, against the naive evaluator: the expectations agree with each other and with an independent reading."""

from __future__ import annotations

from pathlib import Path

import pytest
from naive import search_traces
from naive_spans import traces_of
from script_language import Section, parse_script
from script_running import all_sections, failures


@pytest.mark.parametrize("section", all_sections(), ids=[section.name for section in all_sections()])
def test_script_holds_for_the_naive_evaluator(section: Section) -> None:
    traces = traces_of(span for push in section.pushes for span in push)
    found = failures(section, lambda query, range_ns, limit: search_traces(query, traces, overlaps_ns=range_ns, limit=limit))
    assert not found, "\n".join(found)


METRICS_ROWS = {"C10", "C11", "B15", "B16", "B27", "B28", "B31", "B35"}
"""Rows about metrics or tags: not of searches."""


def test_every_row_of_the_decisions_has_a_section() -> None:
    rows = {f"C{number}" for number in range(1, 13)} | {f"B{number}" for number in range(1, 36)}
    assert {row for section in all_sections() for row in section.rows} == rows - METRICS_ROWS


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
    traces = traces_of(section.pushes[0])
    found = "\n".join(failures(section, lambda query, range_ns, limit: search_traces(query, traces)))
    assert bool(found) is bool(problem)
    assert problem in found
