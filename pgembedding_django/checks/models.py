"""Checks of models against the settings; they ask no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from pgembedding_django import conf
from pgembedding_django.checks.common import AppConfigs, embedding_models, postgres_aliases, sqlite_aliases
from pgembedding_django.checks.declarations import check_index, check_names
from pgembedding_django.embedders import get_embedder
from pgembedding_django.engines import Engine, get_engine_for
from pgembedding_django.engines.building import bound
from pgembedding_django.fields import BitField, EmbeddingField, MeasuredField, embedding_fields, measured_fields
from pgembedding_django.indexes import vector_indexes


def check_models(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check every EmbeddingField and HnswIndex against the settings; asks no database."""
    messages: list[CheckMessage] = []
    engines: dict[str, Engine] = {}
    for model in embedding_models(app_configs):
        # SQLite is for tests and small tables: what it lacks matters where there is nothing else.
        aliases = postgres_aliases(model) or sqlite_aliases(model)
        if not aliases:
            messages.append(_no_postgres(model))
        try:
            of_model = {get_engine_for(alias).name: get_engine_for(alias) for alias in aliases}
        except ImproperlyConfigured as error:
            return [*messages, Error(str(error), hint="Correct the setting.", id="pgembedding.E007")]
        engines |= of_model
        messages.extend(_check_model(model, of_model.values()))
    messages += _check_build_memory()
    return messages + [
        Warning(engine.caution, hint="Move to pgvector when you can.", id="pgembedding.W030")
        for engine in engines.values()
        if engine.caution
    ]


def _check_build_memory() -> list[CheckMessage]:
    try:
        bound()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct the setting, or leave it out.", id="pgembedding.E019")]
    return []


def _no_postgres(model: type[Model]) -> Error:
    return Error(
        f"{model.__name__} has an EmbeddingField, but no PostgreSQL or SQLite database of this project may hold it.",
        hint="Set a PostgreSQL database in DATABASES, and let the routers allow the model on it.",
        obj=model,
        id="pgembedding.E002",
    )


def _check_model(model: type[Model], engines: Iterable[Engine]) -> Iterator[CheckMessage]:
    for field in embedding_fields(model, local=True):
        yield from _check_embedder(field)
    for column in measured_fields(model, local=True):
        yield from _check_keys(column)
        for engine in engines:
            yield from _check_field(column, engine)
    for index in vector_indexes(model):
        yield from check_names(model, index)
        for engine in engines:
            if engine.indexes:
                yield from check_index(model, index, engine)


def _check_keys(field: MeasuredField) -> Iterator[CheckMessage]:
    # Bits may stand for the thing itself, as a fingerprint does.
    if not isinstance(field, BitField) and (field.unique or getattr(field, "db_index", False)):
        yield Error(
            f"{field.label} must not be unique, a primary key or db_index=True.",
            hint="Vectors are compared by distance: index them by HnswIndex in Meta.indexes, and put a constraint on "
            "the text that they stand for.",
            obj=field,
            id="pgembedding.E008",
        )


def _check_field(field: MeasuredField, engine: Engine) -> Iterator[CheckMessage]:
    if field.dimensions is not None and field.dimensions > (limit := engine.max_dimensions(field.storage)):
        yield Error(
            f"{field.label} must have at most {limit} dimensions on {engine.name}, got {field.dimensions}.",
            hint="Ask the embedder for fewer dimensions.",
            obj=field,
            id="pgembedding.E001",
        )
    if field.storage not in engine.opclasses:
        half = field.storage == "half"
        yield Error(
            f'{field.label} has storage="half", which {engine.name} does not have.'
            if half
            else f"{field.label} is a {type(field).__name__}, which {engine.name} cannot store.",
            hint='Use storage="single", or the engine pgvector.' if half else "Use the engine pgvector.",
            obj=field,
            id="pgembedding.E003",
        )


def _check_embedder(field: EmbeddingField) -> Iterator[CheckMessage]:
    if field.dimensions is None and field.source is None:
        return  # No text is ever embedded for it.
    alias = field.embedder
    try:
        configured = conf.embedders()
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="Correct the setting.", obj=field, id="pgembedding.E006")
        return
    if alias not in configured:
        # A project that embeds elsewhere configures none.
        if configured or alias != "default":
            yield Error(
                f'{field.label} names the embedder "{alias}", which PGEMBEDDING["EMBEDDERS"] does not have.',
                hint=f"Add it to the setting, or use one of: {', '.join(configured)}."
                if configured
                else "Add it to the setting.",
                obj=field,
                id="pgembedding.E004",
            )
        return
    try:
        dimensions = get_embedder(alias).dimensions
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="Correct the setting.", obj=field, id="pgembedding.E006")
        return
    meant = field.source is not None or alias != "default"
    if meant and None not in (dimensions, field.dimensions) and dimensions != field.dimensions:
        yield Error(
            f'{field.label} has {field.dimensions} dimensions, but the embedder "{alias}" makes {dimensions}.',
            hint="Give both the same number.",
            obj=field,
            id="pgembedding.E005",
        )
