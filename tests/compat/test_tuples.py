"""Each expression returns its parameters as a tuple, as Django asks for."""

import ast
from pathlib import Path

import pytest

import pgembedding_django

PACKAGE = Path(pgembedding_django.__file__).parent


def returns_of(tree):
    """Yield what the methods that write SQL return."""
    for method in ast.walk(tree):
        if isinstance(method, ast.FunctionDef) and method.name in ("as_sql", "as_sqlite", "as_postgresql"):
            yield from (node.value for node in ast.walk(method) if isinstance(node, ast.Return))


def is_tuple(value):
    """Tell whether SQL comes with a tuple, or is what another as_sql() returns."""
    if isinstance(value, ast.Tuple):
        params = value.elts[1]
        return isinstance(params, ast.Tuple) or ast.unparse(params).startswith("tuple(")
    return ast.unparse(value).startswith(("super().as_sql(", "self.as_sql("))


#: Its SearchQuery stands beside `@@`, which joins lists in Django 5.2.
AS_DJANGO_DOES = "search/words.py"


@pytest.mark.parametrize("module", sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")))
def test_expressions_return_tuples(module):
    found = returns_of(ast.parse((PACKAGE / module).read_text()))
    assert [ast.unparse(value) for value in found if not is_tuple(value) and module != AS_DJANGO_DOES] == []
