"""Splits the topics of `help()`, plain text from the language reference, into their sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pydoc_data.topics import topics

from django.utils.text import slugify

from example_project.pydocs.corpus.entry import DOCS, LANGUAGE, LIBRARY, SHORTEST, Entry

HEADING = re.compile(r"^(?P<title>\S.*)\n(?P<line>[*=\-~\"^#+.])(?P=line){2,}$", re.MULTILINE)

#: "str.count(sub[, start[, end]])", perhaps several such lines, and what is indented below.
SIGNATURE = r"(?:(?:async|class|classmethod|static) )*{name}(?:\(.*\))?\n"
DOTTED = r"[a-z_]\w*(?:\.\w+)+"
DEFINITION = re.compile(
    rf"^{SIGNATURE.format(name=f'(?P<name>{DOTTED})')}(?:{SIGNATURE.format(name=DOTTED)})*(?=\n? {{3}})", re.MULTILINE
)
FOOTNOTES = re.compile(r"^-\[ Footnotes \]-$.*", re.MULTILINE | re.DOTALL)

#: The page of docs.python.org that each topic comes from (Doc/tools/extensions/pydoc_topics.py lists the labels).
PAGES = {
    "reference/simple_stmts": "assert assignment augassign break continue del global import nonlocal pass raise return "
    "yield",
    "reference/compound_stmts": "async class compound else for function if try while with",
    "reference/expressions": "atom-identifiers atom-literals attribute-references await binary bitwise booleans calls "
    "comparisons conversions dict exprlists in lambda lists operator-summary power shifting slicings subscriptions "
    "unary",
    "reference/datamodel": "attribute-access callable-types context-managers customization numeric-types objects "
    "sequence-types specialnames types",
    "reference/executionmodel": "dynamic-features exceptions execmodel naming",
    "reference/lexical_analysis": "floating id-classes identifiers imaginary integers numbers strings",
    "library/stdtypes": "bltin-code-objects bltin-ellipsis-object bltin-null-object bltin-type-objects specialattrs "
    "string-methods truth typesfunctions typesmapping typesmethods typesmodules typesseq typesseq-mutable",
    "library/pdb": "debugger",
    "library/string": "formatstrings",
}
PAGE_OF = {topic: page for page, names in PAGES.items() for topic in names.split()}


def topic_entries() -> Iterator[Entry]:
    """Return the sections of all topics, short topics first: the long ones repeat them."""
    for topic in sorted(topics, key=lambda topic: (len(topics[topic]), len(topic), topic)):
        yield from split(topic, topics[topic])


def split(topic: str, text: str) -> Iterator[Entry]:
    """
    Split one topic at its headings, and each section at its definitions.

    Returns the sections in the order of the text; the short ones are left out.
    """
    text = FOOTNOTES.sub("", text)
    headings = list(HEADING.finditer(text))
    bounds = [heading.start() for heading in headings] + [len(text)]
    main = _plain(headings[0]["title"]) if headings else topic
    for heading, (_, end) in zip(headings, pairwise(bounds), strict=True):
        title = _plain(heading["title"])
        anchor = topic if heading is headings[0] else slugify(title)
        yield from _split_definitions(topic, main, title, anchor, text[heading.end() : end])


def _split_definitions(topic: str, main: str, title: str, anchor: str, text: str) -> Iterator[Entry]:
    definitions = list(DEFINITION.finditer(text))
    bounds = [definition.start() for definition in definitions] + [len(text)]
    yield from _entry(topic, main, title, anchor, text[: bounds[0]])
    for definition, (start, end) in zip(definitions, pairwise(bounds), strict=True):
        yield from _entry(topic, title, definition["name"], definition["name"], text[start:end])


def _entry(topic: str, parent: str, title: str, anchor: str, text: str) -> Iterator[Entry]:
    text = text.strip("\n")
    if len(text) >= SHORTEST:
        page = PAGE_OF.get(topic, "reference/index")
        part = LIBRARY if page.startswith("library/") else LANGUAGE
        yield Entry(f"{topic}#{anchor}", part, parent, title, text, f"{DOCS}/{page}.html#{anchor}")


def _plain(title: str) -> str:
    return re.sub(r"[\"`]", "", title)
