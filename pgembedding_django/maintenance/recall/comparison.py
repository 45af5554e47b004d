"""How far two embedders agree on what is near: the overlap of their nearest rows."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Model, Q
from django.template.defaultfilters import pluralize

from pgembedding_django.fields import embedding_fields
from pgembedding_django.maintenance.recall.drawing import MAX_ROWS, check_integer
from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """
    The overlap of the k nearest rows by one vector and by another, from 0 to 1, for each sampled row.

    candidates: how many rows have both vectors, among which was searched.
    """

    k: int
    candidates: int
    overlaps: dict[object, float]

    @property
    def mean(self) -> float:
        return sum(self.overlaps.values()) / len(self.overlaps)

    def worst(self, count: int) -> list[tuple[object, float]]:
        """Return primary key and overlap of the rows that the two agree on least, the worst first."""
        return sorted(self.overlaps.items(), key=lambda item: item[1])[:count]


def compare(model: type[Model], old: str, new: str, *, sample: int = 100, k: int = 10, using: str) -> Comparison:
    """
    Search near rows drawn at random by two fields of a model, and compare what is found.

    Only rows that have both vectors are drawn and found. Each search runs as nearest() would run it. Reads the table
    once to draw; embeds nothing.
    Raises ValueError if fewer than two rows have both vectors, and for names and numbers that cannot be used.
    """
    check_integer("sample", sample, 1, MAX_ROWS)
    check_integer("k", k, 1, MAX_ROWS)
    _check_names(model, old, new)
    if old == new:
        raise ValueError(f"Two fields are compared, got {old} twice.")
    both = Q(**{f"{old}__isnull": False, f"{new}__isnull": False})
    rows: EmbeddingQuerySet[Model] = EmbeddingQuerySet(model, using=using).filter(both)
    candidates = rows.count()
    if candidates < 2:
        raise ValueError(
            f"{model.__name__} has {candidates} row{pluralize(candidates)} with both {old} and {new}, so nothing can "
            "be compared."
        )
    k = min(k, candidates - 1)
    overlaps = {row.pk: _overlap(rows, row, old, new, k) for row in rows.order_by("?")[:sample]}
    return Comparison(k, candidates, overlaps)


def _check_names(model: type[Model], *names: str) -> None:
    known = [field.name for field in embedding_fields(model)]
    for name in names:
        if name not in known:
            raise ValueError(f"{model._meta.label} has no EmbeddingField {name}; it has {', '.join(known) or 'none'}.")


def _overlap(rows: EmbeddingQuerySet[Model], row: Model, old: str, new: str, k: int) -> float:
    by_old, by_new = ({near.pk for near in rows.nearest(row, k, field=name).only("pk")} for name in (old, new))
    return len(by_old & by_new) / k
