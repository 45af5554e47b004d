"""Values of a class of ours as parameters of SQL that a project writes itself."""

from __future__ import annotations

__all__ = ["send_as_text"]


def send_as_text(cls: type) -> None:
    """Make the driver send the values of a class as their str(), of which the server makes what stands beside it."""
    try:
        from django.db.backends.postgresql.psycopg_any import is_psycopg3
    except ImportError:  # pragma: no cover - a project on SQLite has no driver
        return
    if is_psycopg3:  # pragma: no cover - where psycopg 3 is installed
        import psycopg
        from psycopg.types.string import StrDumperUnknown

        class TextDumper(StrDumperUnknown):  # type: ignore[misc]
            def dump(self, obj: object) -> bytes | bytearray | memoryview | None:
                return str(obj).encode()

        psycopg.adapters.register_dumper(cls, TextDumper)
    else:
        from psycopg2 import extensions

        extensions.register_adapter(cls, lambda value: extensions.QuotedString(str(value)))
