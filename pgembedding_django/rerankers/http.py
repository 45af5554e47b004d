"""A server with a /rerank endpoint, in the shape of Cohere and Jina, which vLLM and LiteLLM speak too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from pgembedding_django.rerankers.base import Reranker, RerankerUnavailable, RerankingError

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpReranker"]

#: Times that a request is sent, and the most seconds waited between two.
ATTEMPTS, LONGEST_WAIT = 4, 8.0

#: What may be otherwise the next time.
PASSING = {408, 409, 429, 500, 502, 503, 504, 529}


class HttpReranker(Reranker):
    """
    Scores by a server: POST {base_url}/rerank with {"model", "query", "documents", "top_n"}.

    base_url: such as "https://api.cohere.com/v2", "https://api.jina.ai/v1" or "http://localhost:8000/v1".
    model: what the server calls it; "" where it has one alone. api_key: sent as a bearer token.
    timeout: seconds of one request. documents: what the server calls the texts; "texts" for text-embeddings-inference.
    Each call may cost money. A request that fails for a passing reason is sent up to four times.
    """

    model: str
    timeout: float
    documents: str

    def __init__(
        self, base_url: str, *, model: str = "", api_key: str = "", timeout: float = 30, documents: str = "documents"
    ) -> None:
        # A header cannot hold another character, and the client's own error would show the whole key.
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("HttpReranker.api_key must be printable ASCII. Look for a typing error in it.")
        self.url: str = f"{base_url.rstrip('/')}/rerank"
        self.model, self.timeout, self.documents, self._api_key = model, timeout, documents, api_key

    def compute(self, question: str, texts: Sequence[str]) -> list[float]:
        body = {"query": question, self.documents: list(texts), "top_n": len(texts)}
        reply = self._send({**body, "model": self.model} if self.model else body)
        return _scores_of(reply, len(texts))

    def _send(self, body: dict[str, Any]) -> object:
        try:
            import httpx
        except ImportError as error:
            raise ImproperlyConfigured("HttpReranker needs httpx: pip install httpx") from error
        wait, failure = 0.25, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                response = self._post(httpx, body)
            except httpx.TransportError as error:
                failure = type(error).__name__
                continue
            if response.is_success:
                return _json_of(response)
            failure = f"HTTP {response.status_code}"
            if response.status_code not in PASSING:
                raise RerankingError(f"The reranker refused the request with {failure}. Check base_url, key and model.")
        raise RerankerUnavailable(f"The reranker did not answer in {ATTEMPTS} attempts, at last {failure}. Try again.")

    @sensitive_variables()
    def _post(self, client: Any, body: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        response: httpx.Response = client.post(self.url, json=body, headers=headers, timeout=self.timeout)
        return response


def _json_of(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError as error:
        raise RerankingError("The reranker answered something else than JSON. Check base_url.") from error


def _scores_of(reply: object, count: int) -> list[float]:
    """Return the scores in the order of the texts, each there once."""
    results = reply.get("results", reply.get("data")) if isinstance(reply, dict) else reply
    if not isinstance(results, list):
        raise RerankingError('The reranker must answer {"results": [...]}, got something else. Check base_url.')
    scores: dict[int, float] = {}
    for result in results:
        index, score = _entry(result)
        if not 0 <= index < count or index in scores:
            raise RerankingError(f"The reranker answered the text {index} of {count} twice, or a text that is none.")
        scores[index] = score
    if len(scores) != count:
        raise RerankingError(f"The reranker answered {len(scores)} scores for {count} texts.")
    return [scores[index] for index in range(count)]


def _entry(result: object) -> tuple[int, float]:
    if isinstance(result, dict):
        index, score = result.get("index"), result.get("relevance_score", result.get("score"))
        if type(index) is int and isinstance(score, int | float) and not isinstance(score, bool):
            return index, float(score)
    raise RerankingError("The reranker must answer an index and a score for each text, got something else.")
