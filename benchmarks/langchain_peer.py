"""The process that has langchain-postgres: reads a question a line, writes an answer a line; knows no Django."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGVector
from langchain_postgres.vectorstores import DistanceStrategy
from sqlalchemy import text

from benchmarks.data import make_corpus


class Peer:
    """Answers each `work` with the method of its name."""

    def __init__(self, host: str, port: str, name: str) -> None:
        self.store = PGVector(
            embeddings=DeterministicFakeEmbedding(size=3),
            collection_name="benchmark",
            connection=f"postgresql+psycopg://postgres@/{name}?host={host}&port={port}",
            distance_strategy=DistanceStrategy.EUCLIDEAN,
        )
        self.corpora: dict[tuple[int, int], Any] = {}

    def empty(self) -> dict[str, Any]:
        with self.store._make_sync_session() as session:
            session.execute(text("TRUNCATE langchain_pg_embedding"))
            session.commit()
        return {}

    def resize(self, dimensions: int) -> dict[str, Any]:
        """Give the column a length, which an index needs."""
        with self.store._make_sync_session() as session:
            session.execute(text("DROP INDEX IF EXISTS langchain_embedding_hnsw"))
            session.execute(
                text(f"ALTER TABLE langchain_pg_embedding ALTER embedding TYPE vector({dimensions}) USING NULL")
            )
            session.commit()
        return {}

    def load(self, rows: int, dimensions: int) -> dict[str, Any]:
        key = rows, dimensions
        if key not in self.corpora:
            self.corpora[key] = make_corpus(rows, dimensions, 1).vectors.tolist()
        self.empty()
        texts = [f"Row number {position:,} of the benchmark's table" for position in range(rows)]
        start = time.perf_counter()
        for first in range(0, rows, 1000):
            part = slice(first, first + 1000)
            self.store.add_embeddings(texts[part], self.corpora[key][part])
        return {"seconds": time.perf_counter() - start}

    def search(self, query: list[float], k: int, filters: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        found = self.store.similarity_search_with_score_by_vector(query, k, filters or None)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "ids": [int(document.id) for document, _ in found]}


def main() -> None:
    """Answer until the pipe is closed."""
    peer = Peer(**json.loads(sys.stdin.readline()))
    print(json.dumps({"version": version("langchain-postgres")}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(getattr(peer, question.pop("work"))(**question)), flush=True)


if __name__ == "__main__":
    main()
