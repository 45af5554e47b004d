"""Checks of passages: whether what they are pieces of can be found, and is followed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.checks.common import AppConfigs, embedding_models
from pgembedding_django.compat.queries import default_queryset
from pgembedding_django.passages import Passage, PassageQuerySet
from pgembedding_django.passages.parents import parents_of


def check_passages(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the passages of each model can be made, and that embed() makes them; asks no database."""
    models = (model for model in embedding_models(app_configs) if issubclass(model, Passage))
    return [message for model in models for message in _check_model(model)]


def _check_model(model: type[Passage]) -> Iterator[CheckMessage]:
    try:
        field = parents_of(model).field
    except (ImproperlyConfigured, TypeError, ValueError) as error:
        yield Error(
            str(error),
            hint='Give the model a foreign key, one EmbeddingField(source="text"), and in splits the text to split.',
            obj=model,
            id="pgembedding.E044",
        )
        return
    if field.text_source.columns and "text" not in field.text_source.parts:
        yield Error(
            f"{field.label} must have text in its source, since that is what a passage is.",
            hint='Write source="text".',
            obj=field,
            id="pgembedding.E045",
        )
    if not issubclass(default_queryset(model), PassageQuerySet):
        yield Error(
            f"{model.__name__}'s first manager must be a PassageManager, or embed() splits nothing.",
            hint="Leave the manager out, or derive it from pgembedding_django.passages.PassageManager.",
            obj=model,
            id="pgembedding.E046",
        )
