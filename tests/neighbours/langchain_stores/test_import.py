"""
LangChain's own vector stores: what they wrote is imported, every column of every row.

They need psycopg 3, which Django would use where it is installed, and an old pgvector. So they write in a process of
their own, in the environment `.venv/langchain` that `make neighbours` makes.
"""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection

from pgembedding_django.documents.models import Collection
from tests.settings import ROOT
from tests.support.urls import url_of

WRITER = Path(__file__).with_name("writer.py")
PYTHON = Path(os.environ.get("LANGCHAIN_PYTHON", ROOT / ".venv" / "langchain" / "bin" / "python"))
STORES = ["retired", "community", "postgres", "store"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no .venv/langchain; `make neighbours` makes it"),
]


@pytest.fixture
def url(db):
    """The URL of the database of the tests, without tables of LangChain from an earlier test."""
    apart = connection.copy("apart")
    with apart.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS langchain_pg_embedding, langchain_pg_collection, store")
    apart.close()
    return url_of(connection.settings_dict, driver="psycopg")


def write(store, url):
    done = subprocess.run(
        [PYTHON, "-W", "ignore", WRITER, store, url], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


def run(url):
    out = io.StringIO()
    call_command("import_langchain", source=url, stdout=out)
    return out.getvalue()


def fetch(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


SHARED = "SELECT {}, document, cmetadata::jsonb, embedding::real[] FROM langchain_pg_embedding"
THERE = {
    "retired": SHARED.format("custom_id"),
    "community": SHARED.format("custom_id"),
    "postgres": SHARED.format("id"),
    "store": "SELECT langchain_id, content, langchain_metadata::jsonb || jsonb_build_object('page', page), "
    "embedding::real[] FROM store",
}
HERE = "SELECT key, content, metadata, embedding::real[] FROM pgembedding_documents_document"


@pytest.mark.parametrize("store", STORES)
def test_every_column_of_5000_rows_is_here_as_it_is_there(store, url):
    write(store, url)
    out = run(url)
    assert f'Collection "{store}": 5,000 documents there, 5,000 here; 5,000 new, 0 changed, 0 unchanged.\n' == out
    differing = f"SELECT count(*) FROM (({THERE[store]} EXCEPT {HERE}) UNION ALL ({HERE} EXCEPT {THERE[store]})) d"
    assert fetch(differing) == [(0,)]
    assert fetch(f"SELECT count(*) FROM ({THERE[store]}) t") == [(5000,)]
    assert run(url).endswith("0 new, 0 changed, 5,000 unchanged.\n")


def test_search_after_the_import_finds_what_the_store_found(url):
    write("questions", url)
    run(url)
    collection = Collection.objects.get(name="questions")
    (vector, key), *_ = fetch("SELECT embedding::real[], id FROM langchain_pg_embedding")
    (found,) = collection.documents.nearest(np.array(vector), 1)
    assert (found.key, collection.distance) == (key, "cosine")
    assert found.distance == pytest.approx(0, abs=1e-6)
