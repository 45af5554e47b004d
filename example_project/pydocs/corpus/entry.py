"""What the corpus consists of."""

from __future__ import annotations

import sys
from typing import NamedTuple

#: The two parts of the documentation, as the database has them.
LANGUAGE, LIBRARY = "language", "library"

#: Characters; a shorter text says little more than its title.
SHORTEST = 40

DOCS = f"https://docs.python.org/{sys.version_info.major}.{sys.version_info.minor}"


class Entry(NamedTuple):
    """
    One section of the documentation.

    name: unique and stable, such as "try#except-clause" or "json.dumps".
    topic: what it belongs to: the enclosing heading, or the module.
    """

    name: str
    part: str
    topic: str
    title: str
    text: str
    url: str
