"""Reads what a server of the embeddings wire format answers: vectors, failures, and how long to wait."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING, Any

import numpy as np

from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError, TextRejected

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

#: Statuses about what was sent, which may be about one text of many.
REFUSING = frozenset({400, 413, 422})

#: Statuses that may pass, besides those from 500 up.
PASSING = frozenset({408, 409, 429})

#: Codes of a 429 that does not pass: the account has no credit left (OpenAI API reference, "Error codes").
NO_CREDIT = "insufficient_quota"

REMEDIES = {
    401: 'Check OPENAI_API_KEY, or "api_key" in the OPTIONS.',
    403: "Check what the key is allowed to do.",
    404: 'Check "model" and "base_url" in the OPTIONS.',
    NO_CREDIT: "Add credit to the account.",
}

#: Characters of a server's own words in a message.
MOST_DETAIL = 200


class MalformedReply(EmbedderUnavailable):
    """The answer is not one vector for each text, so that no vector of it can be trusted; it may have been paid for."""


def read_reply(content: bytes, count: int, where: str) -> tuple[list[Any], int]:
    """
    Return a vector or an error for each text, in their order, and the tokens that were counted (0 if untold).

    Raises MalformedReply if the answer is not one vector for each of `count` texts.
    """
    try:
        body = json.loads(content)
    except ValueError as error:
        raise MalformedReply(f"{where} answered what is no JSON ({len(content)} bytes).") from error
    items = body.get("data") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise MalformedReply(f"{where} answered JSON with no list of vectors.")
    # No server is trusted: an item is whatever it sent.
    indexed = [item for item in items if isinstance(item, dict) and type(item.get("index")) is int]
    by_index = {item["index"]: item.get("embedding") for item in indexed}
    if len(items) != count or by_index.keys() != set(range(count)):
        raise MalformedReply(
            f"{where} answered {len(items)} vectors for {count} texts ({len(by_index)} different indexes)."
        )
    return [_decode(by_index[position]) for position in range(count)], _tokens(body)


def read_failure(error: APIError, where: str, key: str) -> EmbeddingError:
    """
    Return what an error of the openai package means, and take the key out of both.

    where: the server, for the message.
    """
    import openai

    _hide(error, key)
    if isinstance(error, openai.APIStatusError):
        return _read_status(error, where)
    return EmbedderUnavailable(f"{where} cannot be reached ({type(error.__cause__ or error).__name__}).")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, or None where it asks nothing that can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1)):
        seconds = _seconds(headers.get(name, "")) * unit
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _seconds(value: str) -> float:
    """Read seconds or an HTTP date; NaN for anything else."""
    try:
        return float(value)
    except ValueError:
        parsed = parsedate_tz(value)
    try:
        return max(0.0, mktime_tz(parsed) - time.time()) if parsed else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _read_status(error: APIStatusError, where: str) -> EmbeddingError:
    status = error.status_code
    without_credit = NO_CREDIT in (error.code, error.type)
    detail = _detail(error)
    sentence = f"{where} answered {status}: {detail}" if detail else f"{where} answered {status}."
    if not without_credit and (status in PASSING or status >= 500):
        return EmbedderUnavailable(sentence, retry_after=retry_after(error.response.headers))
    if status in REFUSING and not without_credit:
        return TextRejected(sentence)
    remedy = REMEDIES.get(NO_CREDIT if without_credit else status)
    return EmbeddingError(f"{sentence} {remedy}" if remedy else sentence)


def _detail(error: APIStatusError) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else None
    if not isinstance(message, str):
        return ""
    words = " ".join(message.split())
    words = words[:MOST_DETAIL] + "…" if len(words) > MOST_DETAIL else words
    return words if words.endswith((".", "…", "!", "?")) or not words else f"{words}."


def _hide(error: APIError, key: str) -> None:
    """Some servers repeat the key that they refuse, and a traceback shows the cause of an error."""
    error.message = error.message.replace(key, "***")
    error.args = (error.message,)
    if isinstance(error.body, dict):
        error.body = {name: v.replace(key, "***") if isinstance(v, str) else v for name, v in error.body.items()}
    else:
        error.body = None


def _decode(embedding: Any) -> Any:
    """Read base64 of little-endian float32; some compatible servers send a list of numbers all the same."""
    if not isinstance(embedding, str):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    except ValueError as error:
        return TextRejected(f"its vector is no base64 of float32 ({error}).")


def _tokens(body: dict[str, Any]) -> int:
    usage = body.get("usage")
    told = usage.get("total_tokens") if isinstance(usage, dict) else None
    return told if isinstance(told, int) else 0
