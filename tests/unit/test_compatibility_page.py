"""docs/compatibility.md names a test for every row, and the tests exist."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
_CELLS = re.compile(r"(?<!\\)\|")
_NAMED = re.compile(r"`(tests/[^`]+)`")


def rows() -> list[tuple[int, list[str]]]:
    """The lines of the tables and their cells, without headings."""
    lines = PAGE.read_text().splitlines()
    tables = [(number, line) for number, line in enumerate(lines, start=1) if line.startswith("|")]
    cells = [(number, [cell.strip() for cell in _CELLS.split(line)[1:-1]]) for number, line in tables]
    return [row for row in cells if row[1][0] != "TensorFlow Serving" and set(row[1][0]) != {"-"}]


@cache
def names_in(path: Path) -> frozenset[str]:
    """The test functions of a module, with their class if they have one, or the names of a file's cases."""
    if path.suffix == ".json":
        return frozenset(case["name"] for case in json.loads(path.read_text()))
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(names)


@pytest.mark.parametrize(("line", "cells"), rows())
def test_every_row_has_a_verdict_and_a_test_that_exists(line: int, cells: list[str]) -> None:
    assert len(cells) == 4, f"line {line} has {len(cells)} cells"
    behaviour, verdict, how, test = cells
    assert behaviour
    assert verdict in ("same", "better", "n/a"), f"line {line}: {verdict}"
    assert how or verdict == "same", f"line {line} does not say how or why"
    named = _NAMED.findall(test)
    assert named or verdict == "n/a", f"line {line} names no test"
    for name in named:
        path, _, case = name.partition(": ") if ".json: " in name else name.partition("::")
        assert (ROOT / path).is_file(), f"line {line}: there is no {path}"
        assert case in names_in(ROOT / path), f"line {line}: {path} has no {case}"
