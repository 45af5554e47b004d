"""Searches in one of many collections beside searches in a table of its own: `python -m benchmarks.documents`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

#: Of the collections in turn.
DIMENSIONS = (256, 384, 768)

#: As LangChain's PGEmbedding had them.
OPTIONS = {"m": 8, "ef_construction": 16, "ef_search": 16}

K = 10


def main() -> None:
    """Fill twenty collections, and for one of each dimension a table; print how their searches and loads compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description=main.__doc__)
    parser.add_argument("--documents", type=int, default=50_000, help="in all of the store (default: 50,000)")
    parser.add_argument("--collections", type=int, default=20)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    if options.collections < len(DIMENSIONS) or options.documents < K * options.collections:
        parser.error(f"--collections must be at least {len(DIMENSIONS)}, and --documents {K} times as many.")
    if options.questions < 1:
        parser.error("--questions must be at least 1.")
    subprocess.run([sys.executable, "-m", "benchmarks.server"], check=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    _run(options.documents // options.collections, options.collections, options.questions)


def _run(rows: int, count: int, questions: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.data import make_corpus
    from benchmarks.timing import p50, timed
    from pgembedding_django.documents.models import Collection, Document

    call_command("migrate", verbosity=0)
    Collection.objects.all().delete()
    corpora = [make_corpus(rows, DIMENSIONS[i % 3], questions, seed=i) for i in range(count)]
    collections = [_fill(Collection, Document, f"c{i}", corpus) for i, corpus in enumerate(corpora)]
    own = {corpora[i].vectors.shape[1]: _own_table(corpora[i]) for i in range(3)}
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    print(f"{rows * count:,} documents in {count} collections; k = {K}, {OPTIONS}")
    for collection, corpus in zip(collections[:3], corpora, strict=False):
        table = own[collection.dimensions]
        seconds, found = {"collection": [], "own table": []}, {"collection": 0.0, "own table": 0.0}
        for query in corpus.queries:
            true = set(corpus.neighbours(query, None, K).tolist())
            for name, rows_ in (("collection", collection.documents), ("own table", table.objects)):
                taken, answer = timed(lambda rows_=rows_, query=query: list(rows_.nearest(query, K)))
                assert len(answer) == K
                seconds[name].append(taken)
                found[name] += len(true & {int(row.key) for row in answer}) / K / questions
        ours, theirs = p50(seconds["collection"]), p50(seconds["own table"])
        print(
            f"{collection.dimensions} dimensions: p50 {ours:.2f} ms in the store, {theirs:.2f} ms in a table of its "
            f"own, {ours / theirs:.2f} times; recall {found['collection']:.3f} and {found['own table']:.3f}"
        )
    _measure_adding(Collection, Document, corpora[1])
    with connection.schema_editor() as editor:
        for table in own.values():
            editor.delete_model(table)


def _fill(collection_model, document, name, corpus):
    collection = collection_model.objects.create(name=name)
    collection.documents.bulk_load(_rows(document, corpus))
    collection.refresh_from_db()
    collection.create_hnsw_index(**OPTIONS)
    return collection


def _rows(model, corpus):
    for position, vector in enumerate(corpus.vectors):
        yield model(
            key=str(position), content=f"Text number {position}", metadata={"position": position}, embedding=vector
        )


def _own_table(corpus):
    from django.db import connection, models

    from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex

    dimensions = corpus.vectors.shape[1]
    attributes = {
        "__module__": __name__,
        "key": models.CharField(max_length=255),
        "content": models.TextField(),
        "metadata": models.JSONField(default=dict),
        "embedding": EmbeddingField(dimensions=dimensions),
        "digest": models.CharField(max_length=64, blank=True),
        "created": models.DateTimeField(auto_now_add=True),
        "updated": models.DateTimeField(auto_now=True),
        "objects": EmbeddingManager(),
        "Meta": type(
            "Meta",
            (),
            {
                "app_label": "benchmarks",
                "indexes": [HnswIndex(fields=["embedding"], name=f"own_{dimensions}_hnsw", **OPTIONS)],
            },
        ),
    }
    model = type(f"Own{dimensions}", (models.Model,), attributes)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {model._meta.db_table}")
    with connection.schema_editor() as editor:
        editor.create_model(model)
    model.objects.bulk_load(_rows(model, corpus))
    return model


def _measure_adding(collection_model, document, corpus) -> None:
    """Add 100 documents to an empty collection and to one of 50,000, without an index, in turns."""
    from benchmarks.data import make_corpus
    from benchmarks.timing import p50, timed

    empty, full = (collection_model.objects.create(name=name) for name in ("empty", "full"))
    full.documents.bulk_load(_rows(document, make_corpus(50_000, corpus.vectors.shape[1], 1)))
    seconds = {"empty": [], "full": []}
    for turn in range(20):
        for name, collection in (("empty", empty), ("full", full)):
            new = [document(key=f"new {turn} {i}", content="Text", embedding=corpus.vectors[i]) for i in range(100)]
            seconds[name].append(timed(lambda collection=collection, new=new: collection.add(new))[0])
    print(
        f"adding 100 documents: p50 {p50(seconds['empty']):.1f} ms to an empty collection, "
        f"{p50(seconds['full']):.1f} ms to one of 50,000"
    )


if __name__ == "__main__":
    main()
