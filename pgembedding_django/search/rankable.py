"""Which querysets can be ranked, and what cannot follow a ranking."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

__all__ = [
    "check_each",
    "check_groups",
    "check_unranked",
    "check_unsliced",
]


def check_unsliced(rows: QuerySet[Any], method: str, remedy: str) -> None:
    if rows.query.is_sliced:
        raise TypeError(
            f"{method} must stand before any slice, got {rows.model.__name__} rows that are sliced or ranked already. "
            f"{remedy}"
        )


def check_groups(rows: QuerySet[Any], method: str) -> None:
    if isinstance(rows.query.group_by, tuple):
        raise TypeError(
            f"{method} ranks rows, got groups of {rows.model.__name__} rows. Rank first, and aggregate the rows of "
            "filter(pk__in=rows.values('pk'))."
        )


def check_each(rows: QuerySet[Any], method: str) -> None:
    if rows.query.distinct_fields:
        names = ", ".join(f'"{name}"' for name in rows.query.distinct_fields)
        raise TypeError(
            f"{method} cannot stand behind distinct({names}): which row of each would it rank? Use nearest(), which "
            "ranks the nearest of each."
        )


def check_unranked(ranked_by: str, method: str, remedy: str = "Put it before.") -> None:
    if ranked_by:
        raise TypeError(f"{method} cannot stand behind {ranked_by}, which returns a slice. {remedy}")
