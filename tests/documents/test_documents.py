"""Collections and documents: what they store, and what a search in one of them finds."""

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError, TextRejected, get_embedder
from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.fields.source import hash_text
from pgembedding_django.vectors import InvalidVector

pytestmark = pytest.mark.django_db

VECTORS = {
    dimensions: np.random.default_rng(dimensions).standard_normal((60, dimensions), dtype=np.float32)
    for dimensions in (3, 4)
}


@pytest.fixture
def collection():
    return Collection.objects.create(name="python")


@pytest.fixture
def filled():
    """Two collections of other dimensions, whose documents have their positions as keys."""
    collections = {}
    for dimensions, vectors in VECTORS.items():
        collections[dimensions] = Collection.objects.create(name=f"of {dimensions}")
        collections[dimensions].add(documents(vectors))
    return collections


def documents(vectors):
    return [
        Document(key=str(i), content=f"text {i}", metadata={"even": i % 2 == 0}, embedding=v)
        for i, v in enumerate(vectors)
    ]


def keys_by_hand(vectors, query, k, norm=2):
    return [str(i) for i in np.argsort(np.linalg.norm(vectors - query, axis=1, ord=norm))[:k]]


def keys(rows):
    return [row.key for row in rows]


def contents(collection):
    return dict(collection.documents.values_list("key", "content"))


# Searching


@pytest.mark.parametrize("dimensions", [3, 4])
def test_nearest_in_a_collection_equals_brute_force(filled, dimensions):
    query, vectors = VECTORS[dimensions][7] + 0.1, VECTORS[dimensions]
    assert keys(filled[dimensions].documents.nearest(query, 9)) == keys_by_hand(vectors, query, 9)


def test_nearest_by_filter_on_the_collection_equals_the_related_manager(filled):
    query = VECTORS[4][0]
    expected = keys(filled[4].documents.nearest(query, 5))
    assert keys(Document.objects.filter(collection=filled[4]).nearest(query, 5)) == expected
    assert keys(Document.objects.filter(collection_id=filled[4].pk).nearest(query, 5)) == expected


def test_nearest_behind_a_filter_returns_k_that_pass(filled):
    even = keys(filled[3].documents.filter(metadata__even=True).nearest(VECTORS[3][1], 10))
    assert even == [key for key in keys_by_hand(VECTORS[3], VECTORS[3][1], 60) if int(key) % 2 == 0][:10]


def test_nearest_to_an_instance_leaves_it_out(filled):
    row = filled[3].documents.get(key="5")
    assert keys(filled[3].documents.nearest(row, 3)) == keys_by_hand(VECTORS[3], VECTORS[3][5], 4)[1:]


def test_nearest_by_text_uses_the_embedder_of_the_collection(settings):
    wide = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 8}}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"wide": wide}}
    collection = Collection.objects.create(name="wide", embedder="wide")
    collection.add_texts(["red fox", "blue whale"])
    assert collection.documents.nearest("red fox", 1)[0].content == "red fox"
    assert collection.dimensions == 8


@pytest.mark.parametrize(("distance", "norm"), [("l2", 2), ("l1", 1)])
def test_nearest_uses_the_distance_of_the_collection(distance, norm):
    collection = Collection.objects.create(name="c", distance=distance)
    collection.add(documents(VECTORS[3]))
    rows = collection.documents.nearest([0.5, 0.5, 0.5], 5)
    assert keys(rows) == keys_by_hand(VECTORS[3], [0.5, 0.5, 0.5], 5, norm)


def test_nearest_with_another_distance_takes_it(filled):
    rows = filled[3].documents.nearest([1, 0, 0], 1, distance="cosine", exact=True)
    cosines = VECTORS[3][:, 0] / np.linalg.norm(VECTORS[3], axis=1)
    assert rows[0].distance == pytest.approx(1 - float(cosines.max()), abs=1e-5)


def test_nearest_in_an_empty_collection_finds_nothing(collection, filled):
    assert list(collection.documents.nearest([1, 2, 3, 4, 5])) == []
    assert list(collection.documents.nearest("a question")) == []


def test_nearest_sees_the_first_vectors_that_another_instance_added(collection):
    Collection.objects.get().add(documents(VECTORS[3]))
    assert len(collection.documents.nearest([1, 2, 3], 4)) == 4


def test_nearest_by_a_vector_of_other_dimensions_is_an_error(filled):
    message = 'Document.embedding of collection "of 3" must have 3 dimensions, got 4.'
    with pytest.raises(InvalidVector, match=message):
        filled[3].documents.nearest([1, 2, 3, 4])


@pytest.mark.parametrize(
    "rows",
    [
        lambda collections: Document.objects.all(),
        lambda collections: Document.objects.filter(collection__in=collections),
        lambda collections: Document.objects.filter(collection__name=collections[0].name),
        lambda collections: Document.objects.exclude(collection=collections[0]),
        lambda collections: (
            Document.objects.filter(collection=collections[0]) | Document.objects.filter(collection=collections[1])
        ),
    ],
)
def test_nearest_without_a_single_collection_is_an_error(filled, rows):
    message = (
        r"Document.embedding can be compared within one collection only, which a condition collection=\.\.\. "
        r"must name\. Search collection.documents or filter\(collection=collection\), not by collection__name or "
        r"collection__in\."
    )
    with pytest.raises(ValueError, match=message):
        rows(list(filled.values())).nearest([1, 2, 3])


def test_nearest_by_another_field_is_an_error(filled):
    with pytest.raises(ValueError, match="field must name an EmbeddingField of Document"):
        filled[3].documents.nearest([1, 2, 3], field="content")


@pytest.mark.parametrize("given", [{"texts": "ab"}, {"texts": ["a", "b"], "keys": "ab"}])
def test_str_for_a_list_is_refused(collection, given):
    with pytest.raises(TypeError, match="must be a list of str, got a str"):
        collection.add_texts(**given)


def test_hybrid_searches_the_content(collection):
    collection.add_texts(["the red fox", "a blue whale", "ships at sea"])
    assert collection.documents.hybrid("whale", 2, config="simple")[0].content == "a blue whale"


# Adding


def test_add_returns_how_many_were_stored(collection):
    assert collection.add(iter(documents(VECTORS[3]))) == 60
    assert collection.documents.count() == 60


def test_add_a_known_key_replaces_the_document(collection):
    collection.add([Document(key="a", content="old", embedding=[1, 2, 3])])
    before = collection.documents.get()
    collection.add([Document(key="a", content="new", metadata={"n": 1}, embedding=[4, 5, 6])])
    after = collection.documents.get()
    assert (after.pk, after.content, after.metadata, after.created) == (before.pk, "new", {"n": 1}, before.created)
    assert after.embedding.tolist() == [4, 5, 6]
    assert after.updated > before.updated


def test_add_a_key_twice_in_a_call_keeps_the_newer(collection):
    stored = collection.add(Document(key="a", content=text, embedding=[1, 2, 3]) for text in ("old", "new"))
    assert (stored, contents(collection)) == (1, {"a": "new"})


def test_add_the_same_key_to_two_collections_keeps_both(filled):
    assert Document.objects.filter(key="0").count() == 2


def test_add_of_a_bad_vector_stores_nothing(collection):
    with pytest.raises(ValidationError, match=r'Document "b": .* must have 3 dimensions, got 2\. One model'):
        collection.add([Document(key="a", embedding=[1, 2, 3]), Document(key="b", embedding=[1, 2])])
    collection.refresh_from_db()
    assert (collection.documents.count(), collection.dimensions) == (0, None)


def test_add_after_a_rollback_claims_the_dimensions_again(collection):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        collection.add([Document(embedding=[1, 2, 3, 4])])
        _ = 1 / 0
    collection.add([Document(embedding=[1, 2, 3])])
    assert Collection.objects.get().dimensions == 3


def test_document_of_a_zero_vector_is_kept_and_left_out_by_cosine():
    collection = Collection.objects.create(name="c", distance="cosine")
    collection.add([Document(key="a", embedding=[0, 0, 0]), Document(key="b", embedding=[0, 1, 0])])
    assert [document.key for document in collection.documents.nearest([0, 1, 1])] == ["b"]


def test_add_of_what_is_no_vector_is_an_error(collection):
    with pytest.raises(ValidationError, match=r'Document "a": .* must be finite'):
        collection.add([Document(key="a", embedding=[1, float("nan"), 2])])


def test_add_of_a_document_of_another_collection_is_an_error(filled):
    document = filled[3].documents.first()
    with pytest.raises(ValueError, match='is of another collection than "of 4"'):
        filled[4].add([document])


def test_add_to_a_deleted_collection_is_an_error(collection):
    Collection.objects.all().delete()
    with pytest.raises(Collection.DoesNotExist, match='Collection "python" was deleted'):
        collection.add([Document(embedding=[1, 2, 3])])


def test_add_embeds_what_has_no_vector(collection):
    given, missing = Document(content="given", embedding=[1, 2, 3]), Document(content="missing")
    collection.add([given, missing])
    assert missing.embedding.tolist() == get_embedder().embed(["missing"])[0].tolist()
    assert (given.digest, missing.digest) == ("", hash_text(f"{get_embedder().identity}\x1fNone\x1fmissing"))


def test_add_of_vectors_needs_no_embedder(settings):
    settings.PGEMBEDDING = {"ENGINE": settings.PGEMBEDDING["ENGINE"]}
    collection = Collection.objects.create(name="c")
    assert collection.add([Document(embedding=[1, 2, 3])]) == 1


def test_add_texts_again_embeds_only_what_has_changed(collection, embedded):
    collection.add_texts(["one", "two"], keys=["a", "b"])
    collection.add_texts(["one", "changed"], [{"n": 1}, None], keys=["a", "b"])
    assert embedded == ["one", "two", "changed"]
    assert collection.documents.get(key="a").metadata == {"n": 1}


def test_add_texts_returns_their_keys(collection):
    made = collection.add_texts(iter(["one", "two", "three"]), keys=iter(["a", None, "c"]))
    assert (made[0], made[2], len(set(made))) == ("a", "c", 3)
    assert contents(collection) == dict(zip(made, ["one", "two", "three"], strict=True))


@pytest.mark.parametrize("columns", [{"keys": ["a"]}, {"metadatas": [{}, {}, {}]}])
def test_add_texts_with_another_number_of_keys_or_metadatas_is_an_error(collection, columns):
    (name,) = columns
    with pytest.raises(ValueError, match=f"{name} must be as many as the texts, 2, got"):
        collection.add_texts(["one", "two"], **columns)


def test_add_texts_with_a_blank_text_names_it_and_pays_for_nothing(collection, embedded):
    with pytest.raises(EmbeddingError, match=r'^Document "b": The embedder needs text to embed'):
        collection.add_texts(["good", " "], keys=["a", "b"])
    assert not collection.documents.exists()
    assert embedded == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TextRejected("it is bad."), 'Document "b": DummyEmbedder cannot embed text 1: it is bad.'),
        (EmbedderUnavailable("Away."), "Away."),
    ],
)
def test_add_texts_with_a_text_that_fails_stores_nothing(collection, monkeypatch, error, message):
    monkeypatch.setattr(DummyEmbedder, "compute", lambda self, texts: [[1, 2, 3], error])
    with pytest.raises(type(error)) as raised:
        collection.add_texts(["good", "bad"], keys=["a", "b"])
    assert str(raised.value) == message
    assert not collection.documents.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"key": "k" * 256}, rf'Document.key must have at most 255 characters, got 256 \("{"k" * 40}\.\.\."\)\.'),
        ({"key": "a\0"}, r'Document "a\\u0000": key must have no NUL character, which Postgres stores in no text\.'),
        ({"content": "a\0"}, 'Document "a": content must have no NUL character, .*'),
        ({"content": "a\ud800"}, 'Document "a": content cannot be stored: .* surrogates not allowed\\.'),
        ({"metadata": {"a": ["\0"]}}, 'Document "a": metadata must have no NUL character, .*'),
        ({"metadata": {"a": "\\\0"}}, 'Document "a": metadata must have no NUL character, .*'),
        ({"metadata": {"a": float("nan")}}, 'Document "a": metadata cannot be stored: .*'),
        ({"metadata": {"a": object()}}, 'Document "a": metadata cannot be stored: .* is not JSON serializable\\.'),
    ],
)
def test_add_of_what_postgres_cannot_store_names_the_document_and_pays_for_nothing(
    collection, embedded, values, message
):
    with pytest.raises(ValidationError) as error:
        collection.add([Document(key="good", content="good"), Document(**{"key": "a", "content": "a", **values})])
    assert re.fullmatch(message, error.value.messages[0])
    assert (collection.documents.count(), embedded) == (0, [])


def test_add_of_a_backslash_before_u0000_stores_it(collection):
    collection.add([Document(key="a", content="\\u0000", metadata={"path": "C:\\u0000"})])
    assert collection.documents.get().metadata == {"path": "C:\\u0000"}


def test_add_embeds_outside_of_a_transaction_of_its_own(transactional_db, monkeypatch):
    inside = []
    monkeypatch.setattr(
        DummyEmbedder, "compute", lambda self, texts: inside.append(connection.in_atomic_block) or [[1, 2, 3]]
    )
    collection = Collection.objects.create(name="c")
    collection.add_texts(["one"])
    collection.replace([Document(content="two")])
    assert inside == [False, False]


# Replacing


def test_replace_stores_the_new_content_alone(filled):
    assert filled[3].replace([Document(key="new", content="new", embedding=[1, 2, 3])]) == 1
    assert contents(filled[3]) == {"new": "new"}
    assert filled[4].documents.count() == 60


def test_replace_keeps_vectors_of_what_is_unchanged(collection, embedded):
    collection.add_texts(["one", "two"], keys=["a", "b"])
    collection.replace([Document(key="b", content="two"), Document(key="c", content="three")])
    assert embedded == ["one", "two", "three"]


def test_replace_takes_other_dimensions(filled):
    filled[3].replace(documents(VECTORS[4]))
    assert Collection.objects.get(name="of 3").dimensions == 4
    assert keys(filled[3].documents.nearest(VECTORS[4][0], 1)) == ["0"]


def test_replace_that_fails_keeps_the_old_content(filled):
    with pytest.raises(ValidationError):
        filled[3].replace([Document(embedding=[1, 2, 3, 4]), Document(embedding=[1, 2])])
    filled[3].refresh_from_db()
    assert (filled[3].documents.count(), filled[3].dimensions) == (60, 3)


def test_replace_by_nothing_empties_the_collection(filled):
    filled[3].replace([])
    assert (filled[3].documents.count(), Collection.objects.get(name="of 3").dimensions) == (0, 3)


def test_replace_shows_readers_the_old_or_the_new(transactional_db):
    collection = Collection.objects.create(name="c")
    collection.add(documents(VECTORS[3]))
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(collection.documents.count())
        connections.close_all()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        collection.replace(documents(VECTORS[3][:50]))
        collection.replace(documents(VECTORS[3]))
    done.set()
    reader.join()
    assert seen <= {50, 60}


# Other ways to write


def test_save_gives_the_collection_its_dimensions(collection):
    Document.objects.create(collection=collection, content="a", embedding=[1, 2, 3])
    assert Collection.objects.get().dimensions == 3


def test_save_of_other_dimensions_is_an_error(filled):
    document = filled[3].documents.first()
    document.embedding = [1, 2]
    with pytest.raises(ValidationError, match="must have 3 dimensions, got 2"):
        document.save()
    document.save(update_fields=["content"])


def test_save_without_vector_claims_no_dimensions(collection):
    Document.objects.create(collection=collection, content="later")
    assert Collection.objects.get().dimensions is None


@pytest.mark.parametrize("load", ["bulk_load", "bulk_create"])
def test_bulk_writes_through_the_collection_belong_to_it(collection, load):
    getattr(collection.documents, load)(documents(VECTORS[3]))
    assert (collection.documents.count(), Collection.objects.get().dimensions) == (60, 3)


@pytest.mark.parametrize("load", ["bulk_load", "bulk_create"])
def test_bulk_writes_of_other_dimensions_are_an_error(filled, load):
    with pytest.raises(ValidationError, match=r'Document "b": .* of collection "of 3" must have 3'):
        getattr(filled[3].documents, load)([Document(key="b", embedding=[1, 2, 3, 4])])
    assert filled[3].documents.count() == 60


def test_bulk_load_of_documents_of_several_collections_holds_each_to_its_dimensions(filled):
    rows = [Document(collection=filled[d], embedding=VECTORS[d][0]) for d in (3, 4, 3)]
    with CaptureQueriesContext(connection) as queries:
        assert Document.objects.bulk_load(rows) == 3
    assert sum("FOR SHARE" in query["sql"] for query in queries) == 2


def test_bulk_update_of_other_dimensions_is_an_error(filled):
    document = filled[3].documents.first()
    document.embedding = [1, 2]
    with pytest.raises(ValidationError, match="must have 3 dimensions, got 2"):
        Document.objects.bulk_update([document], ["embedding"])
    assert Document.objects.bulk_update([document], ["content"]) == 1


def test_update_of_the_vector_keeps_to_the_dimensions(filled):
    assert filled[3].documents.filter(key="1").update(embedding=[7, 8, 9]) == 1
    assert filled[3].documents.get(key="1").embedding.tolist() == [7, 8, 9]
    with pytest.raises(InvalidVector, match='of collection "of 3" must have 3 dimensions, got 2'):
        filled[3].documents.update(embedding=[7, 8])


def test_key_is_unique_within_a_collection(filled):
    with pytest.raises(IntegrityError), transaction.atomic():
        Document.objects.create(collection=filled[3], key="1")


def test_names_are_readable(collection):
    assert (str(collection), str(Document(content="a\n" + "b" * 300))) == ("python", "a " + "b" * 77 + "…")
    assert str(Document(key="k", content="")) == "k"


def test_saving_an_older_instance_keeps_what_others_have_set(collection):
    older = Collection.objects.get()
    collection.add([Document(embedding=[1, 2, 3])])
    collection.create_hnsw_index(concurrently=False)
    older.metadata = {"n": 1}
    older.save()
    now = Collection.objects.get()
    assert (now.metadata, now.dimensions, now.hnsw) == ({"n": 1}, 3, collection.hnsw)


def test_check_of_the_embedders_leaves_documents_alone(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"other": {"BACKEND": "x"}}}
    config = apps.get_app_config("pgembedding_documents")
    assert not [message for message in run_checks([config]) if message.id == "pgembedding.E004"]


# Two at once


def at_once(*works):
    """Run works at the same time, each on its own connection, and return what they returned or raised."""
    barrier = threading.Barrier(len(works))

    def run(work):
        barrier.wait()
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(run, work) for work in works]
    return [future.exception() or future.result() for future in futures]


def test_two_that_make_one_collection_get_one(transactional_db):
    made = at_once(*[lambda: Collection.objects.get_or_create(name="one")] * 4)
    assert sorted(created for _, created in made) == [False, False, False, True]


def test_two_that_bring_the_first_vectors_agree_on_the_dimensions(transactional_db):
    Collection.objects.create(name="c")

    def add(dimensions):
        return Collection.objects.get().add([Document(embedding=VECTORS[dimensions][0])])

    results = at_once(lambda: add(3), lambda: add(4))
    assert sorted(type(result).__name__ for result in results) == ["ValidationError", "int"]
    assert Document.objects.get().embedding.size == Collection.objects.get().dimensions


def test_two_that_replace_a_collection_leave_the_content_of_one(transactional_db):
    Collection.objects.create(name="c").add(documents(VECTORS[3]))

    def replace(count):
        return Collection.objects.get().replace(documents(VECTORS[3][:count]))

    assert at_once(lambda: replace(10), lambda: replace(20)) == [10, 20]
    assert Document.objects.count() in (10, 20)


# What it costs


def test_add_to_a_large_collection_reads_no_more_than_to_an_empty_one(collection):
    def statements():
        vectors = VECTORS[3]
        with CaptureQueriesContext(connection) as queries:
            collection.add(documents(vectors))
        return len(queries)

    empty = statements()
    collection.documents.bulk_load(Document(embedding=[i, 1, 1]) for i in range(5000))
    assert statements() == empty


def test_add_to_a_large_collection_scans_no_table(transactional_db):
    collection = Collection.objects.create(name="c")
    collection.documents.bulk_load(Document(key=f"old {i}", embedding=[i, 1, 1]) for i in range(20_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        before = _rows_read(cursor)
        collection.add_texts([f"text {i}" for i in range(20)], keys=[str(i) for i in range(20)])
        assert _rows_read(cursor) - before < 100


def _rows_read(cursor):
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = %s",
        [Document._meta.db_table],
    )
    return cursor.fetchone()[0]


# Migrations


@pytest.mark.django_db(transaction=True)
def test_migrations_run_forwards_and_backwards_twice(fresh_database):
    for _ in range(2):
        fresh_database.migrate("pgembedding_documents")
        assert Document._meta.db_table in fresh_database.tables()
        fresh_database.migrate("pgembedding_documents", "zero")
        assert Document._meta.db_table not in fresh_database.tables()


def test_migrations_are_complete():
    call_command("makemigrations", "pgembedding_documents", check=True, dry_run=True, verbosity=0)


def test_metadata_is_found_through_its_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "pgembedding_documents_metadata" in Document.objects.filter(metadata__contains={"a": 1}).explain()


# Embedding later


@pytest.fixture
def wide(settings):
    """Another embedder, of 8 dimensions."""
    backend = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 8}}
    settings.PGEMBEDDING = {
        **settings.PGEMBEDDING,
        "EMBEDDERS": {**settings.PGEMBEDDING["EMBEDDERS"], "wide": backend},
    }


def test_stale_documents_are_those_without_the_vector_of_their_content(collection):
    collection.add_texts(["kept", "old"], keys=["kept", "edited"])
    collection.documents.filter(key="edited").update(content="new")
    collection.documents.bulk_create(
        [Document(key="missing", content="a"), Document(key="blank"), Document(key="given", embedding=[1, 2, 3])]
    )
    assert set(keys(collection.documents.stale())) == {"edited", "missing"}


def test_embed_gives_created_documents_their_vectors(collection, embedded):
    collection.documents.create(key="a", content=" red fox ")
    report = collection.documents.embed()
    assert (report.embedded, report.texts) == (1, 1)
    assert collection.documents.get().embedding.tolist() == get_embedder().embed(["red fox"])[0].tolist()
    assert (Collection.objects.get().dimensions, collection.documents.stale().exists()) == (3, False)
    embedded.clear()
    collection.add_texts(["red fox"], keys=["a"])
    assert embedded == []


def test_embed_of_several_collections_uses_the_embedder_of_each(collection, wide):
    other = Collection.objects.create(name="wide", embedder="wide")
    for each in (collection, other):
        each.documents.create(content="red fox")
    done = []
    report = Document.objects.embed(progress=done.append)
    assert (report.embedded, report.requests, done[-1]) == (2, 2, 2)
    assert [row.embedding.size for row in Document.objects.order_by("collection")] == [3, 8]


def test_embed_leaves_a_given_vector_unless_all_is_asked_for(collection, embedded):
    collection.add([Document(content="a", embedding=[1, 2, 3])])
    assert (collection.documents.embed().embedded, embedded) == (0, [])
    assert collection.documents.embed(all=True).embedded == 1


def test_embed_with_a_limit_counts_all_collections(collection, wide):
    other = Collection.objects.create(name="wide", embedder="wide")
    for each in (collection, other):
        each.documents.bulk_create(Document(content=text) for text in "ab")
    assert Document.objects.embed(limit=3).embedded == 3
    assert other.documents.stale().count() == 1
    other.documents.update(content="c")
    assert Document.objects.embed(limit=2).embedded == 2


def test_embed_stops_at_the_limit_before_the_next_collection(collection, wide):
    other = Collection.objects.create(name="wide", embedder="wide")
    for each in (collection, other):
        each.documents.create(content="a")
    assert Document.objects.embed(limit=1).requests == 1
    assert other.documents.stale().exists()


def test_embed_by_an_embedder_of_other_dimensions_is_an_error(collection, wide):
    collection.add([Document(embedding=[1, 2, 3])])
    Collection.objects.update(embedder="wide")
    collection.documents.create(content="a")
    with pytest.raises(ImproperlyConfigured, match='of collection "python" has 3 dimensions, but its embedder "wide"'):
        collection.documents.embed()


@pytest.mark.parametrize("method", ["stale", "embed"])
def test_embed_of_another_field_is_an_error(collection, method):
    with pytest.raises(ValueError, match=r"field must name an EmbeddingField of Document \(embedding\), got 'key'\."):
        getattr(collection.documents, method)(field="key")


def test_embed_command_names_each_collection(collection, wide):
    other = Collection.objects.create(name="wide", embedder="wide")
    for each in (collection, other):
        each.documents.create(content="red fox")
    out = io.StringIO()
    call_command("embed", "pgembedding_documents.Document", stdout=out)
    named = re.findall(r'Document\.embedding of collection "(\w+)": embedding the stale rows', out.getvalue())
    assert (named, Document.objects.stale().exists()) == (["python", "wide"], False)


def test_embed_command_with_a_limit_plans_no_more(collection, wide):
    other = Collection.objects.create(name="wide", embedder="wide")
    for each in (collection, other):
        each.documents.create(content="red fox")
    out = io.StringIO()
    call_command("embed", "pgembedding_documents.Document", limit=1, stdout=out)
    assert "wide" not in out.getvalue()
    assert Document.objects.stale().get().collection == other


def test_embed_command_without_stale_documents_says_so(collection):
    out = io.StringIO()
    call_command("embed", "pgembedding_documents.Document", stdout=out)
    assert out.getvalue() == "pgembedding_documents.Document: 0 rows to embed.\n"
