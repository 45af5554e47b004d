"""How a text is cut into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.bounds import is_integer

__all__ = ["Piece", "Splits", "Splitter"]

UNITS = ("characters", "tokens")


class Piece(NamedTuple):
    """A piece of a text; start, end: where it stands there, None where the splitter changed it."""

    start: int | None
    end: int | None
    text: str


class TextSplitter(Protocol):
    """A splitter of langchain-text-splitters, or what has its method."""

    def split_text(self, text: str) -> list[str]: ...


Splitter = Callable[[str], Iterable[str]] | TextSplitter


class Splits:
    """
    Which text of its parent a passage is a piece of, and how that is cut.

    column: the name of a CharField or TextField of the parent, behind the name of the foreign key where several lead to
        such a column: "article__body".
    context: the name of a column of the parent, or several, whose text is put before each piece, such as a title.
    size, overlap: of a piece, and what it repeats of the one before, in `unit`: "characters" or "tokens", which the
        embedder estimates.
    splitter: cuts the text instead: a function from a text to its pieces, or a splitter of langchain-text-splitters.
    A change of any of these splits every text again. Of a function, its name tells.
    """

    column: str
    size: int
    overlap: int
    splitter: Splitter | None

    def __init__(
        self,
        column: str,
        *,
        context: str | Iterable[str] = (),
        size: int = 1000,
        overlap: int = 200,
        unit: str = "characters",
        splitter: Splitter | None = None,
    ) -> None:
        if not is_integer(size, 1):
            raise ValueError(f"Splits.size must be a positive integer, got {size!r}.")
        if not is_integer(overlap, 0) or overlap >= size:
            raise ValueError(f"Splits.overlap must be an integer from 0 to less than size = {size}, got {overlap!r}.")
        if unit not in UNITS:
            raise ValueError(f'Splits.unit must be "characters" or "tokens", got {unit!r}.')
        self.column, self.size, self.overlap, self.unit, self.splitter = column, size, overlap, unit, splitter
        self.context: tuple[str, ...] = (context,) if isinstance(context, str) else tuple(context)

    @property
    def identity(self) -> str:
        """What tells that texts are to be split again."""
        if self.splitter is None:
            return f"{self.size}:{self.overlap}:{self.unit}"
        named = self.splitter if hasattr(self.splitter, "__qualname__") else type(self.splitter)
        sizes = [str(vars(self.splitter).get(name, "")) for name in ("_chunk_size", "_chunk_overlap")]
        return ":".join([f"{named.__module__}.{named.__qualname__}", *sizes])

    def split(self, text: str, measure: Callable[[str], int]) -> list[Piece]:
        """
        Return the pieces of a text in their order, without those that are blank.

        measure: how many tokens a text has. Raises ImproperlyConfigured without langchain-text-splitters, if no
        splitter is given.
        """
        if not text.strip():
            return []
        splitter = self.splitter or self._default(measure)
        pieces = splitter(text) if callable(splitter) else splitter.split_text(text)
        return list(_located(text, (piece for piece in pieces if piece.strip())))

    def _default(self, measure: Callable[[str], int]) -> TextSplitter:
        try:
            from langchain_text_splitters import RecursiveCharacterTextSplitter
        except ImportError as error:
            raise ImproperlyConfigured(
                'Splitting texts needs langchain-text-splitters: pip install "pgembedding-django[documents]", or give '
                "Splits a splitter=."
            ) from error
        length = len if self.unit == "characters" else measure
        return RecursiveCharacterTextSplitter(chunk_size=self.size, chunk_overlap=self.overlap, length_function=length)


def _located(text: str, pieces: Iterable[str]) -> Iterator[Piece]:
    """Yield pieces with their places; each begins after the one before begins."""
    after = 0
    for piece in pieces:
        start = text.find(piece, after)
        if start < 0:
            yield Piece(None, None, piece)
        else:
            yield Piece(start, start + len(piece), piece)
            after = start + 1
