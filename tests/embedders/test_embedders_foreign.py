"""CallableEmbedder and LangChainEmbedder: code that is not ours turns texts into vectors."""

import asyncio

import numpy as np
import openai
import pytest
from django.core.exceptions import ImproperlyConfigured
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError, TextRejected, get_embedder
from pgembedding_django.embedders.callable import CallableEmbedder
from pgembedding_django.embedders.langchain import LangChainEmbedder
from tests.support.embeddings_server import EmbeddingsServer, error_of

HERE = __name__
FAKE = "langchain_core.embeddings.DeterministicFakeEmbedding"
NUMBER = 3


def lengths(texts):
    """Embed a text as its length and 1."""
    for text in texts:
        if "bad" in text:
            raise ValueError(f"secret words about {text}")
    return [[len(text), 1] for text in texts]


class Status(Exception):
    def __init__(self, status):
        super().__init__("sk-secret")
        self.status_code = status


class Response(Exception):
    def __init__(self, status):
        super().__init__("sk-secret")
        self.response = Status(status)


class Texts(Embeddings):
    """Tells documents from questions, and refuses "bad"."""

    model = "texts-1"

    def embed_documents(self, texts):
        return lengths(texts)

    def embed_query(self, text):
        return [lengths([text])[0][0], 2]


class Needy(Texts):
    def __init__(self, api_key):
        raise ValueError(f"wrong key {api_key}")


def raising(error):
    def function(texts):
        raise error

    return function


# Functions


def test_backend_may_be_a_function(settings):
    settings.PGEMBEDDING = {"EMBEDDERS": {"default": {"BACKEND": f"{HERE}.lengths"}}}
    assert get_embedder().embed(["a", "bc"]).tolist() == [[1, 1], [2, 1]]
    assert get_embedder().identity == f"{HERE}.lengths"
    assert get_embedder() is get_embedder()


def test_backend_function_takes_the_options_of_every_embedder(settings):
    options = {"dimensions": 2, "price": 1.5, "query_prefix": "q: ", "sends_to": ""}
    settings.PGEMBEDDING = {"EMBEDDERS": {"default": {"BACKEND": f"{HERE}.lengths", "OPTIONS": options}}}
    assert get_embedder().embed_query("a").tolist() == [4, 1]
    assert (get_embedder().dimensions, get_embedder().price, get_embedder().sends_to) == (2, 1.5, "")


def test_callable_takes_a_function_or_its_path():
    assert CallableEmbedder(function=lengths).embed(["abc"]).tolist() == [[3, 1]]
    assert CallableEmbedder(function=f"{HERE}.lengths").embed(["abc"]).tolist() == [[3, 1]]
    assert CallableEmbedder(function=lengths).identity == CallableEmbedder(function=f"{HERE}.lengths").identity


def test_callable_sends_texts_nobody_knows_where():
    assert CallableEmbedder(function=lengths).sends_to == f"{HERE}.lengths"


def test_callable_bad_text_is_found_and_its_exception_is_the_cause():
    rejected, vector = CallableEmbedder(function=lengths).embed_each(["bad", "a"])
    assert str(rejected) == f"CallableEmbedder cannot embed text 0: {HERE}.lengths raised ValueError."
    assert vector.tolist() == [1, 1]
    causes = (rejected.__cause__, rejected.__cause__.__cause__, rejected.__cause__.__cause__.__cause__)
    assert isinstance(causes[-1], ValueError)


@pytest.mark.parametrize("error", [ConnectionResetError(), Status(500), ValueError("odd")])
@pytest.mark.parametrize("wrap", ["function", "LangChain"])
def test_text_that_code_of_others_raises_for_is_isolated(monkeypatch, error, wrap):
    def one_fails(texts):
        if "odd" in texts:
            raise error
        return lengths(texts)

    monkeypatch.setattr(Texts, "embed_documents", lambda self, texts: one_fails(texts))
    embedder = CallableEmbedder(function=one_fails) if wrap == "function" else LangChainEmbedder(embeddings=Texts())
    outcomes = embedder.embed_each(["a", "b", "odd", "c"])
    assert isinstance(outcomes[2], TextRejected)
    assert [outcome.tolist() for outcome in outcomes[:2] + outcomes[3:]] == [[1, 1]] * 3


def test_too_many_requests_are_not_made_more():
    calls = []

    def busy(texts):
        calls.append(texts)
        raise Status(429)

    with pytest.raises(EmbedderUnavailable, match="Status 429"):
        CallableEmbedder(function=busy).embed(["a", "b"])
    assert calls == [["a", "b"]]


def test_callable_that_yields_and_then_raises_is_caught_too():
    def function(texts):
        yield [1, 2]
        raise ValueError

    with pytest.raises(EmbeddingError, match="raised ValueError"):
        CallableEmbedder(function=function).embed(["a", "b"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "TimeoutError"),
        (ConnectionRefusedError(), "ConnectionRefusedError"),
        (Status(429), "Status 429"),
        (Response(503), "Response 503"),
    ],
)
def test_callable_outage_is_unavailable(error, told):
    embedder = CallableEmbedder(function=raising(error))
    with pytest.raises(EmbedderUnavailable) as caught:
        embedder.embed(["a"])
    assert str(caught.value) == f"{embedder.identity} raised {told}."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [Status(401), Response(404), Status("odd"), KeyError("sk-secret")])
def test_callable_failure_for_every_text_is_raised_without_its_words(error):
    with pytest.raises(EmbeddingError) as caught:
        CallableEmbedder(function=raising(error)).embed(["a", "b"])
    assert type(caught.value) is EmbeddingError
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("error", [TextRejected("No."), EmbedderUnavailable("Away."), ImproperlyConfigured("No key.")])
def test_callable_errors_meant_for_us_pass_on(error):
    with pytest.raises(type(error)):
        CallableEmbedder(function=raising(error)).compute(["a"])


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("no.such", "CallableEmbedder.function cannot be imported: No module named 'no'"),
        (f"{HERE}.NUMBER", "CallableEmbedder.function must be a function, got int."),
    ],
)
def test_callable_wrong_path_is_told_at_the_first_text(path, sentence):
    embedder = CallableEmbedder(function=path)
    with pytest.raises(ImproperlyConfigured) as caught:
        embedder.embed(["a"])
    assert str(caught.value) == sentence


# LangChain


def test_langchain_object_embeds_documents_and_questions():
    embedder = LangChainEmbedder(embeddings=Texts())
    assert embedder.embed(["a", "bc"]).tolist() == [[1, 1], [2, 1]]
    assert embedder.embed_query("abc").tolist() == [3, 2]


def test_langchain_path_and_kwargs_make_the_object(settings):
    options = {"embeddings": FAKE, "kwargs": {"size": 8}, "dimensions": 8}
    backend = "pgembedding_django.embedders.langchain.LangChainEmbedder"
    settings.PGEMBEDDING = {"EMBEDDERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    expected = np.float32(DeterministicFakeEmbedding(size=8).embed_query("a"))
    assert get_embedder().embed_query("a").tolist() == expected.tolist()
    assert get_embedder().sends_to == "DeterministicFakeEmbedding"


def test_langchain_async_gives_what_sync_gives():
    embedder = LangChainEmbedder(embeddings=Texts())

    async def ask():
        return await embedder.aembed(["a", "bc"]), await embedder.aembed_query("abc")

    embedded, query = asyncio.run(ask())
    assert (embedded.tolist(), query.tolist()) == ([[1, 1], [2, 1]], [3, 2])


def test_langchain_bad_text_spares_the_others():
    rejected, vector = LangChainEmbedder(embeddings=Texts()).embed_each(["bad", "a"])
    assert str(rejected) == "LangChainEmbedder cannot embed text 0: Texts raised ValueError."
    assert vector.tolist() == [1, 1]


def test_langchain_bad_question_is_told():
    embedder = LangChainEmbedder(embeddings=Texts())
    with pytest.raises(EmbeddingError, match="Texts raised ValueError"):
        embedder.embed_query("bad")
    with pytest.raises(EmbeddingError, match="Texts raised ValueError"):
        asyncio.run(embedder.aembed_query("bad"))


@pytest.mark.parametrize("method", ["embed_documents", "embed_query"])
def test_langchain_errors_meant_for_us_pass_on(monkeypatch, method):
    monkeypatch.setattr(Texts, method, lambda self, texts: raising(EmbedderUnavailable("Away."))(texts))
    embedder = LangChainEmbedder(embeddings=Texts())
    with pytest.raises(EmbedderUnavailable, match=r"Away\."):
        embedder.embed(["a"]) if method == "embed_documents" else embedder.embed_query("a")
    if method == "embed_query":
        with pytest.raises(EmbedderUnavailable, match=r"Away\."):
            asyncio.run(embedder.aembed_query("a"))


def test_langchain_identity_names_class_and_model():
    assert LangChainEmbedder(embeddings=Texts(), dimensions=2).identity == "langchain:Texts:texts-1:2"
    assert LangChainEmbedder(embeddings=FAKE, kwargs={"size": 3}).identity == "langchain:DeterministicFakeEmbedding"
    assert LangChainEmbedder(embeddings=Texts(), sends_to="").sends_to == ""


@pytest.mark.parametrize("model", ["http://host:8080", None, 3])
def test_langchain_identity_leaves_out_what_names_no_model(monkeypatch, model):
    monkeypatch.setattr(Texts, "model", model)
    assert LangChainEmbedder(embeddings=Texts()).identity == "langchain:Texts"


def test_langchain_wrong_path_is_told_at_the_first_text():
    with pytest.raises(ImproperlyConfigured, match=r"LangChainEmbedder\.embeddings cannot be imported: No module"):
        LangChainEmbedder(embeddings="no.Such").embed(["a"])


def test_langchain_wrong_kwargs_are_told_without_their_values():
    embedder = LangChainEmbedder(embeddings=f"{HERE}.Needy", kwargs={"api_key": "sk-secret"})
    with pytest.raises(ImproperlyConfigured) as caught:
        embedder.embed(["a"])
    assert str(caught.value) == (
        f'LangChainEmbedder.kwargs do not suit {HERE}.Needy (ValueError). Call it in "manage.py shell" to read why.'
    )
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("status", "error"), [(503, EmbedderUnavailable), (401, EmbeddingError)])
def test_langchain_openai_failures_are_told_apart(status, error):
    with EmbeddingsServer() as server:
        server.answer(error_of("No: sk-secret."), status=status, times=9)
        kwargs = {"base_url": server.url, "api_key": "sk-secret", "max_retries": 0, "check_embedding_ctx_length": False}
        embedder = LangChainEmbedder(embeddings="langchain_openai.OpenAIEmbeddings", kwargs=kwargs)
        with pytest.raises(error) as caught:
            embedder.embed(["a"])
        embedder.embeddings.client._client.close()
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, openai.APIStatusError)
    assert "sk-secret" not in str(caught.value)
