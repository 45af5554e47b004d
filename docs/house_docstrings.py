"""Sphinx extension: one sentence, then a line for each parameter, as this project writes its docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: "name: " or "name, other: " where a sentence begins.
NAMES = re.compile(r"(?:^|(?<=[.;] ))([a-z_]\w*(?:, [a-z_]\w*)*):(?= )")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", render)
    return {"parallel_read_safe": True}


def render(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn the lines of a docstring into reStructuredText: a paragraph for each statement, a bullet for each name."""
    rendered: list[str] = []
    for statement in _statements([line.replace("*", r"\*") for line in lines]):
        bullet = "* " if NAMES.match(statement) else ""
        rendered += [bullet + NAMES.sub(_strong, statement), ""]
    lines[:] = rendered


def _statements(lines: list[str]) -> Iterator[str]:
    """Join what was wrapped: a line that is indented, or that follows one whose sentence goes on."""
    held = ""
    for line in lines:
        goes_on = line.startswith(" ") or not held.endswith((".", ":"))
        if held and not (line.strip() and goes_on):
            yield held
            held = ""
        held = f"{held} {line.strip()}".strip()
    if held:
        yield held


def _strong(match: re.Match[str]) -> str:
    return ", ".join(f"**{name}**" for name in match[1].split(", ")) + ":"
