"""What Django keeps in instances and querysets for itself."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import Model, QuerySet

__all__ = ["RESERVED", "hint_of", "is_fetched", "prepare_related"]

#: Attributes of an instance that no annotation may be called.
RESERVED = ("_state", "_prefetched_objects_cache")


def hint_of(rows: QuerySet[Any]) -> Model | None:
    """Return the instance whose related rows a queryset reads, as database routers see it."""
    return cast("Model | None", cast(Any, rows)._hints.get("instance"))


def is_fetched(rows: QuerySet[Any]) -> bool:
    """Tell whether a queryset has read its rows."""
    return cast(Any, rows)._result_cache is not None


def prepare_related(row: Model, method: str) -> None:
    """
    Give an instance the keys of related instances that were saved after they were assigned, as save() does.

    method: what the message calls it. Raises ValueError for a related instance that has not been saved.
    """
    cast(Any, row)._prepare_related_fields_for_save(operation_name=method)
