"""The column beside a vector that tells of which text it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, CharField, F, Field, Model, Value, When
from django.db.models.query_utils import DeferredAttribute

from pgembedding_django.fields.copied import is_copied
from pgembedding_django.fields.source import BY_HAND, SUFFIX, InvalidSource, Source

__all__ = ["WRITTEN", "DigestField", "is_digest"]


if TYPE_CHECKING:
    _CharField = CharField[Any, Any]
else:
    _CharField = CharField


class Written(str):
    """Stands for the digest of a vector that was assigned and saved: the database has it, the instance not yet."""


WRITTEN = Written(BY_HAND)


class DigestAttribute(DeferredAttribute):
    """Read the digest from the database where the instance has not got it."""

    def __get__(self, instance: Model | None, cls: type[Model] | None = None) -> Any:
        if instance is not None and isinstance(instance.__dict__.get(self.field.attname), Written):
            instance.refresh_from_db(fields=[self.field.attname])
        return super().__get__(instance, cls)

    def __set__(self, instance: Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class DigestField(_CharField):
    """
    Hold the digest of the text that a vector stands for; an EmbeddingField with a source adds it by itself.

    On save:
        vector assigned     -> digest of the current text
        vector only loaded  -> digest unchanged
        text unknown        -> NULL, so that the row is stale
    """

    descriptor_class = DigestAttribute
    #: Whether it is on a model that copies another: a column like any other.
    is_copy: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_length": 64, "null": True, "blank": True, "editable": False, **kwargs})

    @property
    def vector_name(self) -> str:
        """The name of the vector beside which it stands."""
        return self.name.removesuffix(SUFFIX)

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        self.is_copy = is_copied(self, cls)
        super().contribute_to_class(cls, name, private_only)

    def deconstruct(self) -> Any:
        # In a migration it is a plain CharField.
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs

    def get_default(self) -> str:
        # A loaded instance has NULL or a digest here, a new one this.
        return BY_HAND

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        # Saved raw, as by loaddata: the text of an assigned vector is unknown, so its row is stale.
        return super().get_db_prep_save(None if value == BY_HAND else value, connection)

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        if self.is_copy:
            return super().pre_save(model_instance, add)
        source: Source = self.model._meta.get_field(self.vector_name).text_source  # type: ignore[union-attr]
        if not add and source.name not in model_instance.__dict__:
            # The vector was not loaded and is not saved: its digest stays with it.
            return F(self.name)
        if model_instance.__dict__.get(self.attname) != BY_HAND:
            return getattr(model_instance, self.attname)
        vector = getattr(model_instance, source.name)
        digest = None if vector is None else _expected(source, model_instance)
        if add or digest is None:
            setattr(model_instance, self.attname, digest)
            return digest
        # What is in the row already was loaded by some way that looks like assignment, and the row knows its digest.
        return Case(When(**{source.name: vector}, then=F(self.name)), default=Value(digest), output_field=CharField())


def is_digest(field: Field[Any, Any]) -> bool:
    """Tell whether a field is a digest's, or what a migration or a copy makes of one."""
    return bool(field.deconstruct()[1:] == DigestField().deconstruct()[1:])


def _expected(source: Source, row: Model) -> str | None:
    try:
        return source.digest(source.text(row))
    except (ImproperlyConfigured, InvalidSource):
        # Nothing embeds here, or the text is an expression: what is not known is stale.
        return None
