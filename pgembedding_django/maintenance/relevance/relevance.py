"""Asks questions whose answers are known by several ways to search, and compares what each finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from pgembedding_django.maintenance.recall.drawing import MAX_ROWS, check_integer
from pgembedding_django.maintenance.relevance.measures import paired_p, score
from pgembedding_django.maintenance.relevance.questions import Question
from pgembedding_django.maintenance.relevance.ways import Way, parse_way
from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["Relevance", "RelevanceReport", "measure_relevance"]

#: Below this a difference is called one (the usual 5%).
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Relevance:
    """
    How well one way to search answers.

    scores: for each measure, a number from 0 to 1 for each question, in their order.
    p50_ms: the median time of a search, the embedder's included.
    """

    way: str
    scores: Mapping[str, Sequence[float]]
    p50_ms: float

    @property
    def ndcg(self) -> float:
        """Normalized discounted cumulative gain: 1 where the best answers come first, in the order of their grades."""
        return mean(self.scores["ndcg"])

    @property
    def mrr(self) -> float:
        """Mean of 1 / rank of the first right answer."""
        return mean(self.scores["mrr"])

    @property
    def recall(self) -> float:
        """Share of the right answers that are among the k rows."""
        return mean(self.scores["recall"])


@dataclass(frozen=True)
class RelevanceReport:
    """What several ways found for the same questions; the first way is what the others are compared with."""

    model: str
    k: int
    questions: Sequence[Question] = field(repr=False)
    ways: Sequence[Relevance]

    def p(self, way: Relevance, measure: str = "ndcg") -> float | None:
        """Return p of the paired test of a way with the first one; None where nothing can be said."""
        return paired_p(self.ways[0].scores[measure], way.scores[measure])

    def verdict(self) -> list[str]:
        """Say in a sentence of each other way whether it is better or worse than the first."""
        return [self._compare(self.ways[0], other) for other in self.ways[1:]]

    def _compare(self, first: Relevance, other: Relevance) -> str:
        p = self.p(other)
        figures = f"nDCG@{self.k} {other.ndcg:.3f} and {first.ndcg:.3f}" + ("" if p is None else f", p = {p:.3f}")
        if p is None or p >= SIGNIFICANT:
            return f"{other.way} and {first.way} differ by no more than chance may ({figures})."
        return f"{other.way} is {'better' if other.ndcg > first.ndcg else 'worse'} than {first.way} ({figures})."


def measure_relevance(
    model: type[Model],
    questions: Sequence[Question],
    ways: Sequence[str] | Mapping[str, Way] = ("nearest",),
    *,
    k: int = 10,
    key: str = "pk",
    filters: Mapping[str, Any] | None = None,
    using: str = DEFAULT_DB_ALIAS,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> RelevanceReport:
    """
    Ask each question by each way, and measure nDCG, reciprocal rank and recall of the k rows found.

    questions: as read_questions() reads them. key: the field that their keys are of.
    ways: lines such as "hybrid fields=title,body", or names and functions (rows, text, k) -> rows; the first is what
        the others are compared with. filters: the rows that are searched, as filter() takes them.
    Embeds each question for each way that needs its vector, which may cost money.
    Raises ValueError without questions or ways, and what a way raises; ImproperlyConfigured without ir-measures.
    """
    check_integer("k", k, 1, MAX_ROWS)
    named = ways if isinstance(ways, Mapping) else {line: parse_way(line) for line in ways}
    if not questions or not named:
        raise ValueError(f"Relevance needs a question and a way, got {len(questions)} and {len(named)}.")
    rows = _rows(model, using).filter(**(filters or {}))
    total, measured = len(named) * len(questions), list[Relevance]()
    for name, way in named.items():
        answers, times = list[list[Any]](), list[float]()
        for question in questions:
            begun = time.perf_counter()
            answers.append(_keys(way(rows, question.text, k), k, key))
            times.append(1000 * (time.perf_counter() - begun))
            progress(len(measured) * len(questions) + len(answers), total)
        measured.append(Relevance(name, score(questions, answers, k), median(times)))
    return RelevanceReport(model._meta.label, k, questions, measured)


def _rows(model: type[Model], using: str) -> EmbeddingQuerySet[Any]:
    """Return the rows that the model's own manager shows."""
    rows = model._default_manager.using(using)
    return rows if isinstance(rows, EmbeddingQuerySet) else EmbeddingQuerySet(model, using=using)


def _keys(rows: Any, k: int, key: str) -> list[Any]:
    return list(dict.fromkeys(getattr(row, key) for row in rows))[:k]
