"""Where LangChain's vector stores keep their documents: each layout as the statement that reads one collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Column", "StoreTable", "is_own_table", "own_table", "shared_table"]

Quote = Callable[[str], str]

#: Types of pgvector.
VECTORS = ("vector", "halfvec")


@dataclass(frozen=True)
class Column:
    """A column of a table of the source; type: as pg_type names it."""

    name: str
    type: str
    is_key: bool = False


@dataclass(frozen=True)
class StoreTable:
    """
    A collection of documents of the source.

    columns, body: what stands after SELECT and after FROM. Its rows are id, text, metadata, values of other columns,
        and vector; metadata and other values are JSON as text, the vector is what array_send() makes of a real[].
    params: of body. distance: what its class ranks by unless told otherwise.
    """

    name: str
    distance: str
    columns: str
    body: str
    params: Sequence[str] = ()


def shared_table(name: str, table: str, collections: str, columns: Sequence[Column]) -> StoreTable:
    """
    Return a collection of langchain_pg_embedding, which the retired PGEmbedding and the PGVector classes share.

    table, collections: the two tables, quoted.
    Of several documents with one custom_id, the first by uuid keeps it, and the others have their uuid as id.
    """
    types = {column.name: column.type for column in columns}
    parts = {"id": "e.id::text", "custom_id": "e.custom_id", "uuid": "e.uuid::text"}
    ids = [part for column, part in parts.items() if column in types]
    key = f"coalesce({', '.join(ids)})"
    if "id" not in types:
        again = "row_number() OVER (PARTITION BY e.custom_id ORDER BY e.uuid) > 1"
        key = f"CASE WHEN {again} THEN e.uuid::text ELSE {key} END"
    return StoreTable(
        name,
        "cosine" if types["embedding"] in VECTORS else "l2",
        f"{key}, e.document, e.cmetadata::text, NULL, array_send(e.embedding::real[])",
        f"{table} e JOIN {collections} c ON c.uuid = e.collection_id WHERE c.name = %s",
        (name,),
    )


def own_table(name: str, table: str, columns: Sequence[Column], quote: Quote) -> StoreTable:
    """
    Return the table of a PGVectorStore, whose columns may have any name.

    table: quoted. Raises ValueError if id, text and vector cannot be told by the store's defaults or by their types.
    """
    named = {
        "id": _only(columns, "langchain_id", lambda column: column.is_key),
        "vector": _only(columns, "embedding", lambda column: column.type in VECTORS),
        "text": _only(columns, "content", lambda column: column.type in ("text", "varchar") and not column.is_key),
    }
    missing = [part for part, column in named.items() if column is None]
    if missing:
        raise ValueError(f'Table "{name}" is none of a PGVectorStore: it has no single column for {missing[0]}.')
    metadata = _only(columns, "langchain_metadata", lambda column: column.type in ("json", "jsonb"))
    used = {*named.values(), metadata}
    # A tsvector holds the words of the text, for a hybrid search.
    others = [f"t.{quote(column.name)}" for column in columns if column not in used and column.type != "tsvector"]
    key, vector, text = (f"t.{quote(column.name)}" for column in named.values() if column is not None)
    own = "NULL" if metadata is None else f"t.{quote(metadata.name)}::text"
    more = f"(SELECT to_json(o)::text FROM (SELECT {', '.join(others)}) o)" if others else "NULL"
    return StoreTable(name, "cosine", f"{key}::text, {text}, {own}, {more}, array_send({vector}::real[])", f"{table} t")


def _only(columns: Sequence[Column], default: str, fits: Callable[[Column], bool]) -> Column | None:
    """Return the column of the default name, or else the only one that fits."""
    fitting = [column for column in columns if fits(column)]
    return next((column for column in fitting if column.name == default), fitting[0] if len(fitting) == 1 else None)


def is_own_table(columns: Sequence[Column]) -> bool:
    """Tell whether a table has the columns that PGVectorStore makes unless told otherwise."""
    types = {column.name: column.type for column in columns}
    return {"langchain_id", "content"} <= types.keys() and types.get("embedding") in VECTORS
