"""The options that a field has from Django, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from django.core.exceptions import ValidationError

__all__ = ["FieldOptions"]


class FieldOptions(TypedDict, total=False):
    """What Django's Field takes by name, but for `null`, which makes another type of the value."""

    verbose_name: Any
    name: str
    primary_key: bool
    unique: bool
    blank: bool
    db_index: bool
    default: object
    editable: bool
    serialize: bool
    unique_for_date: str
    unique_for_month: str
    unique_for_year: str
    choices: Any
    help_text: Any
    db_column: str
    db_tablespace: str
    auto_created: bool
    validators: Iterable[Callable[[Any], None]]
    error_messages: Mapping[str, str | ValidationError]
    db_comment: str
    db_default: Any
