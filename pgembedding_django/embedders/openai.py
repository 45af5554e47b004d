"""Embeddings from OpenAI, or from any server that speaks its wire format."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders.base import Embedder, EmbeddingError

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAIEmbedder"]

#: Inputs of one request (OpenAI API reference, "Create embeddings").
MAX_INPUTS = 2048

#: Seconds; the client's own default of 600 would hold a worker for ten minutes.
TIMEOUT = 60.0


class OpenAIEmbedder(Embedder):
    """
    Embed through the embeddings endpoint of OpenAI or a compatible server.

    model: such as "text-embedding-3-small". dimensions: asked of the server where it is given.
    base_url: of a compatible server; OpenAI's where it is None. api_key: OPENAI_API_KEY of the environment where it
        is None. timeout: seconds for each request. max_retries: after 408, 409, 429, 5xx and lost connections, but
        never where the account has no credit left.
    Raises EmbeddingError if an answer is not one vector for each text, and what the openai package raises for a
    request that fails. Every request is paid for.
    Source: OpenAI API reference, "Create embeddings"; openai 3.54.
    """

    def __init__(
        self,
        *,
        model: str = "text-embedding-3-small",
        dimensions: int | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        max_retries: int = 2,
    ) -> None:
        super().__init__(dimensions=dimensions)
        self.model, self.base_url = model, base_url
        self.timeout, self.max_retries = timeout, max_retries
        self._api_key = api_key

    @cached_property
    def client(self) -> OpenAI:
        """The client, made at the first request; it may be shared between threads."""
        try:
            import openai
        except ImportError as error:
            raise ImproperlyConfigured(
                'OpenAIEmbedder needs openai: pip install "pgembedding-django[openai]"'
            ) from error
        # An empty key counts as none: the client would send it, and fail with a message about an illegal header.
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise ImproperlyConfigured(
                'OpenAIEmbedder has no key: set OPENAI_API_KEY in the environment, or "api_key" in the OPTIONS of '
                'PGEMBEDDING["EMBEDDERS"].'
            )
        return openai.OpenAI(
            api_key=key,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [_stop_without_credit]}),
        )

    def compute(self, texts: list[str]) -> list[Any]:
        return [
            vector
            for start in range(0, len(texts), MAX_INPUTS)
            for vector in self._request(texts[start : start + MAX_INPUTS])
        ]

    def _request(self, texts: list[str]) -> Iterator[Any]:
        asked: dict[str, Any] = {"dimensions": self.dimensions} if self.dimensions else {}
        answer = self.client.embeddings.create(model=self.model, input=texts, encoding_format="base64", **asked)
        items = getattr(answer, "data", None)
        if not isinstance(items, list):
            raise EmbeddingError(f"The server of OpenAIEmbedder answered with no list of vectors for {self.model}.")
        # The client checks no types: an item is whatever the server sent.
        by_index = {getattr(item, "index", None): getattr(item, "embedding", None) for item in items}
        if len(items) != len(texts) or by_index.keys() != set(range(len(texts))):
            raise EmbeddingError(
                f"The server of OpenAIEmbedder answered {len(items)} vectors for {len(texts)} texts "
                f"({len(by_index)} different indexes)."
            )
        return (_decode(by_index[position]) for position in range(len(texts)))


def _stop_without_credit(response: Any) -> None:
    """Let the client give up at once where the account has no credit left: it would take that for an overload."""
    if response.status_code == 429 and b"insufficient_quota" in response.read():
        response.headers["x-should-retry"] = "false"


def _decode(embedding: Any) -> Any:
    """Read base64 of little-endian float32; some compatible servers send a list of numbers all the same."""
    if not isinstance(embedding, str):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    except ValueError as error:
        raise EmbeddingError(
            f"The server of OpenAIEmbedder answered a vector that is no base64 of float32: {error}."
        ) from error
