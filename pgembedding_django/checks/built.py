"""How an index that a database has differs from what its model declares."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import NotSupportedError
from django.db.models import Model

from pgembedding_django.engines import get_engine_for
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.maintenance.indexes.catalogue import IndexReport
from pgembedding_django.maintenance.indexes.declared import load_migrations
from pgembedding_django.models import HnswIndexStatus

__all__ = ["find_differences", "is_migrated"]


def find_differences(report: IndexReport, using: str) -> list[tuple[str, str]]:
    """
    Return what an index was built with and what is declared in its place; nothing where a migration is still to run.

    What the declaration leaves to the engine is not compared, and of a condition only that there is one: the server
    keeps conditions in words of its own.
    """
    status, index, field = report.status, report.declared, report.field
    # Of a partition's index: the index of its table is compared instead.
    if status is None or index is None or field is None or status.parent_oid is not None or report.model is None:
        return []
    pairs = [*_compare_column(status, index, field, using), *_compare_options(status, index, using)]
    return pairs if pairs and is_migrated(report.model, using) else []


def _compare_column(
    status: HnswIndexStatus, index: VectorIndex, field: EmbeddingField, using: str
) -> Iterator[tuple[str, str]]:
    try:
        _expression, opclass = index.get_expression(field, get_engine_for(using))
    except NotSupportedError:
        return  # E003, E017 or E018 says so.
    if status.opclass != opclass:
        yield status.opclass, opclass
    # Of the option `dims` E026 says so.
    if "dims" not in status.options and status.dimensions != field.dimensions:
        yield f"{status.dimensions} dimensions", f"{field.dimensions} dimensions"
    if status.column != field.column:
        yield f"column {status.column}", f"column {field.column}"
    if status.partial != (index.condition is not None):
        pair = ("a condition", "no condition")
        yield pair if status.partial else pair[::-1]


def _compare_options(status: HnswIndexStatus, index: VectorIndex, using: str) -> Iterator[tuple[str, str]]:
    for name, built in index.built_options(get_engine_for(using), status.options).items():
        declared = index.options[name]
        if declared not in (None, built):
            yield f"{name}={built}", f"{name}={declared}"


def is_migrated(model: type[Model], using: str) -> bool:
    """Tell whether every migration of a model's app is known to have run."""
    loader = load_migrations(using)
    return loader is not None and all(
        key in loader.applied_migrations for key in loader.graph.nodes if key[0] == model._meta.app_label
    )
