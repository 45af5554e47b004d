"""What a person types for a model, its field and a filter of its rows, read safely."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.db.models import BooleanField, Field, Model

__all__ = ["parse_filters", "parse_target"]


def parse_target(label: str) -> tuple[type[Model], str | None]:
    """
    Return the model and the name of the field that "app.Model" or "app.Model.field" names; None without a field.

    Raises ValueError if there is no such model.
    """
    app, _, rest = label.partition(".")
    name, _, field = rest.partition(".")
    try:
        return apps.get_model(app, name), field or None
    except (LookupError, ValueError) as error:
        raise ValueError(
            f'"{label}" names no model. Write app.Model or app.Model.field, such as blog.Article.'
        ) from error


def parse_filters(model: type[Model], texts: Iterable[str], *, using: str = DEFAULT_DB_ALIAS) -> dict[str, Any]:
    """
    Return what filter() takes for texts such as "published=true" and "views__gt=100", each a field and its value.

    "in" and "range" take their values with commas between. A related row is named by its natural key, where its manager
    knows one, or by its primary key.
    Raises ValueError if there is no such field or lookup, or if the value is none of it.
    """
    return dict(_parse_filter(model, text, using) for text in texts)


def _parse_filter(model: type[Model], text: str, using: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    name, separator, lookup = path.partition("__")
    fields = {field.name: field for field in model._meta.concrete_fields}
    if not equals or name not in fields or (separator and fields[name].get_lookup(lookup) is None):
        raise ValueError(
            f"A filter must be name=value or name__lookup=value with a field of {model.__name__} "
            f'({", ".join(fields)}) and a lookup of it such as gt, got "{text}".'
        )
    manager: Any = getattr(fields[name].related_model, "_default_manager", None)
    if not separator and hasattr(manager, "get_by_natural_key"):
        with suppress(ObjectDoesNotExist, TypeError):  # TypeError where a key has several parts.
            return name, manager.db_manager(using).get_by_natural_key(value)
    try:
        return path, _parse_value(fields[name], lookup, value)
    except ValidationError as error:
        raise ValueError(f'{model.__name__}.{path} cannot be filtered by "{value}": {error.messages[0]}') from error


def _parse_value(field: Field[Any, Any], lookup: str, value: str) -> Any:
    if lookup in ("in", "range"):
        values = [_parse_value(field, "", each) for each in value.split(",")]
        if lookup == "range" and len(values) != 2:
            raise ValidationError("A range has two values.")
        return values
    if lookup == "isnull":
        field = BooleanField()
    # BooleanField reads "True", and people write "true".
    return field.to_python(value.capitalize() if isinstance(field, BooleanField) else value)
