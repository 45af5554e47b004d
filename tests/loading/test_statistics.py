"""bulk_load() leaves the planner with statistics where it knew little of the table."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.models import Article, Required

pytestmark = pytest.mark.django_db

KNOWN = "SELECT DISTINCT tablename::text FROM pg_stats WHERE tablename LIKE 'tests_%'"


def load(count, rows=Required.objects, **options):
    """Return what was analyzed by a load of so many rows."""
    with CaptureQueriesContext(connection) as queries:
        rows.bulk_load((rows.model(embedding=[1, 2, i]) for i in range(count)), **options)
    return [query["sql"] for query in queries if query["sql"].startswith("ANALYZE")]


@pytest.fixture
def empty():
    """Statistics of an empty table: what other tests rolled back leaves a count of rows."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tests_required")
        cursor.execute("ANALYZE tests_required")


def known():
    with connection.cursor() as cursor:
        cursor.execute(KNOWN)
        return {name for (name,) in cursor.fetchall()}


def test_first_large_load_leaves_statistics(empty):
    load(1000)
    assert "tests_required" in known()


def test_small_load_leaves_statistics_to_autovacuum(empty):
    assert load(999) == []


def test_load_of_fewer_rows_than_are_known_leaves_statistics_to_autovacuum(empty):
    load(1001)
    assert load(1000) == []


def test_load_around_the_index_leaves_statistics():
    load(10, Article.objects, rebuild_indexes=True)
    assert "tests_article" in known()


def test_load_beside_maintenance_of_the_table_does_not_wait_for_it(migrated_database):
    other = migrated_database.open()
    with other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK tests_required IN SHARE UPDATE EXCLUSIVE MODE")
        assert Required.objects.using("fresh").bulk_load(Required(embedding=[1, 2, i]) for i in range(1000)) == 1000
    other.close()
    assert migrated_database.execute(KNOWN) == []


def test_load_by_a_role_that_may_not_analyze_is_no_error(migrated_database, role):
    migrated_database.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", superuser=True)
    migrated_database.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}", superuser=True)
    assert Required.objects.using("fresh").bulk_load(Required(embedding=[1, 2, i]) for i in range(1000)) == 1000
