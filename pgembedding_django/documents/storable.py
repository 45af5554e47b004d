"""What Postgres can hold as a text or as JSON."""

from __future__ import annotations

import json
import re

__all__ = ["Unstorable", "check_storable", "check_text", "is_storable", "shown"]

#: A NUL as JSON writes it: an even number of backslashes before it are characters of the text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Unstorable(ValueError):
    """Why a value cannot be stored; code: "nul" or "invalid"."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def check_storable(what: str, value: object) -> None:
    """Raise Unstorable for a text or a value of JSON that Postgres cannot hold; an expression is none."""
    if hasattr(value, "resolve_expression"):
        return
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Unstorable(f"{what} cannot be stored: {error}.", "invalid") from error
    if NUL.search(text):
        raise Unstorable(f"{what} must have no NUL character, which Postgres stores in no text.", "nul")


def check_text(text: object, what: str) -> None:
    """Raise ValueError for what is no text, or none that Postgres can hold."""
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a text, got {shown(text)}.")
    if not is_storable(text):
        raise ValueError(f"{what} must be a text that Postgres can hold, without NUL or a lone surrogate.")


def is_storable(text: str) -> bool:
    """Tell whether Postgres can hold a text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def shown(value: object) -> str:
    """Return a value for a message: what is short as it is, else its type."""
    try:
        text = repr(value)
    except ValueError:  # An integer of thousands of digits.
        return type(value).__name__
    return text if len(text) <= 60 else type(value).__name__
