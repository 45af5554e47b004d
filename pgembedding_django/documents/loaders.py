"""Reads files as text: plain text, Markdown, HTML and PDF."""

from __future__ import annotations

import codecs
import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["LOADERS", "Page", "UnreadableFile", "extract", "read_bytes"]

#: Larger files are refused: a file is read whole, and a book has some megabytes.
MAX_BYTES = 100 * 2**20

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

#: HTML elements that begin and end a line.
BLOCKS = re.compile(
    r"^(address|article|aside|blockquote|br|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|nav|ol"
    r"|p|pre|section|table|title|tr|ul)$"
)


@dataclass(frozen=True)
class Page:
    """The text of a file, or of one page of a PDF, whose number counts from 1."""

    text: str
    number: int | None = None


class UnreadableFile(ValueError):
    """Why a file has no text that can be read; a sentence without its subject."""


def read_bytes(path: Path) -> bytes:
    """
    Return what a file holds.

    Raises UnreadableFile if it is no regular file, larger than MAX_BYTES, or out of reach.
    """
    try:
        if not path.is_file():  # A pipe would block.
            raise UnreadableFile("is no file" if path.exists() else "does not exist, or is a link to nothing")
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableFile(f"has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error


def extract(suffix: str, data: bytes) -> list[Page]:
    """
    Return the text of a file's bytes, a Page for each page that has any.

    suffix: one of LOADERS. Raises UnreadableFile if the bytes are no text, or encrypted or damaged.
    """
    pages = LOADERS[suffix](data)
    # Postgres stores no NUL character in text.
    clean = [Page(page.text.replace("\0", "").encode("utf-8", "replace").decode(), page.number) for page in pages]
    return [page for page in clean if page.text.strip()]


def _load_text(data: bytes) -> list[Page]:
    return [Page(_decode(data))]


def _decode(data: bytes) -> str:
    """Read as the byte order mark says, else as UTF-8, else as Windows-1252, which leaves some bytes undefined."""
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if marked is None:
        _refuse_binary(data)
    for encoding in [marked] if marked else ["utf-8", "windows-1252"]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnreadableFile(f"is no text in {marked or 'UTF-8 or Windows-1252'}")


def _refuse_binary(data: bytes) -> None:
    if b"\0" in data:
        raise UnreadableFile("is binary, not text")


def _load_html(data: bytes) -> list[Page]:
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise _missing("HTML", "beautifulsoup4") from error
    if not data.startswith(tuple(BYTE_ORDER_MARKS)):
        _refuse_binary(data)
    with warnings.catch_warnings():
        # XHTML is read as HTML, and a page without a tag is no file name.
        warnings.simplefilter("ignore", UserWarning)
        soup = BeautifulSoup(data, "html.parser")
    lines = (" ".join(line.split()) for line in "".join(_texts(soup)).splitlines())
    return [Page(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip())]


def _texts(soup: Any) -> Iterator[str]:
    """Yield what a reader sees, with a line break where a block begins or ends; passes over the tree once."""
    opened: list[Any] = [soup]
    for node in soup.descendants:
        while opened[-1] is not node.parent:
            yield _break(opened.pop())
        if node.name is not None:
            yield _break(node)
            opened.append(node)
        elif type(node) in soup.interesting_string_types:  # Neither a comment nor a script.
            yield node


def _break(element: Any) -> str:
    return "\n" if BLOCKS.match(element.name) else ""


def _load_pdf(data: bytes) -> list[Page]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError as error:
        raise _missing("PDF", "pypdf") from error
    # What pypdf raises for a damaged file depends on where the damage is.
    damage = (PyPdfError, DependencyError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
    try:
        with _quiet("pypdf"):
            reader = PdfReader(io.BytesIO(data))
            # Many files are encrypted by an empty password, which only keeps people from printing them.
            locked = reader.is_encrypted and not reader.decrypt("")
            pages = [] if locked else [Page(page.extract_text(), i) for i, page in enumerate(reader.pages, start=1)]
    except (*damage, RuntimeError, AssertionError, struct.error, zlib.error) as error:
        raise UnreadableFile(f"cannot be read as PDF: {error}") from error
    if locked:
        raise UnreadableFile("is encrypted")
    return pages


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger and those below it tell nothing meanwhile; what matters is raised."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _missing(kind: str, package: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f'Reading {kind} needs {package}: pip install "pgembedding-django[documents]"')


LOADERS: dict[str, Callable[[bytes], list[Page]]] = {
    ".txt": _load_text,
    ".md": _load_text,
    ".markdown": _load_text,
    ".html": _load_html,
    ".htm": _load_html,
    ".pdf": _load_pdf,
}
