"""Sizes past which code is to be taken apart rather than read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tunnelkit"

FILE_LINES = 500
FUNCTION_LINES = 60

sources = pytest.mark.parametrize(
    "source", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)


@sources
def test_files_are_short(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= FILE_LINES


@sources
def test_functions_are_short(source: Path) -> None:
    functions = (
        node
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lines = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES} == {}
