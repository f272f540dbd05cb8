"""Strings: what a condition asks is asked of the dictionary, once per distinct string, and looked up by code.

Regular expressions are RE2, anchored at both ends, and dot matches line breaks; order is that of the UTF-8 bytes.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.engine.values.parts import Mask
from spanlake.model.scan import Texts
from spanlake.traceql.ast import Operator

_COMPARE = {
    Operator.EQUAL: pc.equal,
    Operator.NOT_EQUAL: pc.not_equal,
    Operator.LESS: pc.less,
    Operator.LESS_EQUAL: pc.less_equal,
    Operator.GREATER: pc.greater,
    Operator.GREATER_EQUAL: pc.greater_equal,
}


def anchored(pattern: str) -> str:
    """The expression that matches a whole value."""
    return f"^(?s:{pattern})$"


def whole_value_search(pattern: str) -> str:
    """An expression whose search in a value finds something if and only if `pattern` matches the whole value.

    That is `anchored`, but a `.*` at either end is as good as no anchor there, and four times as fast: RE2 can look for what is between.
    Left alone where a bar could divide the ends from each other, or a flag or class could say something else of the dot.
    """
    if any(part in pattern for part in ("|", "(?", "[", "\\")):
        return anchored(pattern)
    inner, begin, end = pattern, "^", "$"
    if _ANY_BEFORE.match(inner):
        inner, begin = inner[2:], ""
    if inner.endswith(".*"):
        inner, end = inner[:-2], ""
    return f"{begin}(?s:{inner}){end}"


_ANY_BEFORE = re.compile(r"\.\*(?![*+?{])")


def regex_problem(pattern: str) -> str | None:
    """Why RE2 does not take a pattern, None if it does. For `traceql.check`."""
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), pattern)
        pc.match_substring_regex(pa.array([""], pa.string()), anchored(pattern))
    except pa.ArrowInvalid as error:
        return str(error).partition("\n")[0].removeprefix("Invalid regular expression: ")
    return None


def compacted(texts: Texts) -> Texts:
    """With a dictionary of no more strings than twice the rows: of a large dictionary, few rows have few strings."""
    if len(texts.dictionary) <= 2 * len(texts.valid):
        return texts
    used, codes = np.unique(texts.codes[texts.valid], return_inverse=True)
    every = np.zeros(len(texts.valid), np.int32)
    every[texts.valid] = codes.reshape(-1)
    return Texts(texts.valid, every, texts.dictionary.take(pa.array(used)))


def distinct_codes(texts: Texts) -> NDArray[np.int64]:
    """Codes that two rows with a string share if and only if it is the same; the dictionary may have a string more than once."""
    texts = compacted(texts)
    code_of: NDArray[np.int64] = texts.dictionary.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return code_of.take(texts.codes, mode="clip") if len(code_of) else np.zeros(len(texts.codes), np.int64)


def text_rows(texts: Texts, found: Mask) -> Mask:
    """The rows whose string is marked in `found`, which is parallel to the dictionary."""
    if not len(found):
        return np.zeros(len(texts.valid), np.bool_)
    return texts.valid & found.take(texts.codes, mode="clip")


def compare_text(operator: Operator, texts: Texts, text: str) -> Mask:
    """Where `string operator text` holds."""
    texts = compacted(texts)
    return text_rows(texts, _mask(_COMPARE[operator](texts.dictionary, pa.scalar(text, texts.dictionary.type))))


def match_text(texts: Texts, pattern: str, *, negated: bool) -> Mask:
    """Where the whole string matches, or does not."""
    texts = compacted(texts)
    found = _mask(pc.match_substring_regex(texts.dictionary, whole_value_search(pattern)))
    return text_rows(texts, ~found if negated else found)


def text_in(texts: Texts, wanted: tuple[str, ...]) -> Mask:
    """Where the string is one of the wanted ones."""
    texts = compacted(texts)
    return text_rows(texts, _mask(pc.is_in(texts.dictionary, value_set=pa.array(wanted, texts.dictionary.type))))


def _mask(found: pa.Array) -> Mask:
    result: Mask = found.to_numpy(zero_copy_only=False).astype(np.bool_)
    return result


def compare_texts(operator: Operator, left: Texts, right: Texts) -> Mask:
    """Where both have a string and `left operator right` holds: strings become their ranks among all strings of both dictionaries."""
    both = left.valid & right.valid
    if not both.any():
        return both
    left, right = compacted(left), compacted(right)
    ranks = ranked([left.dictionary, right.dictionary])
    first = ranks[0].take(left.codes, mode="clip")
    second = ranks[1].take(right.codes, mode="clip")
    compare = {
        Operator.EQUAL: np.equal,
        Operator.NOT_EQUAL: np.not_equal,
        Operator.LESS: np.less,
        Operator.LESS_EQUAL: np.less_equal,
        Operator.GREATER: np.greater,
        Operator.GREATER_EQUAL: np.greater_equal,
    }[operator]
    result: Mask = both & compare(first, second)
    return result


def ranked(dictionaries: list[pa.Array]) -> list[NDArray[np.int64]]:
    """Per dictionary the rank of each of its strings among the distinct strings of all, in byte order."""
    every = pa.concat_arrays([dictionary.cast(pa.string()) for dictionary in dictionaries])
    ranks: NDArray[np.int64] = pc.rank(every, sort_keys="ascending", tiebreaker="dense").to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(dictionary) for dictionary in dictionaries])
    return np.split(ranks, ends[:-1])
