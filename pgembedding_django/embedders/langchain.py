"""Embeddings by any `Embeddings` object of LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pgembedding_django.embedders.base import Embedder
from pgembedding_django.embedders.foreign import OURS, read_exception

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

__all__ = ["LangChainEmbedder"]

#: Attributes by which LangChain's classes name their model, the most usual first.
MODEL_NAMES = ("model", "model_name", "model_id", "repo_id", "deployment")


class LangChainEmbedder(Embedder):
    """
    Embed through LangChain: documents by `embed_documents`, questions by `embed_query`.

    embeddings: an `Embeddings` object, or the dotted path of its class. kwargs: of the class, which is called at the
        first text.
    sends_to: where the object sends texts, "" if nowhere; its class unless given, since nobody knows.
    Retries are those of the object. TimeoutError, ConnectionError and a `status_code` of 408, 409, 429 or 5xx mean
    EmbedderUnavailable, everything else that it refuses a text.
    """

    def __init__(
        self,
        *,
        embeddings: str | Embeddings,
        kwargs: Mapping[str, Any] | None = None,
        sends_to: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._given, self._kwargs, self._sends_to = embeddings, dict(kwargs or {}), sends_to

    @cached_property
    def embeddings(self) -> Embeddings:
        """The LangChain object, made at the first text."""
        if not isinstance(self._given, str):
            return self._given
        try:
            made = import_string(self._given)
        except ImportError as error:
            raise ImproperlyConfigured(f"LangChainEmbedder.embeddings cannot be imported: {error}") from error
        try:
            return made(**self._kwargs)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001 (what went wrong is raised, without what may repeat a key)
            raise ImproperlyConfigured(
                f'LangChainEmbedder.kwargs do not suit {self._given} ({type(error).__name__}). Call it in "manage.py '
                'shell" to read why.'
            ) from None

    @property
    def identity(self) -> str:
        """The object's class and model; makes the object."""
        named = (getattr(self.embeddings, name, None) for name in MODEL_NAMES)
        # Some classes take a server's address for a model; the same model may move.
        models = [model for model in named if isinstance(model, str) and "://" not in model]
        return self._identify(":".join(["langchain", type(self.embeddings).__name__, *models[:1]]))

    @property
    def sends_to(self) -> str:
        return self._class_name if self._sends_to is None else self._sends_to

    def compute(self, texts: list[str]) -> Any:
        try:
            return self.embeddings.embed_documents(texts)
        except OURS:
            raise
        except Exception as error:
            raise read_exception(error, self._class_name) from error

    def compute_query(self, text: str) -> Any:
        try:
            return self.embeddings.embed_query(text)
        except OURS:
            raise
        except Exception as error:
            raise read_exception(error, self._class_name) from error

    async def acompute_query(self, text: str) -> Any:
        try:
            return await self.embeddings.aembed_query(text)
        except OURS:
            raise
        except Exception as error:
            raise read_exception(error, self._class_name) from error

    @property
    def _class_name(self) -> str:
        return self._given.rpartition(".")[2] if isinstance(self._given, str) else type(self._given).__name__
