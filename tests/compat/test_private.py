"""Private APIs of Django and the drivers are used in compat/ alone, and each module there has its canaries."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

import pgembedding_django

PACKAGE = Path(pgembedding_django.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in PACKAGE.rglob("*.py")
    if "migrations" not in path.parts
}
OUTSIDE = {name: tree for name, tree in MODULES.items() if not name.startswith("compat/")}

#: Django documents these in spite of their names.
DOCUMENTED = {"_base_manager", "_default_manager", "_meta", "_state"}

#: Of other packages, which have no public way: LangChain's relevances, the wheel of Postgres, Python's frames.
OF_OTHERS = {
    "VectorStore._cosine_relevance_score_fn",
    "VectorStore._euclidean_relevance_score_fn",
    "VectorStore._max_inner_product_relevance_score_fn",
    "server._lock",
    "sys._getframe",
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def defined(tree):
    """Yield the names that a module gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


OURS = {name for tree in MODULES.values() for name in defined(tree)}


def read_privately(tree):
    """Yield each private attribute that is read, by a dot or by getattr(), and that is none of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in OURS:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in OURS:
                yield name.value


def imported_privately(tree):
    """Yield each private name that is imported when a module runs; what is only a type is none."""
    typing = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing:
            yield from (alias.name for alias in node.names if is_private(alias.name))


@pytest.mark.parametrize("name", OUTSIDE)
def test_module_outside_compat_uses_nothing_private(name):
    tree = OUTSIDE[name]
    assert {*read_privately(tree), *imported_privately(tree)} <= OF_OTHERS


def classes():
    for found in walk_packages(pgembedding_django.__path__, "pgembedding_django."):
        if ".contrib." in found.name or ".compat" in found.name or ".migrations" in found.name:
            continue  # The packages of contrib/ may not be installed.
        for kind in vars(import_module(found.name)).values():
            if inspect.isclass(kind) and kind.__module__ == found.name:
                yield kind


def test_class_outside_compat_overrides_nothing_private_of_django():
    overridden = {
        f"{kind.__name__}.{name}"
        for kind in classes()
        for name in vars(kind)
        for base in kind.__mro__[1:]
        if is_private(name) and not name.endswith("_") and name in vars(base) and base.__module__.startswith("django.")
    }
    assert overridden == set()


def test_class_outside_compat_is_no_query_and_no_compiler():
    assert [kind for kind in classes() if issubclass(kind, Query | SQLCompiler)] == []


@pytest.mark.parametrize("name", [Path(name).stem for name in MODULES if name.startswith("compat/")])
def test_function_of_compat_has_a_canary(name):
    module = import_module(f"pgembedding_django.compat.{name}".removesuffix(".__init__"))
    tests = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    canaries = "".join(test for test in tests if re.search(rf"compat(\.{name} import| import {name})\b", test))
    functions = [each for each, kind in vars(module).items() if is_public(kind, module)]
    assert [each for each in functions if not re.search(rf"\b{each}\b", canaries)] == []


def is_public(kind, module):
    return inspect.isfunction(kind) and kind.__module__ == module.__name__ and not kind.__name__.startswith("_")
