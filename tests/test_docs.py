"""The documentation names what is there: files, imports, commands and their options; docstrings become bullets."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.utils.module_loading import import_string

ROOT = Path(__file__).resolve().parent.parent
PAGES = {str(path.relative_to(ROOT)): path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
IMPORT = re.compile(r"^\s*from (pgembedding_django[\w.]*) import ([\w, ]+)", re.MULTILINE)
SNIPPET = re.compile(r"^( *)```python\n(.*?)```", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)", re.MULTILINE)
COMMAND = re.compile(r"manage\.py (\w+)([^`\n#|]*)")

each_page = pytest.mark.parametrize("page", PAGES)


@each_page
def test_links_lead_to_files(page):
    text = PAGES[page].read_text()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (PAGES[page].parent / link).exists()] == []


@each_page
def test_imports_find_their_names(page):
    for module, names in IMPORT.findall(PAGES[page].read_text()):
        if module.startswith("pgembedding_django.contrib."):
            continue  # Its package is installed where tests/neighbours/ runs, which imports these names.
        found = import_module(module)
        for name in names.split(", "):
            assert hasattr(found, name) or import_module(f"{module}.{name}")


@each_page
def test_snippets_are_python(page):
    for indent, code in SNIPPET.findall(PAGES[page].read_text()):
        code = code.replace(f"\n{indent}", "\n").strip()
        # An entry of a dict in the settings stands alone.
        code = f"{{{code}}}" if code.startswith('"') else code
        compile(code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_reference_names_what_is_there():
    module = ""
    for directive, name in REFERENCE.findall(PAGES["docs/reference.md"].read_text()):
        if directive == "currentmodule":
            module = name
        else:
            assert import_string(name if "." in name else f"{module}.{name}")


@each_page
def test_commands_have_their_options(page):
    for command, rest in COMMAND.findall(PAGES[page].read_text()):
        app = get_commands().get(command, "")
        if not app.startswith("pgembedding_django"):
            continue
        parser = load_command_class(app, command).create_parser("manage.py", command)
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))
        assert used <= set(parser._option_string_actions)


def test_docstring_gets_a_bullet_for_each_name(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    lines = ["Load rows.", "", "size: of a batch,", "    or None. k: 4 * n.", "Returns how", "many."]
    import_module("house_docstrings").render(None, "function", "load", None, None, lines)
    assert lines == ["Load rows.", "", r"* **size**: of a batch, or None. **k**: 4 \* n.", "", "Returns how many.", ""]
