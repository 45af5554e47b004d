"""What a ModelAdmin prints of a vector and of a distance."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import admin
from django.db.models import Model
from django.utils.formats import number_format
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from pgembedding_django.fields import EmbeddingField, SparseVectorField
from pgembedding_django.forms import SHOWN_CHARACTERS, describe
from pgembedding_django.vectors import SparseVector

__all__ = ["DISTANCE", "ReadableVector", "distance_column"]

#: The attribute that holds the distance of a row that was searched for.
DISTANCE = "pgembedding_distance"


@dataclass(frozen=True)
class ReadableVector:
    """What the admin takes in place of a field's name; equal for one field, as the name would be."""

    field: EmbeddingField | SparseVectorField

    def __call__(self, row: Model) -> str | None:
        vector = self.field.value_from_object(row)
        if isinstance(vector, SparseVector):
            return Truncator(str(vector)).chars(SHOWN_CHARACTERS)
        return None if vector is None else describe(vector)

    @property
    def __name__(self) -> str:
        return self.field.name

    @property
    def short_description(self) -> str:
        return str(self.field.verbose_name)


@admin.display(description=_("distance"))
def distance_column(row: Model) -> str:
    """Return the distance of a row that was searched for, to four decimals, as people write numbers."""
    return str(number_format(round(getattr(row, DISTANCE), 4), decimal_pos=4))
