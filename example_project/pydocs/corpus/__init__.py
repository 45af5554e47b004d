"""The documentation that every Python brings along: its language reference and its docstrings."""

from __future__ import annotations

from collections.abc import Iterator

from example_project.pydocs.corpus.docstrings import docstring_entries
from example_project.pydocs.corpus.entry import Entry
from example_project.pydocs.corpus.topics import topic_entries

__all__ = ["Entry", "entries"]


def entries() -> Iterator[Entry]:
    """Return every section once, in an order that depends on nothing but the Python that runs."""
    seen: set[object] = set()
    for entry in (*topic_entries(), *docstring_entries()):
        # Topics contain each other, modules share docstrings, and "str.split" is in a topic and in a docstring.
        keys = {entry.name, (entry.part, entry.title), (" ".join(entry.text.split()),)}
        if seen.isdisjoint(keys):
            seen |= keys
            yield entry
