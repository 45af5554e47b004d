"""Asks a server of the embeddings wire format: one request, and all the requests of one call."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgembedding_django.embedders.base import PROBE
from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError, TextRejected
from pgembedding_django.embedders.outcomes import caused_by
from pgembedding_django.embedders.replies import MalformedReply, read_failure, read_reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("pgembedding_django.embedders")

#: Seconds before the second try, and the most before any: doubled each time and jittered by half, as the openai
#: package does.
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0

#: Seconds; a server that asks for more (its clock may be wrong) is asked again after these.
LONGEST_RETRY_AFTER = 60.0

#: Tries of a request whose answers make no sense: each of them may have been paid for.
MOST_MALFORMED = 5

#: Requests in a row that fail while PROBE is answered: more of them than a few bad texts explain.
MOST_FUTILE = 32


class Unanswered(TextRejected):
    """The server fails for what was sent, again and again, while it answers other requests."""


@dataclass(frozen=True)
class Endpoint:
    """
    A server and what is asked of it.

    gate: lets so many requests pass at once. where: the server for messages. asked: the model, and its options.
    """

    client: AsyncOpenAI
    gate: asyncio.Semaphore
    where: str
    timeout: float
    asked: dict[str, Any]

    async def request(self, texts: list[str]) -> list[Any]:
        """
        Return a vector or an error for each text, from one request.

        Raises TextRejected if the server refuses what was sent, EmbedderUnavailable for what may pass, and
        EmbeddingError for what will not.
        """
        import openai

        started = time.monotonic()
        try:
            # Not the client's own limit, which is one for each read: a server that drips would never meet it.
            async with asyncio.timeout(self.timeout):
                # In `input`, the client would walk through every text by its type hints, on the loop.
                reply = await self.client.embeddings.with_raw_response.create(
                    input=[], extra_body={"input": texts}, encoding_format="base64", **self.asked
                )
        except TimeoutError as error:
            raise EmbedderUnavailable(f"{self.where} did not answer in {self.timeout:g} seconds.") from error
        except openai.APIError as error:
            raise read_failure(error, self.where, self.client.api_key) from error
        answers, tokens = read_reply(reply.content, len(texts), self.where)
        seconds = time.monotonic() - started
        logger.info("%s embedded %d texts, %d tokens, in %.3f seconds.", self.where, len(texts), tokens, seconds)
        return answers


class Call:
    """
    The requests of one call, of which some may fail.

    patience: seconds without any good answer after which no request is tried again.
    futile: requests in a row that failed while the server answers others.
    failure: what stopped the call; no further request is sent then.
    """

    def __init__(self, endpoint: Endpoint, *, patience: float) -> None:
        self.endpoint, self.patience = endpoint, patience
        self.until = time.monotonic() + patience
        self.answered = False
        self.futile = 0
        self.failure: EmbeddingError | None = None
        self.answers: dict[int, Any] = {}

    async def embed(self, texts: list[str], parts: Iterable[range]) -> list[Any]:
        """
        Return a vector or an error for each text.

        parts: the positions of the texts of each request.
        """
        await asyncio.gather(*(self._embed(texts, part) for part in parts))
        return [self.answers.get(position, self.failure) for position in range(len(texts))]

    async def ask(self, texts: list[str]) -> list[Any]:
        """Return the answers of one request, tried again as long as there is patience."""
        async with self.endpoint.gate:
            return await self._ask(texts)

    async def _ask(self, texts: list[str], *, patient: bool = True) -> list[Any]:
        tries = malformed = 0
        while True:
            if self.failure is not None:
                raise self.failure
            try:
                answers = await self.endpoint.request(texts)
            except EmbedderUnavailable as error:
                tries, malformed = tries + 1, malformed + isinstance(error, MalformedReply)
                if malformed == MOST_MALFORMED or not (patient or _is_about_no_text(error)):
                    raise
                # Inside the gate: while a server is overloaded, fewer requests reach it.
                await self._wait(tries, error)
            else:
                self.answered, self.until = True, time.monotonic() + self.patience
                return answers

    async def _ask_part(self, texts: list[str], *, patient: bool) -> list[Any]:
        """
        Return the answers of one request.

        Raises Unanswered, too, if the server fails for it and answers another one.
        """
        # Inside the gate: nothing else of the call is sent to a server that may be down.
        async with self.endpoint.gate:
            try:
                return await self._ask(texts, patient=patient)
            except EmbedderUnavailable as error:
                if _is_about_no_text(error):
                    raise
                return await self._ask_after_probe(texts, error)

    async def _ask_after_probe(self, texts: list[str], error: EmbedderUnavailable) -> list[Any]:
        """Ask once more for what failed: the server may have come back just now."""
        try:
            await self._ask([PROBE])
        except EmbeddingError:
            raise error from error.__cause__
        try:
            return await self._ask(texts, patient=False)
        except EmbedderUnavailable as again:
            self.futile += 1
            if _is_about_no_text(again) or self.futile == MOST_FUTILE:
                raise
            logger.warning("%s It answers other requests than this one of %d texts.", again, len(texts))
            raise Unanswered(f"{again} It answers other texts.") from again

    async def _embed(self, texts: list[str], part: range, *, patient: bool = True) -> None:
        try:
            answers = await self._ask_part([texts[position] for position in part], patient=patient)
        except TextRejected as error:
            await self._halve(texts, part, error, patient=patient and not isinstance(error, Unanswered))
        except MalformedReply as error:
            self.answers.update(dict.fromkeys(part, error))
        except EmbeddingError as error:
            self._fail(error)
        else:
            self.futile = 0
            self.answers.update(zip(part, answers, strict=True))

    async def _halve(self, texts: list[str], part: range, error: TextRejected, *, patient: bool) -> None:
        """Find the text that a request was refused for, unless the server refuses every text."""
        if not (self.answered or await self._probe()):
            return
        if len(part) == 1:
            self.answers[part[0]] = error
            return
        middle = len(part) // 2
        halves = part[:middle], part[middle:]
        await asyncio.gather(*(self._embed(texts, half, patient=patient) for half in halves))

    async def _probe(self) -> bool:
        try:
            await self.ask([PROBE])
        except TextRejected as error:
            refusal = f'{error} It refuses every text: check "model" and "dimensions" in the OPTIONS.'
            self._fail(caused_by(error, EmbeddingError(refusal)))
        except EmbeddingError as error:
            self._fail(error)
        return self.answered

    def _fail(self, error: EmbeddingError) -> None:
        self.failure = self.failure or error

    async def _wait(self, tries: int, error: EmbedderUnavailable) -> None:
        """Sleep until the next try, or raise the error if there is no patience left for one."""
        seconds = _seconds(tries, error.retry_after)
        if time.monotonic() + seconds > self.until:
            raise error
        logger.warning("%s Trying again in %.1f seconds (try %d failed).", error, seconds, tries)
        await asyncio.sleep(seconds)


def _is_about_no_text(error: EmbedderUnavailable) -> bool:
    """Tell whether a failure says so itself: the server asks to wait, or its answer makes no sense."""
    return error.retry_after is not None or isinstance(error, MalformedReply)


def _seconds(tries: int, retry_after: float | None) -> float:
    jitter = random.random()  # noqa: S311 (spreads requests, guards nothing)
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER) * (1 + jitter / 10)
    return min(FIRST_WAIT * 2.0 ** min(tries - 1, 10), LONGEST_WAIT) * (1 - jitter / 2)
