"""BitField: a string of bits in a column, as text of zeros and ones on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

from pgembedding_django.bounds import is_integer
from pgembedding_django.fields.measured import ColumnAttribute, MeasuredField
from pgembedding_django.forms import TextFormField
from pgembedding_django.vectors import to_bits

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

__all__ = ["BitField"]


class BitField(MeasuredField):
    """
    Store bits of fixed length, such as the signs of an embedding or a fingerprint. pgvector only.

    length: how many bits a value has; without it one, as the server's type says.
    Loads as text such as "101"; accepts such a text, booleans or 0 and 1 in a sequence or an array, bytes of eight bits
        each, and pgvector's Bit. Assignment converts.
    `nearest()` ranks by the Hamming distance unless an index or its caller says "jaccard".
    Raises ValidationError in `clean()` and `save()`, before any SQL, for what this field cannot hold.
    """

    description: _StrOrPromise = _("Bits")
    descriptor_class = ColumnAttribute
    storage = "bit"
    distances: ClassVar[tuple[str, ...]] = ("hamming", "jaccard")
    distance = "hamming"

    dimensions: int | None

    def __init__(self, *args: Any, length: int | None = None, **kwargs: Any) -> None:
        if length is not None and not is_integer(length, 1):
            raise ValueError(f"BitField.length must be a positive integer, got {length!r}.")
        self.length = self.dimensions = length
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        if self.length is not None:
            kwargs["length"] = self.length
        return name, "pgembedding_django.BitField", args, kwargs

    def to_query(self, value: Any) -> str:
        return to_bits(value, name=self.label, dimensions=self.length)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": TextFormField, **kwargs})
