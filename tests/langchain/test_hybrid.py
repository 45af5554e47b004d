"""A store's search by meaning and by words, reranked or not."""

import pytest
from langchain_core.documents import Document

from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, asyncio_run, texts

TEXTS = ["a red fox", "b lazy dog sleeps", "c fox", "d hound and hare"]


def filled_with_texts(store):
    store.add_texts(TEXTS, [{"page": page} for page in range(4)], ids=list("0123"))
    return store


@pytest.fixture
def store(db):
    return filled_with_texts(PGEmbedding(embedding_function=Letters(), using="default"))


def backwards(question, texts):
    return [texts.index(text) for text in texts]


@pytest.fixture
def reranker(settings):
    settings.PGEMBEDDING = {
        **settings.PGEMBEDDING,
        "RERANKERS": {"default": {"BACKEND": "tests.langchain.test_hybrid.backwards"}},
    }


def test_scores_are_those_of_a_fusion_by_hand(store):
    """By distance to (3, 6): c fox (5, 3), a red fox (9, 1), d hound (16, 4), b lazy (17, 2). By words: c and a."""
    found = {document.page_content: score for document, score in store.hybrid_search_with_score("fox", config="simple")}
    meaning = {"c fox": 1, "a red fox": 2, "d hound and hare": 3, "b lazy dog sleeps": 4}
    words = {"a red fox": 1, "c fox": 2}
    assert found == pytest.approx(
        {text: 1 / (60 + place) + (1 / (60 + words[text]) if text in words else 0) for text, place in meaning.items()}
    )
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_weights_choose_between_meaning_and_words(store):
    assert texts(store.hybrid_search("fox", 4, config="simple", weights=(1, 0))) == [TEXTS[i] for i in (2, 0, 3, 1)]
    assert set(texts(store.hybrid_search("fox", 2, config="simple", weights=(0, 1)))) == {TEXTS[0], TEXTS[2]}


def test_filter_and_k_hold(store):
    assert texts(store.hybrid_search("fox", 1, {"page": {"$gt": 0}}, config="simple")) == ["c fox"]


def test_reranker_orders_the_best_anew(store, reranker):
    before = texts(store.hybrid_search("fox", 4, config="simple"))
    found = store.hybrid_search_with_score("fox", 2, config="simple", rerank="default")
    assert [(document.page_content, score) for document, score in found] == [(before[3], 3), (before[2], 2)]


def test_retriever_searches_by_hybrid(store, reranker):
    options = {"k": 1, "config": "simple", "rerank": "default", "fetch_k": 2}
    found = store.as_retriever(search_type="hybrid", search_kwargs=options).invoke("fox")
    assert [type(document) for document in found] == [Document]
    assert texts(found) == [texts(store.hybrid_search("fox", 2, config="simple"))[1]]


def test_async_search_and_retriever_do_the_same(store_of_async):
    store = filled_with_texts(store_of_async)
    expected = store.hybrid_search_with_score("fox", config="simple")
    assert asyncio_run(store.ahybrid_search_with_score)("fox", config="simple") == expected
    assert asyncio_run(store.ahybrid_search)("fox", config="simple") == store.hybrid_search("fox", config="simple")
    retriever = store.as_retriever(search_type="hybrid", search_kwargs={"config": "simple", "k": 2})
    assert asyncio_run(retriever.ainvoke)("fox") == store.hybrid_search("fox", 2, config="simple")


def test_hybrid_embeds_the_question_once_and_by_the_store(store):
    store.embeddings.calls.clear()
    store.hybrid_search("fox")
    assert store.embeddings.calls == [["fox"]]


def test_retriever_of_hybrid_refuses_what_it_does_not_know(store):
    with pytest.raises(TypeError, match="unexpected keyword argument 'filters'"):
        store.as_retriever(search_type="hybrid", search_kwargs={"filters": {}}).invoke("fox")
    with pytest.raises(ValueError, match="search_type of words not allowed"):
        store.as_retriever(search_type="words")
