import threading

import numpy as np
import pytest
from django.core.checks import run_checks
from django.db import OperationalError, ProgrammingError, connections, transaction
from django.db.transaction import TransactionManagementError

from pgembedding_django.engines import ENGINES, guard
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.maintenance.rebuilding.repair import plan_repair
from pgembedding_django.maintenance.rebuilding.session import IndexBusy
from pgembedding_django.models import HnswIndexStatus, IndexRun
from tests.models import Article
from tests.support.maintenance import BUILDING, INDEX, cancel_builds, fill, interrupt_rebuild, snapshot, writer
from tests.support.waiting import ADVISORY_LOCKS, wait_for


def filenode(database, name=INDEX):
    return database.execute("SELECT pg_relation_filenode(%s::regclass)", [name])[0][0]


def leftovers(database):
    return sorted(name for name, valid in database.indexes().items() if not valid)


# What it does


@pytest.mark.parametrize("concurrently", [True, False])
def test_rebuild_gives_the_index_new_storage_and_records_it(migrated_database, engine, concurrently):
    fill(migrated_database, engine)
    before = filenode(migrated_database)
    run = rebuild(INDEX, using="fresh", concurrently=concurrently, person="ann")
    assert filenode(migrated_database) != before
    assert migrated_database.indexes()[INDEX]
    stored = IndexRun.objects.using("fresh").get()
    assert (stored.pk, stored.status, stored.person, stored.error) == (run.pk, "succeeded", "ann", "")
    assert stored.duration.total_seconds() >= 0
    assert (stored.schema, stored.index, stored.table) == ("public", INDEX, "tests_article")
    assert stored.size_after == find_index(INDEX, "fresh").size


def test_rebuild_leaves_the_planner_with_statistics(migrated_database, engine):
    fill(migrated_database, engine)
    rebuild(INDEX, using="fresh")
    assert migrated_database.execute("SELECT 1 FROM pg_stats WHERE tablename = 'tests_article'")


def test_rebuild_sets_memory_and_workers_on_its_own_connection_alone(migrated_database, engine, background):
    with writer(migrated_database, engine):
        future = background(
            rebuild, INDEX, using="fresh", maintenance_work_mem="70MB", parallel_workers=1, concurrently=True
        )
        wait_for(migrated_database, BUILDING)
    assert future.result().parameters == {
        "maintenance_work_mem": "70MB",
        "parallel_workers": 1,
        "concurrently": True,
    }
    assert migrated_database.execute("SHOW maintenance_work_mem") == [("64MB",)]


@pytest.mark.parametrize("size", ["512", "1 GB", "1PB", "0MB", "1kB", "63kB", "2TB", "1GB; DROP TABLE tests_article"])
def test_rebuild_with_memory_that_is_no_size_is_refused(migrated_database, size):
    with pytest.raises(ValueError) as caught:
        rebuild(INDEX, using="fresh", maintenance_work_mem=size)
    assert str(caught.value) == (
        f'maintenance_work_mem must be a size from 64kB to 2047GB with its unit, such as "512MB", got {size!r}.'
    )
    assert not IndexRun.objects.using("fresh").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parallel_workers": -3}, "parallel_workers must be from 0 to 1024, got -3."),
        ({"parallel_workers": 1025}, "parallel_workers must be from 0 to 1024, got 1025."),
        ({"give_up": -1.0}, "give_up must be from 0.001 to 2,147,483 seconds, got -1.0."),
        ({"give_up": float("nan")}, "give_up must be from 0.001 to 2,147,483 seconds, got nan."),
        ({"give_up": 0.0}, "give_up must be from 0.001 to 2,147,483 seconds, got 0.0."),
    ],
)
def test_rebuild_with_options_that_no_server_takes_is_refused_and_blocks_nothing(migrated_database, options, sentence):
    with pytest.raises(ValueError) as caught:
        rebuild(INDEX, using="fresh", **options)
    assert str(caught.value) == sentence
    assert not IndexRun.objects.using("fresh").exists()


def test_rebuild_outlives_the_timeouts_of_the_role(migrated_database, engine, background):
    user = migrated_database.connection.settings_dict["USER"]
    migrated_database.execute(f"ALTER ROLE {user} IN DATABASE {migrated_database.name} SET statement_timeout = '300ms'")
    migrated_database.execute(f"ALTER ROLE {user} IN DATABASE {migrated_database.name} SET lock_timeout = '300ms'")
    with writer(migrated_database, engine) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            future = background(rebuild, INDEX, using="fresh")
            wait_for(migrated_database, BUILDING)
            cursor.execute("SELECT pg_sleep(0.6)")
        assert not future.done()
    assert future.result().status == "succeeded"


def test_rebuild_reports_phase_percent_and_who_blocks_it(migrated_database, engine, background):
    seen = []
    with snapshot(migrated_database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        blocker = cursor.fetchone()[0]
        arrived = threading.Event()

        def watch(progress):
            seen.append(progress)
            if progress.blocked_by:
                arrived.set()

        future = background(rebuild, INDEX, using="fresh", progress=watch)
        assert arrived.wait(30)
    future.result()
    held = next(progress for progress in seen if progress.blocked_by)
    assert (held.phase, held.percent, held.blocked_by) == ("waiting for old snapshots", 97, (blocker,))
    assert [progress.percent for progress in seen] == sorted(progress.percent for progress in seen)


def test_rebuild_whose_progress_raises_is_cancelled_and_recorded(migrated_database, engine):
    class Stop(BaseException):
        pass

    def stop(progress):
        raise Stop

    with writer(migrated_database, engine), pytest.raises(Stop):
        rebuild(INDEX, using="fresh", progress=stop)
    assert IndexRun.objects.using("fresh").get().status == "interrupted"
    assert (
        migrated_database.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
        == []
    )


# What it refuses


def test_rebuild_of_an_unknown_index_names_the_command(migrated_database):
    with pytest.raises(HnswIndexStatus.DoesNotExist) as caught:
        rebuild("nosuch", using="fresh")
    assert str(caught.value) == (
        'Database "fresh" has no HNSW index nosuch. manage.py hnsw_indexes lists those that it has.'
    )


def test_rebuild_of_another_kind_of_index_is_refused(migrated_database):
    before = filenode(migrated_database, "tests_article_pkey")
    with pytest.raises(HnswIndexStatus.DoesNotExist) as caught:
        rebuild("tests_article_pkey", using="fresh")
    assert str(caught.value) == (
        'Index tests_article_pkey of database "fresh" is no HNSW index but a btree index, which is left alone.'
    )
    assert filenode(migrated_database, "tests_article_pkey") == before


def test_second_rebuild_of_one_index_is_refused_and_the_first_ends_well(migrated_database, engine, background):
    with writer(migrated_database, engine):
        first = background(rebuild, INDEX, using="fresh")
        wait_for(migrated_database, BUILDING)
        with pytest.raises(IndexBusy) as caught:
            rebuild(INDEX, using="fresh")
    assert f"Index {INDEX} is busy: rebuild running since " in str(caught.value)
    assert first.result().status == "succeeded"
    assert leftovers(migrated_database) == []


def test_rebuild_beside_one_that_nobody_recorded_is_refused(migrated_database, engine, background):
    with writer(migrated_database, engine):
        first = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        with pytest.raises(IndexBusy, match=rf"^Index {INDEX}(_ccnew)? is being built by backend \d+\. Wait until"):
            rebuild(INDEX, using="fresh")
    first.result()
    assert IndexRun.objects.using("fresh").get().status == "failed"
    assert leftovers(migrated_database) == []


def test_rebuild_of_another_index_of_the_table_is_refused(migrated_database, engine, background):
    locked = f"{ADVISORY_LOCKS} AND classid = 1885827685"
    connection = migrated_database.open()
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE tests_pair IN ROW EXCLUSIVE MODE")
        first = background(rebuild, "pair_one_cosine", using="fresh")
        wait_for(migrated_database, BUILDING)
        wait_for(migrated_database, locked)
        with pytest.raises(IndexBusy) as caught:
            rebuild("pair_two_l1", using="fresh")
    connection.rollback()
    connection.close()
    assert str(caught.value) == ("An index of table tests_pair is being rebuilt already. Wait until that has ended.")
    first.result()


def test_rebuild_in_a_transaction_that_used_the_table_is_refused(migrated_database):
    with transaction.atomic(using="fresh"):
        Article.objects.using("fresh").count()
        with pytest.raises(TransactionManagementError) as caught:
            rebuild(INDEX, using="fresh")
    assert str(caught.value) == (
        f"Index {INDEX} cannot be rebuilt inside a transaction that has used table tests_article: the rebuild would "
        "wait for it. Rebuild outside of atomic(), or by start_rebuild()."
    )


def test_rebuild_in_a_transaction_that_did_not_use_the_table_succeeds(migrated_database):
    with transaction.atomic(using="fresh"):
        assert rebuild(INDEX, using="fresh").status == "succeeded"


def test_rebuild_by_a_role_that_is_no_owner_says_what_to_grant(migrated_database, role):
    user = connections["default"].settings_dict["USER"]
    for sql in (
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {0}",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {0}",
    ):
        migrated_database.execute(sql.format(role), superuser=True)
    if migrated_database.connection.pg_version >= 170000:
        migrated_database.execute(f"REVOKE MAINTAIN ON ALL TABLES IN SCHEMA public FROM {role}", superuser=True)
        grant = f"GRANT MAINTAIN ON public.tests_article TO {role}"
    else:
        grant = f"GRANT {user} TO {role}"
    with pytest.raises(ProgrammingError) as caught:
        rebuild(INDEX, using="fresh")
    assert str(caught.value) == (
        f"Index {INDEX} of table tests_article cannot be changed by role {role}, which does not own it. Let {user} "
        f"do it, or run as a superuser: {grant}. The old index still serves."
    )
    assert IndexRun.objects.using("fresh").get().error == str(caught.value)


# How it fails


def test_rebuild_given_up_names_blocker_and_leftover_and_the_old_index_serves(migrated_database, engine):
    before = filenode(migrated_database)
    with snapshot(migrated_database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        blocker = cursor.fetchone()[0]
        with pytest.raises(OperationalError) as caught:
            rebuild(INDEX, using="fresh", give_up=1.5)
    assert str(caught.value) == (
        f"Index {INDEX} of table tests_article was given up after 1.5 seconds of waiting for backend {blocker}. The "
        f"old index still serves. Left behind: {INDEX}_ccnew. Run: manage.py rebuild_hnsw_indexes --repair"
    )
    assert (filenode(migrated_database), migrated_database.indexes()[INDEX]) == (before, True)
    assert IndexRun.objects.using("fresh").get().status == "failed"


def test_rebuild_cancelled_names_the_leftover(migrated_database, engine, background):
    with writer(migrated_database, engine):
        future = background(rebuild, INDEX, using="fresh")
        wait_for(migrated_database, BUILDING)
        cancel_builds(migrated_database)
        with pytest.raises(OperationalError, match=rf" was cancelled.*\. Left behind: {INDEX}_ccnew\. Run: "):
            future.result()
    assert leftovers(migrated_database) == [f"{INDEX}_ccnew"]


def test_rebuild_drops_what_interrupted_ones_left_behind_and_says_so(migrated_database, engine, background):
    for _ in range(3):
        interrupt_rebuild(migrated_database, engine, background)
    left = [f"{INDEX}_ccnew", f"{INDEX}_ccnew1", f"{INDEX}_ccnew2"]
    assert leftovers(migrated_database) == left
    run = rebuild(INDEX, using="fresh")
    assert leftovers(migrated_database) == []
    for name in left:
        assert f"{name}, which an interrupted rebuild left behind, was dropped." in run.notice.splitlines()


def test_rebuild_leaves_alone_what_another_rebuild_left_behind(migrated_database, engine, background):
    interrupt_rebuild(migrated_database, engine, background)
    run = rebuild("pair_two_l1", using="fresh")
    assert (run.notice, leftovers(migrated_database)) == ("", [f"{INDEX}_ccnew"])


def test_rebuild_that_cannot_drop_a_leftover_is_a_success_all_the_same(migrated_database, engine, background):
    interrupt_rebuild(migrated_database, engine, background)
    # An index that something depends on cannot be dropped.
    dependency = (
        "INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'tests_tag'::regclass, 0, 'pg_class'::regclass, "
        f"'{INDEX}_ccnew'::regclass, 0, 'n'"
    )
    migrated_database.execute(dependency, superuser=True)
    run = rebuild(INDEX, using="fresh")
    assert run.status == "succeeded"
    assert run.notice == (
        f"{INDEX}_ccnew, which an interrupted rebuild left behind, could not be dropped: cannot drop index "
        f"{INDEX}_ccnew because other objects depend on it."
    )


def test_index_dropped_while_its_rebuild_is_queued_is_said_to_be_gone(migrated_database):
    status = find_index(INDEX, "fresh")
    migrated_database.execute(f"DROP INDEX {INDEX}")
    with pytest.raises(HnswIndexStatus.DoesNotExist):
        rebuild(status, using="fresh")


# Names and partitions


@pytest.mark.parametrize(
    ("schema", "table", "index"),
    [
        ("public", "plain", "x" * 63),
        ("Other Schema", 'odd "Table"', 'odd "Index"; DROP TABLE tests_article; --'),
        ("tests.dotted", "a.b", "É name"),
    ],
)
def test_rebuild_of_an_odd_name_off_the_search_path_succeeds(migrated_database, engine, schema, table, index):
    quoted = [f'"{name}"'.replace('"', '""')[1:-1] for name in (schema, table, index)]
    schema_, table_, index_ = (f'"{name[1:-1]}"' if False else name for name in quoted)
    migrated_database.execute(f"CREATE SCHEMA IF NOT EXISTS {schema_}")
    migrated_database.execute(f"CREATE TABLE {schema_}.{table_} (e {engine.column_type(3, 'single')})")
    options = " WITH (dims = 3)" if engine.name == "pg_embedding" else ""
    opclass = engine.opclasses["single"]["l2"]
    migrated_database.execute(f"CREATE INDEX {index_} ON {schema_}.{table_} USING hnsw (e {opclass}){options}")
    oid = find_index(index, "fresh").oid
    rebuild(f"{schema}.{index}", using="fresh")
    assert find_index(index, "fresh").oid != oid
    assert "tests_article" in migrated_database.tables()


@pytest.mark.pgvector
def test_rebuild_of_a_partitioned_index_rebuilds_each_partition(migrated_database):
    migrated_database.execute("CREATE TABLE parted (id int, e vector(3)) PARTITION BY LIST (id)")
    migrated_database.execute("CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)")
    migrated_database.execute("CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2)")
    migrated_database.execute("CREATE INDEX parted_hnsw ON parted USING hnsw (e vector_l2_ops)")
    names = ["parted_1_e_idx", "parted_2_e_idx"]
    before = [filenode(migrated_database, name) for name in names]
    run = rebuild("parted_hnsw", using="fresh")
    after = [filenode(migrated_database, name) for name in names]
    assert not set(before) & set(after)
    assert (run.part, run.parts) == (2, 2)


def test_name_in_two_schemas_must_be_said_with_its_schema(migrated_database, engine):
    migrated_database.execute("CREATE SCHEMA other")
    migrated_database.execute("CREATE TABLE other.t (LIKE tests_article)")
    options = " WITH (dims = 3)" if engine.name == "pg_embedding" else ""
    opclass = engine.opclasses["single"]["l2"]
    migrated_database.execute(f"CREATE INDEX {INDEX} ON other.t USING hnsw (embedding {opclass}){options}")
    with pytest.raises(HnswIndexStatus.MultipleObjectsReturned) as caught:
        rebuild(INDEX, using="fresh")
    assert str(caught.value) == f"Several indexes are called {INDEX}. Name other.{INDEX} or public.{INDEX}."
    rebuild(f"other.{INDEX}", using="fresh")


# C3, C4: others go on meanwhile


def test_rebuild_while_others_write_and_search_loses_no_row_and_gives_no_wrong_answer(
    migrated_database, engine, background
):
    fill(migrated_database, engine, 2000)
    articles = Article.objects.using("fresh")
    stop = threading.Event()

    def write():
        written = []
        while not stop.is_set():
            vector = [float(len(written)), -1.0, -1.0]
            written.append((articles.create(title="new", embedding=vector).pk, vector))
        return written

    def search():
        wrong = 0
        while not stop.is_set():
            found = [row.embedding[2] for row in articles.filter(title="t").nearest([0.5, 0.5, 700.0], 1, exact=False)]
            wrong += [round(float(value)) for value in found] != [700]
        return wrong

    writers, searchers = [background(write)], [background(search), background(search)]
    try:
        for _ in range(3):
            rebuild(INDEX, using="fresh")
    finally:
        stop.set()
    assert [searcher.result() for searcher in searchers] == [0, 0]
    written = writers[0].result()
    assert written
    for pk, vector in written[:: max(1, len(written) // 50)]:
        assert articles.nearest(vector, 1, exact=False)[0].pk == pk
    assert articles.count() == 2000 + len(written)
    vectors = np.array([row.embedding for row in articles.all()])
    assert vectors.shape == (2000 + len(written), 3)


# pg_embedding after a crash


@pytest.mark.pg_embedding
def test_rebuild_after_a_crash_rebuilds_all_indexes_of_the_table_and_lets_writes_through(migrated_database):
    insert = "INSERT INTO tests_pair (one, two) VALUES ('{1,2}', '{1,2}')"
    migrated_database.execute(insert)
    migrated_database.execute("DELETE FROM pgembedding_sound")  # as the server empties an unlogged table
    before = [filenode(migrated_database, name) for name in ("pair_one_cosine", "pair_two_l1")]
    with pytest.raises(OperationalError, match="lost rows when the server crashed"):
        migrated_database.execute(insert)
    run = rebuild("pair_one_cosine", using="fresh")
    after = [filenode(migrated_database, name) for name in ("pair_one_cosine", "pair_two_l1")]
    assert not set(before) & set(after)
    assert (run.part, run.parts) == (2, 2)
    migrated_database.execute(insert)
    with pytest.raises(OperationalError, match="lost rows when the server crashed"):
        migrated_database.execute("INSERT INTO tests_article (title, published, embedding) VALUES ('', true, NULL)")


@pytest.fixture
def lost(migrated_database, settings):
    """A table of two indexes as a crash leaves it on pg_embedding, whose guard is plain SQL: nothing is marked."""
    settings.PGEMBEDDING = {
        **settings.PGEMBEDDING,
        "ENGINE": {"default": settings.PGEMBEDDING["ENGINE"], "fresh": "pg_embedding"},
    }
    for table in ("tests_article", "tests_pair"):
        ENGINES["pg_embedding"].guard_table(migrated_database.connection, table)
    migrated_database.execute(f"DELETE FROM {guard.MARKS} WHERE relid = 'tests_pair'::regclass")
    return migrated_database


def test_rebuild_of_what_a_crash_left_rebuilds_all_indexes_of_the_table(lost):
    before = filenode(lost, "pair_two_l1")
    assert rebuild("pair_one_cosine", using="fresh").parts == 2
    assert filenode(lost, "pair_two_l1") != before
    assert lost.execute(f"SELECT 1 FROM {guard.MARKS} WHERE relid = 'tests_pair'::regclass")


def test_rebuild_of_what_a_crash_left_drops_what_an_interrupted_rebuild_left(lost):
    [(definition,)] = lost.execute("SELECT pg_get_indexdef('pair_one_cosine'::regclass)")
    lost.execute(definition.replace("pair_one_cosine", "pair_one_cosine_ccnew"))
    lost.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pair_one_cosine_ccnew'::regclass", superuser=True
    )
    rebuild("pair_two_l1", using="fresh")
    assert sorted(lost.indexes()) == ["article_embedding_hnsw", "pair_one_cosine", "pair_two_l1"]


def test_repair_of_what_a_crash_left_is_a_rebuild_and_a_check_asks_for_it(lost):
    [step] = plan_repair("fresh")
    assert step.words == "Rebuild pair_one_cosine of tests_pair, which a crash left incomplete."
    ids = [message.id for message in run_checks(tags=["database"], databases=["fresh"])]
    assert ids.count("pgembedding.W028") == 2
