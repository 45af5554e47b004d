import asyncio
import importlib
import inspect
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils.functional import empty
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from pgembedding_django.documents.models import Collection
from pgembedding_django.documents.models import Document as Row
from pgembedding_django.langchain import PGEmbedding
from pgembedding_django.langchain.setup import Database, find_database, find_engine
from tests.support.waiting import wait_for

OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Letters(Embeddings):
    """Two numbers that are easy to write down: how many letters, and the first one's place in the alphabet."""

    def __init__(self):
        self.calls = []

    def embed_documents(self, texts):
        self.calls.append(texts)
        return [[float(len(text)), float(ord(text[0]) - 96)] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


class Wrong(Letters):
    """Gives what it is told."""

    def __init__(self, *vectors):
        self.vectors = vectors

    def embed_documents(self, texts):
        return list(self.vectors)


@pytest.fixture
def store(db):
    """A store in the test's own transaction."""
    return PGEmbedding(embedding_function=Letters(), using="default")


@pytest.fixture
def connection_string(fresh_database):
    """The URL of an empty database; what is connected to it by then is forgotten."""
    entry, known = fresh_database.connection.settings_dict, set(connections.settings)
    password = f":{quote(entry['PASSWORD'])}" if entry["PASSWORD"] else ""
    place = urlencode({"host": entry["HOST"], "port": entry["PORT"] or 5432})
    yield f"postgresql+psycopg2://{entry['USER']}{password}@/{fresh_database.name}?{place}"
    for alias in set(connections.settings) - known:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture
def store_of_async(transactional_db):
    return PGEmbedding(embedding_function=Letters())


def asyncio_run(method):
    """Return an async method as one that can be called without awaiting it."""

    def run(*args, **kwargs):
        return asyncio.run(method(*args, **kwargs))

    return run


def contents(store):
    return dict(store.get_collection().documents.values_list("key", "content"))


def texts(documents):
    return [document.page_content for document in documents]


@pytest.mark.django_db(transaction=True)
class TestStandard(VectorStoreIntegrationTests):
    """LangChain's own suite, sync and async."""

    @pytest.fixture
    def vectorstore(self):
        return PGEmbedding(embedding_function=self.get_embeddings(), using="default")


# What the retired class took

EMPTY = inspect.Parameter.empty
NEW = {"collection_name": "langchain", "ids": None, "pre_delete_collection": False}
SIGNATURES = {
    "__init__": {
        "connection_string": EMPTY,
        "embedding_function": EMPTY,
        "collection_name": "langchain",
        "collection_metadata": None,
        "pre_delete_collection": False,
        "logger": None,
    },
    "connect": {},
    "create_hnsw_extension": {},
    "create_tables_if_not_exists": {},
    "drop_tables": {},
    "create_collection": {},
    "delete_collection": {},
    "get_collection": {"session": EMPTY},
    "create_hnsw_index": {"max_elements": 10000, "dims": 1536, "m": 8, "ef_construction": None, "ef_search": 16},
    "add_embeddings": {"texts": EMPTY, "embeddings": EMPTY, "metadatas": EMPTY, "ids": EMPTY},
    "add_texts": {"texts": EMPTY, "metadatas": None, "ids": None},
    "similarity_search": {"query": EMPTY, "k": 4, "filter": None},
    "similarity_search_with_score": {"query": EMPTY, "k": 4, "filter": None},
    "similarity_search_with_score_by_vector": {"embedding": EMPTY, "k": 4, "filter": None},
    "similarity_search_by_vector": {"embedding": EMPTY, "k": 4, "filter": None},
    "from_texts": {"texts": EMPTY, "embedding": EMPTY, "metadatas": None, **NEW},
    "from_embeddings": {"text_embeddings": EMPTY, "embedding": EMPTY, "metadatas": None, **NEW},
    "from_documents": {"documents": EMPTY, "embedding": EMPTY, **NEW},
    "from_existing_index": {"embedding": EMPTY, "collection_name": "langchain", "pre_delete_collection": False},
    "get_connection_string": {"kwargs": EMPTY},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_method_takes_what_the_retired_one_took(name):
    parameters = inspect.signature(getattr(PGEmbedding, name)).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    assert [p.name for p in positional] == list(SIGNATURES[name])
    for parameter in positional:
        assert SIGNATURES[name][parameter.name] in (EMPTY, parameter.default)


# What is added


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda store: store.add_texts("ab"), "texts"),
        (lambda store: store.add_embeddings("ab", [[1, 2], [1, 2]]), "texts"),
        (lambda store: store.from_texts("ab", Letters()), "texts"),
        (lambda store: store.add_texts(["a", "b"], ids="ab"), "ids"),
        (lambda store: store.delete("ab"), "ids"),
        (lambda store: store.get_by_ids("ab"), "ids"),
    ],
)
def test_str_for_a_list_is_refused_and_changes_nothing(store, call, name):
    store.add_texts(["first", "second"], ids=["a", "b"])
    with pytest.raises(TypeError) as caught:
        call(store)
    assert str(caught.value) == f"{name} must be a list of str, got a str. Put it in a list."
    assert contents(store) == {"a": "first", "b": "second"}


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\0b", "\ud800"])
def test_name_that_no_collection_can_have_is_refused(db, name):
    with pytest.raises(ValueError, match=r"Collection\.name must"):
        PGEmbedding(embedding_function=Letters(), collection_name=name, using="default")
    assert not Collection.objects.exists()


def test_generator_of_texts_is_stored(store):
    ids = store.add_texts(letter for letter in "abc")
    assert contents(store) == dict(zip(ids, "abc", strict=True))


def test_generator_of_documents_is_stored(store):
    store.add_documents(Document(letter, id=letter) for letter in "abc")
    assert contents(store) == {"a": "a", "b": "b", "c": "c"}


def test_texts_are_embedded_in_one_call(store):
    store.add_texts(list("abc"))
    assert store.embeddings.calls == [["a", "b", "c"]]


def test_no_texts_are_no_call(store):
    assert store.add_texts([]) == []
    assert store.embeddings.calls == []


def test_same_ids_keep_the_newer_content(store):
    store.add_texts(["a", "b"], [{"page": 1}, {"page": 1}], ids=["1", "2"])
    store.add_texts(["c"], [{"page": 2}], ids=["1"])
    assert contents(store) == {"1": "c", "2": "b"}
    assert store.get_by_ids(["1"])[0].metadata == {"page": 2}


def test_same_ids_in_one_call_keep_the_later_text(store):
    assert store.add_texts(["a", "b"], ids=["1", "1"]) == ["1", "1"]
    assert contents(store) == {"1": "b"}


def test_missing_ids_are_made(store):
    ids = store.add_documents([Document("a", id="1"), Document("b")])
    assert ids[0] == "1"
    assert contents(store) == {"1": "a", ids[1]: "b"}


def test_embeddings_at_hand_are_stored_as_they_are(store):
    store.add_embeddings(["a"], [[3, 4]], [{}], ["1"])
    assert store.similarity_search_with_score_by_vector([0, 0]) == [(Document("a", id="1"), 5.0)]
    assert store.embeddings.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metadatas": [{}]}, "Each text must have one metadata, got 1 for 2 texts."),
        ({"ids": ["1"]}, "Each text must have one id, got 1 for 2 texts."),
        ({"ids": []}, "Each text must have one id, got 0 for 2 texts."),
    ],
)
def test_add_texts_with_too_few_values_stores_nothing(store, arguments, message):
    with pytest.raises(ValueError) as caught:
        store.add_texts(["a", "b"], **arguments)
    assert str(caught.value) == message
    assert contents(store) == {}
    assert store.embeddings.calls == []


@pytest.mark.parametrize(
    "add",
    [
        lambda store, *rest: store.add_texts(iter("ab"), *rest),
        lambda store, *rest: store.add_embeddings(iter("ab"), ([1, i] for i in (1, 2)), *rest),
        lambda store, *rest: PGEmbedding.from_texts(iter("ab"), Letters(), rest[0], ids=rest[1]),
        lambda store, *rest: PGEmbedding.from_embeddings(
            ((text, [1, 2]) for text in "ab"), Letters(), rest[0], ids=rest[1]
        ),
    ],
)
def test_generators_are_read_once(store, add):
    add(store, ({"page": page} for page in (1, 2)), (key for key in ("1", "2")))
    assert [(found.id, found.metadata["page"]) for found in store.get_by_ids(iter(["2", "1"]))] == [("2", 2), ("1", 1)]
    assert store.delete(key for key in ["1"])
    assert contents(store) == {"2": "b"}


def test_metadata_that_is_no_dict_is_an_error(store):
    with pytest.raises(TypeError, match=r"^The metadata of text 1 must be a dict, got str\.$"):
        store.add_texts(["a", "b"], [{}, "page"])


def test_embedder_that_gives_too_few_vectors_is_told(store):
    store.embedding_function = Wrong([1, 2])
    with pytest.raises(ValueError, match=r"^Each text must have one embedding, got 1 for 2 texts\.$"):
        store.add_texts(["a", "b"])


def test_embedder_that_gives_no_numbers_is_told(store):
    store.embedding_function = Wrong([1, 2], [1, float("nan")])
    with pytest.raises(ValueError, match=r"^The embedding of text 1 "):
        store.add_texts(["a", "b"])
    assert contents(store) == {}


def test_failure_half_way_stores_nothing(store):
    with pytest.raises(ValidationError):
        store.add_embeddings(["a", "b"], [[1, 2], [1, 2, 3]])
    assert contents(store) == {}


def test_unknown_ids_are_deleted_without_error(store):
    store.add_texts(["a"], ids=["1"])
    assert store.delete(["2", "3"]) is True
    assert contents(store) == {"1": "a"}


@pytest.fixture
def filled(store):
    """A store of documents of two sources."""
    store.add_texts(list("abc"), [{"source": "x"}, {"source": "x"}, {"source": "y"}], ids=["1", "2", "3"])
    return store


@pytest.mark.parametrize("arguments", [{}, {"ids": None}, {"filter": {}}, {"filter": None}, {"delete_all": False}])
def test_delete_of_nothing_named_deletes_nothing_and_says_so(filled, caplog, arguments):
    assert filled.delete(**arguments) is False
    assert caplog.messages == [
        "Nothing was deleted: delete() got neither ids nor filter. To delete all documents of the collection, pass "
        "delete_all=True."
    ]
    assert len(contents(filled)) == 3


def test_delete_all_empties_the_collection(filled):
    assert filled.delete(delete_all=True) is True
    assert contents(filled) == {}
    assert filled.get_collection() is not None


@pytest.mark.parametrize("arguments", [{"ids": ["1"]}, {"ids": []}, {"filter": {"source": "x"}}])
def test_delete_all_beside_a_condition_is_refused(filled, arguments):
    with pytest.raises(TypeError, match=r"^delete\(\) takes delete_all=True, or ids and filter, not both\.$"):
        filled.delete(**arguments, delete_all=True)
    assert len(contents(filled)) == 3


def test_delete_by_a_filter_deletes_what_matches_in_one_statement(filled, django_assert_num_queries):
    with django_assert_num_queries(2) as queries:
        assert filled.delete(filter={"source": "x"}) is True
    assert [query["sql"].split()[0] for query in queries.captured_queries] == ["SELECT", "DELETE"]
    assert contents(filled) == {"3": "c"}


def test_delete_by_ids_and_a_filter_deletes_what_both_say(filled):
    assert filled.delete(["2", "3"], filter={"source": "x"})
    assert contents(filled) == {"1": "a", "3": "c"}


def test_delete_by_a_wrong_filter_deletes_nothing(filled):
    with pytest.raises(ValueError, match=r"^A filter's operator must be one of"):
        filled.delete(filter={"source": {"$equals": "x"}})
    assert len(contents(filled)) == 3


@pytest.mark.django_db(transaction=True)
async def test_adelete_takes_what_delete_takes(store_of_async):
    store = store_of_async
    await store.aadd_texts(list("abc"), [{"page": page} for page in (1, 2, 3)], ids=["1", "2", "3"])
    assert await store.adelete() is False
    assert await store.adelete(filter={"page": {"$gt": 2}}) is True
    assert await store.aget(include=()) == {"ids": ["1", "2"]}
    assert await store.adelete(delete_all=True) is True
    assert await store.aget() == {"ids": [], "metadatas": [], "documents": []}


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


def test_texts_are_embedded_in_batches_of_a_size(store):
    store.add_texts(list("abc"), batch_size=2)
    assert store.embeddings.calls == [["a", "b"], ["c"]]


def test_langchain_indexing_keeps_a_store_in_step(store):
    records = InMemoryRecordManager(namespace="test")
    records.create_schema()
    options = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    for letters, expected in (("ab", (2, 0)), ("b", (0, 1))):
        documents = [Document(letter, metadata={"source": letter}) for letter in letters]
        result = index(documents, records, store, **options)
        assert (result["num_added"], result["num_deleted"]) == expected
    assert list(contents(store).values()) == ["b"]


def test_get_returns_columns_in_the_order_of_storing(filled):
    assert filled.get() == {
        "ids": ["1", "2", "3"],
        "metadatas": [{"source": "x"}, {"source": "x"}, {"source": "y"}],
        "documents": ["a", "b", "c"],
    }


def test_get_limits_what_it_returns(filled):
    assert filled.get(where={"source": "x"}, include=["documents"]) == {"ids": ["1", "2"], "documents": ["a", "b"]}
    assert filled.get(limit=1, offset=1, include=[])["ids"] == ["2"]
    assert filled.get(offset=2, include=[])["ids"] == ["3"]
    assert filled.get(["3", "1"], {"source": "x"}, include=[])["ids"] == ["1"]


def test_get_returns_embeddings_where_they_are_asked_for(filled):
    assert np.array_equal(filled.get(["2"], include=["embeddings"])["embeddings"], [[1, 2]])


def test_get_refuses_a_column_that_there_is_not(filled):
    with pytest.raises(ValueError) as caught:
        filled.get(include=["distances", "documents"])
    assert str(caught.value) == "include must be of metadatas, documents, embeddings, got distances."


def test_delete_with_no_ids_deletes_nothing(store):
    store.add_texts(["a"], ids=["1"])
    store.delete([])
    assert contents(store) == {"1": "a"}


def test_ids_that_no_document_can_have_are_unknown(store):
    store.add_texts(["a"], ids=["1"])
    impossible = ["\0", "\ud800", "x" * 1000]
    assert store.delete(impossible)
    assert texts(store.get_by_ids([*impossible, "1"])) == ["a"]


def test_ids_that_are_numbers_are_those_of_their_texts(store):
    store.add_texts(["a", "b"], ids=[1, 2])
    assert texts(store.get_by_ids([2])) == ["b"]
    store.delete([2])
    assert contents(store) == {"1": "a"}


def test_get_by_ids_keeps_their_order(store):
    store.add_texts(list("abc"), ids=["1", "2", "3"])
    assert texts(store.get_by_ids(["3", "9", "1", "3"])) == ["c", "a"]


# What is found


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


# New stores


def test_from_texts_makes_a_store(db):
    store = PGEmbedding.from_texts((t for t in "ab"), Letters(), [{"page": 1}, {}], "new", ["1", "2"], using="default")
    assert (store.collection_name, contents(store)) == ("new", {"1": "a", "2": "b"})


def test_from_embeddings_takes_pairs(db):
    store = PGEmbedding.from_embeddings(zip("ab", [[1, 1], [2, 2]], strict=True), Letters(), ids=["1", "2"])
    assert contents(store) == {"1": "a", "2": "b"}
    assert store.embeddings.calls == []


def test_from_documents_keeps_their_ids(db):
    store = PGEmbedding.from_documents((Document(letter, id=letter) for letter in "ab"), Letters())
    assert contents(store) == {"a": "a", "b": "b"}


def test_from_documents_prefers_ids_given(db):
    store = PGEmbedding.from_documents([Document("a", id="a")], Letters(), ids=["1"])
    assert contents(store) == {"1": "a"}


def test_from_existing_index_finds_what_is_there(store):
    store.add_texts(["a"])
    assert texts(PGEmbedding.from_existing_index(Letters(), using="default").similarity_search("a")) == ["a"]


def test_pre_delete_replaces_the_content_and_keeps_the_index(store):
    store.add_texts(["a"], ids=["1"])
    store.create_hnsw_index(dims=2)
    replaced = PGEmbedding.from_texts(["b"], Letters(), ids=["2"], pre_delete_collection=True)
    assert contents(replaced) == {"2": "b"}
    assert replaced.get_collection().hnsw["m"] == 8


@pytest.mark.django_db(transaction=True)
def test_pre_delete_shows_readers_the_old_or_the_new():
    store = PGEmbedding.from_texts(["a"], Letters(), ids=["1"])
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        PGEmbedding.from_texts(["b"], Letters(), ids=["2"], pre_delete_collection=True)
        assert texts(pool.submit(store.similarity_search, "a").result()) == ["a"]
    assert texts(store.similarity_search("a")) == ["b"]


@pytest.mark.django_db(transaction=True)
def test_constructor_with_pre_delete_shows_readers_the_old_or_the_new():
    store = PGEmbedding.from_texts(["a"], Letters(), ids=["1"])
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        PGEmbedding(embedding_function=Letters(), pre_delete_collection=True).add_texts(["b"])
        assert texts(pool.submit(store.similarity_search, "a").result()) == ["a"]
    assert texts(store.similarity_search("a")) == ["b"]


def test_pre_delete_that_fails_keeps_the_content(store):
    store.add_texts(["a"], ids=["1"])
    with pytest.raises(ValidationError):
        PGEmbedding.from_embeddings([("b", [1, 2]), ("c", [1])], Letters(), pre_delete_collection=True)
    assert contents(store) == {"1": "a"}


def test_pre_delete_takes_other_dimensions(store):
    store.add_texts(["a"])
    replaced = PGEmbedding.from_embeddings([("b", [1, 2, 3])], Letters(), pre_delete_collection=True)
    assert texts(replaced.similarity_search_by_vector([1, 2, 3])) == ["b"]


def test_constructor_with_pre_delete_starts_anew(store):
    store.add_texts(["a"])
    options = {"pre_delete_collection": True, "collection_metadata": {"new": True}, "using": "default"}
    again = PGEmbedding(embedding_function=Letters(), **options)
    assert contents(again) == {}
    assert again.get_collection().metadata == {"new": True}


def test_constructor_keeps_what_is_there(store):
    store.add_texts(["a"], ids=["1"])
    again = PGEmbedding(embedding_function=Letters(), collection_metadata={"new": True})
    assert contents(again) == {"1": "a"}
    assert again.get_collection().metadata == {}


def test_existing_index_that_is_missing_is_an_empty_collection(store):
    made = PGEmbedding.from_existing_index(Letters(), "other", using="default")
    assert (made.similarity_search("a"), made.get_collection().name) == ([], "other")


def test_name_with_quotes_is_a_name(store):
    made = PGEmbedding.from_texts(["a"], Letters(), collection_name="a\"b'; DROP TABLE x; -- %s {}")
    made.create_hnsw_index(dims=2)
    assert texts(made.similarity_search("a")) == ["a"]
    made.delete_collection()
    assert made.get_collection() is None


def test_store_with_embeddings_of_other_dimensions_is_told(store):
    store.add_texts(["a"])
    with pytest.raises(ValueError, match=r'of collection "langchain" must have 2 dimensions, got 3\.$'):
        store.similarity_search_by_vector([1, 2, 3])
    with pytest.raises(ValidationError, match=r'"langchain" must have 2 dimensions, got 3\. One model embeds all'):
        store.add_embeddings(["b"], [[1, 2, 3]])


def test_constructor_without_embedder_is_refused():
    with pytest.raises(TypeError) as caught:
        PGEmbedding("postgresql:///x")
    assert str(caught.value) == "PGEmbedding.embedding_function must be an Embeddings of LangChain, got None."


def test_constructor_with_two_databases_is_refused():
    with pytest.raises(TypeError, match=r"^PGEmbedding takes connection_string or using, not both\.$"):
        PGEmbedding("postgresql:///x", Letters(), using="default")


def test_deleted_collection_is_gone(store):
    store.delete_collection()
    assert store.get_collection() is None
    assert not Row.objects.exists()


def test_delete_collection_that_is_gone_warns(store, caplog):
    store.delete_collection()
    store.delete_collection()
    assert caplog.messages == ["Collection not found"]


def test_logger_of_the_user_is_used(db, caplog):
    store = PGEmbedding(embedding_function=Letters(), logger=logging.getLogger("mine"))
    store.delete_collection()
    store.delete_collection()
    assert [record.name for record in caplog.records] == ["mine"]


def test_connect_returns_the_connection(store):
    assert store.connect() is connections["default"]


# The index


def test_blank_text_with_a_vector_is_stored(store):
    store.add_texts([" ", "a"], ids=["blank", "a"])
    assert [document.page_content for document in store.get_by_ids(["blank", "a"])] == [" ", "a"]


def test_create_hnsw_index_builds_the_index_of_the_collection(store):
    store.add_texts(list("abc"))
    store.create_hnsw_index(max_elements=10000, dims=2, m=8, ef_construction=16, ef_search=16)
    options = store.get_collection().hnsw
    assert (options["m"], options["ef_construction"], options["ef_search"]) == (8, 16, 16)


@pytest.mark.parametrize(("m", "ef_construction"), [(4, 16), (16, 32)])
def test_create_hnsw_index_fits_ef_construction_to_m(store, m, ef_construction):
    store.add_texts(list("abc"))
    store.create_hnsw_index(dims=2, m=m)
    assert store.get_collection().hnsw["ef_construction"] == ef_construction


def test_create_hnsw_index_with_given_dimensions_that_are_others_names_them(store):
    store.add_texts(list("abc"))
    with pytest.raises(ValueError, match=r"got dims=3\. Pass dims=2\."):
        store.create_hnsw_index(dims=3)


def test_create_hnsw_index_with_other_dimensions_is_refused(store):
    store.add_texts(list("abc"))
    with pytest.raises(ValueError) as caught:
        store.create_hnsw_index()
    assert str(caught.value) == (
        'Collection "langchain" holds vectors of 2 dimensions, got the default dims=1536. Pass dims=2.'
    )


def test_create_hnsw_index_gives_an_empty_collection_its_dimensions(store):
    store.create_hnsw_index()
    assert store.get_collection().dimensions == 1536


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ("2", r"dims must be a positive integer, got '2'\."),
        (-1, r"dims must be a positive integer, got -1\."),
        (True, r"dims must be a positive integer, got True\."),
        (10**20, 'Collection "langchain" has 10{20} dimensions, but its index can hold at most'),
    ],
)
def test_create_hnsw_index_with_impossible_dimensions_leaves_the_collection_without(store, dims, message):
    with pytest.raises(ValueError, match=message):
        store.create_hnsw_index(dims=dims)
    assert store.get_collection().dimensions is None


@pytest.fixture
def nothing_opened(monkeypatch):
    """No store has been opened yet."""
    monkeypatch.setattr(PGEmbedding, "_opened_last", None)


def test_create_hnsw_index_on_the_class_builds_for_the_database_of_the_store_opened_last(store):
    for name, dimensions in (("a", 3), ("b", 4), ("c", 3)):
        vectors = [[1.0] * dimensions, [2.0] * dimensions]
        PGEmbedding.from_embeddings(zip("ab", vectors, strict=True), Letters(), collection_name=name, using="default")
    PGEmbedding.create_hnsw_index(max_elements=10000, dims=3, m=8, ef_construction=16, ef_search=16)
    built = dict(Collection.objects.exclude(hnsw=None).values_list("name", "hnsw__m"))
    assert built == {"a": 8, "c": 8}


def test_create_hnsw_index_on_the_class_says_what_it_needs(store):
    store.add_texts(["a"])
    Collection.objects.create(name="empty")
    with pytest.raises(ValueError) as caught:
        PGEmbedding.create_hnsw_index(max_elements=10000, dims=1536, m=8, ef_construction=16, ef_search=16)
    assert str(caught.value) == (
        "create_hnsw_index() on the class needs a collection of dims=1536 in the database. The collections and their "
        'dimensions: "empty" (none yet), "langchain" (2).'
    )
    with pytest.raises(ValueError, match=r"^dims must be a positive integer, got 0\.$"):
        PGEmbedding.create_hnsw_index(dims=0)


def test_create_hnsw_index_on_the_class_takes_the_default_of_a_project(db, nothing_opened):
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


def test_create_hnsw_index_on_the_class_of_an_empty_database_says_what_it_needs(
    connection_string, nothing_opened, monkeypatch
):
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", connection_string)
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


def test_create_hnsw_index_on_the_class_takes_database_url_in_a_script(nothing_opened, connection_string, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(django_settings, "_wrapped", empty)
    monkeypatch.setenv("DATABASE_URL", connection_string)
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


@pytest.mark.django_db(transaction=True)
def test_create_hnsw_index_lets_writes_go_on():
    store = PGEmbedding.from_texts(list("abc"), Letters())
    with CaptureQueriesContext(connection) as queries:
        store.create_hnsw_index(dims=2)
    assert any("CREATE INDEX CONCURRENTLY" in query["sql"] for query in queries.captured_queries)


# Async


@pytest.mark.django_db(transaction=True)
class TestAsync:
    @pytest.fixture
    def store(self):
        return PGEmbedding(embedding_function=Letters())

    async def test_every_search_works(self, store):
        await store.aadd_texts((letter for letter in "abc"), [{"page": page} for page in (1, 2, 3)])
        only = {"page": {"$lt": 3}}
        assert texts(await store.asimilarity_search("a", filter=only)) == ["a", "b"]
        assert texts(await store.asimilarity_search_by_vector([1, 1], filter=only)) == ["a", "b"]
        assert [score for _, score in await store.asimilarity_search_with_score("a", filter=only)] == [0, 1]
        assert texts(await store.amax_marginal_relevance_search("a", filter=only)) == ["a", "b"]
        assert texts(await store.amax_marginal_relevance_search_by_vector([1, 1], filter=only)) == ["a", "b"]
        assert texts(await store.amax_marginal_relevance_search("c", k=1)) == ["c"]
        assert [score for _, score in await store.asimilarity_search_with_relevance_scores("a", filter=only)] == (
            pytest.approx([1, 1 - 2**-0.5])
        )

    async def test_retrievers_work(self, store):
        await store.aadd_documents(Document(letter) for letter in "abc")
        for kind in ("similarity", "mmr", "similarity_score_threshold"):
            retriever = store.as_retriever(search_type=kind, search_kwargs={"k": 1, "score_threshold": 0.9})
            assert texts(await retriever.ainvoke("b")) == ["b"]

    async def test_new_stores_work(self, store):
        made = await PGEmbedding.afrom_documents((Document(letter, id=letter) for letter in "ab"), Letters())
        assert texts(await made.aget_by_ids(["b", "a"])) == ["b", "a"]
        replaced = await PGEmbedding.afrom_texts(list("c"), Letters(), ids=["c"], pre_delete_collection=True)
        assert texts(await replaced.asimilarity_search("a")) == ["c"]

    async def test_ready_embeddings_are_stored(self, store):
        assert await store.aadd_embeddings(iter("ab"), iter([[1, 1], [1, 2]]), ids=iter("12")) == ["1", "2"]
        assert texts(await store.aget_by_ids(["2"])) == ["b"]

    async def test_ready_embeddings_make_a_store(self, store):
        made = await PGEmbedding.afrom_embeddings(iter([("a", [1, 1]), ("b", [1, 2])]), Letters(), ids=["1", "2"])
        assert texts(await made.aget_by_ids(["2"])) == ["b"]
        assert made.embeddings.calls == []

    async def test_texts_are_embedded_in_batches_of_a_size(self, store):
        await store.aadd_documents([Document(letter) for letter in "abc"], ids=list("123"), batch_size=2)
        assert store.embeddings.calls == [["a", "b"], ["c"]]
        assert (await store.aget(include=[]))["ids"] == ["1", "2", "3"]

    async def test_nothing_is_no_call(self, store):
        assert await store.aadd_texts([]) == []
        made = await PGEmbedding.afrom_texts([], store.embeddings)
        assert made.embeddings.calls == []

    async def test_sync_methods_work_under_a_running_loop(self, store):
        made = PGEmbedding.from_texts(list("ab"), Letters(), ids=["a", "b"])
        made.create_hnsw_index(dims=2)
        assert texts(made.similarity_search("b", k=1)) == ["b"]
        assert made.delete(["b"])
        assert texts(made.get_by_ids(["a", "b"])) == ["a"]

    async def test_cancelled_while_embedding_stores_nothing(self, store):
        class Slow(Letters):
            async def aembed_documents(self, texts):
                started.set()
                await asyncio.Event().wait()

        started = asyncio.Event()
        slow = PGEmbedding(embedding_function=Slow())
        adding = asyncio.create_task(slow.aadd_texts(list("ab")))
        await started.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert await store.asimilarity_search("a") == []

    async def test_cancelled_while_writing_stores_all_or_none_and_leaves_the_store_usable(self, store):
        adding = asyncio.create_task(store.aadd_embeddings(list("ab"), [[1, 1], [1, 2]], ids=["1", "2"]))
        await asyncio.sleep(0)  # The thread that writes has it now.
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert len(await store.aget_by_ids(["1", "2"])) in (0, 2)
        await store.aadd_texts(["c"], ids=["3"])
        assert texts(await store.aget_by_ids(["3"])) == ["c"]

    async def test_searches_at_once_work(self, store):
        store.add_texts(list("abc"))
        found = await asyncio.gather(*(store.asimilarity_search(letter, k=1) for letter in "abc" * 5))
        assert [texts(documents) for documents in found] == [["a"], ["b"], ["c"]] * 5


# Without its packages


def test_import_without_langchain_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core.documents", None)
    for name in [name for name in sys.modules if name.startswith("pgembedding_django.langchain")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError) as caught:
        importlib.import_module("pgembedding_django.langchain")
    assert str(caught.value) == (
        'pgembedding_django.langchain needs langchain-core: pip install "pgembedding-django[langchain]"'
    )


def test_import_that_lacks_another_module_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    for name in [name for name in sys.modules if name.startswith("pgembedding_django.langchain")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"asgiref\.sync"):
        importlib.import_module("pgembedding_django.langchain")


# Threads


def test_threads_share_a_store_and_leave_no_connection(connection_string, fresh_database):
    store = PGEmbedding(connection_string, Letters())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.add_texts, [["a", "b"]] * 4, [None] * 4, [["1", "2"], ["3", "4"], ["5", "6"], ["1", "2"]]))
        found = list(pool.map(store.similarity_search, "ab" * 4))
    assert [len(documents) for documents in found] == [4] * 8
    assert store.connect().connection is not None
    store.connect().close()
    wait_for(fresh_database, f"SELECT 1 WHERE NOT EXISTS ({OTHERS})")


def test_thread_keeps_a_connection_that_was_open(connection_string):
    store = PGEmbedding(connection_string, Letters())

    def add():
        with transaction.atomic(using=store.database.alias):
            store.add_texts(["a"], ids=["1"])
            transaction.set_rollback(True, using=store.database.alias)
        store.connect().close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(add).result()
    assert contents(store) == {}


# A connection string


def test_connection_string_makes_extension_and_tables(connection_string, fresh_database, engine):
    store = PGEmbedding(connection_string, Letters())
    store.add_texts(list("ab"))
    assert texts(store.similarity_search("b", k=1)) == ["b"]
    assert fresh_database.execute("SELECT 1 FROM pg_extension WHERE extname = %s", [engine.extension])
    assert "auth_user" not in fresh_database.tables()


def test_second_store_changes_no_table(connection_string):
    PGEmbedding(connection_string, Letters()).add_texts(["a"], ids=["1"])
    again = PGEmbedding(connection_string, Letters())
    again.create_hnsw_extension()
    again.create_tables_if_not_exists()
    assert contents(again) == {"1": "a"}


def test_tables_can_be_dropped_and_made(connection_string, fresh_database):
    store = PGEmbedding(connection_string, Letters())
    store.drop_tables()
    assert "pgembedding_documents_document" not in fresh_database.tables()
    store.create_tables_if_not_exists()
    store.create_collection()
    assert store.add_texts(["a"], ids=["1"]) == ["1"]


def test_two_threads_make_the_tables_once(connection_string):
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda name: PGEmbedding(connection_string, Letters(), name), ["one", "two"]))
    assert [store.get_collection().name for store in stores] == ["one", "two"]


def test_environment_names_the_database(connection_string, monkeypatch):
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", connection_string)
    assert PGEmbedding.from_texts(["a"], Letters()).connection_string == connection_string
    assert PGEmbedding.get_connection_string({}) == connection_string
    assert PGEmbedding.get_connection_string({"connection_string": "x"}) == "x"


def test_environment_gives_way_to_an_alias(db, monkeypatch):
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", "postgresql://nowhere/x")
    assert PGEmbedding(embedding_function=Letters(), using="default").connect() is connections["default"]


def test_missing_connection_string_is_told(monkeypatch):
    monkeypatch.delenv("POSTGRES_CONNECTION_STRING", raising=False)
    with pytest.raises(ValueError, match="POSTGRES_CONNECTION_STRING"):
        PGEmbedding.get_connection_string({})


def test_alias_hides_the_connection_string(connection_string):
    alias = find_database(connection_string, None).alias
    assert alias.startswith("pgembedding_")
    assert "postgres:" not in alias
    assert find_database(connection_string, None).alias == alias


def test_engine_is_pgvector_where_the_server_offers_it(fresh_database, offered_extensions):
    assert find_engine(Database("fresh")) == ("pgvector" if "vector" in offered_extensions else "pg_embedding")


def test_engine_is_the_one_whose_extension_is_there(ready_database, engine):
    assert find_engine(Database("fresh")) == engine.name


def test_project_without_the_app_is_told(settings):
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "pgembedding_django.documents"]
    with pytest.raises(ImproperlyConfigured) as caught:
        PGEmbedding(embedding_function=Letters())
    assert str(caught.value) == "PGEmbedding needs 'pgembedding_django.documents' in INSTALLED_APPS."


def test_database_that_is_no_postgres_is_told(sqlite):
    with pytest.raises(ImproperlyConfigured) as caught:
        PGEmbedding(embedding_function=Letters(), using="lite")
    assert str(caught.value) == (
        'PGEmbedding needs a Postgres, but database "lite" is none. Pass connection_string, set '
        "POSTGRES_CONNECTION_STRING, or pass the alias of another as using."
    )


def test_store_without_a_database_asks_for_a_connection_string(monkeypatch):
    # What Django makes of a DATABASES that is empty, as in a script.
    nothing = connections.configure_settings({"default": {}})["default"]
    monkeypatch.setitem(connections.settings, "nothing", nothing)
    with pytest.raises(ImproperlyConfigured) as caught:
        PGEmbedding(embedding_function=Letters(), using="nothing")
    assert str(caught.value) == (
        'PGEmbedding needs connection_string, such as "postgresql://user:password@host:5432/database", or the '
        "environment variable POSTGRES_CONNECTION_STRING; in a Django project, a Postgres in DATABASES."
    )


def test_process_without_settings_gets_its_own(connection_string, ready_database, monkeypatch, engine):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(django_settings, "_wrapped", empty)
    database = find_database(connection_string, None)
    assert django_settings.PGEMBEDDING["ENGINE"][database.alias] == engine.name
    assert django_settings.LOGGING_CONFIG is None


PLAIN = """
import sys
from langchain_core.embeddings import DeterministicFakeEmbedding
from pgembedding_django.langchain import PGEmbedding
for name in "one", "two":
    store = PGEmbedding(sys.argv[1], DeterministicFakeEmbedding(size=6), name)
store.add_texts(list("abc"))
store.create_hnsw_index(dims=6)
print([document.page_content for document in store.similarity_search("b", k=1)], end="")
"""


def test_plain_process_needs_a_connection_string_alone(connection_string):
    environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE}
    command = [sys.executable, "-W", "error", "-c", PLAIN, connection_string]
    done = subprocess.run(
        command, cwd=django_settings.ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("['b']", "")
