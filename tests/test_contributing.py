"""CONTRIBUTING.md names what is there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pgembedding_django"
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
STEPS = re.findall(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", PAGE, re.MULTILINE)


def names_of(tree, prefix=""):
    """Return the classes, functions and methods that a module defines."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from names_of(node, f"{node.name}.")


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_step_of_a_way_is_where_the_page_says(file, name):
    assert name in set(names_of(ast.parse((PACKAGE / file).read_text())))


def test_page_has_the_ways():
    assert len(STEPS) > 25


def test_rooms_are_all_there_is():
    rows = re.search(r"## Rooms\n.*?\n\n(\|.*?)\n\n", PAGE, re.DOTALL)[1]
    rooms = {room for row in rows.splitlines()[2:] for room in re.findall(r"`(\w+)`", row.split("|")[1])}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms == there - {"__init__", "migrations"}


def test_order_of_imports_is_that_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert re.search(r"```text\n(apps\n.*?)\n```", PAGE, re.DOTALL)[1].splitlines() == contracts[0]["layers"]


@pytest.mark.parametrize("target", re.findall(r"^\| `make (\w+)", PAGE, re.MULTILINE))
def test_command_is_one_of_the_makefile(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
