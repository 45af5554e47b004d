"""The goals, and which of them a run reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks import measure
from benchmarks.measure import Result
from benchmarks.queries import CONTRADICTING

#: How many milliseconds more than a hand-tuned query a search behind a filter may take.
GRACE = 0.6

#: Filters that keep few rows.
SELECTIVE = ("1%", "0.1%", "0.01%")

Rates = dict[str, float]
Builds = dict[str, dict[str, float]]


@dataclass
class Run:
    """
    What a run measured.

    load, read: dimensions: rows a second. builds: (rows, dimensions): precision: seconds and bytes.
    queries: every scenario. growth, curve: unfiltered, over the rows and over ef_search.
    ordinary, batch: seconds of this project and of the other. processor: milliseconds of the client's processor.
    threads: requests a second. embed, again, workers: embed(), embed(all=True) in an index, and two workers.
    """

    load: dict[int, Rates] = field(default_factory=dict)
    read: dict[int, Rates] = field(default_factory=dict)
    builds: dict[tuple[int, int], Builds] = field(default_factory=dict)
    queries: list[Result] = field(default_factory=list)
    growth: list[Result] = field(default_factory=list)
    curve: list[Result] = field(default_factory=list)
    ordinary: dict[str, Rates] = field(default_factory=dict)
    processor: Rates = field(default_factory=dict)
    batch: dict[str, Rates] = field(default_factory=dict)
    threads: Rates = field(default_factory=dict)
    embed: Rates = field(default_factory=dict)
    again: Rates = field(default_factory=dict)
    workers: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The larger table's, which the goals are about."""
        return max(result.rows for result in self.queries)

    def get(self, name: str, scenario: str = "none", k: int = 10) -> Result | None:
        """Return one competitor's result on the larger table."""
        key = (self.rows, scenario, k, name)
        return next((each for each in self.queries if (each.rows, each.scenario, each.k, each.name) == key), None)


@dataclass(frozen=True)
class Goal:
    """One line of the table."""

    what: str
    wanted: str
    measured: str
    reached: bool


def goals(run: Run) -> list[Goal]:
    """Return every goal in the order in which they matter."""
    return [
        *_ordinary(run),
        *_overhead(run),
        *_completeness(run),
        *_tuned(run),
        *_many(run),
        *_throughput(run),
        *_embedding(run),
        *_reduced(run, "half"),
        *_reduced(run, "binary"),
        *_growth(run),
    ]


def _at_least(what: str, ratio: float, wanted: float, unit: str = "x") -> Goal:
    return Goal(what, f">= {wanted:g}{unit}", f"{ratio:.2f}{unit}", ratio >= wanted)


def _at_most(what: str, ratio: float, wanted: float) -> Goal:
    return Goal(what, f"<= {wanted:g}x", f"{ratio:.2f}x", ratio <= wanted)


def _throughput(run: Run) -> Iterator[Goal]:
    load, read = run.load[1536], run.read[1536]
    ours = load["bulk_load"]
    yield _at_least("bulk_load, 1,536 dims, beside pgvector.django", ours / load["pgvector.django bulk_create"], 15)
    yield _at_least("... beside hand-written binary COPY", ours / load["hand-written binary COPY"], 0.7)
    narrow, read_narrow = run.load[384], run.read[384]
    by_hand = narrow["hand-written binary COPY"]
    yield _at_least("bulk_load, 384 dims, beside hand-written binary COPY", narrow["bulk_load"] / by_hand, 0.8)
    yield _at_least("bulk_load_arrays, 384 dims, beside the same", narrow["bulk_load_arrays"] / by_hand, 1.1)
    by_hand = read_narrow["hand-written binary COPY into a matrix"]
    yield _at_least(
        "vectors(), 384 dims, beside a hand-written COPY out",
        read_narrow["vectors(), keys and a matrix"] / by_hand,
        0.9,
    )
    ours = read["this project"]
    yield _at_least("full rows read, 1,536 dims, beside pgvector.django", ours / read["pgvector.django"], 8)
    yield _at_least("... beside vector_send + frombuffer", ours / read["hand-written vector_send + frombuffer"], 0.6)


def _ordinary(run: Run) -> Iterator[Goal]:
    for name, seconds in run.ordinary.items():
        wanted = 0.8 if name == "exact nearest" else 1.2
        yield _at_most(f"{name}, 1,536 dims, beside pgvector.django", _ratio(seconds), wanted)
    floor, *searches = run.processor.values()
    for name, taken in zip(list(run.processor)[1:], searches, strict=True):
        yield _at_most(f"client CPU of {name}, beside Django's filter()[:10] without vectors", taken / floor, 1.7)


def _overhead(run: Run) -> Iterator[Goal]:
    ours = run.get(measure.SINGLE).p50
    for name, other, wanted in (
        ("pgvector.django, same ef_search", run.get(measure.PEER_SAME), 0.65),
        ("raw psycopg2, same columns and ef_search", run.get(measure.RAW_SAME), 1.3),
        ("pgvector.django, tuned to the same recall", run.get(measure.PEER_TUNED), 0.8),
    ):
        if other:
            yield _at_most(f"p50 of nearest(q, 10) unfiltered, beside {name}", ours / other.p50, wanted)


def _completeness(run: Run) -> Iterator[Goal]:
    names = (measure.SINGLE, measure.HALF, measure.BINARY)
    found = [each for each in run.queries if each.name in names]
    worst = min(found, key=lambda each: each.share)
    yield Goal("rows returned, every query", "k of k", f"{worst.share:.0%} at worst", worst.share == 1)
    for name in names:
        mine = [each for each in found if each.name == name and each.k == 10]
        lowest = min(mine, key=lambda each: each.recall)
        text = f"{lowest.recall:.3f} at worst ({lowest.rows:,} rows, filter keeps {lowest.scenario})"
        yield Goal(f"recall@10 of {name} at defaults, every row", ">= 0.99", text, lowest.recall >= 0.99)


def _tuned(run: Run) -> Iterator[Goal]:
    for k in sorted({each.k for each in run.queries}):
        for scenario in (*SELECTIVE, CONTRADICTING):
            ours = run.get(measure.SINGLE, scenario, k).p50
            tuned = [run.get(name, scenario, k) for name in (measure.RAW_EXACT, measure.RAW_INDEX)]
            best = min((each for each in tuned if each), key=lambda each: each.p50)
            text = (
                f"{ours / best.p50:.2f}x, {ours - best.p50:+.2f} ms ({ours:.2f} beside {best.p50:.2f}: {best.detail})"
            )
            wanted = 1.3 if scenario == CONTRADICTING else 2.5
            reached = ours <= wanted * best.p50 and (scenario == CONTRADICTING or ours <= best.p50 + GRACE)
            limit = f"<= {wanted:g}x" + ("" if scenario == CONTRADICTING else f" and + {GRACE:g} ms")
            yield Goal(f"p50, filter keeps {scenario}, k={k}, beside hand-tuned SQL", limit, text, reached)
            peer = run.get(measure.PEER_TUNED, scenario, k)
            if scenario in SELECTIVE and k == 10 and peer:
                yield _at_most("... beside pgvector.django, tuned", ours / peer.p50, 0.5)


def _many(run: Run) -> Iterator[Goal]:
    for name, seconds in run.batch.items():
        yield _at_most(f"nearest_each of 100, beside 100 nearest(), {name}", _ratio(seconds), 0.5)
    if run.threads:
        share = run.threads["nearest()"] / run.threads["raw"]
        yield _at_least("requests a second of eight threads, filter keeps 0.1%, beside raw", share, 0.4)


def _embedding(run: Run) -> Iterator[Goal]:
    if run.embed:
        yield _at_most("CPU of embed(), instant embedder, beside SELECT, COPY, UPDATE by hand", _ratio(run.embed), 2.5)
        yield _at_most("embed(all=True) of rows in an HNSW index, beside such an UPDATE", _ratio(run.again), 1.2)
        (one, calls), (two, more) = run.workers.values()
        yield _at_least("two embed workers, 0.5 s a call, beside one: rows a second", one / two, 1.8)
        yield _at_most("... calls to the embedder", more / calls, 1.1)


def _ratio(seconds: Rates) -> float:
    first, second = seconds.values()
    return first / second


def _reduced(run: Run, precision: str) -> Iterator[Goal]:
    sizes = {"half": {384: 0.6, 1536: 0.55}, "binary": {384: 0.2, 1536: 0.2}}[precision]
    for dimensions, wanted in sizes.items():
        builds = run.builds[max(key for key in run.builds if key[1] == dimensions)]
        part, whole = builds[precision], builds["single"]
        yield _at_most(
            f"index size, {precision} beside single, {dimensions:,} dims", part["bytes"] / whole["bytes"], wanted
        )
        if precision == "half":
            yield _at_most("... build time", part["seconds"] / whole["seconds"], 0.95)
    single, reduced = run.get(measure.SINGLE), run.get(f"{measure.SINGLE}, {precision}")
    wanted = {"half": 0.98, "binary": 0.95}[precision]
    base = single.recall if precision == "half" else 1
    yield _at_least(f"recall@10 of {precision}", reduced.recall / base, wanted, "")
    if precision == "binary":
        yield _at_most("p50, binary beside single", reduced.p50 / single.p50, 1.5)


def _growth(run: Run) -> Iterator[Goal]:
    first, last = min(run.growth, key=lambda each: each.rows), max(run.growth, key=lambda each: each.rows)
    yield _at_most(f"p50 from {first.rows:,} to {last.rows:,} rows, unfiltered", last.p50 / first.p50, 2.5)
    filtered = run.get(measure.SINGLE, "1%")
    yield _at_most(
        f"p50 at {run.rows:,} rows, filter keeps 1%, beside none", filtered.p50 / run.get(measure.SINGLE).p50, 1.5
    )
