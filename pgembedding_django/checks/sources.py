"""Checks of what vectors are made from: source= and sync= of an EmbeddingField."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.exceptions import FieldDoesNotExist
from django.db.models import CharField, TextField

from pgembedding_django.checks.common import AppConfigs, embedding_models
from pgembedding_django.compat import background
from pgembedding_django.fields import EmbeddingField, embedding_fields


def check_sources(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each source gives text and that each sync can run; asks no database."""
    return [
        message
        for model in embedding_models(app_configs)
        for field in embedding_fields(model, local=True)
        for message in [*_check_source(field), *_check_sync(field)]
    ]


def _check_source(field: EmbeddingField) -> Iterator[CheckMessage]:
    if field.source is None:
        return
    parts = field.text_source.parts
    problem = _problem(field, parts) if parts else "names nothing"
    if problem:
        yield Error(
            f"{field.label}'s source {problem}.",
            hint="Name one or several CharFields or TextFields of the model, or one method that returns text.",
            obj=field,
            id="pgembedding.E040",
        )
    if not field.keeps_digest or sum(other.name == field.digest_name for other in field.model._meta.fields) > 1:
        yield Error(
            f"{field.label} keeps a digest in {field.digest_name}, a name that {field.model.__name__} gives another "
            "field.",
            hint=f"Give {field.digest_name} another name.",
            obj=field,
            id="pgembedding.E041",
        )


def _problem(field: EmbeddingField, parts: tuple[str, ...]) -> str | None:
    """Tell what is wrong with the names, in the words that follow "source"."""
    model = field.model
    for part in parts:
        try:
            column = model._meta.get_field(part)
        except FieldDoesNotExist:
            if not hasattr(model, part):
                return f'names "{part}", which {model.__name__} has neither as a field nor as a method'
            if len(parts) > 1:
                return f'names "{part}", a method, beside others'
        else:
            if not _is_text(column):
                return f'names "{part}", which is no plain column of text but a {type(column).__name__}'
    return None


def _is_text(column: object) -> bool:
    """Tell whether a column's text is the same in SQL as in Python."""
    return isinstance(column, CharField | TextField) and not (
        hasattr(column, "from_db_value") or type(column).to_python not in (CharField.to_python, TextField.to_python)
    )


def _check_sync(field: EmbeddingField) -> Iterator[CheckMessage]:
    if field.sync == "manual":
        return
    if field.source is None:
        yield Error(
            f'{field.label} has sync="{field.sync}", but no source to embed.',
            hint="Name the text in source=, or leave sync out.",
            obj=field,
            id="pgembedding.E042",
        )
    if field.sync == "task" and not background.is_available():
        yield Error(
            f'{field.label} has sync="task", but there is no tasks framework.',
            hint='Use Django 6.0, or run: pip install "pgembedding-django[tasks]"',
            obj=field,
            id="pgembedding.E043",
        )
