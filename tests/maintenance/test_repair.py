import pytest
from django.core.checks import Warning
from django.db import DatabaseError

from pgembedding_django.checks import check_indexes
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.maintenance.rebuilding.jobs import perform, repair
from pgembedding_django.maintenance.rebuilding.repair import Step, plan_repair, queue_step
from pgembedding_django.maintenance.rebuilding.session import IndexBusy
from pgembedding_django.models import HnswIndexStatus, IndexRun
from tests.models import Article
from tests.support.maintenance import BUILDING, INDEX, fill, interrupt, interrupt_rebuild, snapshot, writer
from tests.support.waiting import wait_for

DROP = Step(
    "drop", "public", f"{INDEX}_ccnew", "tests_article", f"Drop {INDEX}_ccnew of tests_article, which is left over."
)


def build_again(engine):
    options = " WITH (dims = 3)" if engine.name == "pg_embedding" else ""
    return (
        f"CREATE INDEX CONCURRENTLY {INDEX} ON tests_article "
        f"USING hnsw (embedding {engine.opclasses['single']['l2']}){options}"
    )


def test_repair_of_healthy_indexes_does_nothing(migrated_database):
    assert plan_repair("fresh") == []
    assert repair(using="fresh") == []


def test_leftover_of_a_rebuild_is_dropped_and_its_index_stays(migrated_database, engine, background):
    interrupt_rebuild(migrated_database, engine, background)
    interrupt_rebuild(migrated_database, engine, background)
    assert [step.index for step in plan_repair("fresh")] == [f"{INDEX}_ccnew", f"{INDEX}_ccnew1"]
    assert plan_repair("fresh")[0] == DROP
    runs = repair(using="fresh", person="ann")
    assert [(run.action, run.status, run.person) for run in runs] == [("drop", "succeeded", "ann")] * 2
    assert migrated_database.indexes() == {INDEX: True, "pair_one_cosine": True, "pair_two_l1": True}


@pytest.mark.parametrize("hold", ["writer", "snapshot"])
def test_index_whose_build_was_interrupted_is_finished(migrated_database, engine, background, hold):
    fill(migrated_database, engine)
    migrated_database.execute(f"DROP INDEX {INDEX}")
    held = writer(migrated_database, engine) if hold == "writer" else snapshot(migrated_database)
    interrupt(migrated_database, background, build_again(engine), held)
    step = plan_repair("fresh")[0]
    assert (step.action, step.words) == (
        "rebuild",
        f"Rebuild {INDEX} of tests_article, which was not built to the end.",
    )
    repair(using="fresh")
    assert migrated_database.indexes()[INDEX]
    migrated_database.execute("SET enable_seqscan = off")
    assert len(Article.objects.using("fresh").nearest([0, 0, 50], 5, exact=False)) == 5


def test_finish_that_is_given_up_does_not_say_that_the_index_serves(migrated_database, engine, background):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    interrupt(migrated_database, background, build_again(engine), writer(migrated_database, engine))
    with writer(migrated_database, engine), pytest.raises(DatabaseError) as caught:
        repair(using="fresh", give_up=0.1)
    assert str(caught.value) == (
        f"Index {INDEX} of table tests_article was given up after 0.1 seconds. Left behind: {INDEX}_ccnew. "
        "Run: manage.py rebuild_hnsw_indexes --repair"
    )


def test_interrupted_drop_is_completed(migrated_database, background):
    dropping_waits = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DROP INDEX C%' "
        "AND wait_event_type = 'Lock'"
    )
    dead = f"SELECT 1 FROM pg_index WHERE indexrelid = '{INDEX}'::regclass AND NOT indislive"
    with snapshot(migrated_database) as second, second.cursor() as later:
        with snapshot(migrated_database) as first, first.cursor() as cursor:
            cursor.execute("SELECT FROM tests_article")
            dropping = background(migrated_database.execute, f"DROP INDEX CONCURRENTLY {INDEX}")
            wait_for(migrated_database, dropping_waits)
            later.execute("SELECT FROM tests_article")
        wait_for(migrated_database, dead)
        migrated_database.execute(dropping_waits.replace("SELECT 1", "SELECT pg_cancel_backend(pid)"))
        assert dropping.exception() is not None
    assert [step.action for step in plan_repair("fresh")] == ["drop"]
    repair(using="fresh")
    assert INDEX not in migrated_database.indexes()


def test_index_dropped_by_hand_is_created_again(migrated_database, engine):
    fill(migrated_database, engine)
    migrated_database.execute(f"DROP INDEX {INDEX}")
    step = plan_repair("fresh")[0]
    assert (step.action, step.label, step.words) == (
        "create",
        INDEX,
        f"Create {INDEX} on tests_article, which a model declares.",
    )
    repair(using="fresh")
    assert migrated_database.indexes()[INDEX]
    assert list_indexes("fresh")[0].state == "healthy"


def test_create_of_what_no_model_declares_is_refused(migrated_database):
    with pytest.raises(LookupError) as caught:
        repair([Step("create", "", "forged", "auth_user", "")], using="fresh")
    assert str(caught.value) == "No model declares an index forged of table auth_user."


def test_drop_of_a_whole_index_is_refused(migrated_database):
    with pytest.raises(IndexBusy) as caught:
        repair([Step("drop", "public", INDEX, "tests_article", "")], using="fresh")
    assert str(caught.value) == f"Index {INDEX} is no leftover any more, and stays."
    assert migrated_database.indexes()[INDEX]


def test_drop_of_a_leftover_that_has_gone_says_so(migrated_database):
    with pytest.raises(HnswIndexStatus.DoesNotExist):
        repair([DROP], using="fresh")


def test_index_being_built_right_now_is_left_alone(migrated_database, engine, background):
    with writer(migrated_database, engine):
        first = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        assert plan_repair("fresh") == []
        with pytest.raises(IndexBusy, match="is being built by backend"):
            repair([DROP], using="fresh")
    first.result()
    assert migrated_database.indexes()[INDEX]


def test_invalid_index_that_looks_like_a_leftover_of_nothing_is_finished(migrated_database, engine, background):
    migrated_database.execute(f"ALTER INDEX {INDEX} RENAME TO mine_ccnew")
    migrated_database.execute("DROP INDEX mine_ccnew")
    sql = build_again(engine).replace(INDEX, "mine_ccnew")
    interrupt(migrated_database, background, sql, writer(migrated_database, engine))
    assert [(step.action, step.index) for step in plan_repair("fresh")] == [
        ("rebuild", "mine_ccnew"),
        ("create", INDEX),
    ]


def test_repair_by_a_role_that_is_no_owner_leaves_the_leftover(migrated_database, engine, background, role):
    with pytest.raises(DatabaseError):
        repair([DROP], using="fresh")


@pytest.mark.pg_embedding
def test_repair_after_a_crash_rebuilds_each_table_once_and_drops_its_leftovers(migrated_database, engine, background):
    interrupt(
        migrated_database,
        background,
        "REINDEX INDEX CONCURRENTLY pair_one_cosine",
        snapshot(migrated_database),
    )
    migrated_database.execute("DELETE FROM pgembedding_sound WHERE relid = 'tests_pair'::regclass")
    queue = [step for step in plan_repair("fresh") if step.action == "rebuild"]
    assert [step.words for step in queue] == ["Rebuild pair_one_cosine of tests_pair, which a crash left incomplete."]
    perform(queue_step(queue[0], using="fresh"))
    assert sorted(migrated_database.indexes()) == [INDEX, "pair_one_cosine", "pair_two_l1"]
    assert plan_repair("fresh") == []


# The check


def test_check_warns_of_a_leftover_and_names_the_command(migrated_database, engine, background):
    assert check_indexes(databases=["fresh"]) == []
    interrupt_rebuild(migrated_database, engine, background)
    assert check_indexes(databases=["fresh"]) == [
        Warning(
            f'Index public.{INDEX}_ccnew of table tests_article in database "fresh" is invalid.',
            hint=f"An interrupted rebuild of {INDEX} left it behind: nothing uses it. Repair drops it. "
            "Run: manage.py rebuild_hnsw_indexes --repair",
            obj=Article,
            id="pgembedding.W027",
        )
    ]


def test_check_is_silent_where_it_cannot_look(ready_database, sqlite, settings):
    assert check_indexes() == []
    assert check_indexes(databases=["lite"]) == []
    assert check_indexes(databases=["fresh"]) == []
    settings.PGEMBEDDING = {"ENGINE": "nosuch"}
    assert check_indexes(databases=["fresh"]) == []


@pytest.mark.pg_embedding
def test_check_warns_of_a_crash(migrated_database):
    migrated_database.execute("DELETE FROM pgembedding_sound WHERE relid = 'tests_article'::regclass")
    assert [message.id for message in check_indexes(databases=["fresh"])] == ["pgembedding.W028"]
    assert IndexRun.objects.using("fresh").count() == 0
