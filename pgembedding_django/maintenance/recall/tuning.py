"""Tries builds of an HNSW index on a sample of the rows, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import cast

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections, models
from django.db.migrations.writer import MigrationWriter
from django.template.defaultfilters import pluralize

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import HnswIndex, declared_hnsw_index
from pgembedding_django.maintenance.recall.drawing import (
    MAX_ROWS,
    MAX_SEED,
    Query,
    check_integer,
    draw,
    one_length,
    shuffle,
)
from pgembedding_django.maintenance.recall.sampling import Sample, undone
from pgembedding_django.maintenance.recall.scratch import INDEX, copied_rows, copy_rows
from pgembedding_django.maintenance.recall.trials import Build, Trial, count_steps, try_precisions
from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["BUILDS", "TuningReport", "check_tuning", "tune"]

#: m and ef_construction of the builds tried, by what they cost. The second is both engines' default.
BUILDS = ((8, 64), (16, 64), (16, 128), (24, 128), (32, 128), (32, 256))

#: What is tried where no build of a precision reaches the target: the finer ones, by the size of the index.
FINER: dict[str | None, tuple[str | None, ...]] = {"binary": ("half", None), "half": (None,), None: ()}

#: Rows with a vector that are needed: two ask, and one is found.
FEWEST = 3

#: Rows that are drawn as queries, or a tenth of what there is.
QUERIES = 200


@dataclass(frozen=True)
class TuningReport:
    """
    What the trials found, in the order they ran.

    index: as the model declares it, or as it would by default. k: rows wanted of each query.
    rows: how many were copied, of total with a vector. queries: how many others asked.
    """

    index: HnswIndex
    target: float
    k: int
    rows: int
    queries: int
    total: int
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> bool:
        """Whether any build reached the target."""
        return self.best.recall.recall >= self.target

    @property
    def best(self) -> Trial:
        """The build that reaches the target with the fewest candidates, else the one that finds most."""
        reached = [trial for trial in self.trials if trial.recall.recall >= self.target]
        if reached:
            return min(reached, key=lambda trial: cast(int, trial.recall.ef_search))
        return max(self.trials, key=lambda trial: trial.recall.recall)

    @property
    def line(self) -> str:
        """The index to declare, as Python to paste into Meta.indexes."""
        index = copy(self.index)
        index.m, index.ef_construction, index.precision = self.best.m, self.best.ef_construction, self.best.precision
        index.ef_search = self.best.recall.ef_search
        return MigrationWriter.serialize(index)[0].removeprefix("pgembedding_django.")


def tune(
    model: type[models.Model],
    field: str | None = None,
    *,
    recall: float,
    k: int = 10,
    sample_rows: int = 20_000,
    seed: int = 0,
    using: str = DEFAULT_DB_ALIAS,
    progress: Callable[[int, int], object] | None = None,
) -> TuningReport:
    """
    Build indexes of a field on a sample of its rows, from the cheapest on, until one reaches a recall.

    Where none of the declared precision does, finer ones are tried.

    field: the name of the EmbeddingField; needed only where the model has several.
    recall: the mean share of the k nearest rows that is to be found. sample_rows: how many rows are copied.
    seed: the same one draws the same rows while they stay. progress: called with steps done and steps at most.
    Returns every trial, and the index to declare.
    Raises NotSupportedError if this connection may not make temporary tables, or if no index holds the dimensions;
        ValueError for arguments out of bounds and for fewer than three rows with a vector.
    Reads the table once. The copy is a temporary table in a transaction that is rolled back, so nothing is left behind
    whatever ends it; until then the table cannot be altered, and vacuum removes no row that dies meanwhile.
    """
    check_tuning(model, field, recall=recall, k=k, sample_rows=sample_rows, seed=seed, using=using)
    rows: EmbeddingQuerySet[models.Model] = EmbeddingQuerySet(model, using=using)
    column = one_length(rows, field)
    builds = _fitting_builds(column, using)
    name = f"{model._meta.model_name}_{column.name}_hnsw"[: HnswIndex.max_name_length]
    index = declared_hnsw_index(column) or _by_default(column, name)
    done, total = count(1), count_steps(builds)

    def step() -> None:
        if progress:
            progress(next(done), total)

    with undone(using):
        source = shuffle(rows.filter(index.condition) if index.condition else rows, column, seed=seed)
        total_rows = source.count()
        if total_rows < FEWEST:
            raise ValueError(
                f"{column.label} has {total_rows} row{pluralize(total_rows)} with a vector, and tuning needs {FEWEST}. "
                f"Run: manage.py embed {model._meta.label}"
            )
        # What asks is left out of the graph, as a real query would be: a row in it finds its neighbours more easily.
        asking = max(2, min(QUERIES, total_rows // 10))
        queries = [(None, vector) for _, vector in draw(source, column, index, size=asking, seed=seed)]
        copied = copy_rows(source[asking : asking + sample_rows], column, index)

        def sample(precision: str | None) -> Sample:
            declared = copy(index)
            declared.precision = precision
            return _sample(copied_rows(column, declared, using), queries, k)

        trials = tuple(try_precisions(sample, builds, recall, step))
        return TuningReport(
            index=index,
            target=recall,
            k=min(k, copied.count()),
            rows=copied.count(),
            queries=len(queries),
            total=total_rows,
            trials=trials,
        )


def check_tuning(
    model: type[models.Model], field: str | None, *, recall: float, k: int, sample_rows: int, seed: int, using: str
) -> None:
    """Raise what tune() raises for its arguments, before anything is read."""
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be over 0 and at most 1, got {recall!r}.")
    check_integer("k", k, 1, MAX_ROWS)
    check_integer("sample_rows", sample_rows, 2, 2**31 - 1)
    check_integer("seed", seed, -MAX_SEED, MAX_SEED)
    _fitting_builds(one_length(EmbeddingQuerySet(model, using=using), field), using)


def _by_default(field: EmbeddingField, name: str) -> HnswIndex:
    """Return the index that the model would declare without saying more."""
    index = HnswIndex(fields=[field.name], name=name)
    index.adopt_field(field)
    return index


def _fitting_builds(field: EmbeddingField, using: str) -> list[Build]:
    """Return the builds that hold the field's dimensions, those of the declared precision first."""
    engine, index = get_engine(connections[using]), declared_hnsw_index(field)
    declared = index.precision if index else None
    dimensions = cast(int, field.dimensions)
    builds = [
        (precision, m, ef_construction)
        for precision in (declared, *(finer for finer in FINER[declared] if finer != field.storage))
        for m, ef_construction in BUILDS
        if dimensions <= engine.max_indexed_dimensions(field.storage, precision, {"m": m})
    ]
    if not builds:
        raise NotSupportedError(
            f"{field.label} has {dimensions} dimensions, more than an index of {engine.name} holds. "
            f"{engine.fit_hint(field.storage, dimensions)}"
        )
    return builds


def _sample(rows: EmbeddingQuerySet[models.Model], queries: Sequence[Query], k: int) -> Sample:
    field = rows.get_measured_field(None)
    return Sample(
        rows, field, cast(HnswIndex, declared_hnsw_index(field)), queries, names=[INDEX], k=k, step=lambda: None
    )
