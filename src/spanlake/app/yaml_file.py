"""Files that people write: YAML, or JSON, which is YAML too, as nodes that know their line. Nothing here knows what a file may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from spanlake.model.errors import ConfigError

FILE_BYTES_MAX = 1 << 20


def read_yaml(path: Path) -> yaml.Node | None:
    """The document in a file; None if it is empty. ConfigError that says what is wrong and where."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"file {path}: cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"file {path}: longer than {FILE_BYTES_MAX} bytes")
    try:
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"file {path}{line}: not YAML: {error.problem}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"file {path}: not YAML: {' '.join(str(error).split())}") from None
    return None if root is None or is_null(root) else root


def pairs(node: yaml.Node, shown: str, file: Path, *, of: str = "settings") -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values of a mapping, in order; ConfigError if `shown`, which the node is, should be a mapping and is none."""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{place(node, file)}: {shown} must be a mapping of {of}")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place(key, file)}: a name in {shown} is not plain text")
        yield key, value


def scalar(node: yaml.Node, shown: str, file: Path, expected: str) -> str:
    """The text of a plain value."""
    if isinstance(node, yaml.ScalarNode) and not is_null(node):
        return str(node.value)
    problem = "has no value" if is_null(node) else "has a list or mapping"
    raise ConfigError(f"{place(node, file)}: {shown} {problem}; expected {expected}")


def is_null(node: yaml.Node) -> bool:
    """Whether a node is empty or `null`."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def place(node: yaml.Node, file: Path) -> str:
    """Where a node stands, as errors name it."""
    return f"file {file}:{node.start_mark.line + 1}"
