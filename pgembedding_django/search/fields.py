"""Which field a method of a queryset is about."""

from __future__ import annotations

from typing import cast

from django.db.models import Model

from pgembedding_django.fields import EmbeddingField, MeasuredField, measured_fields
from pgembedding_django.fields.sized import SizedField, indexed_lengths

__all__ = [
    "embedding_field",
    "find_field",
    "find_measured_field",
]


def embedding_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return the field that a method is about: the one named, else the only one; its vectors have one length."""
    field = find_field(model, name)
    if field.dimensions is not None:
        return field
    lengths = indexed_lengths(field)
    if len(lengths) != 1:
        raise ValueError(
            f"{field.label} has no dimensions, which only nearest() can do without, unless its indexes are of one "
            f"length, got {len(lengths)} lengths."
        )
    return SizedField(field, *lengths)


def find_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return that field even where its vectors may have any length."""
    field: MeasuredField = find_measured_field(model, name)
    if not isinstance(field, EmbeddingField):
        raise ValueError(f"{field.label} is a {type(field).__name__}, which only nearest() knows.")
    return field


def find_measured_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return the field that nearest() is about, of bits or sparse vectors too."""
    label = model.__name__
    columns = {field.name: field for field in measured_fields(model)}
    embeddings = {name: field for name, field in columns.items() if isinstance(field, EmbeddingField)}
    # Bits and sparse vectors beside an embedding are searched by name.
    fields = embeddings or columns if name is None else columns
    if not fields:
        raise TypeError(f"{label} has no EmbeddingField, so nearest() has nothing to search.")
    if name is None and len(fields) > 1:
        raise ValueError(f"{label} has {len(fields)} embedding fields ({', '.join(fields)}). Name one with field=.")
    if name is not None and name not in fields:
        raise ValueError(f"field must name an EmbeddingField of {label} ({', '.join(fields)}), got {name!r}.")
    # All that a search asks of a field, each kind of column has.
    return cast(EmbeddingField, fields[name] if name is not None else next(iter(fields.values())))
