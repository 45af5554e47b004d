"""langchain-postgres, in a process of its own: it needs psycopg 3, which Django would use where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.db import connection

from benchmarks.data import Floats

ROOT = Path(__file__).resolve().parent.parent

COLLECTION = "benchmark"


class LangChain:
    """
    Asks langchain_peer.py, which runs beside this process and times itself, so that the pipe costs nothing.

    Its interpreter is BENCH_LANGCHAIN_PYTHON, or that of the virtualenv `langchain` inside this one (`make bench`).
    """

    def __init__(self, python: str) -> None:
        self.child = subprocess.Popen(
            [python, "-m", "benchmarks.langchain_peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        settings = connection.settings_dict
        self.version = self._ask(host=settings["HOST"], port=settings["PORT"], name=settings["NAME"])["version"]

    def load(self, rows: int, dimensions: int) -> float:
        """Add rows of a corpus to an empty collection, and return the seconds."""
        self._ask(work="resize", dimensions=dimensions)
        return self._ask(work="load", rows=rows, dimensions=dimensions)["seconds"]

    def fill(self, table: str, dimensions: int) -> None:
        """Give the collection the rows of a table, inside the server, and an index."""
        self._ask(work="empty")
        self._ask(work="resize", dimensions=dimensions)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO langchain_pg_embedding (id, collection_id, embedding, document, cmetadata) "
                "SELECT t.id::text, c.uuid, t.embedding, t.title, "
                "jsonb_build_object('bucket', t.bucket, 'position', t.position) "
                f"FROM {table} t, langchain_pg_collection c WHERE c.name = %s",
                [COLLECTION],
            )
            cursor.execute(
                "CREATE INDEX langchain_embedding_hnsw ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"
            )
            cursor.execute("VACUUM (ANALYZE) langchain_pg_embedding")

    def search(self, query: Floats, k: int, filters: dict[str, Any]) -> tuple[float, list[int]]:
        """Return the seconds and the primary keys of one similarity search."""
        answer = self._ask(work="search", query=query.tolist(), k=k, filters=filters)
        return answer["seconds"], answer["ids"]

    def close(self) -> None:
        """End the process."""
        if self.child.stdin:
            self.child.stdin.close()
        self.child.wait(10)

    def _ask(self, **question: Any) -> Any:
        print(json.dumps(question), file=self.child.stdin, flush=True)
        answer = self.child.stdout.readline()
        if not answer:
            raise RuntimeError("The process of langchain-postgres ended; its message stands above.")
        return json.loads(answer)


def start() -> LangChain | None:
    """Start the peer, or say why it is left out."""
    python = os.environ.get("BENCH_LANGCHAIN_PYTHON", str(Path(sys.prefix) / "langchain" / "bin" / "python"))
    if not Path(python).exists():
        print("langchain-postgres is left out: not installed (`make bench` gives it a virtualenv of its own).")
        return None
    return LangChain(python)
