"""Writes what a run measured: the goals to the terminal, everything to docs/benchmarks/."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import django
import matplotlib as mpl
import numpy as np
import pgvector
from django.db import connection

from benchmarks import measure
from benchmarks.goals import Goal, Run
from benchmarks.measure import Result

mpl.use("svg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"

HEAD = """# Benchmarks

Written by `make bench`. All competitors ran side by side on one server, question by question in turns, so the ratios
hold where the milliseconds do not. Recall is against brute force in numpy. The vectors are drawn from a mixture of
clusters (`benchmarks/data.py`) that is about as hard for HNSW as real embeddings are.

Earlier yardsticks were wrong. The hand-written exact SQL sent the vector of every row that it sorted, as the package
did, and so hid what that cost: both send it now for the rows that are returned. Only searches were measured, while
every ordinary query of a model with a vector paid the same. One goal set `nearest()` beside pgvector's Django module at
the server's `ef_search` of 40, which finds 0.9 of the neighbours: it is now tuned to the recall of `nearest()`.
"""

LIMITS = """Where a goal is not reached, these are the limits:

- A search behind a filter that keeps few rows takes the server 0.1 to 0.5 ms, about what Django takes for any query.
  Of `nearest()`, columns and order are compiled once for each shape of query. FROM, WHERE and LIMIT are compiled each
  time, since the SQL of a lookup may depend on its value (`None`, an empty list, a subquery), and the planner is asked
  first how many rows they keep.
- Where the server takes most of the time, as unfiltered at 100,000 rows, both sides wait for the same index scan, and
  the ratio tends to 1 however little the client does.
- Behind a filter that contradicts the query, the index finds too few rows and an exact scan follows: both are paid.
- What is written by hand beside `embed()` claims no rows, keeps no digest and checks no vector. Of the client's time of
  `embed()`, a fifth goes into conditions on lists of keys, 15% into checking vectors and 14% into COPY.
- The client's milliseconds depend on what else runs: after a wait for the server its caches are cold.
"""


def goal_table(found: list[Goal]) -> str:
    """Return the goals as one table."""
    return table(
        ["goal", "wanted", "measured", ""],
        ([goal.what, goal.wanted, goal.measured, "reached" if goal.reached else "**not reached**"] for goal in found),
    )


def write(run: Run, found: list[Goal], langchain: str, folder: Path = FOLDER) -> None:
    """Write results.md and recall-latency.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text("\n".join([HEAD, *_sections(run, found, langchain)]))
    _plot(run, folder / "recall-latency.svg")


def table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _sections(run: Run, found: list[Goal], langchain: str) -> Iterator[str]:
    yield "## Machine\n\n" + table(["what", "version"], _machine(langchain)) + "\n"
    yield "## Goals\n\n" + goal_table(found) + "\n\n" + LIMITS
    yield "## Queries, many searches, embedding\n\n" + table(["what", "who", "measured"], _works(run)) + "\n"
    yield "## Rows a second\n\n" + _rates("written", run.load) + "\n\n" + _rates("read", run.read) + "\n"
    yield "## Indexes\n\nm=16, ef_construction=64, maintenance_work_mem 1 GB.\n\n" + _builds(run) + "\n"
    yield (
        "## Recall and latency, unfiltered\n\n![Recall beside latency](recall-latency.svg)\n\n"
        + _results(run.curve)
        + "\n"
    )
    for rows in sorted({each.rows for each in run.queries}):
        for k in sorted({each.k for each in run.queries}):
            mine = [each for each in run.queries if (each.rows, each.k) == (rows, k)]
            yield f"## {rows:,} rows, 384 dimensions, k = {k}\n\n" + _results(mine) + "\n"


def _machine(langchain: str) -> Iterator[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (postgres,) = cursor.fetchone()
        cursor.execute("SHOW shared_buffers")
        (buffers,) = cursor.fetchone()
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        (extension,) = cursor.fetchone()
    yield "cores", f"{os.cpu_count()}, {platform.machine()}"
    yield "Python", platform.python_version()
    yield "Django", django.get_version()
    yield "driver", f"psycopg2 {connection.Database.__version__.split()[0]}"
    yield "numpy", np.__version__
    yield "Postgres", f"{postgres}, shared_buffers {buffers}, otherwise its defaults"
    yield "pgvector (extension)", extension
    yield "pgvector (Python)", getattr(pgvector, "__version__", None) or _version("pgvector")
    yield "langchain-postgres", langchain


def _works(run: Run) -> Iterator[tuple[str, str, str]]:
    for what, seconds in (
        *run.ordinary.items(),
        *((f"100 searches, {name}", each) for name, each in run.batch.items()),
    ):
        yield from ((what, who, f"{taken * 1000:,.1f} ms") for who, taken in seconds.items())
    yield from (("client's processor", who, f"{taken:.3f} ms") for who, taken in run.processor.items())
    yield from (("eight threads", who, f"{count:,.0f} requests a second") for who, count in run.threads.items())
    for what, seconds in {
        "embedding, processor of both sides": run.embed,
        "embedding again, in an index": run.again,
    }.items():
        yield from ((what, who, f"{taken:.2f} s") for who, taken in seconds.items())
    yield from (("embedder of 0.5 s", who, f"{s:.1f} s, {calls} calls") for who, (s, calls) in run.workers.items())


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _rates(what: str, found: dict[int, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for rates in found.values() for name in rates))
    head = [what, *(f"{dimensions:,} dims" for dimensions in found)]
    return table(
        head, ([name, *(f"{rates[name]:,.0f}" if name in rates else "" for rates in found.values())] for name in names)
    )


def _builds(run: Run) -> str:
    rows = (
        [f"{size:,}", f"{dimensions:,}", precision, f"{built['seconds']:.1f}", f"{built['bytes'] / 2**20:.1f}"]
        for (size, dimensions), builds in run.builds.items()
        for precision, built in builds.items()
    )
    return table(["rows", "dims", "precision", "build, s", "size, MiB"], rows)


def _results(found: list[Result]) -> str:
    head = ["filter keeps", "who", "how", "rows returned", "recall", "p50, ms", "p95, ms"]
    return table(
        head,
        (
            [
                each.scenario,
                each.name,
                each.detail,
                f"{each.share:.0%} at worst",
                f"{each.recall:.3f}",
                f"{each.p50:.2f}",
                f"{each.p95:.2f}",
            ]
            for each in found
        ),
    )


def _plot(run: Run, path: Path) -> None:
    mpl.rcParams.update({"svg.hashsalt": "pgembedding", "font.size": 9})
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name in dict.fromkeys(each.name for each in run.curve):
        points = [each for each in run.curve if each.name == name]
        axes.plot([each.recall for each in points], [each.p50 for each in points], marker="o", label=name)
    default = run.get(measure.SINGLE)
    axes.plot([default.recall], [default.p50], "*", markersize=14, label="nearest(), its default")
    axes.set(xlabel="recall@10", ylabel="p50, ms", yscale="log")
    axes.set_title(f"{run.rows:,} rows, 384 dimensions, unfiltered, full rows, ef_search 40 to 1000")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
