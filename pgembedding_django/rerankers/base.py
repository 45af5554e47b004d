"""What a reranker is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from asgiref.sync import sync_to_async
from numpy.typing import NDArray

__all__ = ["FunctionReranker", "Reranker", "RerankerUnavailable", "RerankingError"]


class RerankingError(ValueError):
    """Texts could not be scored, or the scores cannot be used; the same call would fail again."""


class RerankerUnavailable(RerankingError):
    """The reranker cannot be reached or is overloaded; the same call may succeed later."""


class Reranker:
    """
    Scores texts by how well each answers a question.

    A subclass overrides `compute`, which may return any sequence of numbers.
    """

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """
        Return a score for each text, the greater the better; scores of two questions cannot be compared.

        Raises RerankingError if there is not one finite number for each text, and RerankerUnavailable.
        """
        if not texts:
            return np.empty(0)
        scores = np.asarray(self.compute(question, texts), dtype=np.float64)
        if scores.shape != (len(texts),):
            raise RerankingError(
                f"{type(self).__name__} must answer one score for each of {len(texts)} texts, got shape {scores.shape}."
            )
        if not np.isfinite(scores).all():
            position = int(np.argmin(np.isfinite(scores)))
            raise RerankingError(f"{type(self).__name__} answered {scores[position]} for the text {position}.")
        return scores

    async def ascore(self, question: str, texts: Sequence[str]) -> NDArray[np.float64]:
        return await sync_to_async(self.score)(question, texts)

    def compute(self, question: str, texts: Sequence[str]) -> Sequence[float] | NDArray[np.floating]:
        raise NotImplementedError


class FunctionReranker(Reranker):
    """Scores by a function of the project: (question, texts) -> numbers."""

    def __init__(self, function: Callable[[str, Sequence[str]], Sequence[float]]) -> None:
        self.function = function

    def compute(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        return self.function(question, texts)
