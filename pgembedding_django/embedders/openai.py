"""Embeddings from OpenAI, or from any server that speaks its wire format."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders import loop, outcomes, tokens
from pgembedding_django.embedders.base import Embedder
from pgembedding_django.embedders.calls import Call, Endpoint, logger
from pgembedding_django.embedders.errors import TextRejected

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAIEmbedder"]

#: Of one request: inputs, and tokens of all inputs; tokens of one input (OpenAI API reference, "Create embeddings").
MAX_INPUTS, MAX_REQUEST_TOKENS, MAX_TOKENS = 2048, 300_000, 8192

#: Seconds; the client's own default of 600 would hold a worker for ten minutes.
TIMEOUT = 60.0

#: Seconds without any good answer.
DEADLINE = 300.0

#: Seconds; a person waits for the answer to a question.
QUERY_DEADLINE = 10.0

#: What each model gives unless asked for less (OpenAI, "Vector embeddings").
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}

BASE_URL = "https://api.openai.com/v1"


class OpenAIEmbedder(Embedder):
    """
    Embed through the embeddings endpoint of OpenAI or a compatible server.

    model: such as "text-embedding-3-small". dimensions: asked of the server where it is given.
    base_url: of a compatible server; OPENAI_BASE_URL of the environment, or OpenAI's, where it is None.
    api_key: OPENAI_API_KEY of the environment where it is None.
    timeout: seconds for each request. deadline: seconds without any good answer after which a request that failed with
        408, 409, 429, 5xx, a timeout or a lost connection is not tried again; at most 10 for a question. If the server
        answers others then, the batch is halved to find the text that it fails for.
    concurrency: requests at once, in this process. batch_size: texts in one request, at most 2,048.
    max_tokens: of one text, by estimate. too_long: "reject" or "truncate" a text that has more.
    Every good answer is paid for.
    Source: OpenAI API reference, "Create embeddings"; openai 3.54.
    """

    concurrency = 4

    def __init__(
        self,
        *,
        model: str = "text-embedding-3-small",
        dimensions: int | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        concurrency: int = concurrency,
        batch_size: int = Embedder.batch_size,
        max_tokens: int = MAX_TOKENS,
        too_long: str = "reject",
        **common: Any,
    ) -> None:
        super().__init__(dimensions=dimensions, **common)
        self._check_number("timeout", timeout, least=0.001)
        self._check_number("deadline", deadline, least=0)
        self._check_integer("concurrency", concurrency)
        self._check_integer("batch_size", batch_size, most=MAX_INPUTS)
        self._check_integer("max_tokens", max_tokens)
        if too_long not in ("reject", "truncate"):
            raise ValueError(f'OpenAIEmbedder.too_long must be "reject" or "truncate", got {too_long!r}.')
        if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
            raise ValueError('OpenAIEmbedder.base_url must start with "http://" or "https://".')
        self.model, self.base_url, self.timeout, self.deadline = model, base_url, timeout, deadline
        self.concurrency, self.batch_size = concurrency, batch_size
        self.max_tokens, self.too_long = max_tokens, too_long
        self.dimensions = dimensions or DIMENSIONS.get(model)
        self._asked = {"model": model, **({"dimensions": dimensions} if dimensions else {})}
        self._api_key = api_key
        #: The loop that the connections belong to, the endpoint, and what closes them.
        self._opened: tuple[asyncio.AbstractEventLoop, Endpoint, Callable[[], object]] | None = None

    @property
    def identity(self) -> str:
        return self._identify(f"openai:{self.model}")

    @property
    def sends_to(self) -> str:
        """The server, without user, password and query."""
        parts = urlsplit(self.base_url or os.environ.get("OPENAI_BASE_URL") or BASE_URL)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def compute_each(self, texts: list[str]) -> list[Any]:
        return loop.run(self._each(texts))

    def compute_query(self, text: str) -> Any:
        return loop.run(self._query(text))

    async def acompute_each(self, texts: list[str]) -> list[Any]:
        return await loop.arun(self._each(texts))

    async def acompute_query(self, text: str) -> Any:
        return await loop.arun(self._query(text))

    def close(self) -> None:
        if self._opened is not None:
            self._opened[2]()
            self._opened = None

    async def _each(self, texts: list[str]) -> list[Any]:
        fitted = self._fit(texts)
        sent = [fit for fit in fitted if not isinstance(fit, TextRejected)]
        sizes = [size for _, size in sent]
        parts = tokens.split(sizes, most_texts=self.batch_size, most_tokens=MAX_REQUEST_TOKENS)
        call = Call(self._open(), patience=self.deadline)
        answers = iter(await call.embed([text for text, _ in sent], parts))
        return [fit if isinstance(fit, TextRejected) else next(answers) for fit in fitted]

    async def _query(self, text: str) -> Any:
        [fit] = self._fit([text])
        if isinstance(fit, TextRejected):
            raise fit
        answers = await Call(self._open(), patience=min(self.deadline, QUERY_DEADLINE)).ask([fit[0]])
        return outcomes.raise_first(answers)[0]

    def _fit(self, texts: list[str]) -> list[tuple[str, int] | TextRejected]:
        """Return each text and its tokens, or why it is not sent."""
        sized = [(text, tokens.estimate_tokens(text)) for text in texts]
        too_long = sum(size > self.max_tokens for _, size in sized)
        if too_long:
            logger.warning(
                '%s: %d of %d texts have more than %d tokens by estimate: too_long="%s".',
                self.model,
                too_long,
                len(texts),
                self.max_tokens,
                self.too_long,
            )
        return [(text, size) if size <= self.max_tokens else self._shorten(text, size) for text, size in sized]

    def _shorten(self, text: str, size: int) -> tuple[str, int] | TextRejected:
        if self.too_long == "truncate":
            return tokens.truncate(text, self.max_tokens), self.max_tokens
        return TextRejected(
            f"it has about {size:,} tokens, and {self.model} takes {self.max_tokens:,}. "
            'Split it, or set too_long="truncate" in the OPTIONS.'
        )

    def _open(self) -> Endpoint:
        """Return the endpoint of the running loop, opened at the first request: of a process, and after a fork."""
        running = asyncio.get_running_loop()
        if self._opened is None or self._opened[0] is not running:
            client = self._make_client()
            gate = asyncio.Semaphore(self.concurrency)
            endpoint = Endpoint(client, gate, self.sends_to, self.timeout, self._asked)
            self._opened = running, endpoint, weakref.finalize(self, _close, running, client)
        return self._opened[1]

    def _make_client(self) -> AsyncOpenAI:
        try:
            import openai
        except ImportError as error:
            raise ImproperlyConfigured(
                'OpenAIEmbedder needs openai: pip install "pgembedding-django[openai]"'
            ) from error
        # An empty key counts as none, and a file's line end is no part of one: the client would fail with a message
        # about an illegal header that repeats the key.
        key = (self._api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        if not (key and key.isascii() and key.isprintable()):
            raise ImproperlyConfigured(
                'OpenAIEmbedder has no usable key: set OPENAI_API_KEY in the environment, or "api_key" in the OPTIONS '
                'of PGEMBEDDING["EMBEDDERS"].'
            )
        # Time and retries are the call's: it has one limit for a whole answer, and tries until a deadline.
        return openai.AsyncOpenAI(api_key=key, base_url=self.base_url, timeout=None, max_retries=0)


def _close(running: asyncio.AbstractEventLoop, client: AsyncOpenAI) -> None:
    """Close the connections of an embedder that nobody holds any more, also when the process ends."""
    if loop.is_ours(running):
        asyncio.run_coroutine_threadsafe(client.close(), running)
