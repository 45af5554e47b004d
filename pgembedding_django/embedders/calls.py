"""Asks a server of the embeddings wire format, and tries again what may pass."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError, MalformedReply, TextRejected
from pgembedding_django.embedders.isolation import Isolation
from pgembedding_django.embedders.outcomes import caused_by
from pgembedding_django.embedders.replies import read_failure, read_reply, refuses_base64

if TYPE_CHECKING:
    from openai import APIConnectionError, APIResponse, APIStatusError, OpenAI
    from openai.types import CreateEmbeddingResponse

    from pgembedding_django.embedders.secrets import Secrets

logger = logging.getLogger("pgembedding_django.embedders")

#: Seconds before the second try, and the most before any: doubled each time and jittered by half, as the openai
#: package does.
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0

#: Seconds; a server that asks for more (its clock may be wrong) is asked again after these.
LONGEST_RETRY_AFTER = 60.0

#: Tries of a request whose answers make no sense: each of them may have been paid for.
MOST_MALFORMED = 5


class Endpoint:
    """
    A server and what is asked of it.

    where: the server for messages. timeout: seconds for a whole answer. asked: the model, and its options.
    gate: how many requests may run at once, in this process.
    """

    client: OpenAI
    where: str
    timeout: float

    def __init__(
        self, client: OpenAI, secrets: Secrets, where: str, timeout: float, concurrency: int, asked: dict[str, Any]
    ) -> None:
        self.client, self._secrets, self.where, self.timeout = client, secrets, where, timeout
        self._asked, self._encoding = asked, "base64"
        self.gate: threading.Semaphore = threading.Semaphore(concurrency)

    def request(self, texts: list[str]) -> list[Any]:
        """
        Return a vector or an error for each text, from one request.

        Raises RefusedByServer if the server refuses what was sent, EmbedderUnavailable for what may pass, and
        EmbeddingError for what will not.
        """
        try:
            return self._request(texts, self._encoding)
        except TextRejected as error:
            if self._encoding == "float" or not refuses_base64(error):
                raise
        answers = self._request(texts, "float")
        self._encoding = "float"
        return answers

    def _request(self, texts: list[str], encoding: str) -> list[Any]:
        import openai

        started = time.monotonic()
        try:
            content = self._send(texts, encoding, started + self.timeout)
        except openai.APITimeoutError as error:
            raise self._too_slow() from _bare(error)
        except openai.APIConnectionError as error:
            raise self._unreachable(error.__cause__ or error) from _bare(error)
        except openai.APIStatusError as error:
            said = self._secrets.mask(error.response.content)
            raise read_failure(error.status_code, said, error.response.headers, self.where) from _bare(error)
        outcome = read_reply(content, len(texts), self.where)
        if isinstance(outcome, EmbeddingError):
            outcome = read_reply(self._secrets.mask(content), len(texts), self.where)
            del content
        if isinstance(outcome, EmbeddingError):
            raise outcome
        answers, tokens = outcome
        seconds = time.monotonic() - started
        logger.info("%s embedded %d texts, %d tokens, in %.3f seconds.", self.where, len(texts), tokens, seconds)
        return answers

    def _send(self, texts: list[str], encoding: str, until: float) -> bytes:
        create = self.client.embeddings.with_streaming_response.create
        # In `input`, the client would walk through every text by its type hints.
        asked: Any = {**self._asked, "input": [], "extra_body": {"input": texts}, "encoding_format": encoding}
        with create(**asked, timeout=self.timeout) as response:
            return b"".join(self._chunks(response, until))

    def _chunks(self, response: APIResponse[CreateEmbeddingResponse], until: float) -> Iterator[bytes]:
        """Read a body; the client's own limit is one for each read, which a server that drips would never meet."""
        # httpx or httpx2, as the version of the client has it.
        package = sys.modules[type(response.http_response).__module__.partition(".")[0]]
        try:
            for chunk in response.iter_bytes():
                if time.monotonic() > until:
                    raise self._too_slow()
                yield chunk
        except package.TimeoutException:
            raise self._too_slow() from None
        except package.RequestError as error:
            raise self._unreachable(error) from None

    def _too_slow(self) -> EmbedderUnavailable:
        return EmbedderUnavailable(f"{self.where} did not answer in {self.timeout:g} seconds.")

    def _unreachable(self, error: BaseException) -> EmbedderUnavailable:
        return EmbedderUnavailable(f"{self.where} cannot be reached ({type(error).__name__}).")


class Call(Isolation):
    """
    The requests of one call, of which some may fail.

    patience: seconds without a good answer after which no request is repeated. stopped: set it to send no more.
    """

    def __init__(self, endpoint: Endpoint, *, patience: float) -> None:
        super().__init__(endpoint.request, endpoint.where)
        self._gate, self._patience = endpoint.gate, patience
        self._until = time.monotonic() + patience
        self.stopped: threading.Event = threading.Event()

    def ask(self, texts: list[str], *, patient: bool = True) -> list[Any]:
        """Return the answers of one request, tried again as long as there is patience."""
        tries = malformed = 0
        # While a server is overloaded, and its request waits in here, fewer others reach it.
        with self._gate:
            while self.failure is None:
                try:
                    answers = super().ask(texts)
                except EmbedderUnavailable as error:
                    tries, malformed = tries + 1, malformed + isinstance(error, MalformedReply)
                    if malformed == MOST_MALFORMED or not (patient or error.is_about_no_text):
                        raise
                    self._wait(tries, error)
                else:
                    self._until = time.monotonic() + self._patience
                    return answers
        raise self.failure

    def refused(self, error: EmbeddingError, refusal: EmbeddingError) -> EmbeddingError:
        if not isinstance(refusal, TextRejected):
            return refusal
        named = [f'"{option}"' for option in ("model", "dimensions") if option.rstrip("s") in str(refusal).lower()]
        remedy = f": check {' and '.join(named)} in the OPTIONS." if named else "."
        return caused_by(refusal, EmbeddingError(f"{refusal} It refuses every text{remedy}"))

    def _wait(self, tries: int, error: EmbedderUnavailable) -> None:
        """Sleep until the next try, or raise the error if there is no patience left for one."""
        seconds = _seconds(tries, error.retry_after)
        if time.monotonic() + seconds > self._until:
            raise error
        logger.warning("%s Trying again in %.1f seconds (try %d failed).", error, seconds, tries)
        if self.stopped.wait(seconds):
            raise error


def _seconds(tries: int, retry_after: float | None) -> float:
    jitter = random.random()  # noqa: S311 (spreads requests, guards nothing)
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER) * (1 + jitter / 10)
    return min(FIRST_WAIT * 2.0 ** min(tries - 1, 10), LONGEST_WAIT) * (1 - jitter / 2)


def _bare(error: APIConnectionError | APIStatusError) -> BaseException:
    """
    Take from an error what a crash report must not show.

    Some servers repeat the key that they refuse, and the frames of the client hold it.
    """
    error.message = type(error).__name__
    error.args, error.body = (error.message,), None
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
