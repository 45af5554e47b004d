"""The process that has LangChain's vector stores: fills the tables of one, and knows no Django."""

import sys

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

ROWS, DIMENSIONS = 5000, 24
VECTORS = np.random.default_rng(10).standard_normal((ROWS, DIMENSIONS), dtype=np.float32).tolist()
METADATAS = [{"page": row, "tags": ["a", None, row / 7], "text": 'quote " \\ ü 字'} for row in range(ROWS)]
TEXTS = [f"Text {row}\nof {'ä' * (row % 40)}" for row in range(ROWS)]
EMBEDDINGS = DeterministicFakeEmbedding(size=DIMENSIONS)


def ids(prefix):
    return [f"{prefix} {row}" for row in range(ROWS)]


def retired(url):
    """PGEmbedding, whose add_embeddings() reads the whole collection each time, and where the extension is missing."""
    from langchain_community.vectorstores import PGEmbedding

    store = PGEmbedding(url, EMBEDDINGS, "retired", {"owner": "me"})
    store.add_embeddings(TEXTS, VECTORS, METADATAS, ids("id"))


def community(url):
    from langchain_community.vectorstores import PGVector

    store = PGVector(url, EMBEDDINGS, collection_name="community", use_jsonb=True)
    store.add_embeddings(TEXTS, VECTORS, METADATAS, ids("id"))


def postgres(url):
    from langchain_postgres import PGVector

    store = PGVector(EMBEDDINGS, connection=url, collection_name="postgres")
    for start in range(0, ROWS, 1000):
        part = slice(start, start + 1000)
        store.add_embeddings(TEXTS[part], VECTORS[part], METADATAS[part], ids("id")[part])


def store(url):
    """PGVectorStore, with a column for one key of the metadata."""
    from langchain_postgres import Column, PGEngine, PGVectorStore

    engine = PGEngine.from_connection_string(url)
    columns = [Column("page", "INTEGER")]
    engine.init_vectorstore_table(
        "store", DIMENSIONS, metadata_columns=columns, id_column=Column("langchain_id", "VARCHAR", nullable=False)
    )
    made = PGVectorStore.create_sync(engine, EMBEDDINGS, "store", metadata_columns=["page"])
    made._engine._run_as_sync(made._PGVectorStore__vs.aadd_embeddings(TEXTS, VECTORS, METADATAS, ids("id")))


def questions(url):
    """PGVector as its users call it: documents without ids of their own, embedded by the store."""
    from langchain_postgres import PGVector

    store = PGVector(EMBEDDINGS, connection=url, collection_name="questions")
    store.add_documents(
        [Document(text, metadata=metadata) for text, metadata in zip(TEXTS[:5], METADATAS[:5], strict=True)]
    )


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
