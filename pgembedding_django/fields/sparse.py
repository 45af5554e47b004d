"""SparseVectorField: the numbers of a long vector that are not zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

from pgembedding_django.bounds import is_integer
from pgembedding_django.fields.measured import ColumnAttribute, MeasuredField
from pgembedding_django.forms import TextFormField
from pgembedding_django.vectors import InvalidVector, SparseVector, to_sparse

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

__all__ = ["SparseVectorField"]

#: The most numbers besides zeros that an HNSW index holds of a row (pgvector 0.8, src/hnsw.h).
MAX_INDEXED = 1_000


class SparseVectorField(MeasuredField):
    """
    Store a long vector of which most numbers are zero, such as the weights of words. pgvector only.

    dimensions: how many numbers a vector has, zeros counted; None stores any length, which no index can serve.
    Loads as SparseVector; accepts one, a list or an array of every number, {place: number}, scipy's sparse array of one
        row, pgvector's SparseVector and the text "{1:1.5,3:2}/5". Assignment converts.
    Raises ValidationError in `clean()` and `save()`, before any SQL, for what this field cannot hold.
    """

    description: _StrOrPromise = _("Sparse vector")
    descriptor_class = ColumnAttribute
    storage = "sparse"
    distances: ClassVar[tuple[str, ...]] = ("l2", "cosine", "l1", "inner_product")

    def __init__(self, *args: Any, dimensions: int | None = None, **kwargs: Any) -> None:
        if dimensions is not None and not is_integer(dimensions, 1):
            raise ValueError(f"SparseVectorField.dimensions must be a positive integer, got {dimensions!r}.")
        self.dimensions = dimensions
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        if self.dimensions is not None:
            kwargs["dimensions"] = self.dimensions
        return name, "pgembedding_django.SparseVectorField", args, kwargs

    def to_query(self, value: Any) -> SparseVector:
        return to_sparse(value, name=self.label, dimensions=self.dimensions)

    def to_vector(self, value: Any) -> SparseVector:
        vector = self.to_query(value)
        if len(vector.indices()) > MAX_INDEXED and self._is_indexed:
            raise InvalidVector(
                "%(name)s must have at most %(most)d numbers that are not zero, as it has an index, got %(got)d.",
                "indexed",
                {"name": self.label, "most": MAX_INDEXED, "got": len(vector.indices())},
            )
        return vector

    @property
    def _is_indexed(self) -> bool:
        return hasattr(self, "model") and any(self.name in index.fields for index in self.get_indexes())

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": TextFormField, **kwargs})
