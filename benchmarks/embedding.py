"""embed() beside what a developer writes by hand, alone and with a second worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from django.core.management import call_command
from django.db import connection, connections, models, transaction

from benchmarks.load import HEADER, TRAILER
from benchmarks.timing import median_of, timed
from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.embedders.base import Embedder

DIMENSIONS, BATCH = 256, 128
#: Seconds that a call of the slow embedder takes.
PAUSE = 0.5


class Instant(Embedder):
    """Gives each text a vector in no time, and counts the calls."""

    dimensions = DIMENSIONS
    pause = 0.0
    calls = 0
    lock = threading.Lock()

    def compute(self, texts: list[str]) -> np.ndarray:
        with self.lock:
            type(self).calls += 1
        time.sleep(self.pause)
        return np.stack([MATRIX[len(text) % len(MATRIX)] for text in texts])


class Slow(Instant):
    pause = PAUSE


MATRIX = np.random.default_rng(3).standard_normal((997, DIMENSIONS)).astype(np.float32)


class Text(models.Model):  # noqa: DJ008
    """Texts, which an instant embedder embeds, and a slow one."""

    body = models.TextField()
    embedding = EmbeddingField(dimensions=DIMENSIONS, source="body", embedder="instant", null=True)
    slow = EmbeddingField(dimensions=DIMENSIONS, source="body", embedder="slow", null=True)
    objects = EmbeddingManager()

    class Meta:
        app_label = "benchmarks"


INDEX = HnswIndex(fields=["embedding"], name="text_embedding_hnsw")


def measure_embed(rows: int, rounds: int) -> dict[str, float]:
    """Return the seconds of the processor, the client's and the server's, of embedding all rows, and by hand."""
    _create(rows)
    works = {"embed()": partial(Text.objects.embed, field="embedding"), "by hand": _embed_by_hand}
    return median_of(rounds, {name: partial(_from_nothing, work) for name, work in works.items()})


def measure_again(rows: int, rounds: int) -> dict[str, float]:
    """Return the seconds of embedding rows again that are in an HNSW index, and of an UPDATE of their vectors."""
    _create(rows)
    Text.objects.embed(field="embedding")
    with connection.schema_editor() as editor:
        editor.add_index(Text, INDEX)
    works = {"embed(all=True)": partial(Text.objects.embed, field="embedding", all=True), "UPDATE": _embed_by_hand}
    return median_of(rounds, {name: partial(_vacuumed, work) for name, work in works.items()})


def measure_workers(calls: int) -> dict[str, tuple[float, int]]:
    """Return the seconds and the calls to an embedder of half a second, of one worker and of two."""
    _create(calls * BATCH)
    found = {}
    for name, workers in {"one worker": 1, "two workers": 2}.items():
        Text.objects.update(slow=None, slow_digest=None)
        Slow.calls = 0
        with ThreadPoolExecutor(workers) as pool:
            seconds, _ = timed(lambda pool=pool, workers=workers: list(pool.map(_work, range(workers))))
        found[name] = seconds, Slow.calls
    _drop()
    return found


def _work(number: int) -> None:
    try:
        Text.objects.embed(field="slow", concurrency=1, batch_size=BATCH)
    finally:
        connections.close_all()


def _create(rows: int) -> None:
    # The table of claims.
    call_command("migrate", "pgembedding_django", verbosity=0)
    _drop()
    with connection.schema_editor() as editor:
        editor.create_model(Text)
    Text.objects.bulk_create([Text(body=f"Text number {number}. " * (3 + number % 9)) for number in range(rows)])
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (ANALYZE) {Text._meta.db_table}")


def _drop() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {Text._meta.db_table}")


def _from_nothing(work: Callable[[], Any]) -> float:
    Text.objects.update(embedding=None, embedding_digest=None)
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM {Text._meta.db_table}")
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    start = time.process_time() + _processor_time(pid)
    work()
    return time.process_time() + _processor_time(pid) - start


def _processor_time(pid: int) -> float:
    """Return the seconds of the processor that another process has had (proc(5): utime and stime)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _vacuumed(work: Callable[[], Any]) -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM {Text._meta.db_table}")
    return timed(work)[0]


def _embed_by_hand() -> None:
    """Do what a developer who knows the format writes: SELECT, COPY to a temporary table, UPDATE."""
    head, size = Struct(">hiqi").pack, 4 + 4 * DIMENSIONS
    vector_head = Struct(">hh").pack(DIMENSIONS, 0)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT id, body FROM {Text._meta.db_table}")
        rows = cursor.fetchall()
        parts = [HEADER]
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            vectors = Instant().compute([text for _, text in batch]).astype(">f4")
            for (key, _), vector in zip(batch, vectors, strict=True):
                parts += (head(2, 8, key, size), vector_head, vector.tobytes())
        cursor.execute(f"CREATE TEMP TABLE made (id bigint, embedding vector({DIMENSIONS})) ON COMMIT DROP")
        cursor.copy_expert("COPY made FROM STDIN (FORMAT binary)", BytesIO(b"".join([*parts, TRAILER])))
        cursor.execute(f"UPDATE {Text._meta.db_table} t SET embedding = made.embedding FROM made WHERE t.id = made.id")
