"""HttpReranker against a real server: what it sends, what it makes of every answer, and what it never shows."""

import pytest

from pgembedding_django.rerankers import HttpReranker, RerankerUnavailable, RerankingError
from tests.support.rerank_server import rerank_server, results_of, score_of  # noqa: F401 (a fixture)

TEXTS = ["short", "a longer text", "of middle size"]
SCORES = [score_of(text) for text in TEXTS]


def test_scores_come_in_the_order_of_the_texts(rerank_server):  # noqa: F811
    reranker = HttpReranker(rerank_server.base_url, model="m", api_key="secret")
    assert reranker.score("a question", TEXTS).tolist() == SCORES
    ((path, body),) = rerank_server.requests
    assert (path, body) == (
        "/v1/rerank",
        {"model": "m", "query": "a question", "documents": TEXTS, "top_n": 3},
    )
    assert rerank_server.keys == ["Bearer secret"]


def test_no_key_and_no_model_are_not_sent(rerank_server):  # noqa: F811
    HttpReranker(rerank_server.base_url).score("q", TEXTS)
    assert (rerank_server.keys, "model" in rerank_server.requests[0][1]) == ([None], False)


@pytest.mark.parametrize(
    "reply",
    [
        lambda texts: (200, [{"index": i, "score": score_of(text)} for i, text in enumerate(texts)]),
        lambda texts: (200, {"data": results_of(texts)}),
    ],
    ids=["a bare list", "data"],
)
def test_other_shapes_are_read(rerank_server, reply):  # noqa: F811
    rerank_server.answers.append(reply)
    assert HttpReranker(rerank_server.base_url, documents="texts").score("q", TEXTS).tolist() == SCORES
    assert rerank_server.requests[0][1]["texts"] == TEXTS


@pytest.mark.parametrize("key", ["sk-bad\u00e9key", "sk-bad\nkey"])
def test_key_with_a_typing_error_is_told_and_not_shown(key):
    with pytest.raises(ValueError) as caught:
        HttpReranker("http://127.0.0.1", api_key=key)
    assert str(caught.value) == "HttpReranker.api_key must be printable ASCII. Look for a typing error in it."


def test_nothing_is_sent_for_no_text(rerank_server):  # noqa: F811
    assert HttpReranker(rerank_server.base_url).score("q", []).tolist() == []
    assert rerank_server.requests == []


@pytest.mark.parametrize("answer", [(429, ""), (500, ""), (503, ""), "hang up"])
def test_passing_failure_is_tried_again(rerank_server, answer):  # noqa: F811
    rerank_server.answers.extend([answer, answer])
    assert HttpReranker(rerank_server.base_url).score("q", TEXTS).tolist() == SCORES
    assert len(rerank_server.requests) == 3


def test_failure_that_stays_is_told(rerank_server):  # noqa: F811
    rerank_server.answers.extend([(503, "")] * 4)
    with pytest.raises(RerankerUnavailable) as caught:
        HttpReranker(rerank_server.base_url).score("q", TEXTS)
    assert str(caught.value) == "The reranker did not answer in 4 attempts, at last HTTP 503. Try again."


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_refusal_is_sent_once_and_shows_no_key(rerank_server, status):  # noqa: F811
    rerank_server.answers.append((status, {"message": "bad key secret"}))
    with pytest.raises(RerankingError) as caught:
        HttpReranker(rerank_server.base_url, api_key="secret").score("q", TEXTS)
    assert len(rerank_server.requests) == 1
    assert str(caught.value) == (f"The reranker refused the request with HTTP {status}. Check base_url, key and model.")


ENTRIES = results_of(TEXTS)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("<html>", "The reranker answered something else than JSON. Check base_url."),
        ({"error": "x"}, 'The reranker must answer {"results": [...]}, got something else. Check base_url.'),
        ({"results": ENTRIES[:2]}, "The reranker answered 2 scores for 3 texts."),
        ({"results": [ENTRIES[0]] * 3}, "The reranker answered the text 2 of 3 twice, or a text that is none."),
        (
            {"results": [{"index": 7, "relevance_score": 1}]},
            "The reranker answered the text 7 of 3 twice, or a text that is none.",
        ),
        ({"results": [5]}, "The reranker must answer an index and a score for each text, got something else."),
        (
            {"results": [{"index": 0, "relevance_score": None}]},
            "The reranker must answer an index and a score for each text, got something else.",
        ),
        (
            '{"results": [{"index": 0, "relevance_score": NaN}, {"index": 1, "score": 1}, {"index": 2, "score": 1}]}',
            "HttpReranker answered nan for the text 0.",
        ),
    ],
)
def test_answer_that_cannot_be_used_is_told(rerank_server, reply, message):  # noqa: F811
    rerank_server.answers.append((200, reply))
    with pytest.raises(RerankingError) as caught:
        HttpReranker(rerank_server.base_url).score("q", TEXTS)
    assert str(caught.value) == message
