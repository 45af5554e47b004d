"""A store without a project: connection strings, tables, threads, missing packages."""

import importlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.utils.functional import empty

from pgembedding_django.langchain import PGEmbedding
from pgembedding_django.langchain.setup import Database, find_database, find_engine
from tests.support.letters import Letters, contents, texts
from tests.support.waiting import wait_for

OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


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
