"""Several connections at once: nothing is lost, nothing repeated, and the server's own errors come through."""

import threading
import time

import numpy as np
import pytest
from django.db import OperationalError, connections, transaction

from tests.models import Article
from tests.support.maintenance import fill

#: On pg_embedding the guard lets writers take turns, and VACUUM is nobody's to guard.
pytestmark = pytest.mark.pgvector

SECONDS = 3


@pytest.fixture
def articles(migrated_database, engine):
    fill(migrated_database, engine, 2000)
    return Article.objects.using("fresh")


def test_inserts_deletes_searches_and_vacuum_at_once_lose_and_repeat_nothing(articles, background):
    until = time.monotonic() + SECONDS
    kept = []

    def insert():
        rng = np.random.default_rng(1)
        while time.monotonic() < until:
            kept.append(articles.create(title="kept", embedding=rng.random(3) + 5000))

    def delete():
        while time.monotonic() < until:
            articles.filter(pk__in=list(articles.filter(title="t").values_list("pk", flat=True)[:5])).delete()

    def search():
        rng = np.random.default_rng(2)
        while time.monotonic() < until:
            found = [row.pk for row in articles.nearest(rng.random(3) * 2000, 10, exact=False)]
            assert len(found) == len(set(found)) == 10

    def vacuum():
        while time.monotonic() < until:
            with connections["fresh"].cursor() as cursor:
                cursor.execute("VACUUM tests_article")

    for client in [background(work) for work in (insert, delete, search, vacuum)]:
        client.result()
    assert kept
    assert articles.filter(title="kept").count() == len(kept)
    for row in kept[:: max(1, len(kept) // 50)]:
        assert articles.nearest(row.embedding, 1, exact=False)[0].pk == row.pk


def test_deadlock_comes_through_as_the_server_s_error(articles, background):
    one, two = articles.values_list("pk", flat=True)[:2]
    both_hold_a_row = threading.Barrier(2)

    def write(first, second):
        with transaction.atomic(using="fresh"):
            articles.filter(pk=first).update(embedding=[1, 2, 3])
            both_hold_a_row.wait()
            articles.filter(pk=second).update(embedding=[1, 2, 3])

    errors = [client.exception() for client in (background(write, one, two), background(write, two, one))]
    [error] = [error for error in errors if error is not None]
    assert isinstance(error, OperationalError)
    assert "deadlock detected" in str(error)


def test_serialisation_failure_comes_through_as_the_server_s_error(articles, migrated_database):
    row = articles.first()
    other = migrated_database.open()
    with transaction.atomic(using="fresh"):
        with connections["fresh"].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert articles.count() == 2000
        with other.cursor() as cursor:
            cursor.execute("UPDATE tests_article SET title = 'theirs' WHERE id = %s", [row.pk])
        other.close()
        with pytest.raises(OperationalError, match="could not serialize access"), transaction.atomic(using="fresh"):
            articles.filter(pk=row.pk).update(embedding=[1, 2, 3])
    assert articles.get(pk=row.pk).title == "theirs"
