"""OpenAIEmbedder against a real HTTP server: what is asked, what is refused, what is tried again, what is told."""

import asyncio
import base64
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from email.utils import formatdate

import numpy as np
import openai
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.views.debug import ExceptionReporter

from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError, TextRejected, calls, get_embedder
from pgembedding_django.embedders.openai import OpenAIEmbedder
from pgembedding_django.embedders.replies import retry_after
from pgembedding_django.embedders.secrets import Secrets
from tests.models import Article
from tests.support.embeddings_server import (
    JSON,
    EmbeddingsServer,
    as_base64,
    cut,
    data_of,
    drip,
    error_of,
    hang,
    reset,
    stall,
    vector_of,
)

KEY = "sk-secret-of-the-tests"
TEXTS = ["a", "bcd", "ef"]
SOON = {"retry_after_ms": "1"}


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
        embedder.close()


@pytest.fixture
def quick(monkeypatch):
    """Wait hardly between tries where the server asks for no time."""
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.001)


@pytest.fixture
def embedder(make):
    return make()


def vectors_of(texts):
    return [vector_of(text) for text in texts]


def lists(outcomes):
    return [outcome if isinstance(outcome, EmbeddingError) else outcome.tolist() for outcome in outcomes]


def told(error):
    """Everything that a traceback shows of an error, and what its causes carry."""
    causes = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
    carried = [(cause, getattr(cause, "body", None), getattr(cause, "message", None)) for cause in causes]
    return "".join(traceback.format_exception(error)) + repr(carried)


# What is asked, and what comes


def test_embed_base64_answer_gives_one_row_a_text(server, embedder):
    embedded = embedder.embed(TEXTS)
    assert embedded.dtype == np.float32
    assert embedded.tolist() == vectors_of(TEXTS)


def test_embed_plain_numbers_in_the_answer_are_read_too(server, embedder):
    server.answer(data_of(TEXTS, encode=list))
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)


def test_embed_shuffled_answer_is_ordered_by_index(server, embedder):
    server.answer(data_of(TEXTS)[::-1])
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)


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


@pytest.mark.parametrize("model", ["text-embedding-3-small", "text-embedding-ada-002"])
def test_embed_known_dimensions_of_a_model_are_not_asked_for(server, make, model):
    embedder = make(model=model)
    server.answer([{"index": 0, "embedding": as_base64([1.0] * 1536)}])
    assert embedder.dimensions == 1536
    assert embedder.embed(["a"]).shape == (1, 1536)
    assert "dimensions" not in server.requests[0][2]


def test_embed_no_texts_sends_nothing(server, make):
    assert make(dimensions=3).embed([]).shape == (0, 3)
    assert server.requests == []


@pytest.mark.parametrize("texts", [["a", " \n"], ["a", ""], ["a", "\ud800"], ["a", None]])
def test_embed_text_that_the_server_would_refuse_sends_nothing(server, embedder, texts):
    with pytest.raises(TextRejected, match="text 1"):
        embedder.embed(texts)
    assert server.requests == []


def test_embed_each_bad_texts_are_left_out_and_reported(server, embedder):
    outcomes = embedder.embed_each(["", "bcd", "\t\n", "ef", "\udfff"])
    assert [type(outcome) for outcome in outcomes[::2]] == [TextRejected] * 3
    assert lists(outcomes[1::2]) == vectors_of(["bcd", "ef"])
    assert server.served == {"bcd": 1, "ef": 1}


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "שלום עולם", "👩‍👩‍👧‍👦🎉", "\u202eabc", "e\u0301"],
    ids=["NUL", "right-to-left", "emoji", "override", "combining"],
)
def test_embed_unusual_text_arrives_unchanged(server, embedder, text):
    assert embedder.embed([text]).tolist() == [vector_of(text)]
    assert server.requests[0][2]["input"] == [text]


def test_embed_prefixes_go_before_documents_and_questions(server, make):
    embedder = make(query_prefix="query: ", document_prefix="passage: ")
    embedder.embed(["a"])
    embedder.embed_query("b")
    assert [body["input"] for _path, _headers, body in server.requests] == [["passage: a"], ["query: b"]]


# Requests of a call


def test_embed_more_texts_than_a_request_takes_are_split(server, make):
    texts = [f"{'x' * (number % 7)}{number}" for number in range(4097)]
    assert make(batch_size=2048).embed(texts).tolist() == vectors_of(texts)
    assert sorted(server.sizes()) == [1, 2048, 2048]


def test_embed_more_tokens_than_a_request_takes_are_split(server, make):
    texts = [f"{number}{'x' * 24_000}" for number in range(50)]
    assert make(concurrency=1).embed(texts).tolist() == vectors_of(texts)
    assert server.sizes() == [37, 13]  # of 8,001 tokens by estimate each: 37 of them are 296,037


def test_embed_no_more_requests_at_once_than_concurrency(server, make):
    together, running, most = threading.Barrier(3, timeout=60), set(), []

    def slow(texts):
        running.add(texts[0])
        together.wait()
        most.append(len(running))
        together.wait()
        running.remove(texts[0])
        return data_of(texts)

    server.answer(slow, times=9)
    make(concurrency=3, batch_size=1).embed([str(number) for number in range(9)])
    assert set(most) == {3}


def test_embed_threads_share_the_connections_and_the_limit(server, make):
    embedder, found = make(concurrency=2), {}
    threads = [
        threading.Thread(target=lambda text=text: found.update({text: embedder.embed([text]).tolist()}))
        for text in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: [vector_of(text)] for text in "abcdefgh"}


def test_embed_threads_that_come_first_open_one_client(server, make, monkeypatch):
    embedder, opened, begun = make(), [], threading.Barrier(4, timeout=30)
    make_client = OpenAIEmbedder._make_client
    monkeypatch.setattr(OpenAIEmbedder, "_make_client", lambda self: opened.append(1) or make_client(self))

    def ask():
        begun.wait()
        embedder.embed(["a"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


def test_aembed_gives_what_embed_gives(server, embedder):
    async def ask():
        return await asyncio.gather(embedder.aembed(TEXTS), embedder.aembed_query("abc"), embedder.aembed_each(["g"]))

    embedded, query, each = asyncio.run(ask())
    assert embedded.tolist() == vectors_of(TEXTS)
    assert query.tolist() == vector_of("abc")
    assert lists(each) == vectors_of("g")


def test_aembed_leaves_the_loop_of_the_caller_free(server, embedder):
    asked, loop_runs = threading.Event(), threading.Event()

    def slow(texts):
        asked.set()
        assert loop_runs.wait(60)
        return data_of(texts)

    async def ask():
        answer = asyncio.create_task(embedder.aembed(["a"]))
        await asyncio.to_thread(asked.wait, 60)
        loop_runs.set()
        return await answer

    server.answer(slow)
    assert asyncio.run(ask()).tolist() == [vector_of("a")]


def test_aembed_cancelled_sends_nothing_more(server, make):
    embedder, asked = make(), threading.Event()

    def later(texts):
        asked.set()
        return error_of("Later.")

    server.answer(later, status=503, retry_after="1")

    async def ask():
        answer = asyncio.create_task(embedder.aembed(["a"]))
        await asyncio.to_thread(asked.wait, 60)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer

    asyncio.run(ask())
    time.sleep(1.2)
    assert len(server.requests) == 1


# Over-long texts

LONG = "word " * 6000  # 30,000 characters: 10,000 tokens by estimate


def test_embed_each_too_long_text_is_rejected_unsent(server, embedder, caplog):
    rejected, vector = embedder.embed_each([LONG, "a"])
    assert isinstance(rejected, TextRejected)
    assert str(rejected) == (
        "OpenAIEmbedder cannot embed text 0: it has about 10,000 tokens, and test takes 8,192. Split it, or set "
        'too_long="truncate" in the OPTIONS.'
    )
    assert vector.tolist() == vector_of("a")
    assert server.served == {"a": 1}
    assert 'test: 1 of 2 texts have more than 8192 tokens by estimate: too_long="reject".' in caplog.messages


def test_embed_too_long_text_is_truncated_where_configured_and_logged(server, make, caplog):
    assert make(too_long="truncate").embed([LONG]).tolist() == [vector_of(LONG[:24_576])]
    assert 'test: 1 of 1 texts have more than 8192 tokens by estimate: too_long="truncate".' in caplog.messages


def test_embed_query_too_long_is_rejected_unsent(server, make):
    with pytest.raises(TextRejected, match="it has about 8 tokens, and test takes 5"):
        make(max_tokens=5).embed_query("x" * 24)
    assert server.requests == []


@pytest.mark.parametrize(("too_long", "served"), [("reject", 0), ("truncate", 1)])
def test_embed_each_a_megabyte_of_text_is_too_long(server, make, too_long, served):
    [outcome] = make(too_long=too_long).embed_each(["x" * 2**20])
    assert isinstance(outcome, TextRejected) is (too_long == "reject")
    assert sum(server.served.values()) == served


# Answers that cannot be used

SECOND = "OpenAIEmbedder's vector of text 1 must "


def changed(position, **changes):
    data = data_of(TEXTS)
    data[position] |= changes
    return data


MALFORMED = {
    "too few": (data_of(TEXTS)[:2], "answered 2 vectors for 3 texts (2 different indexes)."),
    "too many": (data_of([*TEXTS, "g"]), "answered 4 vectors for 3 texts (4 different indexes)."),
    "empty": ([], "answered 0 vectors for 3 texts (0 different indexes)."),
    "duplicate index": (changed(2, index=1), "answered 3 vectors for 3 texts (2 different indexes)."),
    "index out of range": (changed(2, index=3), "answered 3 vectors for 3 texts (3 different indexes)."),
    "index a list": (changed(2, index=[2]), "answered 3 vectors for 3 texts (2 different indexes)."),
    "index a bool": (changed(1, index=True), "answered 3 vectors for 3 texts (2 different indexes)."),
    "two indexes missing": (
        [{"embedding": [1.0]}, {"embedding": [1.0]}, {"index": 0}],
        "answered 3 vectors for 3 texts (1 different indexes).",
    ),
    "numbers for items": ([1, 2, 3], "answered 3 vectors for 3 texts (0 different indexes)."),
    "null data": ({"data": None}, "answered JSON with no list of vectors."),
    "no data": ({"error": None}, "answered JSON with no list of vectors."),
    "a list": (b"[]", "answered JSON with no list of vectors."),
    "null": (b"null", "answered JSON with no list of vectors."),
    "truncated": (b'{"data": [', "answered what is no JSON (10 bytes)."),
    "HTML": (b"<html>Sign in to the WiFi</html>", "answered what is no JSON (32 bytes)."),
    "no UTF-8": (b'"\xff"', "answered what is no JSON (3 bytes)."),
}


@pytest.mark.parametrize(("body", "sentence"), MALFORMED.values(), ids=MALFORMED)
def test_embed_malformed_answer_says_what_is_wrong(server, make, body, sentence):
    server.answer(body)
    with pytest.raises(EmbedderUnavailable) as caught:
        make(deadline=0).embed(TEXTS)
    assert str(caught.value) == f"{server.where} {sentence}"


def test_embed_malformed_answer_is_asked_for_again(server, embedder):
    server.answer(changed(2, index=1))
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert server.sizes() == [3, 3]


def test_embed_always_malformed_answer_is_given_up_after_five(server, embedder, quick):
    server.answer(b"<html>Sign in</html>", content_type="text/html", times=6)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(TEXTS)
    assert len(server.requests) == 5


def test_embed_each_malformed_answers_of_one_request_spare_the_others(server, make, quick):
    server.answer(lambda texts: data_of(texts)[1:], times=5)
    outcomes = make(batch_size=1, concurrency=1).embed_each(TEXTS)
    assert isinstance(outcomes[0], EmbedderUnavailable)
    assert lists(outcomes[1:]) == vectors_of(TEXTS[1:])


def without(position, value=None):
    """An answer whose item has another index, or none."""
    data = data_of(TEXTS)
    data[position] |= {"index": value}
    return data


INDEXES = {
    "all missing": [{"embedding": item["embedding"]} for item in data_of(TEXTS)],
    "the first missing": [{"embedding": as_base64(vector_of("a"))}, *data_of(TEXTS)[1:]],
    "one missing, shuffled": [*data_of(TEXTS)[1:], {"embedding": as_base64(vector_of("a"))}],
    "null": without(0),
    "text": [{**item, "index": str(item["index"])} for item in data_of(TEXTS)],
}


@pytest.mark.parametrize("data", INDEXES.values(), ids=INDEXES)
def test_embed_answer_whose_indexes_are_left_out_or_text_is_read(server, embedder, data):
    """As of Gemini, which leaves out 0."""
    server.answer(data)
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert len(server.requests) == 1


ERRORS = {
    "words": ({"error": {"message": "No capacity."}}, "answered an error in place of vectors: No capacity."),
    "text": ({"error": "No capacity."}, "answered an error in place of vectors: No capacity."),
    "nothing": ({"error": {"kind": 1}}, "answered an error in place of vectors."),
    "status": ({"error": {"message": "Busy.", "code": 503}}, "answered 503: Busy."),
}


@pytest.mark.parametrize(("body", "sentence"), ERRORS.values(), ids=ERRORS)
def test_embed_error_in_an_answer_of_status_200_is_told(server, make, body, sentence):
    server.answer(body, times=9)
    with pytest.raises(EmbedderUnavailable) as caught:
        make(deadline=0).embed(TEXTS)
    assert str(caught.value) == f"{server.where} {sentence}"


def test_embed_error_in_an_answer_of_status_200_is_asked_again(server, embedder, quick):
    server.answer({"error": {"message": "Busy.", "code": 429}})
    server.answer({"error": {"message": "Busy."}})
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)


def test_embed_each_refusal_in_an_answer_of_status_200_is_isolated(server, embedder):
    server.poison, server.poisoned = "☠", (200, {"error": {"message": "Bad text.", "code": 400}}, JSON)
    vector, rejected = embedder.embed_each(["a", "☠"])
    assert vector.tolist() == vector_of("a")
    assert str(rejected).endswith("answered 400: Bad text.")


BAD_ITEM = {
    "null embedding": (changed(1, embedding=None), SECOND + "be a sequence of numbers, got NoneType."),
    "no embedding": (
        [data_of(TEXTS)[0], {"index": 1}, data_of(TEXTS)[2]],
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
        "OpenAIEmbedder cannot embed text 1: its vector is no base64 of float32 (Only base64 data is allowed).",
    ),
    "base64 of another size": (
        changed(1, embedding="AAAA"),
        "OpenAIEmbedder cannot embed text 1: its vector is no base64 of float32 (buffer size must be a multiple of "
        "element size).",
    ),
}


@pytest.mark.parametrize(("body", "sentence"), BAD_ITEM.values(), ids=BAD_ITEM)
def test_embed_each_bad_item_is_named_and_spares_the_others(server, embedder, body, sentence):
    server.answer(body)
    first, second, third = embedder.embed_each(TEXTS)
    assert isinstance(second, TextRejected)
    assert str(second) == sentence
    assert lists([first, third]) == vectors_of(["a", "ef"])
    assert len(server.requests) == 1


def test_embed_each_no_vector_of_the_dimensions_is_no_fault_of_the_texts(server, make):
    with pytest.raises(EmbeddingError) as caught:
        make(dimensions=4).embed_each(TEXTS)
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == "OpenAIEmbedder's vector of text 0 must have 4 dimensions, got 3."


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ([], "OpenAIEmbedder's vector of the query must have at least 1 dimension, got 0."),
        ("@@", "its vector is no base64 of float32 (Only base64 data is allowed)."),
    ],
)
def test_embed_query_wrong_answer_says_so(server, embedder, item, sentence):
    server.answer([{"index": 0, "embedding": item}])
    with pytest.raises(TextRejected) as caught:
        embedder.embed_query("a")
    assert str(caught.value) == sentence


# Refused texts


def test_embed_each_poison_is_found_by_halving_and_no_other_text_is_paid_for_twice(server, embedder):
    server.poison = "☠"
    texts = [f"text {number}" for number in range(100)]
    texts[37] = "a ☠ text"
    outcomes = embedder.embed_each(texts)
    assert isinstance(outcomes[37], TextRejected)
    assert str(outcomes[37]) == (
        f"OpenAIEmbedder cannot embed text 37: {server.where} answered 400: '$.input' is invalid."
    )
    good = texts[:37] + texts[38:]
    assert lists(outcomes[:37] + outcomes[38:]) == vectors_of(good)
    assert server.served == {"text": 1, **dict.fromkeys(good, 1)}  # "text" is the probe


def test_embed_each_two_poisoned_texts_are_both_found(server, make):
    server.poison = "☠"
    outcomes = make(batch_size=4).embed_each(["☠1", "☠2", "a", "b", "c"])
    assert [isinstance(outcome, TextRejected) for outcome in outcomes] == [True, True, False, False, False]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_embed_server_that_refuses_every_text_is_asked_twice(server, embedder, status):
    server.answer(error_of("Unknown dimensions."), status=status, times=9)
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == (
        f'{server.where} answered {status}: Unknown dimensions. It refuses every text: check "dimensions" in the '
        "OPTIONS."
    )
    assert server.sizes() == [3, 1]


def test_embed_refusal_before_an_outage_is_an_outage(server, make):
    server.answer(error_of("No."), status=400)
    server.answer(error_of("Away."), status=503)
    with pytest.raises(EmbedderUnavailable, match="503"):
        make(deadline=0).embed(TEXTS)


def test_embed_query_refused_text_is_told_at_once(server, embedder):
    server.poison = "☠"
    with pytest.raises(TextRejected) as caught:
        embedder.embed_query("☠")
    assert str(caught.value) == f"{server.where} answered 400: '$.input' is invalid."
    assert len(server.requests) == 1


def test_embed_server_that_refuses_every_text_for_a_reason_of_its_own_gets_no_hint(server, embedder):
    server.answer(error_of("Not today."), status=400, times=9)
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert str(caught.value) == f"{server.where} answered 400: Not today. It refuses every text."


def test_nearest_that_a_server_refuses_is_not_laid_at_the_text_s_door(server, settings):
    options = {"model": "test", "base_url": server.url, "api_key": KEY}
    backend = "pgembedding_django.embedders.openai.OpenAIEmbedder"
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    server.answer(error_of("Not today."), status=400)
    with pytest.raises(TextRejected) as caught:
        Article.objects.nearest("a question")
    assert str(caught.value) == f"{server.where} answered 400: Not today."
    get_embedder().close()


# Servers that know no base64

NO_BASE64 = {
    "words": (400, error_of("encoding_format base64 is not supported."), JSON),
    "validator": (422, {"detail": [{"loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]}, JSON),
}


@pytest.mark.parametrize("refusal", NO_BASE64.values(), ids=NO_BASE64)
def test_embed_server_that_refuses_base64_is_asked_for_floats_once_and_for_all(server, embedder, refusal):
    server.no_base64 = refusal
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert embedder.embed_query("abc").tolist() == vector_of("abc")
    assert [body["encoding_format"] for _path, _headers, body in server.requests] == ["base64", "float", "float"]


def test_embed_refusal_that_floats_do_not_cure_is_told_and_not_remembered(server, embedder):
    server.answer(error_of("Text has no base64."), status=400, times=2)
    with pytest.raises(TextRejected, match="Text has no base64"):
        embedder.embed_query("a")
    assert embedder.embed_query("a").tolist() == vector_of("a")
    assert [body["encoding_format"] for _path, _headers, body in server.requests] == ["base64", "float", "base64"]


# Addresses


def test_embed_address_of_azure_keeps_its_version_and_takes_the_key_as_azure_does(server, make):
    make(base_url=f"{server.url}/openai/deployments/small?api-version=2024-02-01").embed(TEXTS)
    [(path, headers, _body)] = server.requests
    assert path == "/v1/openai/deployments/small/embeddings?api-version=2024-02-01"
    assert headers["api-key"] == KEY


def test_embed_query_of_an_address_is_sent_and_not_logged(server, make, caplog):
    caplog.set_level(logging.INFO)
    embedder = make(base_url=f"{server.url}?key=sesame-open&api=1")
    embedder.embed(TEXTS)
    assert server.requests[0][0] == "/v1/embeddings?key=sesame-open&api=1"
    assert "HTTP Request: POST" in caplog.text
    assert "sesame" not in caplog.text + embedder.sends_to


def test_embed_login_of_an_address_is_sent_as_a_header_and_not_logged(server, make, caplog):
    caplog.set_level(logging.INFO)
    address = server.url.replace("://", "://user:pa%40ss-word@")
    make(base_url=address).embed(TEXTS)
    assert server.requests[0][1]["authorization"] == f"Basic {LOGIN}"
    assert "HTTP Request: POST" in caplog.text
    assert not [form for form in ("pa%40ss", "pa@ss", LOGIN) if form in caplog.text]


# What a crash report shows

LOGIN = base64.b64encode(b"user:pa@ss-word").decode()


def crash_report(function, settings, rf, debug):
    """What Django shows or sends of an error that a function raises, but the settings, which are Django's to clean."""
    settings.DEBUG = debug
    try:
        function()
    except (EmbeddingError, ImproperlyConfigured):
        reporter = ExceptionReporter(rf.get("/"), *sys.exc_info())
    frames = reporter.get_traceback_frames()
    assert len(frames) > 1
    shown = [(frame["filename"], name, value) for frame in frames for name, value in frame.get("vars", ())]
    return repr(shown) + repr([frame["exc_cause"] for frame in frames]) + told(reporter.exc_value)


@pytest.fixture
def configured(server, settings):
    """Return a function that puts an address and a key into the settings."""

    def configure(address, **options):
        options = {"model": "test", "base_url": address, "api_key": KEY, "deadline": 0, **options}
        backend = "pgembedding_django.embedders.openai.OpenAIEmbedder"
        settings.PGEMBEDDING = {"EMBEDDERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}

    yield configure
    settings.PGEMBEDDING["EMBEDDERS"]["default"]["OPTIONS"] = {}
    get_embedder().close()


FAILURES = {
    "refused": lambda server: server.answer(error_of(f"Bad credentials {LOGIN} {KEY}"), status=401),
    "away": lambda server: server.answer(error_of(f"Away, {LOGIN} {KEY}"), status=503, times=9),
    "reset": lambda server: server.misbehave(reset, times=9),
    "cut": lambda server: server.misbehave(cut, times=9),
    "error": lambda server: server.answer({"error": {"message": f"{LOGIN} {KEY}"}}, times=9),
    "no JSON": lambda server: server.answer(f"<html>{LOGIN} {KEY}".encode(), times=9),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_crash_report_of_a_failure_shows_neither_key_nor_login(server, configured, settings, rf, caplog, fail, debug):
    caplog.set_level(logging.INFO)
    configured(server.url.replace("://", "://user:pa%40ss-word@"))
    fail(server)
    report = crash_report(lambda: get_embedder().embed_query("a"), settings, rf, debug)
    assert not [form for form in (KEY, LOGIN, "pa%40ss", "pa@ss") if form in report + caplog.text]


WRONG = {
    "key": {"api_key": "sk-b\u00e9d-secret"},
    "timeout": {"timeout": 0},
    "unknown option": {"modle": "x"},
    "address": {"base_url": "ftp://user:pa%40ss-word@example.com"},
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("options", WRONG.values(), ids=WRONG)
def test_crash_report_of_a_wrong_option_shows_no_secret(configured, settings, rf, options, debug):
    configured("https://user:pa%40ss-word@example.com/v1", **options)
    report = crash_report(lambda: get_embedder().embed(["a"]), settings, rf, debug)
    assert not [form for form in (KEY, "sk-b", "pa%40ss", "pa@ss") if form in report]


def test_log_lines_of_another_kind_are_left_alone(server, make, caplog):
    caplog.set_level(logging.INFO)
    make(base_url=f"{server.url}?key=sesame-open").embed(["a"])
    logging.getLogger("httpx").info("%(what)s", {"what": "words"})
    assert caplog.messages[-1] == "words"


def test_call_that_has_ended_asks_nothing_more(server, embedder):
    call = embedder._call(1)
    call.failure = EmbedderUnavailable("Away.")
    with pytest.raises(EmbedderUnavailable, match="Away"):
        call.ask(["a"])
    assert server.requests == []


def test_secrets_too_short_to_be_told_from_other_words_are_left():
    assert Secrets("no", "").mask(b"there is no key") == b"there is no key"


# Failures that last

PERMANENT = [
    (401, "No.", openai.AuthenticationError, ' Check OPENAI_API_KEY, or "api_key" in the OPTIONS.'),
    (403, "No.", openai.PermissionDeniedError, " Check what the key is allowed to do."),
    (404, "No.", openai.NotFoundError, ' Check "model" and "base_url" in the OPTIONS.'),
    (402, "Pay!", openai.APIStatusError, ""),
]


@pytest.mark.parametrize(("status", "message", "cause", "remedy"), PERMANENT)
def test_embed_lasting_failure_stops_at_one_request(server, make, status, message, cause, remedy):
    server.answer(error_of(message), status=status)
    with pytest.raises(EmbeddingError) as caught:
        make(batch_size=1, concurrency=1).embed(TEXTS)
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == f"{server.where} answered {status}: {message}{remedy}"
    assert isinstance(caught.value.__cause__, cause)
    assert len(server.requests) == 1


@pytest.mark.parametrize("field", ["code", "type"])
def test_embed_without_credit_stops_at_one_request(server, embedder, field):
    server.answer(error_of("You exceeded your quota", **{field: "insufficient_quota"}), status=429, **SOON)
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == f"{server.where} answered 429: You exceeded your quota. Add credit to the account."
    assert len(server.requests) == 1


def test_embed_each_credit_that_ends_half_way_keeps_what_is_paid(server, make):
    server.answer()
    server.answer(error_of("No credit.", code="insufficient_quota"), status=429)
    outcomes = make(batch_size=1, concurrency=1).embed_each(TEXTS)
    assert outcomes[0].tolist() == vector_of("a")
    assert outcomes[1] is outcomes[2]
    assert type(outcomes[1]) is EmbeddingError
    assert len(server.requests) == 2


ECHOES = {
    "message": error_of(f"Incorrect API key provided: {KEY}."),
    "elsewhere": error_of("No.", param=KEY),
    "no object": {"error": KEY},
    "text": KEY.encode(),
}


@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_embed_key_that_the_server_repeats_is_hidden(server, make, caplog, body, status):
    caplog.set_level(logging.DEBUG, logger="pgembedding_django")
    embedder = make(deadline=0)
    server.answer(body, status=status, times=2)
    with pytest.raises(EmbeddingError) as caught:
        embedder.embed(TEXTS)
    assert KEY not in told(caught.value) + caplog.text + repr(embedder)


def test_embed_long_words_of_the_server_are_cut(server, make):
    server.answer(error_of("x" * 1000), status=500, times=2)
    with pytest.raises(EmbedderUnavailable) as caught:
        make(deadline=0).embed(TEXTS)
    assert str(caught.value) == f"{server.where} answered 500: {'x' * 200}…"


# Failures that pass


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_embed_passing_failure_is_tried_again(server, embedder, status):
    server.answer(error_of("Later."), status=status, **SOON)
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert len(server.requests) == 2


@pytest.mark.parametrize("act", [reset, hang, drip, cut, stall])
def test_embed_lost_connection_or_silence_is_tried_again(server, make, act):
    server.misbehave(act)
    assert make(timeout=0.3).embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert len(server.requests) == 2


@pytest.mark.parametrize("headers", [{}, {"retry_after": "soon"}, {"retry_after": "-1"}, {"retry_after_ms": "nan"}])
def test_embed_overload_without_a_time_is_tried_again(server, embedder, headers):
    server.answer(error_of("Later."), status=429, **headers)
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)


@pytest.mark.parametrize("retry_after", ["1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_embed_waits_as_long_as_the_server_asks(server, embedder, retry_after):
    value = retry_after() if callable(retry_after) else retry_after
    server.answer(error_of("Later."), status=429, retry_after=value)
    started = time.monotonic()
    embedder.embed(TEXTS)
    assert time.monotonic() - started >= 0.9  # a date has whole seconds


def test_embed_server_that_asks_for_more_than_the_deadline_is_unavailable_at_once(server, make):
    server.answer(error_of("Later."), status=429, retry_after="300")
    with pytest.raises(EmbedderUnavailable) as caught:
        make(deadline=30).embed(TEXTS)
    assert str(caught.value) == f"{server.where} answered 429: Later."
    assert caught.value.retry_after == 300
    assert len(server.requests) == 1


def test_embed_lasting_overload_is_given_up_at_the_deadline(server, make):
    server.answer(error_of("Later."), status=503, times=1000, retry_after_ms="50")
    with pytest.raises(EmbedderUnavailable, match="answered 503"):
        make(deadline=0.5).embed(TEXTS)
    assert 2 < len(server.requests) < 12


def test_embed_query_waits_less_than_documents_do(server, make):
    server.answer(error_of("Later."), status=503, retry_after="11")
    with pytest.raises(EmbedderUnavailable):
        make(deadline=300).embed_query("a")


def test_embed_each_outage_half_way_keeps_what_is_paid(server, make):
    server.answer()
    server.answer(error_of("Away."), status=503, times=9)
    outcomes = make(batch_size=1, concurrency=1, deadline=0).embed_each(TEXTS)
    assert outcomes[0].tolist() == vector_of("a")
    assert [type(outcome) for outcome in outcomes[1:]] == [EmbedderUnavailable] * 2
    assert server.sizes() == [1, 1, 1]  # the last is the probe


def test_embed_each_fifth_of_the_requests_failing_pays_for_each_text_once(server, make, quick):
    server.fail(0.2, seed=5)
    texts = [f"text {number}" for number in range(2000)]
    assert lists(make(batch_size=25, concurrency=8).embed_each(texts)) == vectors_of(texts)
    assert server.served == dict.fromkeys(texts, 1)
    assert len(server.requests) > 80


# A server that fails for one text, and serves every other

#: What a server does for a text that it stumbles over.
STUMBLES = {
    "500": (500, error_of("Internal error."), JSON),
    "reset": reset,
    "cut": cut,
    "hang": hang,
}


@pytest.mark.parametrize("poisoned", STUMBLES.values(), ids=STUMBLES)
def test_embed_each_text_that_the_server_fails_for_is_found_by_halving(server, make, quick, poisoned):
    server.poison, server.poisoned = "☠", poisoned
    texts = [*"abcdefg", "☠"]
    outcomes = make(deadline=0.05, timeout=0.3).embed_each(texts)
    assert lists(outcomes[:7]) == vectors_of(texts[:7])
    assert isinstance(outcomes[7], TextRejected)
    assert str(outcomes[7]).startswith(f"OpenAIEmbedder cannot embed text 7: {server.where} ")
    assert str(outcomes[7]).endswith(" It answers other texts.")
    assert {server.served[text] for text in texts[:7]} == {1}


def test_embed_each_text_that_the_server_fails_for_takes_few_requests(server, make):
    server.poison, server.poisoned = "☠", STUMBLES["500"]
    make(deadline=0, concurrency=1).embed_each([*"abcdefg", "☠"])
    # Each part that fails is sent twice, and the probe in between.
    assert sorted(server.sizes()) == sorted([8, 1, 8, 4, 4, 1, 4, 2, 2, 1, 2, 1, 1, 1, 1])


def test_embed_each_text_that_the_server_fails_for_logs_no_text(server, make, caplog):
    server.poison, server.poisoned = "☠", STUMBLES["500"]
    make(deadline=0).embed_each(["☠"])
    assert caplog.messages == [
        f"{server.where} answered 500: Internal error. It answers other requests than this one of 1 texts."
    ]


def test_embed_each_alone_after_an_outage_that_ended_is_embedded(server, make):
    server.answer(error_of("Away."), status=503)
    assert lists(make(deadline=0).embed_each(["a"])) == vectors_of("a")
    assert [body["input"] for _path, _headers, body in server.requests] == [["a"], ["text"], ["a"]]


def test_embed_each_text_that_the_server_fails_for_is_found_after_a_refusal(server, make):
    server.poison, server.poisoned = "☠", STUMBLES["500"]
    server.answer(error_of("No."), status=400)
    rejected, vector = make(deadline=0).embed_each(["☠", "a"])
    assert "answered 500" in str(rejected)
    assert vector.tolist() == vector_of("a")


@pytest.mark.parametrize("waves", [1, 20])
def test_embed_each_server_that_is_down_gets_one_request_more(server, make, waves):
    server.answer(error_of("Away."), status=503, times=1000)
    with pytest.raises(EmbedderUnavailable):
        make(deadline=0, batch_size=4, concurrency=1).embed_each(["a"] * 4 * waves)
    assert server.sizes() == [4, 1]


def test_embed_each_server_that_goes_down_while_halving_stops_it(server, make):
    server.answers.extend([STUMBLES["500"], (200, data_of, JSON)] + [STUMBLES["500"]] * 1000)
    with pytest.raises(EmbedderUnavailable):
        make(deadline=0, concurrency=1).embed_each([*"abcdefgh"])
    assert server.sizes() == [8, 1, 8, 4, 1]


def test_embed_each_server_that_fails_for_every_text_but_the_probe_is_given_up(server, make):
    server.poison, server.poisoned = "☠", STUMBLES["500"]
    with pytest.raises(EmbedderUnavailable, match=r"answered 500: Internal error\.$"):
        make(deadline=0).embed_each(["☠"] * 256)
    assert len(server.requests) < 256


def test_embed_each_overload_while_halving_is_waited_for(server, make, monkeypatch):
    monkeypatch.setattr(calls, "FIRST_WAIT", 8)  # more than the deadline, so that only the overload is waited for
    server.poison, server.poisoned = "☠", STUMBLES["500"]
    server.answers.extend([STUMBLES["500"], (200, data_of, JSON), STUMBLES["500"]])
    server.answer(error_of("Later."), status=429, **SOON)
    vector, rejected = make(deadline=3, concurrency=1).embed_each(["a", "☠"])
    assert vector.tolist() == vector_of("a")
    assert "answered 500" in str(rejected)


@pytest.mark.parametrize(
    ("status", "body", "headers"), [(429, error_of("Later."), {"retry_after": "300"}), (200, b"<html>", {})]
)
def test_embed_each_failure_that_is_about_no_text_ends_the_halving(server, make, status, body, headers):
    server.answers.extend([STUMBLES["500"], (200, data_of, JSON)])
    server.answer(body, status=status, **headers)
    with pytest.raises(EmbedderUnavailable):
        make(deadline=0).embed_each(["a", "b"])
    assert server.sizes() == [2, 1, 2]


def test_embed_unreachable_server_is_unavailable(make):
    with pytest.raises(EmbedderUnavailable) as caught:
        make(base_url="http://127.0.0.1:9/v1", deadline=0).embed(TEXTS)
    assert str(caught.value) == "http://127.0.0.1:9/v1 cannot be reached (ConnectError)."
    assert KEY not in told(caught.value)


def test_embed_silent_server_is_unavailable(server, make):
    server.misbehave(hang, times=2)
    with pytest.raises(EmbedderUnavailable) as caught:
        make(deadline=0, timeout=0.2).embed(TEXTS)
    assert str(caught.value) == f"{server.where} did not answer in 0.2 seconds."


def test_embed_server_back_after_an_outage_is_used_again(server, make):
    embedder = make(deadline=0)
    server.answer(error_of("Away."), status=503, times=2)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(TEXTS)
    assert embedder.embed(TEXTS).tolist() == vectors_of(TEXTS)


def test_nearest_while_the_server_is_away_is_no_fault_of_the_question(server, settings):
    options = {"model": "test", "base_url": server.url, "api_key": KEY, "deadline": 0}
    backend = "pgembedding_django.embedders.openai.OpenAIEmbedder"
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    server.answer(error_of("Away."), status=503)
    with pytest.raises(EmbedderUnavailable) as caught:
        Article.objects.nearest("a question")
    assert str(caught.value) == f"{server.where} answered 503: Away."
    get_embedder().close()


# Logs


def test_embed_logs_counts_tokens_and_time(server, embedder, caplog):
    caplog.set_level(logging.INFO, logger="pgembedding_django.embedders")
    embedder.embed(TEXTS)
    [message] = caplog.messages
    assert message.startswith(f"{server.where} embedded 3 texts, 3 tokens, in 0.")


def test_embed_logs_each_retry(server, embedder, caplog):
    server.answer(error_of("Later."), status=503, **SOON)
    embedder.embed(TEXTS)
    assert caplog.messages == [f"{server.where} answered 503: Later. Trying again in 0.0 seconds (try 1 failed)."]


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": "3"}, 3])
def test_embed_without_usage_logs_no_tokens(server, embedder, caplog, usage):
    caplog.set_level(logging.INFO, logger="pgembedding_django.embedders")
    server.answer({"data": data_of(TEXTS), "usage": usage})
    embedder.embed(TEXTS)
    assert "3 texts, 0 tokens" in caplog.text


# Options


def test_identity_names_the_model_and_what_changes_documents(make):
    assert make().identity == "openai:test"
    assert make(model="text-embedding-3-small").identity == "openai:text-embedding-3-small:1536"
    assert make(model="text-embedding-3-small", dimensions=1536).identity == "openai:text-embedding-3-small:1536"
    assert make(dimensions=3, document_prefix="passage: ").identity == "openai:test:3:'passage: '"


def test_identity_stays_where_only_the_way_changes(make):
    other = make(api_key="other", base_url="http://other/v1", timeout=1, batch_size=9, query_prefix="query: ")
    assert other.identity == make().identity


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://user:secret@example.com:8443/v1?key=secret", "https://example.com:8443/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        (None, "https://api.openai.com/v1"),
    ],
)
def test_sends_to_is_the_server_without_credentials(make, monkeypatch, url, sent):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert make(base_url=url).sends_to == sent


def test_sends_to_follows_the_environment(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    embedder = make(base_url=None)
    assert embedder.sends_to == server.where
    assert embedder.embed(["a"]).tolist() == [vector_of("a")]


def test_suggestions_for_a_pipeline_are_the_options(make):
    assert (make().batch_size, make().concurrency, make().price) == (256, 4, None)
    embedder = make(batch_size=2048, concurrency=9, price=0.02)
    assert (embedder.batch_size, embedder.concurrency, embedder.price) == (2048, 9, 0.02)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"batch_size": 2049}, "batch_size must be at most 2048, got 2049."),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0."),
        ({"concurrency": 1.5}, "concurrency must be a positive integer, got 1.5."),
        ({"max_tokens": True}, "max_tokens must be a positive integer, got True."),
        ({"timeout": 0}, "timeout must be a number of at least 0.001, got 0."),
        ({"deadline": "9"}, "deadline must be a number of at least 0, got '9'."),
        ({"price": -1}, "price must be a number of at least 0, got -1."),
        ({"price": float("nan")}, "price must be a number of at least 0, got nan."),
        ({"base_url": "user:secret@host/v1"}, 'base_url must start with "http://" or "https://".'),
        ({"too_long": "cut"}, 'too_long must be "reject" or "truncate", got \'cut\'.'),
    ],
)
def test_init_wrong_option_is_refused(make, option, sentence):
    with pytest.raises(ValueError) as caught:
        make(**option)
    assert str(caught.value) == f"OpenAIEmbedder.{sentence}"


# The client


def test_request_is_given_a_minute_and_the_client_never_retries_by_itself(embedder):
    embedder.embed(["a"])
    endpoint = embedder._opened[1]
    assert (endpoint.timeout, endpoint.client.max_retries) == (60.0, 0)


def test_client_key_comes_from_the_environment(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    make(api_key=None).embed(TEXTS)
    assert server.requests[0][1]["authorization"] == "Bearer sk-of-the-environment"


def test_client_line_end_is_no_part_of_a_key(server, make):
    make(api_key=f"{KEY}\n").embed(TEXTS)
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}é", f"{KEY}\x00"])
def test_client_key_that_no_header_can_hold_is_refused_unseen(make, key):
    with pytest.raises(ImproperlyConfigured, match="no usable key") as caught:
        make(api_key=key).embed(TEXTS)
    assert KEY not in told(caught.value)


@pytest.mark.parametrize("environment", [None, ""])
@pytest.mark.parametrize("key", [None, "", "\n"])
def test_client_without_key_names_both_settings(server, make, monkeypatch, key, environment):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if environment is not None:
        monkeypatch.setenv("OPENAI_API_KEY", environment)
    with pytest.raises(ImproperlyConfigured) as caught:
        make(api_key=key).embed(TEXTS)
    assert str(caught.value) == (
        'OpenAIEmbedder has no usable key: set OPENAI_API_KEY in the environment, or "api_key" in the OPTIONS of '
        'PGEMBEDDING["EMBEDDERS"].'
    )
    assert server.requests == []


def test_client_without_package_says_what_to_install(embedder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        embedder.embed(TEXTS)
    assert str(caught.value) == 'OpenAIEmbedder needs openai: pip install "pgembedding-django[openai]"'


def test_init_opens_nothing(embedder):
    assert embedder._opened is None
    embedder.close()


def test_close_embedder_can_be_used_again(server, embedder):
    embedder.embed(["a"])
    embedder.close()
    assert embedder.embed(["b"]).tolist() == [vector_of("b")]


def test_forgotten_embedder_closes_its_connections(server):
    embedder = OpenAIEmbedder(model="test", base_url=server.url, api_key=KEY)
    embedder.embed(["a"])
    client = embedder._opened[1].client
    del embedder
    gc.collect()
    assert client.is_closed()


def test_forked_process_opens_connections_of_its_own(server, make, monkeypatch):
    embedder = make()
    embedder.embed(["a"])
    inherited = embedder._opened[1].client
    monkeypatch.setattr(os, "getpid", lambda: -1)  # what the copy of a process sees of itself
    assert embedder.embed(["b"]).tolist() == [vector_of("b")]
    assert embedder._opened[1].client is not inherited
    embedder.close()
    monkeypatch.undo()
    assert not inherited.is_closed()
    inherited.close()


def test_forked_process_leaves_the_connections_of_its_parent_open(embedder, monkeypatch):
    embedder.embed(["a"])
    inherited = embedder._opened[1].client
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -2)
        embedder.close()
    assert not inherited.is_closed()
    inherited.close()


def test_process_that_ends_closes_its_connections(server):
    script = (
        "from django.conf import settings; settings.configure()\n"
        "from pgembedding_django.embedders.openai import OpenAIEmbedder\n"
        f"embedder = OpenAIEmbedder(model='test', base_url={server.url!r}, api_key='none')\n"
        "print(embedder.embed(['a']).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (f"{[vector_of('a')]}\n", "", 0)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, None, None),
        ({"retry-after": "2.5"}, 2.5, 2.5),
        ({"retry-after": "0"}, 0, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 1e11, 1e12),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({"retry-after": "-3"}, None, None),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25, 0.25),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1, 1),
    ],
)
def test_retry_after_reads_seconds_and_dates(headers, least, most):
    seconds = retry_after(headers)
    assert seconds is None if least is None else least <= seconds <= most


@pytest.mark.parametrize(
    ("tries", "asked", "least", "most"),
    [(1, None, 0.25, 0.5), (3, None, 1, 2), (99, None, 4, 8), (1, 2.0, 2, 2.2), (1, 300.0, 60, 66)],
)
def test_seconds_before_a_try_grow_up_to_a_limit(tries, asked, least, most):
    drawn = [calls._seconds(tries, asked) for _ in range(200)]
    assert least <= min(drawn) < max(drawn) <= most
