"""What the page of a row shows of its vectors: a chart, what made them, and the rows that are near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model, QuerySet, TextChoices
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from pgembedding_django import conf
from pgembedding_django.admin.charts import draw_vector
from pgembedding_django.admin.columns import DISTANCE, distance_column
from pgembedding_django.admin.search import rankable
from pgembedding_django.fields import EmbeddingField, embedding_fields
from pgembedding_django.fields.source import InvalidSource
from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["Freshness", "Neighbour", "Panel", "panels"]

#: How many similar rows a page lists.
SIMILAR = 8


class Freshness(TextChoices):
    """Whether a vector stands for the text that its row has."""

    FRESH = "fresh", _("fresh")
    STALE = "stale", _("stale: the text or the embedder changed since")
    MISSING = "missing", _("not embedded yet")


@dataclass(frozen=True)
class Neighbour:
    """A row near to the one that is shown, and how far it is."""

    row: Model
    distance: str


@dataclass(frozen=True)
class Panel:
    """
    One vector of a row.

    freshness: None where nobody can tell, as without a source. problem: why the source gives no text, else "".
    embedder: "" where the settings have none.
    """

    field: EmbeddingField
    chart: SafeString | None
    embedder: str
    freshness: Freshness | None
    problem: str
    similar: list[Neighbour]

    @property
    def can_be_embedded(self) -> bool:
        """Whether the vector is missing or stale, and its text is known."""
        old = self.freshness in (Freshness.STALE, Freshness.MISSING)
        return old and self.field.source is not None and bool(self.embedder)


def panels(row: Model, rows: QuerySet[Any]) -> list[Panel]:
    """Return a panel for each vector of a row; similar ones are among `rows`."""
    return [_panel(row, rows, field) for field in embedding_fields(type(row))]


def _panel(row: Model, rows: QuerySet[Any], field: EmbeddingField) -> Panel:
    vector = field.value_from_object(row)
    freshness, problem = _freshness(row, field)
    return Panel(
        field=field,
        chart=None if vector is None else draw_vector(vector),
        embedder=_embedder(field),
        freshness=freshness,
        problem=problem,
        similar=[] if vector is None else _similar(row, rows, field),
    )


def _embedder(field: EmbeddingField) -> str:
    entry = conf.embedders().get(field.embedder, {})
    return f"{field.embedder} ({entry['BACKEND'].rpartition('.')[2]})" if "BACKEND" in entry else ""


def _freshness(row: Model, field: EmbeddingField) -> tuple[Freshness | None, str]:
    if field.value_from_object(row) is None:
        return Freshness.MISSING, ""
    if field.source is None:
        return None, ""
    stored: EmbeddingQuerySet[Model] = EmbeddingQuerySet(type(row), using=row._state.db).filter(pk=row.pk)
    try:
        return (Freshness.STALE if stored.stale(field=field.name).exists() else Freshness.FRESH), ""
    except InvalidSource as error:
        return None, str(error)
    except ImproperlyConfigured:
        return None, ""  # Without its embedder, nobody knows what the vector should be.


def _similar(row: Model, rows: QuerySet[Any], field: EmbeddingField) -> list[Neighbour]:
    vectors = [each.name for each in embedding_fields(type(row))]
    try:
        nearest = rankable(rows).nearest(row, SIMILAR, field=field.name, alias=DISTANCE)
    except ValueError:
        return []  # Vectors of any length, or one without a direction, cannot be compared.
    return [Neighbour(found, distance_column(found)) for found in nearest.defer(*vectors)]
