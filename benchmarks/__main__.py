"""Run the benchmarks: `python -m benchmarks [--quick] [--large]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """
    How much to do.

    sizes: rows of the tables that are searched. wide: rows whose index of 1,536 dimensions is built.
    bulk: rows loaded and read. questions: k: how many. rounds: of loading, reading and building. turns: of ordinary
    queries. texts: rows embedded. calls: of a slow embedder. seconds: of eight threads.
    """

    sizes: tuple[int, ...] = (10_000, 100_000)
    wide: tuple[int, ...] = (10_000,)
    bulk: int = 5_000
    questions: tuple[tuple[int, int], ...] = ((10, 100), (100, 40))
    rounds: int = 3
    turns: int = 15
    texts: int = 4_000
    calls: int = 14
    seconds: float = 6


QUICK = Plan(
    sizes=(500, 2_000),
    wide=(1_000,),
    bulk=500,
    questions=((10, 10), (100, 5)),
    rounds=1,
    turns=2,
    texts=300,
    calls=2,
    seconds=0.5,
)
LARGE = Plan(sizes=(10_000, 100_000, 1_000_000), wide=(10_000, 100_000))


def main() -> int:
    """Run, print the goals, write docs/benchmarks/ (unless quick)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side by side against the peers.")
    parser.add_argument("--quick", action="store_true", help="2,000 rows: shows that all of it runs, and no more")
    parser.add_argument("--large", action="store_true", help="1,000,000 rows as well")
    parser.add_argument("--output", type=Path, help="the folder for results.md and the plot")
    options = parser.parse_args()
    subprocess.run([sys.executable, "-m", "benchmarks.server"], check=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from benchmarks import report
    from benchmarks.goals import goals

    run, langchain = _run(QUICK if options.quick else LARGE if options.large else Plan())
    found = goals(run)
    print(report.goal_table(found))
    if options.output or not options.quick:
        report.write(run, found, langchain, *([options.output] if options.output else []))
    return 0


def _run(plan: Plan):
    from django.db import connection
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    from benchmarks import client, embedding, langchain, load, measure
    from benchmarks.data import make_corpus
    from benchmarks.goals import Run
    from benchmarks.indexes import build_indexes
    from benchmarks.models import Table

    if is_psycopg3:
        sys.exit("The benchmarks compare on psycopg2, but psycopg 3 is installed here, and Django uses it then.")
    connection.ensure_connection()
    run, peer = Run(), langchain.start()
    for dimensions in (384, 1536):
        _say(f"loading and reading, {dimensions} dimensions")
        corpus, table = make_corpus(plan.bulk, dimensions, 1), Table(f"bulk_{dimensions}", dimensions)
        run.load[dimensions] = load.measure_load(table, corpus, plan.rounds, peer)
        run.read[dimensions] = load.measure_read(table, corpus.rows, plan.rounds)
    for rows in plan.wide:
        _say(f"building indexes, {rows:,} rows, 1,536 dimensions")
        table = Table(f"wide_{rows}", 1536)
        table.create()
        corpus = make_corpus(rows, 1536, 1)
        table.fill(corpus)
        if rows == plan.wide[0]:
            _say("ordinary queries")
            run.ordinary = client.measure_ordinary(table, corpus, plan.turns)
        run.builds[rows, 1536] = build_indexes(table, 1)
        table.drop()
    tables = {}
    for rows in plan.sizes:
        _say(f"building indexes, {rows:,} rows, 384 dimensions")
        corpus, table = make_corpus(rows, 384, max(count for _, count in plan.questions)), Table(f"rows_{rows}", 384)
        tables[rows] = table, corpus
        table.create()
        table.fill(corpus)
        run.builds[rows, 384] = build_indexes(table, min(plan.rounds, 2))
        if peer:
            peer.fill(table.name, 384)
        for k, count in plan.questions:
            _say(f"searching {rows:,} rows, k = {k}")
            run.queries += measure.measure(table, corpus, k, count, peer)
    _say("many searches at once")
    table, corpus = tables[plan.sizes[min(1, len(plan.sizes) - 1)]]
    run.processor = client.measure_processor(table, corpus, plan.turns)
    run.batch = client.measure_batch(table, corpus, plan.rounds)
    run.threads = client.measure_threads(table, corpus, plan.seconds)
    _say("embedding")
    run.embed = embedding.measure_embed(plan.texts, plan.rounds)
    run.again = embedding.measure_again(plan.texts // 4, plan.rounds)
    run.workers = embedding.measure_workers(plan.calls)
    _say("growing, and recall beside latency")
    k, count = plan.questions[0]
    run.growth = measure.measure_growth(dict(list(tables.items())[-2:]), k, count)
    run.curve = measure.measure_curve(*tables[plan.sizes[-1]], k, count)
    if peer:
        peer.close()
    return run, f"{peer.version}, psycopg 3, in a process of its own" if peer else "not installed"


def _say(what: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
