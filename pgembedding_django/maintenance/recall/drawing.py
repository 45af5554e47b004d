"""Rows drawn by chance, the same ones for the same seed."""

from __future__ import annotations

from django.db.models import BigIntegerField, F, Func, Model, TextField, Value

from pgembedding_django.bounds import is_integer
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.sized import HasLength, SizedField
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.vectors import Vector, is_zero

__all__ = ["MAX_ROWS", "MAX_SEED", "Query", "check_integer", "draw", "one_length", "shuffle"]

Query = tuple[object, Vector]


#: What is no sample and no page of answers any more, and the seeds that the server's hash takes.
MAX_ROWS, MAX_SEED = 100_000, 2**63 - 1


def check_integer(name: str, value: object, least: int, most: int) -> None:
    """Raise ValueError if a number of rows, candidates or the like is none, or out of bounds."""
    if not is_integer(value, least, most):
        raise ValueError(f"{name} must be an integer from {least:,} to {most:,}, got {value!r}.")


def one_length(rows: EmbeddingQuerySet[Model], name: str | None) -> EmbeddingField:
    """Return the field to measure, which may hold bits or sparse vectors; of any length, the one that is indexed."""
    field = rows.get_measured_field(name)
    return rows.get_embedding_field(field.name) if isinstance(field, EmbeddingField) else field


def shuffle(rows: EmbeddingQuerySet[Model], field: EmbeddingField, *, seed: int) -> EmbeddingQuerySet[Model]:
    """Return the rows with a vector in an order that tells nothing of their age or their place in the table."""
    keys = [F(each.attname) for each in rows.model._meta.pk_fields]
    row = Func(*keys, template="ROW(%(expressions)s)::text", output_field=TextField())
    order = Func(row, Value(seed), function="hashtextextended", output_field=BigIntegerField())
    rows = rows.filter(HasLength(field)) if isinstance(field, SizedField) else rows
    return rows.filter(**{f"{field.name}__isnull": False}).order_by(order, "pk")


def draw(
    rows: EmbeddingQuerySet[Model], field: EmbeddingField, index: VectorIndex, *, size: int, seed: int
) -> list[Query]:
    """
    Draw rows as queries.

    seed: the same one draws the same rows while they stay.
    Returns each row's primary key and vector. Reads every row once.
    """
    drawn = shuffle(rows, field, seed=seed).values_list("pk", field.name)[:size]
    # A vector of zeros has no direction, so it asks for nothing by cosine.
    return [row for row in drawn if index.distance != "cosine" or not is_zero(row[1])]
