"""What nearest() was asked, and how far it has come: both travel with the query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db.models.sql import Query

from pgembedding_django.compat.queries import get_companion, set_companion
from pgembedding_django.engines.scan import Scan
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance, VectorValue
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.vectors import Vector

__all__ = ["ESTIMATE", "Ranking", "Search", "get_ranking", "set_ranking"]

#: Under this scan, a query compiles to its filter alone.
ESTIMATE = Scan(index="estimate")

#: Across a relation, the rows that an index scan must find for each one wanted: some of them belong together.
ROWS_PER_PARENT = 2


@dataclass(frozen=True)
class Search:
    """
    What nearest() was asked, checked.

    vector: what rows are ranked by, or with matches one of those. own_keys: of the rows that were asked for, which are
        left out. nearest_of_each: the names in distinct("author"). filtered: whether a condition stands that an index
        of all rows does not hold already. matches: vectors of which the nearest counts. avoids: rows nearer to one of
        these than to any of matches are left out. similarity: the name of an annotation. path: how rows lead to the
        field, where it is another model's: "books__embedding".
    """

    field: EmbeddingField
    index: VectorIndex | None
    distance: type[Distance]
    vector: Vector
    k: int
    alias: str
    max_distance: float | None
    exact: bool | None
    ef_search: int | None
    probes: int | None
    nearest_of_each: tuple[str, ...]
    own_keys: tuple[Any, ...]
    filtered: bool
    matches: tuple[Vector, ...] = ()
    avoids: tuple[Vector, ...] = ()
    similarity: str | None = None
    path: str = ""

    @property
    def wanted(self) -> int:
        """How many rows of the field's table an answer needs: several for each row, across a relation."""
        return self.k * ROWS_PER_PARENT if self.path else self.k

    @property
    def column(self) -> str:
        """By what name a query of the rows knows the field."""
        return self.path or self.field.name

    @property
    def operand(self) -> Any:
        """What distances are measured of: the column, as its index holds it."""
        return self.field.get_operand(self.path or None)

    @property
    def table(self) -> str:
        """The table that has the field's column, and its index."""
        return self.field.model._meta.db_table

    def measure(self, operand: Any) -> Distance:
        """Return the distance of an operand, which the field gives or what that resolved to, to the vector."""
        # Bound to its field already: it is checked, and Django hashes it by its bytes instead of number by number.
        return self.distance(operand, VectorValue(self.vector, output_field=self.field))

    def within(self, limit: float) -> Search:
        """Return the same search within a distance too."""
        return replace(self, max_distance=limit if self.max_distance is None else min(limit, self.max_distance))


@dataclass(frozen=True)
class Ranking:
    """
    A search as a query carries it.

    scan: by which the query is compiled; None until it runs, and where it is a part of another statement.
    cuts_undefined: whether rows whose distance is NaN are left out after they came.
    """

    search: Search
    scan: Scan | None = None
    cuts_undefined: bool = False


def get_ranking(query: Query) -> Ranking | None:
    """Return what nearest() attached to a query, None to any other."""
    return get_companion(query, Ranking)


def set_ranking(query: Query, ranking: Ranking) -> None:
    set_companion(query, ranking)
