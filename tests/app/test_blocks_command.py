"""`spanlake blocks` and `spanlake check` on tables that a node has written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node import TENANT, Node, span
from spanlake.app.cli.blocks import count_text, size_text, time_text
from spanlake.app.cli.main import main
from spanlake.blocks.catalog import block_key

Output = pytest.CaptureFixture[str]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A store with two blocks of one tenant and one of another."""
    node = Node(tmp_path)
    with node:
        node.push(span(1, 1), span(1, 2, parent=1))
        node.cut()
        node.push(span(2, 1), span(3, 1), span(3, 2))
        node.cut()
        node.push(span(1, 1), tenant="other")
        node.cut()
    return node


def run(command: str, node: Node, *options: str) -> int:
    return main([command, "--data", str(node.root / "data"), *options])


def damage(node: Node, *, size: int | None = None) -> str:
    """Flip a byte in the middle of the tenant's first block, or cut the file; its key."""
    key = block_key(TENANT, node.catalog.refresh(TENANT).blocks[0].path)
    data = bytearray(node.store.get(key))
    data[data.index(b"\x28\xb5\x2f\xfd") + 12] ^= 1  # in the first compressed page
    node.store.put(key, bytes(data[:size]))
    return key


def test_blocks_are_listed_with_totals(node: Node, capsys: Output) -> None:
    assert run("blocks", node) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:8] == ["tenant", "day", "spans", "size", "B/span", "groups", "columns", "traces"]
    assert [line.split()[0] for line in lines[1:4]] == ["other", TENANT, TENANT]
    assert [line.split()[2] for line in lines[1:4]] == ["1", "2", "3"]
    assert lines[4].startswith("3 blocks, 6 spans, 4 traces, ")
    assert lines[4].endswith(" B/span")


def test_blocks_of_one_tenant_are_json(node: Node, capsys: Output) -> None:
    assert run("blocks", node, "--json", "--tenant", TENANT) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(block["tenant"], block["rows"], block["traces"], block["row_groups"]) for block in answer["blocks"]] == [
        (TENANT, 2, 1, 1),
        (TENANT, 3, 2, 1),
    ]
    first = answer["blocks"][0]
    assert first["attribute_columns"] == 3  # service.name, number, text
    assert first["bytes"] == node.store.head(block_key(TENANT, first["path"])).size_bytes
    assert first["day"] == first["path"][len("day=") :].partition("/")[0]
    assert answer["total"]["blocks"] == 2
    assert answer["total"]["bytes"] == sum(block["bytes"] for block in answer["blocks"])


def test_nothing_is_wrong_with_what_was_written(node: Node, capsys: Output) -> None:
    assert run("check", node) == 0
    assert capsys.readouterr().out == "3 blocks, 6 spans: nothing wrong\n"
    assert run("check", node, "--tenant", "other") == 0
    assert capsys.readouterr().out == "1 block, 1 span: nothing wrong\n"


def test_check_says_what_is_wrong_and_what_to_do(node: Node, capsys: Output) -> None:
    key = damage(node)
    assert run("check", node) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{key}, row group 0"
    assert "could not verify page integrity" in lines[1]
    assert lines[2].startswith("  → restore the file")
    assert lines[3:] == ["3 blocks, 6 spans: 1 problem"]
    assert run("check", node, "--tenant", "other") == 0


def test_unreadable_blocks_are_named_and_the_others_listed(node: Node, capsys: Output) -> None:
    key = damage(node, size=100)
    assert run("blocks", node) == 1
    out, err = capsys.readouterr()
    assert "3 blocks, 6 spans, 3 traces, " in out
    assert err.startswith(f"spanlake: block {key} is not a readable Parquet file")
    assert run("check", node) == 1
    assert f"{key}\n  the file has 100 bytes; the log says " in capsys.readouterr().out


def test_missing_file_is_found(node: Node, capsys: Output) -> None:
    node.store.delete([block_key(TENANT, node.catalog.refresh(TENANT).blocks[0].path)])
    assert run("check", node) == 1
    assert "the table has this block, but the file is missing\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["blocks", "check"])
def test_what_is_not_there_is_named_and_not_made(command: str, node: Node, capsys: Output, tmp_path: Path) -> None:
    assert run(command, node, "--tenant", "nobody") == 1
    assert "tenant 'nobody' has no table in " in capsys.readouterr().err
    missing = tmp_path / "missing"
    for data in (str(missing), missing.as_uri()):
        assert main([command, "--data", data]) == 1
        assert f"there is no directory '{missing}'" in capsys.readouterr().err
    assert not missing.exists()


def test_a_store_without_blocks_is_fine(tmp_path: Path, capsys: Output) -> None:
    assert main(["blocks", "--data", str(tmp_path)]) == 0
    assert main(["check", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no blocks\n0 blocks, 0 spans: nothing wrong\n"


def test_commands_change_nothing_in_the_tables(node: Node) -> None:
    before = {info.key: info for info in node.store.list("")}
    assert run("blocks", node) == run("check", node) == 0
    assert {info.key: info for info in node.store.list("")} == before


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (43_210_000, "43.2 MB"), (432_100_000, "432 MB"), (2e15, "2000 TB")]
)
def test_sizes_are_short(size: float, text: str) -> None:
    assert size_text(size) == text


def test_times_and_counts_are_readable() -> None:
    assert time_text(1_789_948_800_999_999_999) == "2026-09-21 00:00:00"
    assert time_text(-1) == "1969-12-31 23:59:59"
    assert time_text(1 << 63) == "2262-04-11 23:47:16"
    assert time_text(1 << 70) == str(1 << 70)
    assert count_text(1, "block") == "1 block"
    assert count_text(2000, "block") == "2,000 blocks"
