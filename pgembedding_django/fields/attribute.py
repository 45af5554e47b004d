"""What holds the vector of a model's instance."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import django
from django.db.models import DEFERRED, Model
from django.db.models.query_utils import DeferredAttribute

from pgembedding_django import vectors
from pgembedding_django.fields.source import BY_HAND
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["VectorAttribute"]


class VectorAttribute(DeferredAttribute):
    """Convert an assigned value to a Vector; an invalid one is kept as it is, for validation to report."""

    #: An EmbeddingField, which imports this module.
    field: Any

    def __get__(self, instance: Model | None, cls: type[Model] | None = None) -> Any:
        if django.VERSION < (6, 1) and instance is not None and self.field.attname not in instance.__dict__:
            self.fetch_one(instance)
        return super().__get__(instance, cls)

    def fetch_one(self, instance: Model) -> None:
        """Load a deferred vector, and with it the digest that it had then; Django 6.1 calls this by itself."""
        instance.refresh_from_db(fields=self._loaded_together)

    def fetch_many(self, instances: Iterable[Model]) -> None:  # pragma: no cover - from Django 6.1 on
        """Load the deferred vectors of instances that were loaded together, as `fetch_one` does."""
        instances = list(instances)
        waiting = {row.pk: row for row in instances if self.field.attname not in row.__dict__ and row.pk is not None}
        manager = self.field.model._base_manager.using(instances[0]._state.db)
        for pk, *values in manager.filter(pk__in=list(waiting)).values_list("pk", *self._loaded_together):
            for name, value in zip(self._loaded_together, values, strict=True):
                setattr(waiting[pk], name, value)

    @property
    def _loaded_together(self) -> list[str]:
        return [self.field.attname, self.field.digest_name] if self.field.keeps_digest else [self.field.attname]

    def __set__(self, instance: Model, value: Any) -> None:
        # What the database sends is a Vector already; only what users assign is converted.
        if isinstance(value, str) and not value.strip():
            value = None  # As a CSV file writes it.
        ready = value is None or type(value) is Vector
        if not ready and not hasattr(value, "resolve_expression"):
            with suppress(InvalidVector):
                value = vectors.to_vector(value)
        if self.field.keeps_digest and not instance._state.adding and not self._holds(instance, value):
            instance.__dict__[self.field.digest_name] = BY_HAND
        instance.__dict__[self.field.attname] = value

    def _holds(self, instance: Model, value: Any) -> bool:
        """Tell whether a value is what the instance has already, as where a form hands it back."""
        held = instance.__dict__.get(self.field.attname, DEFERRED)
        return held is value or (type(held) is type(value) is Vector and bool(held == value))

    def __delete__(self, instance: Model) -> None:
        # As without a descriptor: the next access loads the value again.
        del instance.__dict__[self.field.attname]
