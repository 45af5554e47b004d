"""What a store finds: scores, filters, relevance, diversity."""

import numpy as np
import pytest

from pgembedding_django.documents.models import Collection
from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, Wrong, texts


def test_scores_are_distances(store):
    store.add_texts(["a", "aaaa", "d"], ids=["1", "2", "3"])
    found = store.similarity_search_with_score("a", k=3)
    assert [(document.id, score) for document, score in found] == [("1", 0.0), ("2", 3.0), ("3", 3.0)]


def test_search_returns_four_documents(store):
    store.add_texts(list("abcdef"))
    assert texts(store.similarity_search("a")) == ["a", "b", "c", "d"]
    assert texts(store.similarity_search_by_vector([1, 6])) == ["f", "e", "d", "c"]


def test_search_filters_by_metadata(store):
    store.add_texts(list("abc"), [{"page": page} for page in (1, 2, 3)])
    assert texts(store.similarity_search("a", filter={"page": {"$gt": 1}})) == ["b", "c"]
    assert texts(store.as_retriever(search_kwargs={"filter": {"page": 3}}).invoke("a")) == ["c"]


def test_search_does_not_load_the_vectors(store, django_assert_num_queries):
    store.add_texts(list("abc"))
    with django_assert_num_queries(2) as queries:
        store.similarity_search("a")
    assert '_send("pgembedding_documents_document"."embedding")' not in queries.captured_queries[-1]["sql"]


def test_search_of_numpy_vector_works(store):
    store.add_texts(list("abc"))
    assert texts(store.similarity_search_by_vector(np.array([1, 2]), k=1)) == ["b"]


def test_mmr_avoids_what_is_alike(store):
    store.add_embeddings(["near", "nearly", "far"], [[1, 0.1], [1, 0.11], [0.5, 1]], ids=["1", "2", "3"])
    assert texts(store.max_marginal_relevance_search_by_vector([1, 0], k=2, lambda_mult=0.1)) == ["near", "far"]
    assert texts(store.max_marginal_relevance_search_by_vector([1, 0], k=2, lambda_mult=1)) == ["near", "nearly"]


def test_mmr_with_a_bad_lambda_is_an_error(store):
    store.add_texts(["a"])
    with pytest.raises(ValueError, match=r"^lambda_mult must be a number from 0 to 1, got 3\.$"):
        store.max_marginal_relevance_search("a", lambda_mult=3)


def test_mmr_has_scores(store):
    store.add_embeddings(["a", "b"], [[1, 1], [4, 5]])
    found = store.max_marginal_relevance_search_with_score("a", k=2)
    assert [(document.page_content, score) for document, score in found] == [("a", 0.0), ("b", 5.0)]


def test_mmr_fetches_as_many_as_are_wanted(store):
    store.add_texts(list("abcdef"))
    assert len(store.max_marginal_relevance_search("a", k=5, fetch_k=2)) == 5


def test_mmr_filters_by_metadata(store):
    store.add_texts(list("abc"), [{"page": page} for page in (1, 2, 3)])
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"filter": {"page": {"$ne": 1}}})
    assert set(texts(retriever.invoke("a"))) == {"b", "c"}


def test_relevance_of_l2_is_one_where_equal_and_never_negative(store):
    store.add_embeddings(["a", "b", "c"], [[1, 1], [1, 1 + 2**-0.5], [9, 9]])
    found = store.similarity_search_with_relevance_scores("a")
    assert [score for _, score in found] == pytest.approx([1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("distance", "scores"),
    [
        ("cosine", [1, 0.6, 0]),
        pytest.param("inner_product", [1, 0.6, 0], marks=pytest.mark.pgvector),
        ("l1", [1, 1 / 2.2, 1 / 3]),
    ],
)
def test_relevance_follows_the_distance_of_the_collection(db, distance, scores):
    Collection.objects.create(name="other", distance=distance)
    store = PGEmbedding(embedding_function=Letters(), using="default", collection_name="other")
    store.add_embeddings(["a", "b", "c"], [[1, 0], [0.6, 0.8], [0, 1]])
    store.embedding_function = Wrong([1, 0])
    found = store.similarity_search_with_relevance_scores("a")
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-6)


def test_retriever_keeps_to_its_threshold(store):
    store.add_embeddings(["a", "b", "c"], [[1, 1], [1, 1.5], [9, 9]])
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6})
    assert texts(retriever.invoke("a")) == ["a", "b"]


def test_every_search_keeps_to_a_threshold(store):
    store.add_embeddings(["a", "b", "c"], [[1, 1], [1, 1.5], [9, 9]])
    options = {"score_threshold": 0.6}
    assert texts(store.similarity_search("a", **options)) == ["a", "b"]
    assert texts(store.similarity_search_by_vector([1, 1], **options)) == ["a", "b"]
    assert texts(store.max_marginal_relevance_search("a", **options)) == ["a", "b"]
    assert [score for _, score in store.similarity_search_with_score("a", **options)] == [0, 0.5]
    assert texts(store.as_retriever(search_kwargs=options).invoke("a")) == ["a", "b"]


def test_relevance_that_the_store_was_given_counts(db):
    store = PGEmbedding(embedding_function=Letters(), using="default", relevance_score_fn=lambda distance: -distance)
    store.add_embeddings(["a", "b"], [[1, 1], [1, 1.5]])
    with pytest.warns(UserWarning, match="Relevance scores must be between 0 and 1"):
        assert [score for _, score in store.similarity_search_with_relevance_scores("a")] == [0, -0.5]
    assert texts(store.similarity_search("a", score_threshold=-0.1)) == ["a"]


def test_search_in_a_deleted_collection_is_told(store):
    store.delete_collection()
    with pytest.raises(ValueError) as caught:
        store.similarity_search("a")
    assert str(caught.value) == 'Collection "langchain" was deleted. Call create_collection() first.'
