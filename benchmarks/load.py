"""Rows a second, in and out."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from struct import Struct
from typing import Any

import numpy as np
from django.db import connection

from benchmarks.data import Corpus
from benchmarks.langchain import LangChain
from benchmarks.models import Table, title_of
from benchmarks.timing import median_of, timed

#: Rows of one INSERT of bulk_create(), which would otherwise put all of them into one statement.
BATCH = 1000

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
COLUMNS = "title, bucket, position, embedding"


def measure_load(table: Table, corpus: Corpus, rounds: int, langchain: LangChain | None) -> dict[str, float]:
    """Return the rows a second that each way of loading reaches; the rows are made before the clock starts."""
    table.create()
    peers, ours = list(table.rows(table.peer, corpus)), list(table.rows(table.plain, corpus))
    plain = [(row.title, row.bucket, row.position, row.embedding) for row in ours]
    works = {
        "pgvector.django bulk_create": partial(table.peer.objects.bulk_create, peers, batch_size=BATCH),
        "bulk_create": partial(table.plain.objects.bulk_create, ours, batch_size=BATCH),
        "bulk_load": partial(table.plain.objects.bulk_load, ours),
        "bulk_load_arrays": partial(table.plain.objects.bulk_load_arrays, corpus.vectors, **_columns(corpus)),
        "hand-written binary COPY": partial(_copy, table.name, plain, corpus.vectors.shape[1]),
    }
    clocks = {name: partial(_into_empty, table, work, (peers, ours)) for name, work in works.items()}
    if langchain:
        clocks["langchain-postgres add_embeddings"] = partial(langchain.load, corpus.rows, corpus.vectors.shape[1])
    return _rates(corpus.rows, median_of(rounds, clocks))


def measure_read(table: Table, rows: int, rounds: int) -> dict[str, float]:
    """Return the rows a second that each way of reading all rows of a table reaches."""
    works = {
        "pgvector.django": partial(_read, table.peer),
        "this project": partial(_read, table.plain),
        "hand-written vector_send + frombuffer": partial(_fetch, table.name),
        "vectors(), keys and a matrix": table.plain.objects.vectors,
        "hand-written binary COPY into a matrix": partial(_copy_out, table.name, table.dimensions),
    }
    clocks = {name: partial(_seconds, work) for name, work in works.items()}
    return _rates(rows, median_of(rounds + 1, clocks))


def _rates(rows: int, seconds: dict[str, float]) -> dict[str, float]:
    return {name: rows / taken for name, taken in seconds.items()}


def _seconds(work: Any) -> float:
    return timed(work)[0]


def _into_empty(table: Table, work: Any, instances: tuple[list[Any], ...]) -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table.name}")
        cursor.execute("CHECKPOINT")
    for row in (row for rows in instances for row in rows):
        row.pk, row._state.adding = None, True
    return _seconds(work)


def _copy(table: str, rows: list[tuple[str, int, int, Any]], dimensions: int) -> None:
    """Do what a developer who knows the format and the table writes."""
    head, numbers, vector_head = Struct(">hi").pack, Struct(">iiiii").pack, Struct(">hh").pack(dimensions, 0)
    size, parts = 4 + 4 * dimensions, [HEADER]
    for title, bucket, position, vector in rows:
        text = title.encode()
        parts += (head(4, len(text)), text, numbers(4, bucket, 4, position, size))
        parts += (vector_head, vector.astype(">f4").tobytes())
    with connection.cursor() as cursor:
        cursor.copy_expert(
            f"COPY {table} ({COLUMNS}) FROM STDIN (FORMAT binary)", BytesIO(b"".join([*parts, TRAILER])), size=1 << 18
        )


def _columns(corpus: Corpus) -> dict[str, Any]:
    titles = [title_of(position) for position in range(corpus.rows)]
    return {"title": titles, "bucket": corpus.bucket, "position": corpus.position}


def _copy_out(table: str, dimensions: int) -> tuple[list[int], Any]:
    """Do what a developer who knows the format writes."""
    data = BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY (SELECT id, embedding FROM {table}) TO STDOUT (FORMAT binary)", data)
    row = [("head", "V6"), ("id", ">i8"), ("size", "V4"), ("sizes", "V4"), ("vector", ">f4", (dimensions,))]
    rows = np.frombuffer(data.getbuffer()[19:-2], np.dtype(row))
    return rows["id"].tolist(), rows["vector"].astype(np.float32)


def _read(model: Any) -> int:
    return len(list(model.objects.all()))


def _fetch(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, title, bucket, position, vector_send(embedding) FROM {table}")
        rows = [(*plain, np.frombuffer(data, ">f4", offset=4).astype(np.float32)) for *plain, data in cursor.fetchall()]
    return len(rows)
