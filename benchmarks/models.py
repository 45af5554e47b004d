"""One table, seen through pgvector's Django module and through this project."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, models
from pgvector.django import VectorField

from benchmarks.data import Corpus
from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex

PRECISIONS = (None, "half", "binary")

Model = type[models.Model]


@dataclass(frozen=True)
class Table:
    """
    A table of rows with a vector, and its models.

    plain: this project's, without an index. indexed: precision: this project's, with the index of that precision.
    peer: pgvector's. All of them read and write the same columns.
    """

    name: str
    dimensions: int

    def __post_init__(self) -> None:
        field = EmbeddingField(dimensions=self.dimensions)
        object.__setattr__(self, "plain", _make(f"Plain_{self.name}", self.name, field, []))
        object.__setattr__(self, "peer", _make(f"Peer_{self.name}", self.name, VectorField(dimensions=self.dimensions)))
        object.__setattr__(self, "indexed", {precision: self._indexed(precision) for precision in PRECISIONS})

    def _indexed(self, precision: str | None) -> Model:
        name = f"{self.name}_{precision or 'single'}"
        index = HnswIndex(fields=["embedding"], name=name, precision=precision)
        return _make(f"Indexed_{name}", self.name, EmbeddingField(dimensions=self.dimensions), [index])

    def create(self) -> None:
        """Make the table anew, with a btree index on each column that a filter names."""
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.drop()
        with connection.schema_editor() as editor:
            editor.create_model(self.plain)

    def drop(self) -> None:
        """Give the space back."""
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self.name}")

    def fill(self, corpus: Corpus) -> None:
        """Load a corpus through COPY, the rows' primary keys being their positions plus 1."""
        self.plain.objects.bulk_load(self.rows(self.plain, corpus, with_keys=True))
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {self.name}")

    def rows(self, model: Model, corpus: Corpus, *, with_keys: bool = False):
        """Yield an instance for each row of a corpus."""
        for position, vector in enumerate(corpus.vectors):
            key = {"pk": position + 1} if with_keys else {}
            yield model(
                title=title_of(position),
                bucket=int(corpus.bucket[position]),
                position=int(corpus.position[position]),
                embedding=vector,
                **key,
            )


def _make(name: str, table: str, field: models.Field, indexes: list[HnswIndex] | None = None) -> Model:
    attributes = {
        "__module__": __name__,
        "title": models.CharField(max_length=200),
        "bucket": models.IntegerField(db_index=True),
        "position": models.IntegerField(db_index=True),
        "embedding": field,
        "objects": models.Manager() if indexes is None else EmbeddingManager(),
        "Meta": type("Meta", (), {"app_label": "benchmarks", "db_table": table, "indexes": indexes or []}),
    }
    return type(name, (models.Model,), attributes)


def title_of(position: int) -> str:
    return f"Row number {position:,} of the benchmark's table"
