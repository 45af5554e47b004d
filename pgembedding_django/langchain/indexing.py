"""create_hnsw_index(), called on a store for its collection, or on the class for all of a database."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from django.conf import ENVIRONMENT_VARIABLE, settings

from pgembedding_django.bounds import is_integer
from pgembedding_django.documents.building import check_index
from pgembedding_django.langchain.setup import Database, collections_of, find_database

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection

__all__ = ["ADA_TOKEN_COUNT", "CONNECTION_STRING", "build_all", "build_one", "database_opened_last", "for_class_too"]

P = ParamSpec("P")
R = TypeVar("R")

#: The dimensions of OpenAI's text-embedding-ada-002, which LangChain's class took for granted.
ADA_TOKEN_COUNT = 1536

CONNECTION_STRING = "POSTGRES_CONNECTION_STRING"

Options = dict[str, Any]


class for_class_too(Generic[P, R]):  # noqa: N801 - used as a decorator
    """A method that gets its instance or, called on the class, the class."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self.method = method

    def __get__(self, instance: object, owner: type) -> Callable[P, R]:
        return MethodType(self.method, owner if instance is None else instance)


def database_opened_last(opened: Database | None) -> Database:
    """
    Return the database of the store opened last, or of the environment; in a Django project its default.

    Raises ImproperlyConfigured where none of these is there.
    """
    if opened is not None:
        return opened
    url = os.environ.get(CONNECTION_STRING)
    if url is None and not settings.configured and ENVIRONMENT_VARIABLE not in os.environ:
        url = os.environ.get("DATABASE_URL")
    return find_database(url, None)


def build_one(collection: Collection, database: Database, dims: int, options: Options) -> None:
    """Build the index of a collection, which gets its dimensions where it has none."""
    _check_dims(dims)
    if collection.dimensions is None:
        check_index(collection, database.alias, options, dims)  # Before the collection is bound to them.
        collection.claim_dimensions(dims)
    if collection.dimensions != dims:
        got = f"the default dims={dims}" if dims == ADA_TOKEN_COUNT else f"dims={dims}"
        raise ValueError(
            f'Collection "{collection.name}" holds vectors of {collection.dimensions} dimensions, got {got}. '
            f"Pass dims={collection.dimensions}."
        )
    collection.create_hnsw_index(**options, concurrently=not database.connection.in_atomic_block)


def build_all(database: Database, dims: int, options: Options) -> None:
    """Build the index of every collection that has these dimensions."""
    _check_dims(dims)
    stored = collections_of(database).order_by("name")
    is_there = stored.model._meta.db_table in database.connection.introspection.table_names()
    collections = list(stored) if is_there else []
    fitting = [collection for collection in collections if collection.dimensions == dims]
    if not fitting:
        there = ", ".join(f'"{each.name}" ({each.dimensions or "none yet"})' for each in collections) or "none"
        raise ValueError(
            f"create_hnsw_index() on the class needs a collection of dims={dims} in the database. The collections and "
            f"their dimensions: {there}."
        )
    for collection in fitting:
        build_one(collection, database, dims, options)


def _check_dims(dims: int) -> None:
    if not is_integer(dims, 1):
        raise ValueError(f"dims must be a positive integer, got {dims!r}.")
