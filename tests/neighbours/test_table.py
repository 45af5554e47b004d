"""The table of docs/neighbours.md has a row for each module, and its versions are those that were installed."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PAGE = (FOLDER.parent.parent / "docs" / "neighbours.md").read_text()
ROWS = {
    package: (version, tried)
    for package, version, tried, _ in (
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")
    )
    if package != "package"
}
MODULES = sorted(path for path in FOLDER.glob("test_*.py") if path != Path(__file__))


def version(package):
    return "of Django" if package == "django.contrib.admin" else importlib.metadata.version(package)


def docstring(path):
    """Return the package that a module is about, and what it tries."""
    package, _, tried = ast.get_docstring(ast.parse(path.read_text())).partition(": ")
    return package, tried.splitlines()[0].rstrip(".")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_has_its_row(path):
    package, tried = docstring(path)
    assert ROWS[package] == (version(package), tried)


def test_no_row_is_without_a_module():
    assert ROWS.keys() == {docstring(path)[0] for path in MODULES}
