"""What can be said about an RE2 pattern without RE2.

TraceQL's regular expressions are RE2 (https://github.com/google/re2/wiki/Syntax). The engine runs the library and can give its verdict;
this scanner is the default where no engine is at hand. It finds the usual mistakes, among them what other dialects have and RE2 lacks,
and never refuses a pattern that RE2 takes.
"""

from __future__ import annotations

import re

_GROUP = re.compile(r"\(\?(?:P?<(?P<name>[^>]*)>|(?P<flags>[imsU]*(?:-[imsU]+)?)(?P<end>[:)]))")
_REPEAT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_NAMED_CLASS = re.compile(r"\[:\^?([a-z0-9]*):\]")
_NAMED_CLASSES = frozenset(
    ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"]
)
_ESCAPE = re.compile(
    r"\\(?: [pP](?: \{[^}]*\} | . ) | x(?: [0-9a-fA-F]{2} | \{[0-9a-fA-F]+\} ) | 0[0-7]{0,2} | [1-7][0-7]{1,2} | . )",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE_LETTERS = frozenset("AbBzCQdDsSwWpPafntrvx0")
_REPEAT_MAX = 1000


def regex_problem(pattern: str) -> str | None:
    """Why RE2 refuses the pattern; None if nothing wrong was found."""
    try:
        _scan(pattern)
    except _BadPatternError as bad:
        return str(bad)
    return None


class _BadPatternError(ValueError):
    """Ends a scan; the text is the verdict."""


def _scan(pattern: str) -> None:
    position, open_groups = 0, 0
    repeatable, repeated = False, False
    while position < len(pattern):
        character = pattern[position]
        repeat = _REPEAT.match(pattern, position)
        if character in "*+?" or repeat:
            position = _repetition(pattern, position, repeat, repeatable=repeatable, repeated=repeated)
            repeatable, repeated = True, True
            continue
        repeated = False
        if character == "(":
            position, opens = _group(pattern, position)
            open_groups += opens
            repeatable = repeatable and not opens
            continue
        repeatable = character != "|"
        if character == ")":
            if not open_groups:
                raise _BadPatternError("unexpected )")
            open_groups -= 1
        if character == "\\":
            position = _escape(pattern, position)
        elif character == "[":
            position = _character_class(pattern, position)
        else:
            position += 1
    if open_groups:
        raise _BadPatternError("missing )")


def _repetition(pattern: str, position: int, repeat: re.Match[str] | None, *, repeatable: bool, repeated: bool) -> int:
    """The position behind a repetition operator."""
    text = repeat.group() if repeat else pattern[position]
    if not repeatable:
        raise _BadPatternError(f"no argument for repetition operator {text}")
    if repeated:
        raise _BadPatternError(f"bad repetition operator {text} after another one")
    if repeat:
        least = int(repeat.group(1)[:5])
        most = int(repeat.group(3)[:5]) if repeat.group(3) else least
        if max(least, most) > _REPEAT_MAX or most < least:
            raise _BadPatternError(f"bad repetition operator {text}: counts go up to {_REPEAT_MAX}, the smaller one first")
    position += len(text)
    return position + 1 if pattern.startswith("?", position) else position


def _group(pattern: str, position: int) -> tuple[int, int]:
    """The position behind what opens a group, and 1; behind flags such as (?i), and 0."""
    if not pattern.startswith("(?", position):
        return position + 1, 1
    group = _GROUP.match(pattern, position)
    if group is None:
        if pattern.startswith(("(?=", "(?!", "(?<=", "(?<!"), position):
            raise _BadPatternError(f"RE2 has no look-around ({pattern[position : position + 4]})")
        raise _BadPatternError(f"bad group syntax {pattern[position : position + 4]}")
    name = group.group("name")
    if name is not None and not re.fullmatch(r"\w+", name):
        raise _BadPatternError(f"bad group name {name!r}")
    return group.end(), 0 if group.group("end") == ")" else 1


def _escape(pattern: str, position: int) -> int:
    r"""The position behind an escape; behind \Q…\E, which has no operators inside."""
    escape = _ESCAPE.match(pattern, position)
    if escape is None:
        raise _BadPatternError("a backslash at the end")
    text = escape.group()
    letter = text[1]
    if letter == "Q":
        end = pattern.find("\\E", position)
        return len(pattern) if end < 0 else end + 2
    if letter in "123456789" and len(text) == 2:
        raise _BadPatternError(f"RE2 has no back-references ({text})")
    if letter.isalnum() and letter not in _ESCAPE_LETTERS and not letter.isdigit():
        raise _BadPatternError(f"unknown escape {text}")
    if letter in "xpP" and len(text) == 2:
        raise _BadPatternError(f"incomplete escape {text}")
    return escape.end()


def _character_class(pattern: str, position: int) -> int:
    """The position behind `[…]`."""
    index = position + 1
    if pattern.startswith("^", index):
        index += 1
    first = index
    while index < len(pattern):
        named = _NAMED_CLASS.match(pattern, index)
        if named:
            if named.group(1) not in _NAMED_CLASSES:
                raise _BadPatternError(f"unknown character class {named.group()}")
            index = named.end()
        elif pattern[index] == "]" and index > first:
            return index + 1
        elif pattern[index] == "\\":
            index = _escape(pattern, index)
        else:
            index += 1
    raise _BadPatternError("missing ]")
