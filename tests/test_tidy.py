"""The rules of the house that no linter checks: sizes, names, documentation that matches the code, and a light import.

An exemption is an entry in EXEMPT with its reason; one that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from spanlake.app.cli.main import build_parser
from spanlake.app.cli.reference import cli_markdown
from spanlake.app.config_text import settings_markdown

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
PACKAGE_MODULES_MAX = 12
EMPTY_NAMES = {"utils", "util", "common", "helper", "helpers", "manager", "misc"}

# "path:function rule" → why. Rules: lines, parameters.
EXEMPT: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders or ("src", "tests", "bench") for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def definitions(path: Path) -> Iterator[Function | ast.ClassDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def functions() -> Iterator[tuple[str, Function]]:
    for path in python_files():
        for node in definitions(path):
            if not isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def line_count(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parameter_count(node: Function) -> int:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len(every) - (bool(every) and every[0].arg in {"self", "cls"})


def test_files_are_short() -> None:
    counts = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in python_files()}
    assert {path: count for path, count in counts.items() if count > FILE_LINES_MAX} == {}


def test_functions_are_short_and_take_few_parameters_unless_exempt() -> None:
    found = {f"{name} lines": line_count(node) for name, node in functions() if line_count(node) > FUNCTION_LINES_MAX}
    found |= {f"{name} parameters": parameter_count(node) for name, node in functions() if parameter_count(node) > PARAMETERS_MAX}
    assert {place: count for place, count in found.items() if place not in EXEMPT} == {}
    assert [place for place in EXEMPT if place not in found] == [], "these exemptions are no longer needed"


def test_packages_have_few_modules() -> None:
    folders = {path.parent for path in python_files("src")}
    counts = {str(folder.relative_to(ROOT)): len([path for path in folder.glob("*.py") if path.stem[:2] != "__"]) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > PACKAGE_MODULES_MAX} == {}


def test_modules_open_with_a_docstring() -> None:
    bare = [str(path.relative_to(ROOT)) for path in python_files() if not ast.get_docstring(parsed(path))]
    assert bare == []


def test_names_say_something() -> None:
    named = [(path, part) for path in python_files() for part in path.relative_to(ROOT).with_suffix("").parts]
    named += [(path, node.name) for path in python_files() for node in definitions(path)]
    empty = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if EMPTY_NAMES & words(name)]
    assert empty == []


def words(name: str) -> set[str]:
    """The lower-case words of a snake_case or CamelCase name."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("read_utils", {"read", "utils"}), ("PoolManager", {"pool", "manager"}), ("HTTPHelper", {"http", "helper"}), ("commons", {"commons"})],
)
def test_words_are_found_in_names(name: str, expected: set[str]) -> None:
    assert words(name) == expected


REFERENCES: dict[str, Callable[[], str]] = {"docs/settings.md": settings_markdown, "docs/cli.md": lambda: cli_markdown(build_parser())}


@pytest.mark.parametrize("document", REFERENCES)
def test_reference_is_current(document: str) -> None:
    assert (ROOT / document).read_text() == REFERENCES[document](), f"{document} is not what the code says: run `make docs`"


@pytest.mark.parametrize(
    "code",
    [
        "import spanlake",
        "import spanlake.app.cli.main as cli; cli.build_parser().format_help()",
    ],
)
def test_import_loads_no_third_party_library(code: str) -> None:
    program = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert loaded - sys.stdlib_module_names - {"spanlake"} == set()
