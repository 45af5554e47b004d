"""A keyword that a method of the store does not know is refused."""

import pytest
from langchain_core.documents import Document

from pgembedding_django.documents.models import Collection
from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, asyncio_run, contents


@pytest.mark.parametrize(
    ("method", "arguments", "keyword"),
    [
        ("delete", {}, {"where": {}}),
        ("delete", {}, {"id": ["1"]}),
        ("delete", {}, {"document_ids": ["1"]}),
        ("delete", {}, {"collection_only": True}),
        ("add_texts", {"texts": ["a"]}, {"embeddings": []}),
        ("add_embeddings", {"texts": ["a"], "embeddings": [[1, 2]]}, {"id": ["1"]}),
        ("add_documents", {"documents": []}, {"metadatas": []}),
        ("similarity_search", {"query": "a"}, {"filters": {}}),
        ("similarity_search", {"query": "a"}, {"where": {}}),
        ("similarity_search", {"query": "a"}, {"hybrid_search_config": None}),
        ("similarity_search_with_score", {"query": "a"}, {"filters": {}}),
        ("similarity_search_by_vector", {"embedding": [1, 2]}, {"where": {}}),
        ("similarity_search_with_score_by_vector", {"embedding": [1, 2]}, {"where": {}}),
        ("similarity_search_with_relevance_scores", {"query": "a"}, {"where": {}}),
        ("max_marginal_relevance_search", {"query": "a"}, {"filters": {}}),
        ("max_marginal_relevance_search_by_vector", {"embedding": [1, 2]}, {"filters": {}}),
        ("search", {"query": "a", "search_type": "mmr"}, {"filters": {}}),
        ("get", {}, {"where_document": {}}),
    ],
)
@pytest.mark.parametrize("twin", [False, True])
def test_keyword_that_a_method_does_not_know_is_refused(filled, method, arguments, keyword, twin):
    call = asyncio_run(getattr(filled, f"a{method}")) if twin else getattr(filled, method)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(keyword))}'"):
        call(**arguments, **keyword)
    assert len(contents(filled)) == 3


@pytest.mark.parametrize("kind", ["similarity", "mmr", "similarity_score_threshold"])
def test_retriever_refuses_what_its_search_does_not_know(filled, kind):
    arguments = {"search_type": kind, "search_kwargs": {"filters": {"source": "x"}, "score_threshold": 0.5}}
    with pytest.raises(TypeError, match="unexpected keyword argument 'filters'"):
        filled.as_retriever(**arguments).invoke("a")
    with pytest.raises(TypeError, match="unexpected keyword argument 'where'"):
        filled.as_retriever().invoke("a", where={"source": "x"})


def test_retriever_refuses_what_belongs_into_search_kwargs(filled):
    with pytest.raises(TypeError) as caught:
        filled.as_retriever(filter={"source": "x"})
    assert str(caught.value) == (
        "as_retriever() got an unexpected keyword argument 'filter'. Put it into search_kwargs."
    )


MAKERS = {
    "from_texts": (["a"],),
    "from_documents": ([Document("a")],),
    "from_embeddings": ([("a", [1, 2])],),
}


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_new_store_refuses_an_unknown_keyword_before_it_embeds(db, name, twin):
    embeddings = Letters()
    make = asyncio_run(getattr(PGEmbedding, f"a{name}")) if twin else getattr(PGEmbedding, name)
    with pytest.raises(TypeError) as caught:
        make(*MAKERS[name], embeddings, using="default", distance="l2")
    assert str(caught.value) == "PGEmbedding() got an unexpected keyword argument 'distance'."
    assert embeddings.calls == []
    assert not Collection.objects.exists()


def test_existing_index_refuses_an_unknown_keyword(db):
    with pytest.raises(TypeError, match="unexpected keyword argument 'distance'"):
        PGEmbedding.from_existing_index(Letters(), distance="l2")
