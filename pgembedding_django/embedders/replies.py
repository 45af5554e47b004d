"""Reads what a server of the embeddings wire format answers: vectors, failures, and how long to wait."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np

from pgembedding_django.embedders.errors import (
    EmbedderUnavailable,
    EmbeddingError,
    MalformedReply,
    RefusedByServer,
    TextRejected,
)

__all__ = ["PASSING", "read_failure", "read_reply", "refuses_base64", "retry_after"]

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


def read_reply(content: bytes, count: int, where: str) -> tuple[list[Any], int] | EmbeddingError:
    """
    Return a vector or an error for each text, in their order, and the tokens that were counted (0 if untold).

    where: the server, for the message. Returns the error that it means if it is not one vector for each of `count`
    texts, for others to raise: no frame of it holds the content then.
    """
    try:
        body = json.loads(content)
    except ValueError:
        return MalformedReply(f"{where} answered what is no JSON ({len(content)} bytes).")
    items = body.get("data") if isinstance(body, dict) else None
    if not isinstance(items, list):
        return _read_error(body, where) or MalformedReply(f"{where} answered JSON with no list of vectors.")
    # No server is trusted: an item is whatever it sent.
    by_index = _by_index([item for item in items if isinstance(item, dict)])
    if len(items) != count or by_index.keys() != set(range(count)):
        different = f"{len(by_index)} different indexes"
        return MalformedReply(f"{where} answered {len(items)} vectors for {count} texts ({different}).")
    return [_decode(by_index[position]) for position in range(count)], _tokens(body)


def read_failure(status: int, content: bytes, headers: Mapping[str, str], where: str) -> EmbeddingError:
    """Return what a status other than 200 means."""
    body = None
    with suppress(ValueError):
        body = json.loads(content)
    error = body.get("error") if isinstance(body, dict) else None
    return _read_status(status, error if isinstance(error, dict) else body, headers, where)


def refuses_base64(error: EmbeddingError) -> bool:
    """Tell whether a server refuses vectors in base64, which some compatible ones do not know."""
    return isinstance(error, RefusedByServer) and bool(re.search(r"encoding.?format|base64", str(error), re.IGNORECASE))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, or None where it asks nothing that can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1)):
        seconds = _seconds(headers.get(name, "")) * unit
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _by_index(items: list[dict[str, Any]]) -> dict[int, Any]:
    """Return the vectors by index; where servers leave it out, of all items or of the first, their order tells."""
    indexes = [_index(item.get("index")) for item in items]
    if indexes.count(None) in (1, len(indexes)):
        left = iter(sorted(set(range(len(items))).difference(indexes)))
        indexes = [next(left, -1) if index is None else index for index in indexes]
    pairs = zip(indexes, items, strict=True)
    return {index: item.get("embedding") for index, item in pairs if index not in (None, -1)}


def _index(value: Any) -> int | None:
    """Read an index; -1 is none of any text."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if value is None or type(value) is int else -1


def _read_error(body: Any, where: str) -> EmbeddingError | None:
    """Return what an error in an answer of status 200 means, as gateways send it; its code may be a status."""
    error = body.get("error") if isinstance(body, dict) else None
    if not error:
        return None
    error = error if isinstance(error, dict) else {"message": error}
    code, words = _index(error.get("code")) or 0, _words(error)
    if code >= 400:
        return _read_status(code, error, {}, where)
    return MalformedReply(f"{where} answered an error in place of vectors{': ' if words else '.'}{words}")


def _read_status(status: int, error: Any, headers: Mapping[str, str], where: str) -> EmbeddingError:
    without_credit = isinstance(error, dict) and NO_CREDIT in (error.get("code"), error.get("type"))
    words = _words(error)
    sentence = f"{where} answered {status}: {words}" if words else f"{where} answered {status}."
    if not without_credit and (status in PASSING or status >= 500):
        return EmbedderUnavailable(sentence, retry_after=retry_after(headers))
    if not without_credit and status in REFUSING:
        return RefusedByServer(sentence)
    remedy = REMEDIES.get(NO_CREDIT if without_credit else status)
    lasting = EmbeddingError(f"{sentence} {remedy}" if remedy else sentence)
    lasting.is_about_no_text = True
    return lasting


def _words(error: Any) -> str:
    """Return a server's own words as a sentence; validators of servers (FastAPI) put them into "detail"."""
    message = (error.get("message") or error.get("detail")) if isinstance(error, dict) else None
    if isinstance(message, list | dict):
        message = json.dumps(message, ensure_ascii=False)
    words = " ".join(message.split()) if isinstance(message, str) else ""
    words = words[:MOST_DETAIL] + "…" if len(words) > MOST_DETAIL else words
    return words if words.endswith((".", "…", "!", "?")) or not words else f"{words}."


def _seconds(value: str) -> float:
    """Read seconds or an HTTP date; NaN for anything else."""
    for read in (float, lambda date: max(0.0, parsedate_to_datetime(date).timestamp() - time.time())):
        with suppress(ValueError, OverflowError):
            return read(value)
    return math.nan


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
