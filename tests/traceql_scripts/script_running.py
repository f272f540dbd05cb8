"""Checks the cases of a section against anything that can answer them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol, assert_never

from answers import equal
from naive import Answer
from naive_spans import Span
from script_language import T0_NS, Case, Search, Section, TagValues, parse_script
from script_series import Metrics, series_problems
from series_answers import SeriesAnswer

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.traceql.durations import parse_duration


class Answering(Protocol):
    """Whatever answers the cases of scripts: the naive evaluator, a node. Bad queries raise QueryError or InvalidInput."""

    def search(self, query: str, overlaps_ns: tuple[int, int] | None, limit: int) -> Answer: ...

    def metrics(self, query: str, window_ns: tuple[int, int], step_ns: int, exemplars_max: int) -> SeriesAnswer:
        """An instant query if `step_ns` is 0."""

    def tag_values(self, tag: str, filter_text: str) -> list[list[str]]: ...


FOLDER = Path(__file__).parent
LIMIT_DEFAULT = 1000


@cache
def all_sections() -> tuple[Section, ...]:
    """Of all scripts."""
    data: dict[str, list[list[Span]]] = {}
    sections = [section for path in sorted(FOLDER.glob("*.script")) for section in parse_script(path, data)]
    names = [section.name for section in sections]
    assert len(set(names)) == len(names), "two sections have one name"
    return tuple(sections)


def failures(section: Section, answering: Answering) -> list[str]:
    """What is wrong, an entry per case; empty if everything is as it should be."""
    return [f"line {case.line}: {case.query}\n  {problem}" for case in section.cases for problem in _problems(case, answering)]


def _problems(case: Case, answering: Answering) -> list[str]:
    match case:
        case Search():
            return _search_problems(case, answering)
        case Metrics():
            return _metrics_problems(case, answering)
        case TagValues():
            found = answering.tag_values(case.tag, case.filter)
            return [] if found == sorted(case.values) else [f"got {found}"]
        case _:
            assert_never(case)


def _metrics_problems(case: Metrics, answering: Answering) -> list[str]:
    try:
        answer = answering.metrics(case.query, (T0_NS + case.window_ns[0], T0_NS + case.window_ns[1]), case.step_ns, case.exemplars_max)
    except (QueryError, InvalidInput) as error:
        is_expected = case.error is not None and case.error in str(error)
        return [] if is_expected else [f"error {str(error)!r}"]
    if case.error is not None:
        return [f"an error with {case.error!r} was expected, got {answer}"]
    return series_problems(case, answer, T0_NS)


def _search_problems(search: Search, answering: Answering) -> list[str]:
    limit, within = int(search.options.get("limit", LIMIT_DEFAULT)), search.options.get("within")
    range_ns = None
    if within is not None:
        first, last = (parse_duration(part) for part in within.split(".."))
        assert first is not None
        assert last is not None
        range_ns = (T0_NS + first, T0_NS + last)
    try:
        answer = answering.search(search.query, range_ns, limit)
    except QueryError as error:
        is_expected = search.error is not None and search.error in str(error)
        return [] if is_expected else [f"error {str(error)!r}"]
    if search.error is not None:
        return [f"an error with {search.error!r} was expected, got {answer}"]
    assert search.nothing is not bool(search.sets or search.facts), "a search needs an expectation"
    return [*_set_problems(search, answer), *_fact_problems(search, answer)]


def _set_problems(search: Search, answer: Answer) -> list[str]:
    if search.facts and not search.sets:
        return []
    found = [(int(trace_id, 16), one) for trace_id, trace in answer.items() for one in trace["sets"]]
    problems = []
    for expected in search.sets:
        wanted = sorted(span.span_id for span in expected.spans)
        same = [(trace_id, one) for trace_id, one in found if trace_id == expected.trace_id and _ids(one) == wanted]
        shown = {span.span_id: span.shown for span in expected.spans if span.shown is not None}
        fitting = [pair for pair in same if equal(_plain(expected.attributes), _attributes(pair[1])) and _shows(pair[1], shown)]
        if fitting:
            found.remove(fitting[0])
        else:
            problems.append(f"expected {expected}\n  of {_summary(found)}")
    return [*problems, *([f"not expected: {_summary(found)}"] if found else [])]


def _ids(one: dict[str, Any]) -> list[int]:
    return sorted(int(span[0], 16) for span in one["spans"])


def _attributes(one: dict[str, Any]) -> list[Any]:
    return sorted(([key, _untyped(value)] for key, value in one["attributes"]), key=repr)


def _shows(one: dict[str, Any], shown: dict[int, dict[str, Any]]) -> bool:
    for span in one["spans"]:
        expected = shown.get(int(span[0], 16))
        name = [] if span[1] is None else [["name:", span[1]]]
        if expected is not None and not equal(
            _plain(expected), sorted(name + [[key, _untyped(value)] for key, value in span[4]], key=repr)
        ):
            return False
    return True


def _plain(expected: dict[str, Any]) -> list[Any]:
    """Sorted pairs; the values of `key*` are those of a key that is there several times."""
    pairs = []
    for key, value in expected.items():
        pairs += [[key[:-1], each] for each in value] if key.endswith("*") else [[key, value]]
    return sorted(pairs, key=repr)


def _untyped(value: list[Any]) -> Any:
    """[type, value] as JSON: 1 is an int and 1.0 a double there too."""
    return [_untyped(element) for element in value[1]] if value[0] == "array" else value[1]


def _summary(found: list[tuple[int, dict[str, Any]]]) -> str:
    lines = []
    for trace_id, one in found:
        spans = " ".join(f"{int(span[0], 16):x}{[span[1], span[4]] if span[4] or span[1] is not None else ''}" for span in one["spans"])
        lines.append(f"{trace_id:x}: {spans} | {one['attributes']}")
    return "\n     ".join(lines) or "nothing"


def _fact_problems(search: Search, answer: Answer) -> list[str]:
    problems = []
    for trace_id, facts in search.facts.items():
        trace = answer.get(f"{trace_id:032x}", {})
        problems += [
            f"{trace_id:x}.{key}: expected {value}, got {trace.get(key)}" for key, value in facts.items() if trace.get(key) != value
        ]
    return problems
