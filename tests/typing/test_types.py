"""What mypy, with django-stubs' plugin, and pyright make of a project that uses the package."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.models import QuerySet

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PACKAGE = ROOT / "pgembedding_django"

#: What a manager has too, but nobody calls there.
NOT_DECLARED = {
    "embed_runs",
    "embed_targets",
    "explain_nearest",
    "get_embedding_field",
    "get_measured_field",
    "get_searched_field",
}


def lines_marked_wrong(name):
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return {(name, number) for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def errors_of_mypy(*names):
    """Return (file, line) of each error in the project's files."""
    output = run("mypy", "--no-error-summary", *(str(FOLDER / name) for name in names))
    return {(name, int(line)) for name, line in re.findall(r"tests/typing/(\S+?):(\d+): error:", output)}


def errors_of_pyright(*names):
    """Return (file, line) of each error in the project's files."""
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, *(str(FOLDER / name) for name in names))
    errors = [each for each in json.loads(output)["generalDiagnostics"] if each["severity"] == "error"]
    return {(str(Path(e["file"]).relative_to(FOLDER)), e["range"]["start"]["line"] + 1) for e in errors}


def test_mypy_accepts_what_is_right_and_refuses_each_wrong_line():
    pytest.importorskip("mypy")
    found = errors_of_mypy("right.py", "plugin.py", "wrong.py", "library/models.py")
    assert found == lines_marked_wrong("wrong.py")


def test_pyright_accepts_what_is_right_and_refuses_each_wrong_line():
    pytest.importorskip("pyright")
    found = errors_of_pyright("right.py", "wrong.py", "library/models.py")
    assert found == lines_marked_wrong("wrong.py")


def test_pyright_knows_the_types_of_what_the_package_exports():
    pytest.importorskip("pyright")
    # It asks the first python of the PATH where packages are.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    output = run("pyright", "--verifytypes", "pgembedding_django", "--ignoreexternal", "--outputjson", PATH=path)
    assert json.loads(output)["typeCompleteness"]["completenessScore"] >= 0.95


def test_manager_declares_each_method_as_its_queryset_has_it():
    written = {
        **methods_of("querysets.py", "EmbeddingQuerySet"),
        **methods_of("embedding/querysets.py", "StaleQuerySet"),
        **methods_of("loading/querysets.py", "LoadingQuerySet"),
    }
    ours = {name: args for name, args in written.items() if not hasattr(QuerySet, name) and name not in NOT_DECLARED}
    declared = methods_of("managers.py", "_Base")
    assert {name: declared.get(name) for name in ours} == ours


def methods_of(name, cls):
    """Return the arguments of each public method of a class, as they are written."""
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls)
    methods = (node for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {
        method.name: ast.unparse(method.args).replace("arguments.", "")
        for method in methods
        if not method.name.startswith("_")
    }
