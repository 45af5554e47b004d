from datetime import timedelta

import pytest
from django.db import DataError, connections, transaction
from django.utils import timezone

from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.jobs import perform, perform_in_background, start_rebuild, start_repair
from pgembedding_django.maintenance.rebuilding.repair import Step
from pgembedding_django.maintenance.rebuilding.runs import current_status, progress_of, queue_run, unfinished_runs
from pgembedding_django.maintenance.rebuilding.session import IndexBusy
from pgembedding_django.models import IndexRun
from tests.support.maintenance import BUILDING, INDEX, fill, snapshot, writer
from tests.support.waiting import wait_for
from tests.tasks import DOWN

DONE = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pgembedding_django_indexrun WHERE status IN ('queued', 'running'))"


def stored(database):
    wait_for(database, DONE)
    return list(IndexRun.objects.using("fresh").order_by("pk"))


def gone(database, **values):
    """Record a run whose backend has ended."""
    other = database.open()
    with other.cursor() as cursor:
        cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        pid, start = cursor.fetchone()
    other.close()
    wait_for(database, f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    values = {"schema": "public", "index": INDEX, "table": "tests_article", **values}
    return IndexRun.objects.using("fresh").create(pid=pid, backend_start=start, **values)


def test_indexes_are_rebuilt_in_the_background_one_after_another(migrated_database):
    names = ["pair_one_cosine", "pair_two_l1"]
    runs = start_rebuild([find_index(name, "fresh") for name in names], using="fresh", person="ann")
    assert [run.status for run in runs] == ["queued", "queued"]
    first, second = stored(migrated_database)
    assert [first.index, second.index] == names
    assert {(run.status, run.person) for run in (first, second)} == {("succeeded", "ann")}
    assert first.finished <= second.started


def test_rebuild_starts_when_the_transaction_ends_which_may_have_used_the_table(migrated_database, engine):
    with transaction.atomic(using="fresh"):
        fill(migrated_database, engine)
        start_rebuild([find_index(INDEX, "fresh")], using="fresh")
    assert [run.status for run in stored(migrated_database)] == ["succeeded"]


def test_rebuild_of_a_transaction_rolled_back_does_not_start(migrated_database):
    with transaction.atomic(using="fresh"):
        start_rebuild([find_index(INDEX, "fresh")], using="fresh")
        transaction.set_rollback(True, using="fresh")
    assert stored(migrated_database) == []


def test_second_click_is_refused_and_nothing_of_it_is_queued(migrated_database, engine):
    pair = find_index("pair_two_l1", "fresh")
    with writer(migrated_database, engine):
        start_rebuild([find_index(INDEX, "fresh")], using="fresh")
        with pytest.raises(IndexBusy, match=f"^Index {INDEX} is busy: rebuild (queued|running) since "):
            start_rebuild([pair, find_index(INDEX, "fresh")], using="fresh")
        assert IndexRun.objects.using("fresh").count() == 1
    assert [run.status for run in stored(migrated_database)] == ["succeeded"]


def test_failure_is_recorded_and_the_next_goes_on(migrated_database):
    left = find_index(INDEX, "fresh"), find_index("pair_two_l1", "fresh")
    with transaction.atomic(using="fresh"):
        start_rebuild(left, using="fresh")
        migrated_database.execute(f"DROP INDEX {INDEX}")
    first, second = stored(migrated_database)
    assert (first.status, second.status) == ("failed", "succeeded")
    assert first.error.startswith(f'Database "fresh" has no HNSW index public.{INDEX}.')


def test_repair_runs_in_the_background(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    start_repair([Step("create", "", INDEX, "tests_article", "")], using="fresh")
    assert [(run.action, run.status) for run in stored(migrated_database)] == [("create", "succeeded")]


def test_nothing_to_do_starts_nothing(migrated_database):
    assert start_rebuild([], using="fresh") == []
    perform_run([])


def perform_run(ids):
    getattr(perform_in_background, "func", perform_in_background)("fresh", ids)


def test_job_that_gets_no_connection_records_why(migrated_database, role):
    # The role may neither connect twice nor write to the records: the caller's connection stays a superuser's.
    user = connections["default"].settings_dict["USER"]
    migrated_database.become(USER=user)
    run = queue_run(IndexRun(schema="public", index=INDEX, table="tests_article"), "fresh")
    run.parameters = {"parallel_workers": -1}
    run.save()
    perform_run([run.pk])
    run.refresh_from_db()
    assert (run.status, current_status(run)) == ("failed", "failed")
    assert "max_parallel_maintenance_workers" in run.error


def test_task_is_enqueued_where_the_framework_has_workers(migrated_database, settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.RecordingBackend"}}
    runs = start_rebuild([find_index(INDEX, "fresh")], using="fresh")
    from tests.tasks import RecordingBackend

    assert RecordingBackend.enqueued.pop() == ["fresh", [runs[0].pk]]
    assert progress_of(runs[0])["status"] == "queued"
    perform_run([runs[0].pk])
    assert stored(migrated_database)[0].status == "succeeded"


def test_run_that_no_queue_takes_is_failed_and_blocks_nobody(migrated_database, settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    start_rebuild([find_index(INDEX, "fresh"), find_index("pair_two_l1", "fresh")], using="fresh")
    runs = stored(migrated_database)
    assert {(run.status, run.error, run.started) for run in runs} == {("failed", DOWN, None)}
    assert unfinished_runs("fresh") == []


# Where a run is


def test_progress_of_a_running_rebuild(migrated_database, engine):
    with snapshot(migrated_database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        blocker = cursor.fetchone()[0]
        start_rebuild([find_index(INDEX, "fresh")], using="fresh")
        wait_for(migrated_database, BUILDING)
        wait_for(
            migrated_database,
            f"{BUILDING} AND phase LIKE '%snapshots'",
        )
        found = progress_of(IndexRun.objects.using("fresh").get())
    assert found.pop("seconds") > 0
    assert found.pop("id")
    assert found == {
        "index": f"public.{INDEX}",
        "action": "rebuild",
        "status": "running",
        "label": "running",
        "done": False,
        "phase": "waiting for old snapshots",
        "percent": 97.0,
        "blocked_by": [blocker],
        "part": 1,
        "parts": 1,
        "notice": "",
        "error": "",
    }
    done = progress_of(stored(migrated_database)[0])
    assert (done["status"], done["done"], done["percent"], done["phase"]) == ("succeeded", True, 100.0, "")


def test_progress_before_the_start_is_unknown(migrated_database):
    run = queue_run(IndexRun(schema="public", index=INDEX, table="tests_article"), "fresh")
    found = progress_of(run)
    assert (found["status"], found["percent"], found["seconds"], found["done"]) == ("queued", None, 0.0, False)
    assert unfinished_runs("fresh") == [run]


@pytest.mark.parametrize("status", ["queued", "running"])
def test_run_whose_backend_is_gone_is_interrupted_and_blocks_nobody(migrated_database, status):
    run = gone(migrated_database, status=status)
    found = progress_of(run)
    assert (found["status"], found["done"], found["percent"]) == ("interrupted", True, None)
    assert found["error"] == (
        "Its connection ended before it did. The server may have completed it: see the state of the index."
    )
    assert unfinished_runs("fresh") == []
    start_rebuild([find_index(INDEX, "fresh")], using="fresh")
    wait_for(migrated_database, "SELECT 1 FROM pgembedding_django_indexrun WHERE status = 'succeeded'")


def test_run_that_ended_after_it_was_read_is_not_called_interrupted(migrated_database):
    run = gone(migrated_database, status="running")
    IndexRun.objects.using("fresh").update(status="succeeded", finished=timezone.now(), started=run.created)
    assert progress_of(run)["status"] == "succeeded"


@pytest.fixture
def workers(settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.RecordingBackend"}}


def queued_ago(**ago):
    """Return a run that was queued some time ago, and that nothing has begun."""
    run = queue_run(IndexRun(schema="public", index=INDEX, table="tests_article"), "fresh")
    run.created = timezone.now() - timedelta(**ago)
    run.save()
    return run


def test_run_that_nothing_begins_is_interrupted_and_says_so(migrated_database):
    found = progress_of(queued_ago(minutes=6))
    assert (found["status"], found["done"]) == ("interrupted", True)
    assert found["error"] == "Nothing has begun it: its process ended, or no worker takes it up. Start it again."


def test_run_that_a_worker_may_begin_is_queued_for_a_day(migrated_database, workers):
    assert current_status(queued_ago(hours=23)) == "queued"
    IndexRun.objects.using("fresh").all().delete()
    assert current_status(queued_ago(hours=25)) == "interrupted"


def test_run_that_replaces_one_that_nothing_began_is_the_only_one_done(migrated_database):
    old = queued_ago(minutes=6)
    new = queue_run(IndexRun(schema="public", index=INDEX, table="tests_article"), "fresh")
    perform_run([old.pk])
    assert IndexRun.objects.using("fresh").get(pk=old.pk).status == "interrupted"
    perform_run([new.pk])
    assert IndexRun.objects.using("fresh").get(pk=new.pk).status == "succeeded"


def number(database):
    """Return what each rebuild changes of an index."""
    return database.execute("SELECT %s::regclass::oid", [INDEX])


def test_run_that_a_worker_begins_after_it_was_given_up_is_not_done(migrated_database, workers):
    run, before = queued_ago(hours=25), number(migrated_database)
    perform_run([run.pk])
    run.refresh_from_db()
    assert (run.status, run.started) == ("interrupted", None)
    assert number(migrated_database) == before


def test_run_that_is_delivered_to_two_workers_is_done_once(migrated_database, engine, workers, background):
    run = queued_ago(hours=1)
    with writer(migrated_database, engine):
        first = background(perform_run, [run.pk])
        wait_for(migrated_database, BUILDING)
        perform_run([run.pk])
    first.result()
    run.refresh_from_db()
    assert (run.status, run.error) == ("succeeded", "")


def test_run_that_is_delivered_again_after_its_worker_died_stays_interrupted(migrated_database, workers):
    run, before = gone(migrated_database, status="queued"), number(migrated_database)
    perform_run([run.pk])
    assert current_status(run) == "interrupted"
    assert number(migrated_database) == before


def test_run_of_two_that_waits_for_the_first_is_claimed_with_it(migrated_database, engine, workers, background):
    first = queued_ago(hours=1)
    second = queue_run(IndexRun(schema="public", index="pair_two_l1", table="tests_pair"), "fresh")
    with writer(migrated_database, engine):
        future = background(perform_run, [first.pk, second.pk])
        wait_for(migrated_database, BUILDING)
        perform_run([second.pk])
        second.refresh_from_db()
        assert (second.status, second.pid is not None) == ("queued", True)
    future.result()
    assert [run.status for run in stored(migrated_database)] == ["succeeded", "succeeded"]


def test_run_that_gets_no_connection_is_failed_and_blocks_nobody(migrated_database):
    run = IndexRun(schema="public", index=INDEX, table="tests_article", parameters={"parallel_workers": -1})
    with pytest.raises(DataError):
        perform(queue_run(run, "fresh"))
    run.refresh_from_db()
    assert (run.status, unfinished_runs("fresh")) == ("failed", [])
    assert "max_parallel_maintenance_workers" in run.error
