"""Asks every competitor every question, in turns, and keeps what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.data import Corpus
from benchmarks.langchain import LangChain
from benchmarks.models import Table
from benchmarks.queries import (
    SCENARIOS,
    Competitor,
    Question,
    ef_search_of,
    langchain,
    make_questions,
    ours,
    pgvector_django,
    raw,
)
from benchmarks.timing import p50, p95

#: Of the hand-tuned index scan, tried in this order until it reaches this project's recall.
EF_SEARCH = (40, 100, 200, 400, 1000)

#: nearest()'s own, which pgvector's Django module is given where the question is who is faster at the same work.
SAME = "same ef_search"

SINGLE, HALF, BINARY = "nearest()", "nearest(), half", "nearest(), binary"
PEER, PEER_SAME, PEER_TUNED = "pgvector.django", f"pgvector.django, {SAME}", "pgvector.django, tuned"
RAW_SAME, RAW_EXACT, RAW_INDEX = f"raw, {SAME}", "raw, exact", "raw, strict_order"


@dataclass(frozen=True)
class Result:
    """One competitor at one scenario: milliseconds, recall, and the smallest share of the rows wanted that came."""

    rows: int
    scenario: str
    k: int
    name: str
    p50: float
    p95: float
    recall: float
    share: float
    detail: str = ""


def measure(table: Table, corpus: Corpus, k: int, count: int, peer: LangChain | None) -> list[Result]:
    """Measure all scenarios."""
    found = []
    for scenario in SCENARIOS:
        questions = make_questions(corpus, scenario, k, count)
        competitors = _competitors(table, questions, peer)
        take_turns(competitors.values(), questions)
        found += [_result(corpus.rows, scenario, k, each, detail) for detail, each in _named(competitors)]
    return found


def measure_growth(tables: dict[int, tuple[Table, Corpus]], k: int, count: int) -> list[Result]:
    """Measure the unfiltered search on tables of several sizes in turns."""
    competitors = {rows: ours(SINGLE, table.indexed[None]) for rows, (table, _) in tables.items()}
    questions = {rows: make_questions(corpus, "none", k, count) for rows, (_, corpus) in tables.items()}
    for number in range(-5, count):
        for rows, competitor in competitors.items():
            competitor.answer(questions[rows][number])
    return [_result(rows, "none", k, competitor) for rows, competitor in competitors.items()]


def measure_curve(table: Table, corpus: Corpus, k: int, count: int) -> list[Result]:
    """Measure recall and latency over ef_search, unfiltered."""
    questions = make_questions(corpus, "none", k, count)
    competitors = {}
    for ef in EF_SEARCH:
        competitors[SINGLE, ef] = ours(SINGLE, table.indexed[None], ef_search=ef)
        competitors[HALF, ef] = ours(HALF, table.indexed["half"], ef_search=ef)
        competitors[PEER, ef] = pgvector_django(PEER, table.peer, ef_search=str(ef))
        competitors["raw", ef] = raw("raw", table, ef_search=str(ef))
    competitors[BINARY, 0] = ours(BINARY, table.indexed["binary"])
    take_turns(competitors.values(), questions)
    return [_result(corpus.rows, "none", k, each, f"ef_search {ef}") for (_, ef), each in competitors.items()]


def take_turns(competitors: Iterable[Competitor], questions: list[Question]) -> None:
    """
    Warm up with a few questions, then let all answer each, in turns.

    Each starts at a question of its own: whoever came second to one would find its part of the index in the cache.
    """
    competitors = list(competitors)
    for question in questions[:3]:
        for competitor in competitors:
            competitor.answer(question)
    for competitor in competitors:
        competitor.forget()
    step = max(1, len(questions) // len(competitors))
    for turn in range(len(questions)):
        for place, competitor in enumerate(competitors):
            competitor.answer(questions[(turn + place * step) % len(questions)])


def _competitors(table: Table, questions: list[Question], peer: LangChain | None) -> dict[str, Competitor]:
    single = ours(SINGLE, table.indexed[None])
    ef_search = str(ef_search_of(table.indexed[None], questions[0]) or 100)
    found = {
        "": single,
        "half": ours(HALF, table.indexed["half"]),
        "binary": ours(BINARY, table.indexed["binary"]),
        "ef_search 40": pgvector_django(PEER, table.peer),
        f"ef_search {ef_search}": pgvector_django(PEER_SAME, table.peer, ef_search=ef_search),
        f"ef_search {ef_search}, ": raw(RAW_SAME, table, ef_search=ef_search),
        "(embedding <-> q) + 0": raw(RAW_EXACT, table, exact=True),
    }
    ef_tuned = _tune(table, questions, single)
    if ef_tuned:
        found[f"strict_order, ef_search {ef_tuned}"] = _strict(table, ef_tuned)
        tuned = {"ef_search": str(ef_tuned), "iterative_scan": "strict_order"}
        found[f"strict_order, ef_search {ef_tuned}, "] = pgvector_django(PEER_TUNED, table.peer, **tuned)
    if peer:
        found["own process, no vectors"] = langchain(peer)
    return found


def _strict(table: Table, ef_search: int) -> Competitor:
    return raw(RAW_INDEX, table, ef_search=str(ef_search), iterative_scan="strict_order")


def _tune(table: Table, questions: list[Question], single: Competitor) -> int | None:
    """Return the smallest ef_search with which hand-written SQL reaches nearest()'s recall, None where none does."""
    for question in questions:
        single.answer(question)
    for ef_search in EF_SEARCH:
        tried = _strict(table, ef_search)
        for question in questions:
            tried.answer(question)
        if tried.recall >= single.recall:
            return ef_search
    return None


def _named(competitors: dict[str, Competitor]):
    return [(detail.rstrip(", "), each) for detail, each in competitors.items()]


def _result(rows: int, scenario: str, k: int, each: Competitor, detail: str = "") -> Result:
    return Result(
        rows=rows,
        scenario=scenario,
        k=k,
        name=each.name,
        p50=p50(each.seconds),
        p95=p95(each.seconds),
        recall=each.recall,
        share=min(each.shares),
        detail=detail,
    )
