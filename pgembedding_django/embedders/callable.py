"""Embeddings by a function of the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pgembedding_django.embedders.base import Embedder
from pgembedding_django.embedders.foreign import OURS, read_exception

__all__ = ["CallableEmbedder"]


class CallableEmbedder(Embedder):
    """
    Embed by a function that takes a list of texts and returns one vector for each of them.

    function: the function, or its dotted path, which is imported at the first text.
    sends_to: where the function sends texts, "" if nowhere; its path unless given, since nobody knows.
    What the function raises tells a bad text from an outage: TimeoutError, ConnectionError and a `status_code` of 408,
    409, 429 or 5xx mean EmbedderUnavailable, everything else that it refuses a text.
    """

    def __init__(
        self, *, function: str | Callable[[list[str]], Sequence[Any]], sends_to: str | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self.function = function
        self._path = function if isinstance(function, str) else f"{function.__module__}.{function.__qualname__}"
        self._sends_to = sends_to

    @property
    def identity(self) -> str:
        return self._identify(self._path)

    @property
    def sends_to(self) -> str:
        return self._path if self._sends_to is None else self._sends_to

    def compute(self, texts: list[str]) -> Any:
        function = _imported(self.function) if isinstance(self.function, str) else self.function
        try:
            return list(function(texts))
        except OURS:
            raise
        except Exception as error:
            raise read_exception(error, self._path) from error


def _imported(path: str) -> Callable[[list[str]], Sequence[Any]]:
    try:
        target = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"CallableEmbedder.function cannot be imported: {error}") from error
    if not callable(target):
        raise ImproperlyConfigured(f"CallableEmbedder.function must be a function, got {type(target).__name__}.")
    return target  # type: ignore[no-any-return]
