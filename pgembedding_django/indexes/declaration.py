"""What a model declares of an HnswIndex or IvfflatIndex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypedDict, cast

from django.db import connections
from django.db.models import Index, Model, Q

from pgembedding_django.bounds import is_writable_integer
from pgembedding_django.engines import (
    DISTANCES,
    ENGINES,
    GRAPH,
    Engine,
    distance_of_opclass,
    get_engine_for,
)
from pgembedding_django.engines.base import IndexOption
from pgembedding_django.fields import EmbeddingField, MeasuredField
from pgembedding_django.fields.sized import SizedField
from pgembedding_django.indexes.expressions import read_expression

__all__ = ["IndexArguments", "IndexDeclaration", "is_option_value"]

PRECISIONS = ("half", "binary")


class IndexArguments(TypedDict, total=False):
    """What an index of any kind takes by name."""

    fields: list[str] | tuple[str, ...]
    name: str | None
    distance: str | None
    precision: str | None
    dimensions: int | None
    condition: Q | None
    opclasses: list[str] | tuple[str, ...]
    db_tablespace: str | None


class IndexDeclaration(Index):
    """What a model says of an index: the arguments, what a migration keeps of them, and when two are equal."""

    # Not Django's PostgresIndex, which needs "django.contrib.postgres" in INSTALLED_APPS from Django 6.1 on.
    #: The method that builds it, where no model declares it.
    builder = ""
    #: What a user calls it, also where it is of a subclass.
    kind: ClassVar[str]
    #: The names of what deconstruct() adds.
    option_names: ClassVar[tuple[str, ...]]
    #: Links of a row, candidates that a search keeps, and lists that it reads, where the kind of index knows them.
    m: int | None = None
    ef_search: int | None = None
    probes: int | None = None
    lists: int | None = None

    dimensions: int | None

    def __init__(
        self,
        *expressions: Any,
        fields: list[str] | tuple[str, ...] = (),
        name: str | None = None,
        distance: str | None = None,
        precision: str | None = None,
        dimensions: int | None = None,
        condition: Q | None = None,
        opclasses: list[str] | tuple[str, ...] = (),
        db_tablespace: str | None = None,
    ) -> None:
        kind = self.kind
        if expressions:
            field, precision, distance = read_expression(expressions, kind)
            fields = [field]
        super().__init__(
            fields=fields, name=name, condition=condition, opclasses=opclasses, db_tablespace=db_tablespace
        )
        if len(self.fields) != 1 or self.fields[0].startswith("-"):
            raise ValueError(f"{kind}.fields must name one field, without a minus, got {list(fields)!r}.")
        if distance is not None and distance not in DISTANCES:
            choices = ", ".join(f'"{choice}"' for choice in DISTANCES)
            raise ValueError(f"{kind}.distance must be one of {choices}, got {distance!r}.")
        named = distance_of_opclass(opclasses[0]) if opclasses else None
        if distance and named and distance != named:
            raise ValueError(
                f'{kind}.opclasses {opclasses[0]!r} is for distance "{named}", but distance is "{distance}". '
                "Give one of the two."
            )
        if precision not in (None, *PRECISIONS):
            raise ValueError(f'{kind}.precision must be "half", "binary" or None, got {precision!r}.')
        if dimensions is not None and not is_writable_integer(dimensions, 1):
            raise ValueError(f"{kind}.dimensions must be a positive integer, got {dimensions!r}.")
        self.precision, self.dimensions = precision, dimensions
        self.chosen_distance: str | None = distance or named
        self.distance: str = self.chosen_distance or "l2"

    def deconstruct(self) -> Any:
        _path, args, kwargs = super().deconstruct()
        if self.distance != "l2" and not self.opclasses:
            kwargs["distance"] = self.distance
        if self.precision is not None:
            kwargs["precision"] = self.precision
        if self.dimensions is not None:
            kwargs["dimensions"] = self.dimensions
        kwargs.update((name, value) for name, value in self.options.items() if value is not None)
        return f"pgembedding_django.{self.kind}", args, kwargs

    def clone(self) -> Self:
        """As Django's, which gives each model a clone; deconstruct() says nothing of a distance "l2" that is named."""
        index = cast(Self, super().clone())
        index.chosen_distance, index.distance = self.chosen_distance, self.distance
        return index

    def __eq__(self, other: object) -> bool:
        """
        Tell whether a migration from one to the other would leave every index of this project's databases as it is.

        pgvector's own index is equal if its definition is. An option counts only if an engine of PGEMBEDDING["ENGINE"]
        writes it into the index.
        """
        if isinstance(other, IndexDeclaration):
            return type(other) is type(self) and self._definition == other._definition
        if isinstance(other, Index) and other.deconstruct()[0] == f"pgvector.django.indexes.{self.kind}":
            return self._definition == self._read(other)
        return NotImplemented

    def _read(self, other: Index) -> tuple[Any, ...] | None:
        """Return the definition of an index of pgvector's Django module, None where it has none here."""
        _path, expressions, kwargs = other.deconstruct()
        try:
            return type(self)(*expressions, **kwargs)._definition
        except (TypeError, ValueError):
            return None

    @property
    def _definition(self) -> tuple[Any, ...]:
        """What the index depends on, as the engines of this project's databases make it."""
        engines = [get_engine_for(alias) for alias in connections]
        written = {name for each in engines for name, option in self.get_options(each).items() if option.server_name}
        _path, args, kwargs = self.deconstruct()
        return args, {name: value for name, value in kwargs.items() if name not in {*self.option_names} - written}

    def adopt_field(self, field: MeasuredField) -> None:
        """
        Take the field's distance where none is named, and name the operator class where vectors are stored otherwise.

        The server keeps an index's operator class when the column's type changes, and fails. With its name in each
        migration, a change of storage removes the index before and adds it after.
        """
        self.distance = self.chosen_distance or field.distance
        opclasses = ENGINES["pgvector"].opclasses
        named = next((name for name, each in opclasses.items() if set(self.opclasses) & set(each.values())), "single")
        known = self.distance in opclasses[field.storage] and all(map(distance_of_opclass, self.opclasses))
        # An unknown operator class stays, for the check to report.
        if field.storage != named and known:
            self.opclasses: Sequence[str] = [opclasses[field.storage][self.distance]]

    @property
    def options(self) -> dict[str, Any]:
        """The options as declared, None where the engine chooses."""
        return {name: getattr(self, name) for name in self.option_names}

    def get_options(self, engine: Engine) -> Mapping[str, IndexOption]:
        """Return the options that an engine knows of such an index."""
        return engine.index_options

    def built_options(self, engine: Engine, stored: Mapping[str, str]) -> dict[str, int]:
        """
        Return the options that such an index in a database was built with, its defaults where none was given.

        stored: what the server keeps of them. An option without a default is one of old servers alone, and left out.
        """
        options = self.get_options(engine)
        defaults = {name: GRAPH.get(name, option.default) for name, option in options.items()}
        return {
            name: int(stored.get(options[name].server_name, default))
            for name, default in defaults.items()
            if default is not None and options[name].server_name
        }

    @property
    def is_partial(self) -> bool:
        """Whether it may lack rows that a search of its field must find."""
        return self.condition is not None

    def get_field(self, model: type[Model]) -> EmbeddingField:
        """Return the indexed field of a model, of one length."""
        field: EmbeddingField = model._meta.get_field(self.fields[0])  # type: ignore[assignment]
        if self.dimensions is None or field.dimensions is not None or not isinstance(field, EmbeddingField):
            return field
        return SizedField(field, self.dimensions)


def is_option_value(value: object, option: Any) -> bool:
    """Tell whether an index option is an integer that the server accepts."""
    return is_writable_integer(value, option.minimum, option.maximum)
