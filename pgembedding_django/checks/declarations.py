"""Checks of the indexes that models declare; they ask no database."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.core.exceptions import FieldDoesNotExist
from django.db import NotSupportedError
from django.db.models import Model

from pgembedding_django.engines import Engine, distance_of_opclass
from pgembedding_django.fields import MeasuredField, measured_fields
from pgembedding_django.indexes import VectorIndex, is_option_value

__all__ = ["check_index", "check_names"]


def check_names(model: type[Model], index: VectorIndex) -> Iterator[CheckMessage]:
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


def check_index(model: type[Model], index: VectorIndex, engine: Engine) -> Iterator[CheckMessage]:
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
