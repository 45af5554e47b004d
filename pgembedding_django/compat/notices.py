"""What a server says beside its answers, through either driver."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["hear_notices"]


class _Notices:
    """What psycopg2 appends notices to."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], object]] = []

    def append(self, text: str) -> None:
        for listener in self.listeners:
            listener(text)


def hear_notices(connection: BaseDatabaseWrapper, listener: Callable[[str], object]) -> None:
    """
    Call a listener with each notice of a connection from now on, until it is closed; once, however often it is added.
    """
    connection.ensure_connection()
    raw: Any = connection.connection
    if hasattr(raw, "add_notice_handler"):  # pragma: no cover - psycopg 3
        handler = _PrimaryMessage(listener)
        with suppress(ValueError):
            raw.remove_notice_handler(handler)
        raw.add_notice_handler(handler)
    else:  # pragma: no cover - psycopg2
        if not isinstance(raw.notices, _Notices):
            raw.notices = _Notices()
        if listener not in raw.notices.listeners:
            raw.notices.listeners.append(listener)


class _PrimaryMessage:  # pragma: no cover - psycopg 3
    """What psycopg 3 calls with notices, equal for the same listener."""

    def __init__(self, listener: Callable[[str], object]) -> None:
        self.listener = listener

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PrimaryMessage) and other.listener == self.listener

    def __hash__(self) -> int:
        return hash(self.listener)

    def __call__(self, notice: Any) -> None:
        self.listener(notice.message_primary)
