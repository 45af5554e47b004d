"""Reads the docstrings of the standard library from its source files, so that none of it runs."""

from __future__ import annotations

import ast
import inspect
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path

from example_project.pydocs.corpus.entry import DOCS, LIBRARY, SHORTEST, Entry

#: No documentation of interest: jokes, tests, desktop toys, internals, and what PEP 594 and PEP 632 took out.
SKIPPED = (
    "this antigravity idlelib test tkinter turtle turtledemo "
    "encodings ensurepip genericpath lib2to3 ntpath nturl2path opcode pickletools pydoc pydoc_data "
    "sre_compile sre_constants sre_parse venv "
    "aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp mailcap msilib nis nntplib ossaudiodev "
    "pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"
)

#: Written in C, in part at least, and loaded by every Python that runs Django.
COMPILED = ("builtins", "collections", "datetime", "functools", "gc", "io", "itertools", "math", "os", "sys", "time")

#: Modules whose documentation has another name than they have.
DOCUMENTED_AS = {"posixpath": "os.path"}

#: Modules inside a package that have a page of their own; the others share their package's page.
PAGES = (
    "collections.abc concurrent.futures email.charset email.errors email.generator email.header email.headerregistry "
    "email.message email.parser email.policy email.utils html.entities html.parser http.client http.cookiejar "
    "http.cookies http.server importlib.metadata importlib.resources logging.config logging.handlers "
    "multiprocessing.shared_memory os.path unittest.mock urllib.error urllib.parse urllib.request urllib.robotparser "
    "xml.dom xml.dom.minidom xml.dom.pulldom xml.etree.elementtree xml.sax xml.sax.handler xmlrpc.client "
    "xmlrpc.server"
)

Docstring = tuple[str, str]


def docstring_entries() -> Iterator[Entry]:
    """Return the public docstrings by module, each module's in the order of its source; short ones are left out."""
    for module, path in _sources():
        for qualname, text in _read(path):
            yield from _entry(module, qualname, text)
    for module in COMPILED:
        for qualname, text in _inspect(module):
            yield from _entry(module, qualname, text)


def _sources() -> Iterator[tuple[str, Path]]:
    for name in sorted(sys.stdlib_module_names.difference(SKIPPED.split())):
        spec = None if name.startswith("_") else PathFinder.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        for folder in spec.submodule_search_locations or ():
            yield from _submodules(name, Path(folder))
        if not spec.submodule_search_locations:
            yield DOCUMENTED_AS.get(name, name), Path(spec.origin)


def _submodules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not any(part.startswith("_") or part in ("test", "tests") for part in parts):
            yield ".".join((package, *parts)), path


def _read(path: Path) -> Iterator[Docstring]:
    with warnings.catch_warnings():
        # Some sources have escapes that a newer Python warns of.
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    yield "", ast.get_docstring(tree) or ""
    yield from _walk(tree, "")


def _walk(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Docstring]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield prefix + child.name, ast.get_docstring(child) or ""
            if isinstance(child, ast.ClassDef):
                yield from _walk(child, f"{prefix}{child.name}.")


def _inspect(module: str) -> Iterator[Docstring]:
    for name, member in sorted(vars(import_module(module)).items()):
        if name.startswith("_") or not _is_compiled(module, member):
            continue
        yield name, inspect.getdoc(member) or ""
        for method, value in sorted(vars(member).items()) if isinstance(member, type) else ():
            if not method.startswith("_"):
                yield f"{name}.{method}", inspect.cleandoc(getattr(value, "__doc__", None) or "")


def _is_compiled(module: str, member: object) -> bool:
    return inspect.isbuiltin(member) or (isinstance(member, type) and member.__module__ in (module, f"_{module}"))


def _entry(module: str, qualname: str, text: str) -> Iterator[Entry]:
    if len(text) < SHORTEST:
        return
    shown = qualname if module == "builtins" else ".".join(filter(None, (module, qualname)))
    yield Entry(f"{module}.{qualname}".rstrip("."), LIBRARY, module, shown, text, _url(module, qualname, shown))


def _url(module: str, qualname: str, shown: str) -> str:
    if module == "builtins":
        return f"{DOCS}/library/{_builtin_page(qualname)}.html#{qualname}"
    page = module.lower()
    while page not in PAGES.split() and "." in page:
        page = page.rpartition(".")[0]
    return f"{DOCS}/library/{page}.html#{shown if qualname else f'module-{module}'}"


def _builtin_page(qualname: str) -> str:
    if qualname.endswith(("Error", "Exception", "Exit", "Group", "Interrupt", "Iteration", "Warning")):
        return "exceptions"
    return "stdtypes" if "." in qualname else "functions"
