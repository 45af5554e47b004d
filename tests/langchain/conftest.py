"""Stores of LangChain, and the databases that they make."""

import pytest
from django.db import connections

from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters
from tests.support.urls import url_of


@pytest.fixture
def store(db):
    """A store in the test's own transaction."""
    return PGEmbedding(embedding_function=Letters(), using="default")


@pytest.fixture
def connection_string(fresh_database):
    """The URL of an empty database; what is connected to it by then is forgotten."""
    known = set(connections.settings)
    yield url_of(fresh_database.connection.settings_dict, name=fresh_database.name)
    for alias in set(connections.settings) - known:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture
def store_of_async(transactional_db):
    return PGEmbedding(embedding_function=Letters())


@pytest.fixture
def filled(store):
    """A store of documents of two sources."""
    store.add_texts(list("abc"), [{"source": "x"}, {"source": "x"}, {"source": "y"}], ids=["1", "2", "3"])
    return store


@pytest.fixture
def nothing_opened(monkeypatch):
    """No store has been opened yet."""
    monkeypatch.setattr(PGEmbedding, "_opened_last", None)
