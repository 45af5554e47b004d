"""Proof that a search uses its index."""

from __future__ import annotations

import re
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from pgembedding_django.engines.partitions import part_names
from pgembedding_django.indexes import vector_indexes

__all__ = ["assertIndexUsed"]

#: A vector in a plan, cut to its first characters.
LONG_VECTOR = re.compile(r"'([\[{][^\]}']{20})[^\]}']+([\]}])'")


def assertIndexUsed(queryset: QuerySet[Any], index: str | None = None) -> None:  # noqa: N802 - as unittest names it
    """
    Assert that Postgres reads an HNSW index for a queryset.

    index: its name; any HnswIndex of the model's Meta unless given. Of a partitioned table, its part on a partition is
        the index too.
    Raises AssertionError with the plan. On a small table Postgres rightly reads the rows instead: load some thousand,
    or `SET LOCAL enable_seqscan = off` first.
    """
    names = [index] if index else [found.name for found in vector_indexes(queryset.model)]
    plan = queryset.explain()
    if not any(f"Index Scan using {name} " in plan.replace('"', "") for name in _with_parts(queryset, names)):
        wanted = " or ".join(names) or f"an HnswIndex, which {queryset.model.__name__} does not declare"
        shortened = LONG_VECTOR.sub(r"\1…\2", plan)
        raise AssertionError(f"The plan does not use {wanted}:\n{shortened}")


def _with_parts(queryset: QuerySet[Any], names: list[str]) -> set[str]:
    connection = connections[queryset.db]
    if connection.vendor != "postgresql":
        return set(names)
    table = connection.ops.quote_name(queryset.model._meta.db_table)
    return {*names, *part_names(connection, table, names)}
