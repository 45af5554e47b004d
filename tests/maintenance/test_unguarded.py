"""Indexes of pg_embedding that no migration of this project made; its guard is plain SQL, which any server runs."""

import pytest

from pgembedding_django.checks import check_indexes
from pgembedding_django.engines import ENGINES, guard
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.maintenance.rebuilding.repair import plan_repair
from tests.models import Article, Pair
from tests.support.maintenance import INDEX


@pytest.fixture
def unguarded(migrated_database, settings):
    """Tables with indexes and without the guard, as SQL of one's own leaves them."""
    default = settings.PGEMBEDDING["ENGINE"]
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": {"default": default, "fresh": "pg_embedding"}}
    for table in ("tests_article", "tests_pair"):
        migrated_database.execute(f"DROP TRIGGER IF EXISTS {guard.GUARD} ON {table}")
    migrated_database.execute(f"DROP FUNCTION IF EXISTS {guard.ENTER}")
    return migrated_database


def states():
    return {report.name: report.state for report in list_indexes("fresh")}


def test_indexes_without_the_guard_are_unguarded_and_a_check_names_each(unguarded):
    assert states() == dict.fromkeys([INDEX, "pair_one_cosine", "pair_two_l1"], State.UNGUARDED)
    messages = [each for each in check_indexes(databases=["fresh"]) if each.id == "pgembedding.W036"]
    assert [each.msg for each in messages] == [
        f'Index public.{name} of table {table} in database "fresh" is not guarded.'
        for name, table in [(INDEX, "tests_article"), ("pair_one_cosine", "tests_pair"), ("pair_two_l1", "tests_pair")]
    ]
    assert messages[0].hint == (
        "It was not made by a migration of this project, so nothing keeps its readers and writers apart, and searches "
        "read every row. Repair rebuilds it and guards its table. Run: manage.py rebuild_hnsw_indexes --repair"
    )


def test_repair_rebuilds_a_table_once_and_guards_it(unguarded):
    assert [step.words for step in plan_repair("fresh")] == [
        f"Rebuild {INDEX} of tests_article, and guard the table.",
        "Rebuild pair_one_cosine of tests_pair, and guard the table.",
    ]
    assert rebuild("pair_one_cosine", using="fresh").parts == 2
    assert states() == {INDEX: State.UNGUARDED, "pair_one_cosine": State.HEALTHY, "pair_two_l1": State.HEALTHY}
    assert unguarded.triggers() == ["tests_pair"]
    assert unguarded.execute(f"SELECT {guard.ENTER}('tests_pair')") == [(True,)]


def test_index_of_a_table_that_django_does_not_manage_is_known_too(unguarded, monkeypatch):
    monkeypatch.setattr(Article._meta, "managed", False)
    assert states()[INDEX] is State.UNGUARDED
    rebuild(INDEX, using="fresh")
    assert states()[INDEX] is State.HEALTHY


def test_index_that_an_unmanaged_model_declares_and_the_database_lacks_is_no_business_of_ours(unguarded, monkeypatch):
    monkeypatch.setattr(Pair._meta, "managed", False)
    unguarded.execute("DROP INDEX pair_two_l1")
    assert sorted(states()) == [INDEX, "pair_one_cosine"]


def test_search_of_an_unguarded_table_is_exact_and_says_why(unguarded):
    obstacle = "no guard keeps its readers and writers apart. Run: manage.py rebuild_hnsw_indexes --repair"
    rows = Article.objects.using("fresh").nearest([1, 2, 3], exact=False)
    assert rows.explain_nearest() == f"Exact scan: {obstacle}."
    ENGINES["pg_embedding"].guard_table(unguarded.connection, "tests_pair")
    assert ENGINES["pg_embedding"].scan_obstacle(unguarded.connection) == ""
