"""MetadataIndex: finds documents by what their metadata contains."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Index, Model

__all__ = ["MetadataIndex"]


class MetadataIndex(Index):
    """A GIN index, for containment."""

    # Not Django's GinIndex, which needs "django.contrib.postgres" in INSTALLED_APPS from Django 6.1 on.
    suffix = "gin"

    def create_sql(
        self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        return super().create_sql(model, schema_editor, using=f" USING {self.suffix}", **kwargs)
