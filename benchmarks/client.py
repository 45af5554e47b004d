"""Work in which the client counts as much as the server: ordinary queries, many vectors at once, many threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from typing import Any

from django.db import connection, connections

from benchmarks.data import Corpus
from benchmarks.models import Model, Table
from benchmarks.queries import Competitor, make_questions, ours, pgvector_django, raw
from benchmarks.timing import median_of, timed

THREADS = 8

Works = dict[str, Callable[[], Any]]


def measure_ordinary(table: Table, corpus: Corpus, rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of queries that rank nothing, and of an exact ranking, of this project and of pgvector's."""
    (question,) = make_questions(corpus, "none", 10, 1)
    exact = {"this project": ours("", table.plain, exact=True), "pgvector.django": pgvector_django("", table.peer)}
    models = {"this project": table.plain, "pgvector.django": table.peer}
    found = {}
    for name, query in QUERIES.items():
        found[name] = _medians(rounds, {who: partial(query, model) for who, model in models.items()})
    # No index stands yet, so that both read every row.
    found["exact nearest"] = _medians(rounds, {who: partial(each.ask, question) for who, each in exact.items()})
    return found


QUERIES: dict[str, Callable[[Model], Any]] = {
    'latest("title")': lambda model: model.objects.latest("title"),
    'order_by("title")[:25]': lambda model: list(model.objects.order_by("title")[:25]),
    "admin list of 100": lambda model: list(model.objects.order_by("-title", "-pk")[:100]),
}


def measure_processor(table: Table, corpus: Corpus, rounds: int) -> dict[str, float]:
    """Return the milliseconds of the client's processor that a search of ten rows takes."""
    model, queries = table.indexed[None], cycle(corpus.queries)
    rows = model.objects.filter(bucket__lt=max(20, corpus.rows // 1000))
    works: Works = {
        "Django's filter()[:10], without vectors": lambda: list(rows.defer("embedding")[:10]),
        "nearest() behind that filter": lambda: list(rows.nearest(next(queries), 10)),
        "nearest(), unfiltered": lambda: list(model.objects.nearest(next(queries), 10)),
    }
    clocks = {name: partial(_processor_time, work, 20) for name, work in works.items()}
    return {name: seconds / 20 * 1000 for name, seconds in median_of(rounds, clocks).items()}


def measure_batch(table: Table, corpus: Corpus, rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of 100 searches, one after the other and in one statement, without a filter and behind one."""
    model, queries = table.indexed[None], list(islice(cycle(corpus.queries), 100))
    found = {}
    for name, rows in {
        "unfiltered": model.objects.all(),
        "filter keeps 1%": model.objects.filter(bucket__lt=max(20, corpus.rows // 100)),
    }.items():
        works: Works = {
            "nearest_each()": partial(rows.nearest_each, queries, 10),
            "100 nearest()": partial(_each, rows, queries),
        }
        found[name] = _medians(rounds, works)
    return found


def measure_threads(table: Table, corpus: Corpus, seconds: float) -> dict[str, float]:
    """Return the requests a second of eight threads behind a filter that keeps 0.1%, in turns of a second."""
    questions = make_questions(corpus, "0.1%", 10, len(corpus.queries))
    competitors = {"nearest()": ours("", table.indexed[None]), "raw": raw("", table, exact=True)}
    counts = dict.fromkeys(competitors, 0)
    turns = max(1, round(seconds))
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(turns):
            for name, competitor in competitors.items():
                until = time.perf_counter() + min(1.0, seconds)
                counts[name] += sum(pool.map(partial(_requests, competitor, questions, until), range(THREADS)))
        list(pool.map(_close, range(THREADS * 4)))
    return {name: count / min(1.0, seconds) / turns for name, count in counts.items()}


def _requests(competitor: Competitor, questions: list[Any], until: float, thread: int) -> int:
    connection.ensure_connection()
    for count in range(1_000_000):
        if time.perf_counter() >= until:
            return count
        competitor.ask(questions[(count + 7 * thread) % len(questions)])
    raise AssertionError


def _close(number: int) -> None:
    time.sleep(0.01)
    connections.close_all()


def _each(rows: Any, queries: list[Any]) -> list[Any]:
    return [list(rows.nearest(query, 10)) for query in queries]


def _medians(rounds: int, works: Works) -> dict[str, float]:
    for work in works.values():
        work()
    return median_of(rounds, {name: lambda work=work: timed(work)[0] for name, work in works.items()})


def _processor_time(work: Callable[[], Any], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - start
