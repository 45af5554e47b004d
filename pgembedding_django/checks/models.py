"""Checks of models against the settings; they ask no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import NotSupportedError
from django.db.models import Model

from pgembedding_django import conf
from pgembedding_django.checks.common import AppConfigs, embedding_models, postgres_aliases, sqlite_aliases
from pgembedding_django.embedders import get_embedder
from pgembedding_django.engines import Engine, distance_of_opclass, get_engine_for
from pgembedding_django.engines.building import bound
from pgembedding_django.fields import BitField, EmbeddingField, MeasuredField, embedding_fields, measured_fields
from pgembedding_django.indexes import VectorIndex, is_option_value, vector_indexes


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
            found = {get_engine_for(alias).name: get_engine_for(alias) for alias in aliases}
        except ImproperlyConfigured as error:
            return [*messages, Error(str(error), hint="Correct the setting.", id="pgembedding.E007")]
        engines |= found
        messages.extend(_check_model(model, found.values()))
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
        yield from _check_names(model, index)
        for engine in engines:
            if engine.indexes:
                yield from _check_index(model, index, engine)


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


def _check_names(model: type[Model], index: VectorIndex) -> Iterator[CheckMessage]:
    if '"' in index.name:
        yield Error(
            f"{model.__name__}'s {index.kind}.name must not contain a double quote, got {index.name!r}.",
            hint="Django puts the name into DDL as it is.",
            obj=model,
            id="pgembedding.E016",
        )
    for opclass in index.opclasses:
        if distance_of_opclass(opclass) is None:
            yield Error(
                f"{model.__name__}'s {index.kind}.opclasses must be an operator class of HNSW, got {opclass!r}.",
                hint='Give distance= instead, such as distance="cosine".',
                obj=model,
                id="pgembedding.E015",
            )


def _check_index(model: type[Model], index: VectorIndex, engine: Engine) -> Iterator[CheckMessage]:
    options = index.get_options(engine)
    bad = {
        name: value
        for name, option in options.items()
        if (value := index.options[name]) is not None and not is_option_value(value, option)
    }
    for name, value in bad.items():
        option = options[name]
        yield Error(
            f"{index.name}'s {name} must be an integer from {option.minimum} to {option.maximum} on {engine.name}, "
            f"got {value!r}.",
            hint="Correct the option in Meta.indexes.",
            obj=model,
            id="pgembedding.E013",
        )
    if index.distance not in engine.operators:
        yield Error(
            f'{index.name} has distance="{index.distance}", which {engine.name} does not have.',
            hint=f"Use one of: {', '.join(engine.operators)}.",
            obj=model,
            id="pgembedding.E017",
        )
    if index.precision and not engine.precisions:
        yield Error(
            f'{index.name} has precision="{index.precision}", which {engine.name} does not have.',
            hint="Leave precision out, or use the engine pgvector.",
            obj=model,
            id="pgembedding.E018",
        )
    if not bad:
        yield from _check_fit(model, index, engine)
        yield from _check_kind(model, index, engine)


def _check_kind(model: type[Model], index: VectorIndex, engine: Engine) -> Iterator[CheckMessage]:
    """Check that an engine has such an index of a field; other checks say what it lacks altogether."""
    field = next((field for field in measured_fields(model) if index.fields == [field.name]), None)
    lacks = index.distance not in engine.operators or (index.precision and not engine.precisions)
    if field is None or not engine.indexes or lacks or field.storage not in engine.opclasses:
        return
    try:
        engine.check_method(index.suffix, field.storage, index.distance)
        engine.indexed_expression(field.storage, index.distance, index.precision, field.dimensions or 1)
    except NotSupportedError as error:
        yield Error(
            f"{index.name} cannot be built: {error}",
            hint="Correct the index in Meta.indexes.",
            obj=model,
            id="pgembedding.E035",
        )


def _check_fit(model: type[Model], index: VectorIndex, engine: Engine) -> Iterator[CheckMessage]:
    options = {name: value for name, value in index.options.items() if value is not None}
    problem = engine.check_options(options)
    if problem:
        yield Error(
            f"{index.name}'s {problem}.",
            hint="Correct the options in Meta.indexes.",
            obj=model,
            id="pgembedding.E014",
        )
    try:
        field = model._meta.get_field(index.fields[0])
    except FieldDoesNotExist:
        return  # models.E012 of Django says so.
    if not isinstance(field, MeasuredField):
        yield Error(
            f"{index.name} must index an EmbeddingField, but {model.__name__}.{field.name} is a "
            f"{type(field).__name__}.",
            hint="Name an EmbeddingField in fields=.",
            obj=model,
            id="pgembedding.E010",
        )
        return
    dimensions = index.get_field(model).dimensions
    if dimensions is None:
        yield Error(
            f"{index.name} needs a field with dimensions, but {field.label} has none.",
            hint="Give dimensions to the field, or to the index for the vectors of one length.",
            obj=model,
            id="pgembedding.E011",
        )
    elif index.dimensions not in (None, dimensions):
        yield Error(
            f"{index.name} is for {index.dimensions} dimensions, but {field.label} has {dimensions}.",
            hint="Leave dimensions out of the index.",
            obj=model,
            id="pgembedding.E034",
        )
    elif dimensions > (limit := engine.max_indexed_dimensions(field.storage, index.precision, options)):
        yield Error(
            f"{index.name} can hold at most {limit} dimensions on {engine.name}, but {field.label} has {dimensions}.",
            hint=engine.fit_hint(field.storage, dimensions),
            obj=model,
            id="pgembedding.E012",
        )
