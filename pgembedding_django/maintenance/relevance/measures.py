"""nDCG, reciprocal rank and recall, as ir-measures computes them, and the paired test of two ways to search."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.maintenance.relevance.questions import Question

__all__ = ["MEASURES", "paired_p", "score"]

#: Our name: that of ir-measures.
MEASURES = {"ndcg": "nDCG", "mrr": "RR", "recall": "R"}


def score(
    questions: Sequence[Question], answers: Sequence[Sequence[Hashable]], k: int
) -> Mapping[str, tuple[float, ...]]:
    """Return each measure at k, a number for each question; answers: the keys that were found, the best first."""
    measures = _library()
    names = {getattr(measures, theirs) @ k: ours for ours, theirs in MEASURES.items()}
    qrels = [
        measures.Qrel(str(place), str(key), int(grade))
        for place, question in enumerate(questions)
        for key, grade in question.grades.items()
    ]
    run = [
        measures.ScoredDoc(str(place), str(key), float(len(keys) - rank))
        for place, keys in enumerate(answers)
        for rank, key in enumerate(keys)
    ]
    scores = {ours: [0.0] * len(questions) for ours in MEASURES}
    for metric in measures.iter_calc(list(names), qrels, run):
        scores[names[metric.measure]][int(metric.query_id)] = float(metric.value)
    return {name: tuple(values) for name, values in scores.items()}


def paired_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """
    Return how likely a difference like this would be if both were alike: p of Student's paired t-test, two-sided.

    None for fewer than two questions, of which nothing can be said.
    """
    differences = np.subtract(second, first)
    if differences.size < 2:
        return None
    if np.ptp(differences) < 1e-9:  # Without scatter there is no t.
        return 0.0 if abs(differences[0]) > 1e-9 else 1.0
    from scipy.stats import ttest_rel

    return float(ttest_rel(second, first).pvalue)


def _library() -> Any:
    try:
        import ir_measures
    except ImportError as error:
        raise ImproperlyConfigured(
            'Relevance is measured by ir-measures. Run: pip install "pgembedding-django[relevance]"'
        ) from error
    return ir_measures
