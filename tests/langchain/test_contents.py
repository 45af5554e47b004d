"""What is added to a store, got from it and deleted."""

import numpy as np
import pytest
from django.core.exceptions import ValidationError
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index

from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, Wrong, contents, texts


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


def test_blank_text_with_a_vector_is_stored(store):
    store.add_texts([" ", "a"], ids=["blank", "a"])
    assert [document.page_content for document in store.get_by_ids(["blank", "a"])] == [" ", "a"]


def test_unknown_ids_are_deleted_without_error(store):
    store.add_texts(["a"], ids=["1"])
    assert store.delete(["2", "3"]) is True
    assert contents(store) == {"1": "a"}


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
