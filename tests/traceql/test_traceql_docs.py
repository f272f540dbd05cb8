"""docs/traceql.md says what the code does: its examples are valid, its error is ours, no word of the language is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spanlake.model.errors import QueryError
from spanlake.traceql import DEPTH_MAX, STAGES_MAX, TOKENS_MAX, check, parse
from spanlake.traceql.vocabulary import (
    AGGREGATE_WORDS,
    INTRINSIC_SPELLINGS,
    KIND_VALUES,
    METRICS_WORDS,
    SECOND_STAGE_WORDS,
    STAGE_WORDS,
    STATUS_VALUES,
)

TEXT = (Path(__file__).parent.parent.parent / "docs" / "traceql.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
EXAMPLES = [line.partition("   ")[0] for line in BLOCKS[0].splitlines()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_valid(example: str) -> None:
    check(parse(example))


def test_error_is_shown_as_it_is_printed() -> None:
    with pytest.raises(QueryError) as caught:
        parse("{ stauts = error }")
    assert BLOCKS[1].rstrip() == str(caught.value)


def test_every_word_is_documented() -> None:
    words = [*INTRINSIC_SPELLINGS, *STATUS_VALUES, *KIND_VALUES, *AGGREGATE_WORDS, *STAGE_WORDS, *METRICS_WORDS, *SECOND_STAGE_WORDS]
    assert [word for word in words if not re.search(rf"(?<![\w:]){word}(?![\w:])", TEXT)] == []


def test_bounds_are_the_ones_of_the_parser() -> None:
    assert f"{TOKENS_MAX:,} tokens, nests at most {DEPTH_MAX} levels deep, and has\nat most {STAGES_MAX} stages" in TEXT


def test_every_difference_from_tempo_is_listed() -> None:
    assert re.findall(r"^\| B(\d+) \|", TEXT, re.MULTILINE) == [str(number) for number in range(1, 36)]
