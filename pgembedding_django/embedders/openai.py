"""Embeddings from OpenAI, or from any server that speaks its wire format."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders import outcomes, tokens
from pgembedding_django.embedders.base import Embedder
from pgembedding_django.embedders.calls import Call, Endpoint, logger
from pgembedding_django.embedders.errors import TextRejected
from pgembedding_django.embedders.secrets import Address, Secrets

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAIEmbedder"]

T = TypeVar("T")
Asked = TypeVar("Asked")

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

    concurrency: int = 4

    model: str
    timeout: float
    deadline: float
    batch_size: int
    max_tokens: int

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
        self._base_url, self._api_key = base_url, api_key
        # Else a crash report would show them where an option is wrong.
        del base_url, api_key
        super().__init__(dimensions=dimensions, **common)
        self._check_number("timeout", timeout, least=0.001)
        self._check_number("deadline", deadline, least=0)
        self._check_integer("concurrency", concurrency)
        self._check_integer("batch_size", batch_size, most=MAX_INPUTS)
        self._check_integer("max_tokens", max_tokens)
        if too_long not in ("reject", "truncate"):
            raise ValueError(f'OpenAIEmbedder.too_long must be "reject" or "truncate", got {too_long!r}.')
        if self._base_url is not None and urlsplit(self._base_url).scheme not in ("http", "https"):
            raise ValueError('OpenAIEmbedder.base_url must start with "http://" or "https://".')
        self.model, self.timeout, self.deadline = model, timeout, deadline
        self.concurrency, self.batch_size = concurrency, batch_size
        self.max_tokens, self.too_long = max_tokens, too_long
        self.dimensions: int | None = dimensions or DIMENSIONS.get(model)
        self._asked = {"model": model, **({"dimensions": dimensions} if dimensions else {})}
        self._opening = threading.Lock()
        #: The process, its endpoint, and what closes the connections.
        self._opened: tuple[int, Endpoint, weakref.finalize[..., OpenAIEmbedder]] | None = None

    @property
    def identity(self) -> str:
        return self._identify(f"openai:{self.model}")

    @property
    def sends_to(self) -> str:
        """The server, without user, password and query."""
        return self._address.public

    def compute_each(self, texts: list[str]) -> list[Any]:
        return self._each(texts, self._call(self.deadline))

    def compute_query(self, text: str) -> Any:
        return self._query(text, self._call(min(self.deadline, QUERY_DEADLINE)))

    async def acompute_each(self, texts: list[str]) -> list[Any]:
        return await self._in_thread(self._each, texts, self.deadline)

    async def acompute_query(self, text: str) -> Any:
        return await self._in_thread(self._query, text, min(self.deadline, QUERY_DEADLINE))

    def close(self) -> None:
        if self._opened is not None:
            self._opened[2]()
            self._opened = None

    async def _in_thread(self, function: Callable[[Asked, Call], T], asked: Asked, patience: float) -> T:
        """Run a call in a thread; one that is cancelled sends nothing more."""
        call = await asyncio.to_thread(self._call, patience)
        try:
            return await asyncio.to_thread(function, asked, call)
        finally:
            call.stopped.set()

    def _each(self, texts: list[str], call: Call) -> list[Any]:
        fitted = self._fit(texts)
        sent = [fit for fit in fitted if not isinstance(fit, TextRejected)]
        sizes = [size for _, size in sent]
        ranges = tokens.split(sizes, most_texts=self.batch_size, most_tokens=MAX_REQUEST_TOKENS)
        parts = [[text for text, _ in sent[part.start : part.stop]] for part in ranges]
        # A single request needs no other thread.
        answers = chain.from_iterable(self._together(parts, call) if len(parts) > 1 else map(call.each, parts))
        return [fit if isinstance(fit, TextRejected) else next(answers) for fit in fitted]

    def _together(self, parts: list[list[str]], call: Call) -> list[list[Any]]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                return list(pool.map(call.each, parts))
            finally:
                # An interrupt waits for the requests under way, and for no more.
                call.stopped.set()

    def _query(self, text: str, call: Call) -> Any:
        [fit] = outcomes.raise_first(self._fit([text]))
        return outcomes.raise_first(call.ask([fit[0]]))[0]

    def _fit(self, texts: list[str]) -> list[tuple[str, int] | TextRejected]:
        """Return each text and its tokens, or why it is not sent."""
        sized = [(text, tokens.estimate_tokens(text)) for text in texts]
        too_long = sum(size > self.max_tokens for _, size in sized)
        if too_long:
            sentence = '%s: %d of %d texts have more than %d tokens by estimate: too_long="%s".'
            logger.warning(sentence, self.model, too_long, len(texts), self.max_tokens, self.too_long)
        return [(text, size) if size <= self.max_tokens else self._shorten(text, size) for text, size in sized]

    def _shorten(self, text: str, size: int) -> tuple[str, int] | TextRejected:
        if self.too_long == "truncate":
            return tokens.truncate(text, self.max_tokens), self.max_tokens
        return TextRejected(
            f"it has about {size:,} tokens, and {self.model} takes {self.max_tokens:,}. "
            'Split it, or set too_long="truncate" in the OPTIONS.'
        )

    def _call(self, patience: float) -> Call:
        """Begin a call; the first of a process, also after a fork, opens the connections."""
        with self._opening:
            pid = os.getpid()
            if self._opened is None or self._opened[0] != pid:
                client = self._make_client()
                secrets = Secrets(self._key, *self._address.secrets)
                endpoint = Endpoint(client, secrets, self.sends_to, self.timeout, self.concurrency, self._asked)
                self._opened = pid, endpoint, weakref.finalize(self, _close, pid, client)
            return Call(self._opened[1], patience=patience)

    @property
    def _address(self) -> Address:
        return Address(self._base_url or os.environ.get("OPENAI_BASE_URL") or BASE_URL)

    @property
    def _key(self) -> str:
        # An empty key counts as none, and a file's line end is no part of one.
        return (self._api_key or os.environ.get("OPENAI_API_KEY") or "").strip()

    def _make_client(self) -> OpenAI:
        """Make the client; no local variable holds a secret that a crash report would show."""
        try:
            import openai
        except ImportError as error:
            sentence = 'OpenAIEmbedder needs openai: pip install "pgembedding-django[openai]"'
            raise ImproperlyConfigured(sentence) from error
        # The client would fail with a message about an illegal header that repeats the key.
        if not (self._key and self._key.isascii() and self._key.isprintable()):
            raise ImproperlyConfigured(
                'OpenAIEmbedder has no usable key: set OPENAI_API_KEY in the environment, or "api_key" in the OPTIONS '
                'of PGEMBEDDING["EMBEDDERS"].'
            )
        self._address.hide_query()
        version = self._address.version
        return (partial(openai.AzureOpenAI, api_version=version) if version else openai.OpenAI)(
            api_key=self._key,
            base_url=self._address.public,
            default_headers=self._address.headers,
            default_query=self._address.query,
            max_retries=0,  # Retries are the call's, which tries until a deadline.
        )


def _close(pid: int, client: OpenAI) -> None:
    """Close the connections of an embedder that nobody holds any more; a forked process has its parent's."""
    if os.getpid() == pid:
        client.close()
