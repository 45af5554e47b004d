"""embed() when its process or the server dies half-way, and beside a provider that fails; in processes of their own."""

import json
import os
import signal
from collections import Counter

import pytest
from django.core.management import call_command

from pgembedding_django.management.base import INTERRUPTED
from pgembedding_django.models import EmbedClaim
from tests.models import Article
from tests.support.waiting import once_it_is_back, wait_for, wait_until

ROWS = 200

#: Embeds in batches of ten, and writes each text that it pays for to a file. The embedder takes a moment, and for ever
#: once half of the texts are paid for, unless told to be quick.
SCRIPT = """
import json, os, sys, time
import django
from django.conf import settings
from pgembedding_django.embedders import Embedder

database, paid, quick = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3] == "quick"

class Slow(Embedder):
    dimensions, concurrency, calls = 3, 2, 0
    identity = "slow"
    def compute(self, texts):
        type(self).calls += 1
        if not quick and self.calls > 10:
            time.sleep(600)
        with open(paid, "a") as file:
            file.write("".join(text + chr(10) for text in texts))
        return [[float(text.split()[1]), 1, 1] for text in texts]

settings.configure(
    DATABASES={"default": database}, INSTALLED_APPS=["pgembedding_django"], USE_TZ=True,
    PGEMBEDDING={"EMBEDDERS": {"default": {"BACKEND": "__main__.Slow"}}},
)
django.setup()
from django.db import models
from pgembedding_django import EmbeddingField, EmbeddingManager

class Item(models.Model):
    id = models.BigAutoField(primary_key=True)
    text = models.TextField()
    embedding = EmbeddingField(dimensions=3, source="text", null=True)
    objects = EmbeddingManager()
    class Meta:
        app_label = "items"
        db_table = "item"

print(Item.objects.embed(batch_size=10, concurrency=2).embedded, Item.objects.stale().count(), flush=True)
"""


@pytest.fixture
def database(own_database):
    """A database with a table `item` of 200 texts."""
    call_command("migrate", "pgembedding_django", database="own", verbosity=0)
    with own_database.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE item (id bigserial PRIMARY KEY, text text, embedding vector(3), embedding_digest varchar(64))"
        )
        cursor.execute("INSERT INTO item (text) SELECT 'text ' || n FROM generate_series(1, %s) n", [ROWS])
    return own_database


@pytest.fixture
def start(server, tmp_path, run_script):
    """Start the script."""

    def start(how):
        return run_script(SCRIPT, json.dumps(server), str(tmp_path / "paid"), how)

    return start


def ask(database, sql):
    with database.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def stored(database):
    return {text for (text,) in ask(database, "SELECT text FROM item WHERE embedding IS NOT NULL")}


def wait_until_it_hangs(database):
    """Wait until ten batches are written and two hang in the embedder."""
    wait_until(lambda: len(stored(database)) >= 100)


def check_complete(database, tmp_path, kept):
    wrong = (
        "SELECT count(*) FROM item WHERE embedding IS NULL OR embedding <> ('[' || substr(text, 6) || ',1,1]')::vector"
    )
    assert ask(database, wrong) == [(0,)]
    paid = Counter((tmp_path / "paid").read_text().splitlines())
    assert len(paid) == ROWS
    assert {paid[text] for text in kept} == {1}


@pytest.mark.pgvector
def test_worker_killed_keeps_its_batches_and_a_rerun_completes_them(database, start, tmp_path):
    slow = start("slow")
    wait_until_it_hangs(database)
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    kept = stored(database)
    assert len(kept) == 100
    again, errors = start("quick").communicate(timeout=60)
    assert (again, errors) == ("100 0\n", "")
    check_complete(database, tmp_path, kept)


@pytest.mark.pgvector
def test_worker_that_hangs_keeps_its_claims_and_another_does_the_rest(database, start, tmp_path):
    slow = start("slow")
    wait_until_it_hangs(database)
    other, errors = start("quick").communicate(timeout=60)
    done, stale = map(int, other.split())
    assert errors == ""
    assert 100 - done == stale > 0
    slow.kill()
    slow.wait()
    assert start("quick").communicate(timeout=60) == (f"{stale} 0\n", "")
    check_complete(database, tmp_path, stored(database))


@pytest.mark.pgvector
def test_server_crash_keeps_the_batches_and_a_rerun_completes_them(database, start, tmp_path):
    slow = start("slow")
    wait_until_it_hangs(database)
    ((pid,),) = ask(database, "SELECT pid FROM pgembedding_django_embedclaim ORDER BY id DESC LIMIT 1")
    os.kill(pid, signal.SIGKILL)  # the server takes every other connection down and recovers
    database.close()
    kept = once_it_is_back(database, lambda: stored(database))
    slow.kill()
    slow.wait()
    assert len(kept) == 100
    assert start("quick").communicate(timeout=60) == ("100 0\n", "")
    check_complete(database, tmp_path, kept)


def test_command_stops_on_ctrl_c_and_a_rerun_completes_it(ready_database):
    ready_database.migrate()
    Article.objects.using("fresh").bulk_create([Article(title=f"text {number}") for number in range(3000)])
    process = ready_database.start("embed", "tests.Article", "--batch-size", "1")
    wait_for(ready_database, "SELECT 1 FROM tests_article WHERE embedding IS NOT NULL")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    embedded_rows = Article.objects.using("fresh").exclude(embedding=None).count()
    assert process.returncode == INTERRUPTED
    assert f"\n{embedded_rows:,} embedded, " in printed
    assert "Run the same command again to go on." in errors
    assert not EmbedClaim.objects.using("fresh").exists()
    again = ready_database.start("embed", "tests.Article")
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert Article.objects.using("fresh").exclude(embedding=None).count() == 3000
