"""bulk_load() when the client or the server dies half-way, and when the stream is larger than its memory."""

import json
import os
import signal

import pytest

from tests.support.waiting import once_it_is_back, wait_until

#: Loads rows in batches of 1,000 and says how many it has loaded; the second batch of a slow load stops in
#: the middle of its COPY.
SCRIPT = """
import json, resource, sys, time
import numpy as np
import django
from django.conf import settings
database, command, rows = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["pgembedding_django"], USE_TZ=True)
django.setup()
from django.db import connection, models
from pgembedding_django import EmbeddingField, EmbeddingManager

class Slow(models.IntegerField):
    def pre_save(self, row, add):
        if command == "slow" and row.id == 1500:
            time.sleep(60)
        return row.id

class Item(models.Model):
    id = Slow(primary_key=True)
    embedding = EmbeddingField(dimensions=256)
    objects = EmbeddingManager()
    class Meta:
        app_label = "items"
        db_table = "item"

def stream():
    vector = np.arange(256, dtype=np.float32)
    for i in range(rows):
        yield Item(id=i, embedding=vector + i)

def say(loaded):
    print(loaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)

known = {"update_conflicts": True, "unique_fields": ["pk"]} if command == "again" else {}
Item.objects.bulk_load(stream(), batch_size=1000, progress=say, **known)
"""


@pytest.fixture
def database(own_database):
    """A database with an empty table `item`."""
    with own_database.cursor() as cursor:
        cursor.execute("CREATE TABLE item (id integer PRIMARY KEY, embedding vector(256) NOT NULL)")
    return own_database


@pytest.fixture
def load(server, run_script):
    """Start the script."""

    def load(command, rows=3000):
        return run_script(SCRIPT, json.dumps(server), command, str(rows))

    return load


def rows_of(database):
    with database.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT id) FROM item")
        return cursor.fetchone()


def backend_in_copy(database):
    """Wait until a COPY is under way, and return the process id of its backend."""
    with database.cursor() as cursor:

        def look():
            cursor.execute("SELECT pid FROM pg_stat_progress_copy")
            return cursor.fetchone()

        return wait_until(look)[0]


def test_client_killed_keeps_whole_batches_and_a_rerun_completes_them(database, load):
    slow = load("slow")
    assert slow.stdout.readline().split()[0] == "1000"
    backend_in_copy(database)
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    assert rows_of(database) == (1000, 1000)
    _, errors = load("again").communicate(timeout=60)
    assert errors == ""
    assert rows_of(database) == (3000, 3000)


def test_server_crash_keeps_whole_batches_and_a_rerun_completes_them(database, load):
    slow = load("slow")
    assert slow.stdout.readline().split()[0] == "1000"
    os.kill(backend_in_copy(database), signal.SIGKILL)  # the server takes every other connection down and recovers
    database.close()
    assert once_it_is_back(database, lambda: rows_of(database)) == (1000, 1000)
    assert load("again").wait(timeout=60) == 0
    assert rows_of(database) == (3000, 3000)


def test_stream_larger_than_its_memory_is_loaded_in_bounded_memory(database, load):
    printed, errors = load("fast", 120_000).communicate(timeout=300)
    assert errors == ""
    loaded, kilobytes = zip(*(map(int, line.split()) for line in printed.splitlines()), strict=True)
    assert loaded[-1] == 120_000
    # 120,000 vectors of 256 float32 are 120 MB; what one batch needs has been reached after ten.
    assert kilobytes[-1] - kilobytes[9] < 20_000
