"""OpenAIEmbedder against a real HTTP server: what is asked, what is refused, what is tried again."""

import sys

import numpy as np
import openai
import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.embedders.openai import OpenAIEmbedder
from tests.embeddings_server import EmbeddingsServer, as_base64, data_of, vector_of

KEY = "sk-secret-of-the-tests"
TEXTS = ["a", "bcd", "ef"]


@pytest.fixture
def server():
    with EmbeddingsServer() as running:
        yield running


@pytest.fixture
def make(server):
    """Make embedders of the server, and close their connections."""
    made = []

    def make(**options):
        made.append(OpenAIEmbedder(**{"model": "test", "base_url": server.url, "api_key": KEY, **options}))
        return made[-1]

    yield make
    for embedder in made:
        if "client" in vars(embedder):
            embedder.client.close()


@pytest.fixture
def embedder(make):
    return make()


def test_embed_base64_answer_gives_one_row_a_text(server, embedder):
    embedded = embedder.embed(TEXTS)
    assert embedded.dtype == np.float32
    assert embedded.tolist() == [vector_of(text) for text in TEXTS]


def test_embed_plain_numbers_in_the_answer_are_read_too(server, embedder):
    server.answer(data_of(TEXTS, encode=list))
    assert embedder.embed(TEXTS).tolist() == [vector_of(text) for text in TEXTS]


def test_embed_shuffled_answer_is_ordered_by_index(server, embedder):
    server.answer(data_of(TEXTS)[::-1])
    assert embedder.embed(TEXTS).tolist() == [vector_of(text) for text in TEXTS]


def test_embed_query_gives_one_vector(server, embedder):
    assert embedder.embed_query("abc").tolist() == vector_of("abc")
    assert [body["input"] for _path, _headers, body in server.requests] == [["abc"]]


def test_embed_asks_for_the_model_in_base64(server, embedder):
    embedder.embed(TEXTS)
    [(path, headers, body)] = server.requests
    assert path == "/v1/embeddings"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {"model": "test", "input": TEXTS, "encoding_format": "base64"}


def test_embed_dimensions_are_asked_for(server, make):
    assert make(dimensions=3).embed(TEXTS).shape == (3, 3)
    assert server.requests[0][2]["dimensions"] == 3


def test_embed_no_texts_sends_nothing(server, make):
    assert make(dimensions=3).embed([]).shape == (0, 3)
    assert server.requests == []


@pytest.mark.parametrize("texts", [["a", " \n"], ["a", ""], ["a", "\ud800"], ["a", None]])
def test_embed_text_that_the_server_would_refuse_sends_nothing(server, embedder, texts):
    with pytest.raises(EmbeddingError, match="text 1"):
        embedder.embed(texts)
    assert server.requests == []


def test_embed_more_texts_than_a_request_takes_are_split(server, embedder):
    texts = [f"{'x' * (number % 7)}{number}" for number in range(4097)]
    assert embedder.embed(texts).tolist() == [vector_of(text) for text in texts]
    assert [len(body["input"]) for _path, _headers, body in server.requests] == [2048, 2048, 1]


NO_LIST = "The server of OpenAIEmbedder answered with no list of vectors for test."
ANSWERED = "The server of OpenAIEmbedder answered "
SECOND = "OpenAIEmbedder's vector of text 1 must "


def changed(position, **changes):
    data = data_of(TEXTS)
    data[position] |= changes
    return data


REFUSED = {
    "too few": (data_of(TEXTS)[:2], ANSWERED + "2 vectors for 3 texts (2 different indexes)."),
    "too many": (data_of([*TEXTS, "g"]), ANSWERED + "4 vectors for 3 texts (4 different indexes)."),
    "empty": ([], ANSWERED + "0 vectors for 3 texts (0 different indexes)."),
    "duplicate index": (changed(2, index=1), ANSWERED + "3 vectors for 3 texts (2 different indexes)."),
    "index out of range": (changed(2, index=3), ANSWERED + "3 vectors for 3 texts (3 different indexes)."),
    "index missing": ([{"embedding": [1.0]}] * 3, ANSWERED + "3 vectors for 3 texts (1 different indexes)."),
    "numbers for items": ([1, 2, 3], ANSWERED + "3 vectors for 3 texts (1 different indexes)."),
    "null embedding": (changed(1, embedding=None), SECOND + "be a sequence of numbers, got NoneType."),
    "no embedding": (
        [{"index": 0, "embedding": [1.0]}, {"index": 1}, {"index": 2, "embedding": [1.0]}],
        SECOND + "be a sequence of numbers, got NoneType.",
    ),
    "NaN": (changed(1, embedding=[1.0, float("nan"), 1.0]), SECOND + "be finite, got nan at position 1."),
    "NaN in base64": (
        changed(1, embedding=as_base64([1.0, 1.0, float("nan")])),
        SECOND + "be finite, got nan at position 2.",
    ),
    "null element": (changed(1, embedding=[1, None, 1]), SECOND + "hold numbers only, got NoneType at position 1."),
    "another length": (changed(1, embedding=as_base64([1.0, 2.0])), SECOND + "have 3 dimensions, got 2."),
    "no base64": (
        changed(1, embedding="@@@@"),
        ANSWERED + "a vector that is no base64 of float32: Only base64 data is allowed.",
    ),
    "base64 of another size": (
        changed(1, embedding="AAAA"),
        ANSWERED + "a vector that is no base64 of float32: buffer size must be a multiple of element size.",
    ),
    "null data": ({"data": None}, NO_LIST),
    "no data": ({"error": None}, NO_LIST),
    "a list": (b"[]", NO_LIST),
    "null": (b"null", NO_LIST),
}


@pytest.mark.parametrize(("body", "sentence"), REFUSED.values(), ids=REFUSED)
def test_embed_wrong_answer_says_what_is_wrong(server, embedder, body, sentence):
    server.answer(body)
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert str(caught.value) == sentence
    assert len(server.requests) == 1


def test_embed_html_answer_says_that_there_is_no_list(server, embedder):
    server.answer(b"<html>Sign in to the WiFi</html>", content_type="text/html")
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert str(caught.value) == NO_LIST


def test_embed_dimensions_other_than_asked_are_refused(server, make):
    with pytest.raises(EmbeddingError) as caught:
        make(dimensions=4).embed(TEXTS)
    assert str(caught.value) == "OpenAIEmbedder's vector of text 0 must have 4 dimensions, got 3."


def test_embed_query_wrong_answer_names_the_query(server, embedder):
    server.answer([{"index": 0, "embedding": []}])
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed_query("a")
    assert str(caught.value) == "OpenAIEmbedder's vector of the query must have at least 1 dimension, got 0."


PERMANENT = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (422, openai.UnprocessableEntityError),
]


@pytest.mark.parametrize(("status", "error"), PERMANENT)
def test_embed_permanent_failure_stops_at_one_request_and_hides_the_key(server, embedder, status, error):
    server.answer({"error": {"message": "No.", "code": "no"}}, status=status)
    with pytest.raises(error) as caught:
        embedder.embed(TEXTS)
    assert len(server.requests) == 1
    assert KEY not in f"{caught.value} {caught.value!r} {embedder!r} {embedder.client!r}"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_embed_passing_failure_is_tried_again(server, embedder, status):
    server.answer({"error": {"message": "Later."}}, status=status, retry_after_ms="1")
    assert embedder.embed(TEXTS).tolist() == [vector_of(text) for text in TEXTS]
    assert len(server.requests) == 2


@pytest.mark.parametrize(("max_retries", "requests"), [(0, 1), (2, 3)])
def test_embed_lasting_overload_is_given_up(server, make, max_retries, requests):
    for _ in range(requests):
        server.answer({"error": {"message": "Later."}}, status=429, retry_after_ms="1")
    with pytest.raises(openai.RateLimitError):
        make(max_retries=max_retries).embed(TEXTS)
    assert len(server.requests) == requests


def test_embed_without_credit_stops_at_one_request(server, embedder):
    server.answer({"error": {"message": "No credit.", "code": "insufficient_quota"}}, status=429, retry_after_ms="1")
    with pytest.raises(openai.RateLimitError) as caught:
        embedder.embed(TEXTS)
    assert caught.value.code == "insufficient_quota"
    assert len(server.requests) == 1


def test_embed_second_request_fails_gives_nothing(server, embedder):
    server.answer()
    server.answer({"error": {"message": "No."}}, status=400)
    with pytest.raises(openai.BadRequestError):
        embedder.embed(["x"] * 2049)


def test_embed_unreachable_server_raises_connection_error(make):
    with pytest.raises(openai.APIConnectionError) as caught:
        make(base_url="http://127.0.0.1:9/v1", max_retries=0).embed(TEXTS)
    assert KEY not in f"{caught.value} {caught.value!r}"


def test_embed_truncated_answer_raises_connection_error(server, make):
    server.answer(b'{"data": [', content_length="1000")
    with pytest.raises(openai.APIConnectionError):
        make(max_retries=0).embed(TEXTS)


def test_client_waits_a_minute_at_most(embedder):
    assert embedder.client.timeout == 60.0


def test_client_key_comes_from_the_environment(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    make(api_key=None).embed(TEXTS)
    assert server.requests[0][1]["authorization"] == "Bearer sk-of-the-environment"


@pytest.mark.parametrize("environment", [None, ""])
@pytest.mark.parametrize("key", [None, ""])
def test_client_without_key_names_both_settings(server, make, monkeypatch, key, environment):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if environment is not None:
        monkeypatch.setenv("OPENAI_API_KEY", environment)
    with pytest.raises(ImproperlyConfigured) as caught:
        make(api_key=key).embed(TEXTS)
    assert str(caught.value) == (
        'OpenAIEmbedder has no key: set OPENAI_API_KEY in the environment, or "api_key" in the OPTIONS of '
        'PGEMBEDDING["EMBEDDERS"].'
    )
    assert server.requests == []


def test_client_without_package_says_what_to_install(embedder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        embedder.embed(TEXTS)
    assert str(caught.value) == 'OpenAIEmbedder needs openai: pip install "pgembedding-django[openai]"'


def test_init_makes_no_client(embedder):
    assert "client" not in vars(embedder)
