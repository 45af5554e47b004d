"""manage.py import_langchain: each layout of LangChain's tables, written here as these classes make them."""

import io
import json
from uuid import UUID

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from pgembedding_django.documents.importing import source as source_module
from pgembedding_django.documents.models import Collection
from tests.support.urls import url_of

pytestmark = pytest.mark.django_db

COLLECTIONS = "CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar, cmetadata json)"
#: As PGEmbedding of langchain-community 0.4.2 makes it.
RETIRED = """
    CREATE TABLE langchain_pg_embedding (
        collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE, embedding real[], document varchar,
        cmetadata json, custom_id varchar, uuid uuid PRIMARY KEY)
"""
#: As PGVector of langchain-community 0.4.2 makes it.
COMMUNITY = RETIRED.replace("real[]", "vector").replace("cmetadata json", "cmetadata jsonb")
#: As PGVector of langchain-postgres 0.0.19 makes it.
POSTGRES = """
    CREATE TABLE langchain_pg_embedding (
        id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE,
        embedding vector, document varchar, cmetadata jsonb)
"""
#: As PGVectorStore of langchain-postgres 0.0.19 makes it, with columns for metadata and for hybrid search.
STORE = """
    CREATE TABLE {} (langchain_id uuid PRIMARY KEY, content text NOT NULL, embedding vector(2) NOT NULL,
        content_tsv tsvector, page integer, published date, langchain_metadata json)
"""
IDS = [UUID(int=number) for number in range(4)]


@pytest.fixture
def source(fresh_database, engine):
    """An empty database beside the one of the tests, with the engine's extension."""
    fresh_database.execute(f"CREATE EXTENSION {engine.extension}", superuser=True)
    return fresh_database


@pytest.fixture
def url(source):
    return url_of(source.connection.settings_dict, name=source.name, driver="psycopg")


@pytest.fixture
def old(source):
    """The tables of the retired class, with one collection."""
    source.execute(COLLECTIONS)
    source.execute(RETIRED)
    source.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'old', '{\"owner\": 1}')", [IDS[0]])
    return source


def add(source, number, *, custom_id=None, vector="{1,2}", text="a", metadata=None):
    """Add a row to the tables of the retired class."""
    values = [IDS[0], vector, text, None if metadata is None else json.dumps(metadata), custom_id, IDS[number]]
    source.execute("INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s, %s)", values)


def run(url, *names, **options):
    """Return what the command printed for people, and what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("import_langchain", source=url, collection=names, stdout=out, stderr=err, **options)
    except CommandError as error:
        err.write(f"CommandError: {error}")
    return out.getvalue(), err.getvalue()


def stored(name):
    """Return key: (text, metadata, vector) of a collection."""
    rows = Collection.objects.get(name=name).documents.all()
    return {
        row.key: (row.content, row.metadata, None if row.embedding is None else row.embedding.tolist()) for row in rows
    }


# The four layouts


def test_import_of_the_retired_class_keeps_ids_texts_metadata_and_vectors(old, url):
    add(old, 1, custom_id="mine", vector="{0.1,2}", text="first", metadata={"page": 3, "nested": {"a": [1, None]}})
    add(old, 2)
    out, err = run(url)
    assert stored("old") == {
        "mine": ("first", {"page": 3, "nested": {"a": [1, None]}}, [np.float32(0.1), 2]),
        str(IDS[2]): ("a", {}, [1, 2]),
    }
    collection = Collection.objects.get(name="old")
    assert (collection.metadata, collection.distance, collection.dimensions) == ({"owner": 1}, "l2", 2)
    assert out == 'Collection "old": 2 documents there, 2 here; 2 new, 0 changed, 0 unchanged.\n'
    assert err == ""


@pytest.mark.pgvector
def test_import_of_pgvector_of_the_community_ranks_by_cosine(source, url):
    source.execute(COLLECTIONS)
    source.execute(COMMUNITY)
    source.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'old', NULL)", [IDS[0]])
    add(source, 1, custom_id="mine", vector="[1,2]", metadata={"a": 1})
    run(url)
    assert stored("old") == {"mine": ("a", {"a": 1}, [1, 2])}
    assert Collection.objects.get(name="old").distance == "cosine"


@pytest.mark.pgvector
def test_import_of_pgvector_of_langchain_postgres_keeps_ids(source, url):
    source.execute(COLLECTIONS)
    source.execute(POSTGRES)
    source.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'new', NULL)", [IDS[0]])
    values = ["mine", IDS[0], "[1,2]", "a", '{"a": 1}']
    source.execute("INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s)", values)
    run(url)
    assert stored("new") == {"mine": ("a", {"a": 1}, [1, 2])}


@pytest.fixture
def store(source):
    """The table of a PGVectorStore, with one document."""
    source.execute(STORE.format("products"))
    source.execute(
        "INSERT INTO products VALUES (%s, 'a', '[1,2]', to_tsvector('a'), 7, '2020-02-29', '{\"lang\": \"en\"}')",
        [IDS[1]],
    )
    return source


@pytest.mark.pgvector
def test_import_of_pgvectorstore_takes_its_columns_for_metadata(store, url):
    run(url)
    metadata = {"lang": "en", "page": 7, "published": "2020-02-29"}
    assert stored("products") == {str(IDS[1]): ("a", metadata, [1, 2])}
    assert Collection.objects.get(name="products").distance == "cosine"


@pytest.mark.pgvector
@pytest.mark.parametrize("name", ["Any table", "shop.Any table"])
def test_import_of_pgvectorstore_with_names_of_its_own_tells_columns_by_their_types(source, url, name):
    source.execute("CREATE SCHEMA shop")
    table = ".".join(f'"{part}"' for part in name.split("."))
    source.execute(
        f'CREATE TABLE {table} (sku varchar PRIMARY KEY, "the text" text, v vector(2) NOT NULL, facts jsonb)'
    )
    source.execute(f"INSERT INTO {table} VALUES ('x1', 'a', '[1,2]', '{{\"a\": 1}}')")
    run(url, name)
    assert stored(name) == {"x1": ("a", {"a": 1}, [1, 2])}


@pytest.mark.pgvector
def test_import_of_pgvectorstore_without_metadata(source, url):
    source.execute("CREATE TABLE bare (langchain_id varchar PRIMARY KEY, content text, embedding vector)")
    source.execute("INSERT INTO bare VALUES ('x1', 'a', '[1,2]')")
    run(url)
    assert stored("bare") == {"x1": ("a", {}, [1, 2])}


@pytest.mark.pgvector
def test_import_names_the_schema_of_a_table_that_needs_it(source, url):
    source.execute("CREATE SCHEMA shop")
    source.execute(STORE.format("shop.products"))
    out, _ = run(url)
    assert out == 'Collection "shop.products": 0 documents there, 0 here; 0 new, 0 changed, 0 unchanged.\n'


@pytest.mark.pgvector
def test_import_of_a_table_whose_columns_cannot_be_told_says_which(source, url):
    source.execute("CREATE TABLE other (id integer PRIMARY KEY, title text, body text, v vector)")
    _, err = run(url, "other")
    assert err.startswith('CommandError: Table "other" is none of a PGVectorStore: it has no single column for text.')


# Which collections


def test_import_takes_every_collection_unless_one_is_named(old, url):
    old.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'empty', NULL)", [IDS[1]])
    add(old, 1)
    out, _ = run(url)
    assert [line.partition(";")[0] for line in out.splitlines()] == [
        'Collection "empty": 0 documents there, 0 here',
        'Collection "old": 1 document there, 1 here',
    ]
    out, _ = run(url, "old")
    assert out == 'Collection "old": 1 document there, 1 here; 0 new, 0 changed, 1 unchanged.\n'


def test_import_joins_collections_of_one_name(old, url):
    old.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'old', NULL)", [IDS[1]])
    add(old, 1)
    old.execute(
        "INSERT INTO langchain_pg_embedding SELECT %s, embedding, document, cmetadata, custom_id, %s "
        "FROM langchain_pg_embedding",
        [IDS[1], IDS[2]],
    )
    run(url)
    assert stored("old").keys() == {str(IDS[1]), str(IDS[2])}


def test_import_of_an_unknown_collection_names_those_that_are_there(old, url):
    _, err = run(url, "new")
    assert err.startswith('CommandError: The source has no collection and no table "new". There are: "old".')


def test_import_of_a_database_without_langchain_says_so(source, url):
    _, err = run(url)
    assert err.startswith("CommandError: The source has no documents of LangChain: neither a table")
    _, err = run(url, "new")
    assert "There are: none." in err


@pytest.mark.parametrize("bad", ["default", "mysql://me:secret@host/db"])
def test_import_from_what_is_no_url_says_so(bad):
    _, err = run(bad)
    assert err.startswith("CommandError: --from must be a URL such as postgresql://user:password@host:5432/database.")
    assert "secret" not in err


def test_import_from_a_server_that_is_not_there_says_so(tmp_path):
    _, err = run(f"postgresql://me:secret@/db?host={tmp_path}")
    assert err.startswith("CommandError: The source cannot be read: ")
    assert "secret" not in err


# Documents that are not as they should be


def test_import_gives_a_document_that_shares_an_id_its_uuid(old, url):
    for number in (1, 2, 3):
        add(old, number, custom_id="same", text=str(number))
    out, _ = run(url)
    assert {key: text for key, (text, _, _) in stored("old").items()} == {
        "same": "1",
        str(IDS[2]): "2",
        str(IDS[3]): "3",
    }
    assert "3 documents there, 3 here" in out


def test_import_keeps_what_has_no_text_no_metadata_and_no_vector(old, url):
    add(old, 1, custom_id="1", vector=None, text=None)
    run(url)
    assert stored("old") == {"1": ("", {}, None)}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"vector": "{1,2,3}"}, "must have 2 dimensions, got 3."),
        ({"vector": "{{1,2},{3,4}}"}, "The embedding is no list of numbers."),
        ({"vector": "{1,NULL}"}, "The embedding is no list of numbers."),
        ({"vector": "{}"}, "The embedding is no list of numbers."),
        ({"vector": "{1,NaN}"}, "must be finite, got nan"),
        ({"metadata": {"a": "\0"}}, "metadata must have no NUL character, which Postgres stores in no text."),
        ({"custom_id": "x" * 256}, "Document.key must have at most 255 characters, got 256"),
    ],
)
def test_import_names_what_it_cannot_store_and_goes_on(old, url, values, reason):
    add(old, 1, custom_id="good")
    add(old, 2, **{"custom_id": "wrong", **values})
    out, err = run(url)
    assert stored("old").keys() == {"good"}
    assert "2 documents there, 1 here; 1 new" in out
    assert err.startswith(f"  {values.get('custom_id', 'wrong')}: ")
    assert reason in err
    assert err.endswith("CommandError: 1 document could not be stored.")


def test_import_counts_all_failures_and_names_the_first(old, url):
    old.execute(
        "INSERT INTO langchain_pg_embedding SELECT %s, '{1,NULL}', n::text, NULL, n::text, gen_random_uuid() "
        "FROM generate_series(1, 25) n",
        [IDS[0]],
    )
    _, err = run(url)
    assert err.count("The embedding is no list of numbers.") == 20
    assert err.endswith("  and 5 more\nCommandError: 25 documents could not be stored.")


def test_import_tells_where_two_documents_have_one_id(old, url):
    add(old, 1, custom_id=str(IDS[2]))
    add(old, 2)
    out, err = run(url)
    assert "2 documents there, 1 here" in out
    assert err == "CommandError: 1 document could not be stored."


# Again


def test_import_again_changes_only_what_has_changed(old, url):
    for number in (1, 2, 3):
        add(old, number, custom_id=str(number))
    run(url)
    old.execute("UPDATE langchain_pg_embedding SET document = 'b' WHERE custom_id = '1'")
    old.execute("UPDATE langchain_pg_embedding SET embedding = '{2,2}' WHERE custom_id = '2'")
    before = dict(Collection.objects.get(name="old").documents.values_list("key", "updated"))
    out, _ = run(url)
    after = dict(Collection.objects.get(name="old").documents.values_list("key", "updated"))
    assert "3 documents there, 3 here; 0 new, 2 changed, 1 unchanged." in out
    assert {key for key in before if before[key] != after[key]} == {"1", "2"}
    assert (stored("old")["1"][0], stored("old")["2"][2]) == ("b", [2, 2])


def test_import_leaves_other_documents_of_the_collection_alone(old, url):
    collection = Collection.objects.create(name="old", dimensions=2)
    collection.documents.create(key="own", content="own")
    add(old, 1, custom_id="1")
    out, err = run(url)
    assert stored("old").keys() == {"own", "1"}
    assert "1 document there, 2 here; 1 new" in out
    assert err == ""


def test_interrupted_import_is_gone_on_with(old, url, monkeypatch):
    monkeypatch.setattr(source_module, "BATCH", 1)
    for number in (1, 2, 3):
        add(old, number)
    rows = source_module.Source.rows

    def interrupt(self, table):
        yield next(rows(self, table))
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(source_module.Source, "rows", interrupt)
        _, err = run(url)
    assert err == "CommandError: Interrupted. What was stored stays; run the command again to go on."
    assert len(stored("old")) == 1
    out, _ = run(url)
    assert "3 documents there, 3 here; 2 new, 0 changed, 1 unchanged." in out


def test_import_reads_the_source_as_it_is_at_one_moment(old, url, monkeypatch):
    add(old, 1)
    count = source_module.Source.count

    def count_and_write(self, table):
        found = count(self, table)
        add(old, 2)
        return found

    monkeypatch.setattr(source_module.Source, "count", count_and_write)
    out, _ = run(url)
    assert "1 document there, 1 here" in out


def test_import_writes_nothing_into_the_source(old, url):
    with source_module.Source(url) as opened, pytest.raises(source_module.SourceError, match="read-only transaction"):
        opened._fetch("DELETE FROM langchain_pg_embedding")


# What a new collection gets


def test_import_gives_a_new_collection_embedder_and_distance(old, url, settings):
    default = settings.PGEMBEDDING["EMBEDDERS"]["default"]
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": default, "other": default}}
    run(url, embedder="other", distance="cosine")
    collection = Collection.objects.get(name="old")
    assert (collection.embedder, collection.distance) == ("other", "cosine")


def test_import_into_a_collection_of_another_distance_is_refused(old, url):
    Collection.objects.create(name="old", distance="l1")
    _, err = run(url, distance="cosine")
    assert err == 'CommandError: Collection "old" has the distance "l1", got "cosine". Leave out --distance.'


def test_import_closes_its_connection(old, url):
    run(url)
    assert "import_langchain" not in connections.settings
