"""Builds of an index on a copy of rows, tried from the cheapest on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from time import perf_counter
from typing import cast

from pgembedding_django.engines import get_engine
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.maintenance.recall.sampling import Recall, Sample, undone
from pgembedding_django.maintenance.recall.scratch import INDEX, variant

__all__ = ["Build", "Trial", "count_steps", "try_precisions"]

#: What is tried with each build.
EF_SEARCH = (20, 40, 60, 80, 100, 200, 400)

#: A build that reaches the target within these candidates ends the trials: half of what nearest() keeps by itself, so
#: that the other half is left for a table larger than the sample.
ENOUGH = 100

#: Precision, m and ef_construction.
Build = tuple[str | None, int, int]


@dataclass(frozen=True)
class Trial:
    """
    What one build cost, and what it found at the smallest ef_search that reaches the target, else at the largest.

    size: of the index in bytes. precision: of the index, None for the column's own.
    """

    m: int
    ef_construction: int
    build_seconds: float
    size: int
    recall: Recall
    precision: str | None = None


def count_steps(builds: list[Build]) -> int:
    """Return how many steps all trials of some builds have at most: each build, and each search through it."""
    return len(builds) * (1 + len(EF_SEARCH))


def try_precisions(
    sample: Callable[[str | None], Sample], builds: list[Build], target: float, step: Callable[[], None]
) -> Iterator[Trial]:
    """sample: what searches the copy through an index of a precision."""
    for precision, group in groupby(builds, itemgetter(0)):
        graphs = [(m, ef_construction) for _, m, ef_construction in group]
        trials = list(_try_builds(sample(precision), graphs, target, step))
        yield from trials
        if any(trial.recall.recall >= target for trial in trials):
            return


def _try_builds(
    sample: Sample, builds: list[tuple[int, int]], target: float, step: Callable[[], None]
) -> Iterator[Trial]:
    if sample.index.precision and sample.by_precision() < target:
        builds = builds[:1]  # No graph makes up for the precision; one shows what it finds.
    for m, ef_construction in builds:
        trial = _try_build(sample, m, ef_construction, target, step)
        yield trial
        if trial.recall.recall >= target and cast(int, trial.recall.ef_search) <= ENOUGH:
            return


def _try_build(sample: Sample, m: int, ef_construction: int, target: float, step: Callable[[], None]) -> Trial:
    index = variant(cast(HnswIndex, sample.index), m=m, ef_construction=ef_construction)
    with undone(sample.rows.db):
        start = perf_counter()
        with sample.connection.schema_editor() as editor:
            editor.add_index(sample.rows.model, index)
        seconds = perf_counter() - start
        step()
        with sample.connection.cursor() as cursor:
            cursor.execute("SELECT pg_relation_size(%s)", [INDEX])
            (size,) = cursor.fetchone()
        sample.check_index()
        recall = _try_searches(sample, target, step)
        return Trial(m, ef_construction, seconds, size, recall, index.precision)


def _try_searches(sample: Sample, target: float, step: Callable[[], None]) -> Recall:
    """Search with more and more candidates, until they reach the target."""
    engine = get_engine(sample.connection)
    for ef_search in EF_SEARCH:
        if not engine.queries_set_ef_search:  # pragma: no cover - pg_embedding, with a server that has it
            # The index takes it from its next scan on, without a build.
            option = engine.index_options["ef_search"].server_name
            with sample.connection.cursor() as cursor:
                cursor.execute(f"ALTER INDEX {INDEX} SET ({option} = {ef_search})")
        measured = sample.through_index(ef_search)
        step()
        if measured.recall >= target:
            break
    return measured
