"""PGEmbedding: LangChain's vector store over a collection of documents."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from langchain_core.embeddings import Embeddings
from langchain_core.utils import get_from_dict_or_env

from pgembedding_django.langchain.indexing import (
    ADA_TOKEN_COUNT,
    CONNECTION_STRING,
    build_all,
    build_one,
    database_opened_last,
    for_class_too,
)
from pgembedding_django.langchain.making import DEFAULT_COLLECTION_NAME, MakingMethods
from pgembedding_django.langchain.setup import Database, find_database

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection

__all__ = ["ADA_TOKEN_COUNT", "PGEmbedding"]


class PGEmbedding(MakingMethods):
    """
    Store texts with their embeddings in Postgres, and search them by meaning.

    connection_string: a URL such as postgresql://user:password@host:5432/database, with SQLAlchemy's "+driver" or
        without; else the environment's POSTGRES_CONNECTION_STRING. The extension and the tables are made where missing.
    embedding_function: what embeds texts and questions.
    collection_name, collection_metadata: the collection that holds the documents, made where missing.
    pre_delete_collection: delete the collection first, with its index. from_texts() and its like keep the collection
        and its index, and replace the content in one transaction.
    relevance_score_fn: the relevance of a distance, from 0 to 1, instead of LangChain's own.
    using: a database alias of a Django project instead, whose tables `manage.py migrate` makes; "default" where nothing
        is given.
    One store serves several threads, async code and notebooks. Scores are distances: L2, unless the collection was made
    with another.
    Raises ImproperlyConfigured in a Django project that has not installed `pgembedding_django.documents`, and
    ValueError for a name that no collection can have.
    """

    _opened_last: ClassVar[Database | None] = None

    connection_string: str | None
    embedding_function: Embeddings
    collection_name: str
    collection_metadata: dict[str, Any] | None

    def __init__(
        self,
        connection_string: str | None = None,
        embedding_function: Embeddings | None = None,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        collection_metadata: dict[str, Any] | None = None,
        pre_delete_collection: bool = False,
        logger: logging.Logger | None = None,
        *,
        using: str | None = None,
        relevance_score_fn: Callable[[float], float] | None = None,
    ) -> None:
        if embedding_function is None:
            raise TypeError("PGEmbedding.embedding_function must be an Embeddings of LangChain, got None.")
        if using is not None and connection_string is not None:
            raise TypeError("PGEmbedding takes connection_string or using, not both.")
        if using is None:
            connection_string = connection_string or os.environ.get(CONNECTION_STRING)
        self.connection_string, self.embedding_function = connection_string, embedding_function
        self.collection_name, self.collection_metadata = collection_name, collection_metadata
        self.pre_delete_collection = pre_delete_collection
        self.relevance_score_fn = relevance_score_fn
        self.logger: logging.Logger = logger or logging.getLogger("pgembedding_django")
        self.database: Database = find_database(connection_string, using)
        self.database.run(self._prepare)
        PGEmbedding._opened_last = self.database

    def connect(self) -> BaseDatabaseWrapper:
        """Return Django's connection of this thread."""
        return self.database.connection

    def create_hnsw_extension(self) -> None:
        """Create the engine's extension where it is missing."""
        self.database.run(self.database.create_extension)

    def create_tables_if_not_exists(self) -> None:
        """Migrate the documents app where it is not."""
        self.database.run(self.database.create_tables)

    def drop_tables(self) -> None:
        """Drop the tables, of all collections."""
        self.database.run(self.database.drop_tables)

    def create_collection(self) -> None:
        """Make the collection where it is missing; with pre_delete_collection, delete it first."""
        self.database.run(self._create_collection)

    def get_collection(self, session: object = None) -> Collection | None:
        """Return the Collection, or None where it was deleted; the session of LangChain's class has no meaning here."""
        return self.database.run(self._collections().first)

    def delete_collection(self) -> None:
        """Delete the collection, its documents and its index."""
        deleted, _ = self.database.run(self._collections().delete)
        if not deleted:
            self.logger.warning("Collection not found")

    @for_class_too
    def create_hnsw_index(
        self,
        max_elements: int = 10000,
        dims: int = ADA_TOKEN_COUNT,
        m: int = 8,
        ef_construction: int | None = None,
        ef_search: int = 16,
    ) -> None:
        """
        Build the collection's index; one that stands with these options is kept, any other is replaced.

        Called on the class, it builds that of every collection with these dimensions in the database of the store
            opened last, or else of POSTGRES_CONNECTION_STRING, or of the Django project, or of DATABASE_URL.
        max_elements: only for a pg_embedding older than 0.3. dims: the dimensions of the collection's vectors.
        ef_construction: 16, or 2 * m where that is more, unless given.
        Writes go on meanwhile, except inside a transaction. Raises ValueError if the vectors have other dimensions, or
        if no collection has these.
        """
        options = {"max_elements": max_elements, "m": m, "ef_construction": ef_construction, "ef_search": ef_search}
        if isinstance(self, PGEmbedding):
            self.database.run(lambda: build_one(self._find_collection(), self.database, dims, options))
        else:
            database = database_opened_last(PGEmbedding._opened_last)
            database.run(build_all, database, dims, options)

    @classmethod
    def get_connection_string(cls, kwargs: dict[str, Any]) -> str:
        """Return what a call gives as connection_string, or the environment. Raises ValueError if neither does."""
        return get_from_dict_or_env(kwargs, "connection_string", CONNECTION_STRING)

    def _prepare(self) -> None:
        if self.connection_string is not None:
            self.create_hnsw_extension()
            self.create_tables_if_not_exists()
        self._create_collection()

    def _create_collection(self) -> None:
        self._collections().model.check_name(self.collection_name)
        with transaction.atomic(using=self.database.alias):
            if self.pre_delete_collection:
                self._collections().delete()
            defaults = {"metadata": self.collection_metadata or {}}
            self._collections().get_or_create(name=self.collection_name, defaults=defaults)
