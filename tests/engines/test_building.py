"""The memory that builds get, what is said where it lacks, and what the server says."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.models import Q

from pgembedding_django.checks import check_models
from pgembedding_django.engines.building import count_indexed
from pgembedding_django.indexes import HnswIndex, IvfflatIndex
from pgembedding_django.maintenance import rebuild
from pgembedding_django.maintenance.rebuilding.jobs import repair
from tests.models import Article
from tests.support.maintenance import INDEX, fill

pytestmark = pytest.mark.pgvector

#: 3 dimensions and m=16 take 24 + 512 + 196 bytes a row.
ROWS, NEEDED = 3000, 3000 * 732

LACK = f"The graph of {INDEX} needs about 2.1 MB of memory, and its build has 1.0 MB: once those are full it goes on"
NOTICE = "hnsw graph no longer fits into maintenance_work_mem"

CREATE = """migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
])"""
ADD = 'AddIndexConcurrently("Note", HnswIndex(fields=["embedding"], name="article_embedding_hnsw"))'


@pytest.fixture
def database(migrated_database, engine):
    """A database whose builds have 1MB, with a table whose graph needs more; its index is dropped."""
    migrated_database.execute(f"ALTER DATABASE {migrated_database.name} SET maintenance_work_mem = '1MB'")
    migrated_database.become()
    migrated_database.execute(f"DROP INDEX {INDEX}")
    fill(migrated_database, engine, ROWS)
    return migrated_database


@pytest.fixture
def generous(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "BUILD_MEMORY": "64MB"}


def memory(database):
    return database.execute("SHOW maintenance_work_mem")[0][0]


def add(database, **options):
    with connections["fresh"].schema_editor(atomic=not options) as editor:
        editor.add_index(Article, Article._meta.indexes[0], **options)


def said(caplog):
    return caplog.text.replace("\xa0", " ")


@pytest.mark.parametrize("options", [{}, {"concurrently": True}])
def test_build_that_lacks_memory_is_announced_and_the_server_is_heard(database, caplog, options):
    add(database, **options)
    assert LACK in said(caplog)
    assert NOTICE in said(caplog)


@pytest.mark.parametrize("options", [{}, {"concurrently": True}])
def test_build_gets_the_memory_that_the_setting_allows_and_gives_it_back(database, generous, caplog, options):
    add(database, **options)
    assert caplog.text == ""
    assert memory(database) == "1MB"


def test_build_gets_no_more_memory_than_the_setting_allows(database, settings, caplog):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "BUILD_MEMORY": "1536kB"}
    add(database)
    assert f"{INDEX} needs about 2.1 MB of memory, and its build has 1.5 MB" in said(caplog)
    assert NOTICE in said(caplog)


def test_build_in_a_transaction_keeps_the_memory_until_it_ends(database, generous):
    with transaction.atomic(using="fresh"):
        add(database)
        assert memory(database) == f"{-(-(NEEDED * 11 // 10 + 2**20) // 1024)}kB"
    assert memory(database) == "1MB"


def test_concurrent_migration_gets_the_memory(fresh_database, engine, generous, write_migrations, caplog):
    write_migrations(CREATE, ADD, atomic=False)
    fresh_database.execute(f"ALTER DATABASE {fresh_database.name} SET maintenance_work_mem = '1MB'")
    fresh_database.become()
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, engine, ROWS, table="tests_note")
    fresh_database.migrate("tests")
    assert (caplog.text, memory(fresh_database)) == ("", "1MB")


def test_sqlmigrate_counts_nothing_and_says_nothing(database, caplog):
    with connections["fresh"].schema_editor(collect_sql=True) as editor:
        editor.add_index(Article, Article._meta.indexes[0])
    assert len(editor.collected_sql) == 1
    assert caplog.text == ""


def test_load_that_rebuilds_its_indexes_gets_the_memory(database, generous, caplog):
    rows = [Article(title=str(i), embedding=[i, 1, 0]) for i in range(10)]
    Article.objects.using("fresh").bulk_load(rows, rebuild_indexes=True)
    assert NOTICE not in caplog.text
    assert memory(database) == "1MB"


def test_repair_that_creates_an_index_gets_the_memory(database, generous):
    (run,) = repair(using="fresh")
    assert (run.status, run.notice) == ("succeeded", "")


@pytest.mark.parametrize("bound", [None, "64MB"])
def test_rebuild_gets_the_memory_and_keeps_what_the_server_says(database, settings, bound):
    add(database)
    database.execute("ANALYZE tests_article")
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "BUILD_MEMORY": bound}
    run = rebuild(INDEX, using="fresh")
    lacked = bound is None
    assert (NOTICE in run.notice, LACK in run.notice.replace("\xa0", " ")) == (lacked, lacked)


def test_rebuild_with_memory_of_its_own_is_not_given_more(database, generous):
    add(database)
    database.execute("ANALYZE tests_article")
    assert NOTICE in rebuild(INDEX, using="fresh", maintenance_work_mem="1MB").notice


@pytest.mark.parametrize(
    ("size", "got"),
    [
        (2048, 'PGEMBEDDING["BUILD_MEMORY"] must be a size such as "2GB", got 2048.'),
        (
            "lots",
            'PGEMBEDDING["BUILD_MEMORY"] must be a size from 64kB to 2047GB with its unit, such as "512MB", got '
            "'lots'.",
        ),
    ],
)
def test_setting_that_is_no_size_is_found_by_a_check_and_refused(database, settings, size, got):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "BUILD_MEMORY": size}
    assert [(message.id, message.msg) for message in check_models() if message.id == "pgembedding.E019"] == [
        ("pgembedding.E019", got)
    ]
    with pytest.raises(ImproperlyConfigured) as caught:
        add(database)
    assert str(caught.value) == got


def test_rows_of_a_partitioned_table_are_those_of_the_largest_partition(ready_database):
    ready_database.execute("CREATE TABLE p (id int, e vector(3)) PARTITION BY LIST (id)")
    for part, rows in ((1, 3), (2, 5)):
        ready_database.execute(f"CREATE TABLE p{part} PARTITION OF p FOR VALUES IN ({part})")
        ready_database.execute(f"INSERT INTO p SELECT {part}, '[1,2,3]' FROM generate_series(1, {rows})")
    ready_database.execute("INSERT INTO p VALUES (1, NULL), (1, NULL), (1, NULL)")
    connection = ready_database.connection
    assert count_indexed(connection, '"p"', '"e"', "") == 5
    assert count_indexed(connection, '"p"', '"e"', " WHERE id = 1") == 3
    assert count_indexed(connection, '"p"', '"e"', " WHERE id = 9") == 0


def test_index_without_a_graph_is_announced_by_nothing(database, caplog):
    with connections["fresh"].schema_editor() as editor:
        editor.add_index(Article, IvfflatIndex(fields=["embedding"], name="article_lists", lists=4))
    assert caplog.text == ""


def test_condition_of_an_index_limits_the_rows_that_are_counted(database, caplog):
    # No UPDATE: the graph would also hold the old versions of rows, for as long as anybody may read them.
    with connections["fresh"].schema_editor() as editor:
        editor.add_index(Article, HnswIndex(fields=["embedding"], name=INDEX, condition=Q(id__lt=10)))
    assert caplog.text == ""
