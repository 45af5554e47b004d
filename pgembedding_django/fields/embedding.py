"""
EmbeddingField: a vector in a column, and one value on the model.

Longer than other modules: type checkers need the arguments of the constructor in full, once for each kind of null.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, Unpack, overload

import numpy as np
from django.core.exceptions import ValidationError
from django.db.migrations.state import StateApps
from django.db.models import Field, Index, Model
from django.utils.translation import gettext_lazy as _

from pgembedding_django import vectors
from pgembedding_django.bounds import is_writable_integer
from pgembedding_django.fields.attribute import VectorAttribute
from pgembedding_django.fields.copied import is_copied, when_prepared
from pgembedding_django.fields.digest import DigestField, is_digest
from pgembedding_django.fields.measured import MeasuredField
from pgembedding_django.fields.saved import watch_digests
from pgembedding_django.fields.source import SUFFIX, Source
from pgembedding_django.forms import EmbeddingFormField
from pgembedding_django.vectors import InvalidVector, Vector, VectorLike, wire

__all__ = ["EmbeddingField"]

STORAGES = ("single", "half")
SYNCS = ("manual", "task", "save")
#: What a migration leaves out.
DEFAULTS = {
    "dimensions": None,
    "source": None,
    "embedder": "default",
    "sync": "manual",
    "storage": "single",
    "allow_zero": True,
}

if TYPE_CHECKING:
    from django.db.models.expressions import Combinable
    from django.utils.functional import _StrOrPromise
    from typing_extensions import TypeVar

    from pgembedding_django.fields.options import FieldOptions

    #: What may be assigned, and what is read: None too where the field is null.
    Set = TypeVar("Set", contravariant=True, default=VectorLike | Combinable)
    Get = TypeVar("Get", covariant=True, default=Vector)
else:
    from typing import TypeVar

    Set, Get = TypeVar("Set"), TypeVar("Get")


class EmbeddingField(MeasuredField, Generic[Set, Get]):
    """
    Store an embedding of fixed length.

    dimensions: how many numbers a vector has; None stores any length. nearest() then ranks the rows of its query's
        length, exactly unless an HnswIndex with dimensions= holds them.
    source: the text that the vector stands for: a field's name, several names, or a method's name. Adds the column
        `<name>_digest`, by which `stale()` and `embed()` of the queryset know the rows whose text or model changed.
    embedder: the alias in PGEMBEDDING["EMBEDDERS"] that turns text into vectors for this field.
    sync: who embeds a row that became stale: "manual" leaves it to embed(), "task" enqueues a task when its transaction
        commits, "save" does it inside save(), which then takes the embedder's time and raises its errors.
    storage: "single" takes 4 bytes a dimension and "half" 2 (a reloaded vector is then rounded to half precision).
        Its change rewrites the table and builds the field's indexes anew.
    distance: "l2", "cosine", "l1" or "inner_product": what nearest(), hybrid(), the admin and an HnswIndex measure by
        unless told otherwise. Unless given, it is what the field's index is made for, and "l2" where it has none.
    allow_zero: whether a vector of zeros may be stored. It has no direction: a ranking by cosine leaves it out.
    Loads as Vector, a float32 ndarray of shape (dimensions,) that counts as one value; accepts a sequence of numbers,
        an array of any kind, the text "[1,2,3]" and the bytes of little-endian float32. Assignment converts.
    Raises ValidationError in `clean()` and `save()`, before any SQL, for what this field cannot hold.
    """

    description: _StrOrPromise = _("Embedding")
    descriptor_class = VectorAttribute
    distances: ClassVar[tuple[str, ...]] = ("l2", "cosine", "l1", "inner_product")
    dimensions: int | None
    embedder: str
    allow_zero: bool
    distance: str
    chosen_distance: str | None
    is_made_in_save: bool
    #: Whether the model has the digest's field beside this one; in a migration it is a column like any other.
    keeps_digest: bool = False
    # A change of these changes no column.
    non_db_attrs: tuple[str, ...] = (*Field.non_db_attrs, "source", "embedder", "sync", "distance", "allow_zero")

    if TYPE_CHECKING:
        # django-stubs' plugin reads these two, and every checker what follows.
        _pyi_private_set_type: VectorLike | Combinable
        _pyi_private_get_type: Vector

        @overload
        def __get__(self, instance: None, owner: Any) -> VectorAttribute: ...
        @overload
        def __get__(self, instance: Model, owner: Any) -> Get: ...
        @overload
        def __get__(self, instance: Any, owner: Any) -> Self: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Model, value: Set) -> None: ...

    @overload
    def __init__(
        self: EmbeddingField[VectorLike | Combinable, Vector],
        dimensions: int | None = None,
        *,
        source: str | list[str] | tuple[str, ...] | None = None,
        embedder: str = "default",
        sync: str = "manual",
        storage: str = "single",
        distance: str | None = None,
        allow_zero: bool = True,
        null: Literal[False] = False,
        **kwargs: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: EmbeddingField[VectorLike | Combinable | None, Vector | None],
        dimensions: int | None = None,
        *,
        source: str | list[str] | tuple[str, ...] | None = None,
        embedder: str = "default",
        sync: str = "manual",
        storage: str = "single",
        distance: str | None = None,
        allow_zero: bool = True,
        null: bool,
        **kwargs: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        dimensions: int | None = None,
        *args: Any,
        source: str | list[str] | tuple[str, ...] | None = None,
        embedder: str = "default",
        sync: str = "manual",
        storage: str = "single",
        distance: str | None = None,
        allow_zero: bool = True,
        **kwargs: Any,
    ) -> None:
        if dimensions is not None and not is_writable_integer(dimensions, 1):
            raise ValueError(f"EmbeddingField.dimensions must be a positive integer, got {dimensions!r}.")
        if storage not in STORAGES:
            raise ValueError(f'EmbeddingField.storage must be "single" or "half", got {storage!r}.')
        if sync not in SYNCS:
            raise ValueError(f'EmbeddingField.sync must be "manual", "task" or "save", got {sync!r}.')
        self.dimensions, self.source, self.embedder = dimensions, source, embedder
        if distance is not None and distance not in self.distances:
            choices = ", ".join(f'"{choice}"' for choice in self.distances)
            raise ValueError(f"EmbeddingField.distance must be one of {choices}, got {distance!r}.")
        self.sync, self.storage, self.allow_zero = sync, storage, allow_zero
        self.chosen_distance, self.distance = distance, distance or "l2"
        self.is_made_in_save = source is not None and sync == "save"
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        kwargs.update((key, self.__dict__[key]) for key, default in DEFAULTS.items() if self.__dict__[key] != default)
        if self.chosen_distance is not None:
            kwargs["distance"] = self.chosen_distance
        for key in {"default", "db_default"} & kwargs.keys():
            if isinstance(kwargs[key], np.ndarray):
                kwargs[key] = Vector(kwargs[key])
        return name, "pgembedding_django.EmbeddingField", args, kwargs

    def get_internal_type(self) -> str:
        """Return the name by which packages such as django-ninja look a field up; a subclass is such a field too."""
        return "EmbeddingField"

    def get_default(self) -> Any:
        # An array can be changed, and what one row does with it must not reach another.
        default = super().get_default()
        return default.copy() if isinstance(default, np.ndarray) else default

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        is_copy = is_copied(self, cls)
        super().contribute_to_class(cls, name, private_only)
        self.keeps_digest = False
        # A migration has the digest in writing, and an abstract model leaves it to those that inherit.
        if cls._meta.abstract or isinstance(cls._meta.apps, StateApps):
            return
        if is_copy:
            self._become_plain()
        if self.source is not None:
            watch_digests(cls)
        when_prepared(cls, self._keep_digest)

    def _keep_digest(self, model: type[Model]) -> None:
        """Add the digest's field, unless the model says that it is a copy of another by having one already."""
        if self.source is None:
            return
        held = next((field for field in model._meta.local_fields if field.name == self.digest_name), None)
        if held is None:
            model.add_to_class(self.digest_name, DigestField())
            self.keeps_digest = True
        elif is_digest(held):
            self._become_plain()

    def _become_plain(self) -> None:
        """Be a column like any other, as a history of the model has it: nothing is embedded for it."""
        self.source, self.sync, self.is_made_in_save = None, "manual", False
        self.__dict__.pop("text_source", None)

    @property
    def digest_name(self) -> str:
        """The name of the digest's field beside this one, where it has a source."""
        return f"{self.name}{SUFFIX}"

    @cached_property
    def text_source(self) -> Source:
        """The text that the vector stands for; raises ValueError where no source= says."""
        if self.source is None:
            raise ValueError(
                f"{self.label} has no source, so nothing can be embedded for it. Name its text in source=."
            )
        parts = (self.source,) if isinstance(self.source, str) else tuple(self.source)
        return Source(self.model, self.name, parts, self.embedder, self.dimensions)

    def to_vector(self, value: Any) -> Vector:
        """
        Return a value as a vector of this field, as a row may hold it.

        Raises InvalidVector, a ValueError, that names the field and what is wrong with the value.
        """
        vector = self.to_query(value)
        if not self.allow_zero and vectors.is_zero(vector):
            raise InvalidVector("%(name)s must not be all zeros (allow_zero=False).", "zero", {"name": self.label})
        return vector

    def to_query(self, value: Any) -> Vector:
        """Return a value as a vector to measure distances to, which need not be one that a row may hold."""
        return vectors.to_vector(value, name=self.label, dimensions=self.dimensions, half=self.storage == "half")

    def get_indexes(self) -> Sequence[Index]:
        lengths = (None, self.dimensions)
        return [index for index in self.model._meta.indexes if getattr(index, "dimensions", None) in lengths]

    # From Python to the database

    def validate(self, value: Any, model_instance: Model | None) -> None:
        # A vector is made in code, often after its row is found valid.
        if value is not None or not (self.null or self.is_made_in_save):
            super().validate(value, model_instance)

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        self.check_present(value)
        return value

    def check_present(self, value: Any) -> None:
        """Raise ValidationError for None where a row must have a vector."""
        if value is None and not self.null:
            way = "save() the row with a text" if self.is_made_in_save else "assign one"
            message = "%(name)s must have a vector: %(way)s, or let the field be null until it is embedded."
            raise ValidationError(message, "null", {"name": self.label, "way": way})

    # Forms and serializers

    def formfield(self, **kwargs: Any) -> Any:
        defaults: dict[str, Any] = {
            "form_class": EmbeddingFormField,
            "dimensions": self.dimensions,
            "half": self.storage == "half",
            "required": not (self.blank or self.null or self.is_made_in_save),
            # A second copy of the vector in the page, for a callable default, would say no more than the row does.
            "show_hidden_initial": False,
        }
        return super().formfield(**{**defaults, **kwargs})

    def value_to_string(self, obj: Model) -> Any:
        vector = self.value_from_object(obj)
        return wire.encode_text(vector) if isinstance(vector, np.ndarray) else vector
