"""The pages of the admin that rebuild and repair indexes, and that show how far they are."""

import re
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext, modify_settings
from django.utils import timezone

from pgembedding_django.admin.progress import show_seconds
from pgembedding_django.maintenance import find_index
from pgembedding_django.maintenance.rebuilding.jobs import perform
from pgembedding_django.maintenance.rebuilding.log import log_outcome
from pgembedding_django.maintenance.rebuilding.rebuild import queue_rebuild
from pgembedding_django.maintenance.rebuilding.repair import plan_repair, queue_step
from pgembedding_django.models import HnswIndexStatus, IndexRun
from tests.admin import (
    CARE,
    INDEX,
    INDEXES,
    LOOK,
    invalidate,
    label,
    messages,
    rebuild_page,
    serve,
    staff,
    text,
    wait_for_runs,
)
from tests.models import Article
from tests.support.maintenance import fill, snapshot
from tests.support.waiting import wait_for
from tests.tasks import DOWN

pytestmark = pytest.mark.django_db

REPAIR = f"{INDEXES}repair/"
RUNS = f"{INDEXES}runs/"
PROGRESS = f"{INDEXES}progress/"
PAGES = [f"{INDEXES}rebuild/?index=1", REPAIR, f"{RUNS}?run=1", f"{PROGRESS}?run=1"]
CHANGES = PAGES[:2]

WAITS_FOR_SNAPSHOT = (
    "SELECT 1 FROM pg_stat_progress_create_index "
    "WHERE phase = 'waiting for old snapshots' AND datname = current_database()"
)


@pytest.fixture(autouse=True)
def site(settings):
    serve(settings, Article)


@pytest.fixture
def fresh(settings, migrated_database):
    """The database "fresh", whose indexes the admin shows."""
    settings.DATABASE_ROUTERS = ["tests.admin.FreshRouter"]
    return migrated_database


def steps(answer):
    return [key for key, _step in answer.context["steps"]]


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


# Who may come in


@pytest.mark.parametrize("page", PAGES)
def test_anonymous_is_sent_to_the_login(client, page):
    assert client.post(page).headers["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(("page", "codenames"), [*[(page, LOOK) for page in CHANGES], *[(page, ()) for page in PAGES]])
def test_who_lacks_the_permission_is_refused_before_any_index_is_looked_at(page, codenames, method):
    client = staff(*codenames)
    with CaptureQueriesContext(connection) as queries:
        assert getattr(client, method)(page).status_code == 403
    assert not [query["sql"] for query in queries if "hnsw" in query["sql"].replace("_hnswindexstatus", "")]


@pytest.mark.parametrize("codenames", [(*LOOK, "rebuild_hnswindexstatus"), (*LOOK, "repair_hnswindexstatus")])
def test_rebuild_and_repair_need_a_permission_each(codenames):
    client = staff(*codenames)
    answers = [client.get(page).status_code for page in CHANGES]
    assert answers == ([302, 403] if "rebuild_hnswindexstatus" in codenames else [403, 302])


@pytest.mark.parametrize("page", ["rebuild", "repair"])
def test_post_without_a_token_is_refused(page):
    invalidate()
    client = staff(*CARE, enforce_csrf_checks=True)
    path = rebuild_page() if page == "rebuild" else REPAIR
    assert client.get(path).status_code == 200
    assert client.post(path, {"csrfmiddlewaretoken": "x" * 64, "step": ["x"]}).status_code == 403
    assert not IndexRun.objects.exists()


@pytest.mark.parametrize("page", ["rebuild", "repair", "runs", "progress"])
def test_get_changes_nothing(page):
    invalidate()
    run = IndexRun.objects.create(schema="public", index=INDEX, table="tests_article")
    paths = {
        "rebuild": rebuild_page(),
        "repair": REPAIR,
        "runs": f"{RUNS}?run={run.pk}",
        "progress": f"{PROGRESS}?run={run.pk}",
    }
    client = staff(*CARE)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(paths[page]).status_code == 200
    written = re.compile(r"\s*(INSERT|UPDATE|DELETE|REINDEX|CREATE|DROP)")
    assert not [query["sql"] for query in queries if written.match(query["sql"])]


# Asking before a rebuild


def test_rebuild_page_says_what_will_be_done():
    page = text(staff(*CARE).get(rebuild_page()))
    assert "Rebuild 1 HNSW index" in page
    assert (
        f'<th scope="row" class="pgembedding-name">{INDEX}</th><td class="pgembedding-name">public.tests_article</td>'
        in page
    )
    assert "Searches and writes go on." in page


@pytest.mark.pgvector  # pg_embedding builds on disk.
def test_rebuild_page_warns_of_a_graph_that_does_not_fit():
    execute("UPDATE pg_class SET reltuples = 5000000 WHERE relname = 'tests_article'")
    page = text(staff(*CARE).get(rebuild_page()))
    assert f"The graph of {INDEX} needs about" in page
    assert "of memory, and its build has" in page


def test_rebuild_page_of_a_model_leaves_out_what_an_interrupted_rebuild_left():
    columns = execute(f"SELECT indexdef FROM pg_indexes WHERE indexname = '{INDEX}'")[0][0].split(" USING ")[1]
    execute(f"CREATE INDEX {INDEX}_ccnew ON tests_article USING {columns}")
    invalidate(f"{INDEX}_ccnew")
    builds = staff(*CARE).get(f"{INDEXES}rebuild/?model=tests.article").context["builds"]
    assert [build["report"].name for build in builds] == [INDEX]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("forged", ["0", "1 OR true", "99999999999999999999", INDEX, "<script>"])
def test_rebuild_of_what_is_no_index_is_refused(forged, method):
    answer = getattr(staff(*CARE), method)(f"{INDEXES}rebuild/?{urlencode({'index': forged})}", follow=True)
    assert messages(answer) == [f"This database has no HNSW index {forged}; it may have been dropped."]
    assert not IndexRun.objects.exists()
    assert "index <script>" not in text(answer)


@pytest.mark.parametrize("name", ["tests_article", "tests_article_pkey"])
def test_rebuild_of_a_table_or_an_index_of_another_kind_is_refused(name):
    forged = execute(f"SELECT '{name}'::regclass::oid::bigint")[0][0]
    answer = staff(*CARE).post(f"{INDEXES}rebuild/?index={forged}", follow=True)
    assert messages(answer) == [f"This database has no HNSW index {forged}; it may have been dropped."]
    assert not IndexRun.objects.exists()


@pytest.mark.parametrize("query", ["", "?model=tests.section", "?model=nonsense"])
def test_rebuild_of_nothing_leads_back(query):
    answer = staff(*CARE).get(f"{INDEXES}rebuild/{query}", follow=True)
    assert answer.redirect_chain == [(INDEXES, 302)]
    assert messages(answer) == ["There is no index to rebuild. Select one below."]


def test_rebuild_of_an_index_that_was_dropped_meanwhile_is_refused_politely():
    page = rebuild_page()
    client = staff(*CARE)
    execute(f"DROP INDEX {INDEX}")
    assert "it may have been dropped." in messages(client.post(page, follow=True))[0]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("maintenance_work_mem", "512", "Give a size from 64kB to 2047GB with its unit, such as 512MB."),
        ("maintenance_work_mem", "1GB; DROP TABLE x", "Give a size from 64kB to 2047GB with its unit, such as 512MB."),
        ("maintenance_work_mem", "9999TB", "Give a size from 64kB to 2047GB with its unit, such as 512MB."),
        ("parallel_workers", "-1", "Ensure this value is greater than or equal to 0."),
        ("parallel_workers", "many", "Enter a whole number."),
    ],
)
def test_rebuild_with_a_bad_option_is_not_started(field, value, error):
    answer = staff(*CARE).post(rebuild_page(), {field: value})
    assert error in text(answer)
    assert not IndexRun.objects.exists()


def test_rebuild_is_recorded_with_the_person_and_the_options(django_capture_on_commit_callbacks):
    data = {"concurrently": "on", "maintenance_work_mem": "1GB", "parallel_workers": "2"}
    with django_capture_on_commit_callbacks() as started:
        answer = staff(*CARE).post(rebuild_page(), data)
    run = IndexRun.objects.get()
    assert answer.headers["Location"] == f"{RUNS}?run={run.pk}"
    assert (run.index, run.person, run.status) == (INDEX, "ann", "queued")
    wanted = {"concurrently": True, "maintenance_work_mem": "1GB", "parallel_workers": 2}
    assert wanted.items() <= run.parameters.items()
    assert len(started) == 1


def test_second_click_is_refused_politely():
    client = staff(*CARE)
    page = rebuild_page()
    client.post(page, {"concurrently": "on"})
    answer = client.post(page, {"concurrently": "on"})
    assert IndexRun.objects.count() == 1
    assert answer.status_code == 200
    assert messages(answer)[0].startswith(f"Index {INDEX} is busy: rebuild queued since ")


def test_rebuild_is_done_in_the_background_and_its_outcome_shown(fresh, engine):
    fill(fresh, engine)
    client = staff(*CARE)
    answer = client.post(rebuild_page(), {"concurrently": "on"})
    (run,) = wait_for_runs("fresh")
    page = text(client.get(answer.headers["Location"]))
    assert (run.status, run.person) == ("succeeded", "ann")
    assert "Succeeded after" in page
    assert 'value="100.0"' in page
    assert "by ann." in page
    assert "<noscript>" not in page


def entries():
    return [(entry.user.username, entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("pk")]


def test_rebuild_is_logged_with_its_user_when_it_is_asked_for():
    staff(*CARE).post(rebuild_page(), {"concurrently": "on"})
    assert entries() == [("ann", label(), "Rebuild: queued.")]
    assert IndexRun.objects.get().user == str(User.objects.get().pk)


def asked_for(user, using="fresh"):
    run = queue_rebuild(find_index(INDEX, using), using=using, person=user.username)
    run.user = str(user.pk)
    run.save()
    return run


def test_rebuild_is_logged_with_its_outcome(fresh, engine):
    perform(asked_for(User.objects.create_user("ann")))
    assert entries() == [("ann", label(), "Rebuild: succeeded.")]


def test_rebuild_that_fails_is_logged_with_the_reason(fresh, engine):
    run = asked_for(User.objects.create_user("ann"))
    fresh.execute(f"DROP INDEX {INDEX}")
    with pytest.raises(HnswIndexStatus.DoesNotExist):
        perform(run)
    assert entries() == [
        ("ann", label(), f'Rebuild: failed. Database "fresh" has no HNSW index {label()}. manage.py hnsw_indexes lists '
         "those that it has.")
    ]  # fmt: skip


def test_rebuild_of_a_user_who_is_gone_is_logged_by_nobody(fresh, engine):
    user = User.objects.create_user("ann")
    run = asked_for(user)
    user.delete()
    perform(run)
    assert entries() == []


def test_rebuild_in_a_project_without_the_admin_is_not_logged(fresh, engine, settings):
    run = asked_for(User.objects.create_user("ann"))
    with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.admin"]}):
        log_outcome(run)
    assert entries() == []


def test_rebuild_whose_log_cannot_be_written_is_done_all_the_same(fresh, engine, caplog):
    run = asked_for(User.objects.create_user("ann"))
    execute("ALTER TABLE django_admin_log RENAME TO gone")
    with transaction.atomic():  # What fails in it is rolled back, as the test's own transaction goes on.
        perform(run)
        transaction.set_rollback(True)
    assert run.status == "succeeded"
    assert f"The admin's log does not have the end of run {run.pk}" in caplog.text


def test_repair_that_creates_an_index_is_logged_as_an_addition(fresh):
    user = User.objects.create_user("ann")
    fresh.execute(f"DROP INDEX {INDEX}")
    (step,) = plan_repair("fresh")
    run = queue_step(step, using="fresh")
    run.user = str(user.pk)
    perform(run)
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id, entry.change_message) == (ADDITION, label(), "Create: succeeded.")


def test_rebuild_where_the_queue_is_down_shows_that_it_failed(fresh, settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    page = rebuild_page()
    answer = staff(*CARE).post(page, {"concurrently": "on"}, follow=True)
    assert DOWN in text(answer)
    assert [run.status for run in IndexRun.objects.using("fresh")] == ["failed"]


def test_rebuild_by_a_role_that_does_not_own_the_table_says_what_to_do(fresh, role):
    fresh.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", superuser=True)
    fresh.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}", superuser=True)
    fresh.execute(f"REVOKE ALL ON tests_article FROM {role}", superuser=True)
    client = staff(*CARE)
    answer = client.post(rebuild_page(), {"concurrently": "on"})
    (run,) = wait_for_runs("fresh")
    page = text(client.get(answer.headers["Location"]))
    assert run.status == "failed"
    assert f"Index {INDEX} of table tests_article cannot be changed by role {role}" in page
    assert "GRANT" in page


def test_rebuild_by_a_role_that_may_not_record_it_says_so(fresh, role):
    fresh.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", superuser=True)
    answer = staff(*CARE).post(rebuild_page(), {"concurrently": "on"})
    assert answer.status_code == 200
    assert messages(answer)[0].startswith("permission denied for table pgembedding_django_indexrun. This needs SELECT ")
    assert messages(answer)[0].endswith(f"ownership of the table: let the owner grant them to role {role}.")


def test_read_only_database_shows_its_indexes_and_refuses_a_rebuild(fresh):
    fresh.become(OPTIONS={"options": "-c default_transaction_read_only=on"})
    client = staff(*CARE)
    assert INDEX in text(client.get(INDEXES))
    answer = client.post(rebuild_page(), {"concurrently": "on"})
    refusal = f'Rebuild of index {INDEX} writes, and database "fresh" is read-only here: use a primary server, '
    assert messages(answer)[0].startswith(refusal)


# Repair


def test_repair_shows_its_plan():
    invalidate()
    invalidate("pair_two_l1")
    page = text(staff(*CARE).get(REPAIR))
    assert page.count('<input type="checkbox" name="step"') == 2
    assert f"Rebuild {INDEX} of tests_article, which was not built to the end." in page


def test_repair_of_selected_indexes_plans_for_them_alone():
    invalidate()
    invalidate("pair_two_l1")
    assert steps(staff(*CARE).get(f"{REPAIR}?index={label()}")) == [f"rebuild tests_article public.{INDEX}"]


def test_repair_does_the_steps_that_were_agreed_to():
    invalidate()
    invalidate("pair_two_l1")
    client = staff(*CARE)
    answer = client.post(REPAIR, {"step": [f"rebuild tests_article public.{INDEX}", "drop tests_pair public.forged"]})
    run = IndexRun.objects.get()
    assert (run.action, run.index, run.person) == ("rebuild", INDEX, "ann")
    assert answer.headers["Location"] == f"{RUNS}?run={run.pk}"


@pytest.mark.parametrize("agreed", [[], ["drop tests_article public.article_embedding_hnsw"]])
def test_repair_without_a_step_of_the_plan_does_nothing(agreed):
    invalidate()
    answer = staff(*CARE).post(REPAIR, {"step": agreed})
    assert messages(answer) == ["The state of the indexes has changed. Look at the plan again."]
    assert not IndexRun.objects.exists()


def test_repair_of_healthy_indexes_leads_back():
    answer = staff(*CARE).get(REPAIR, follow=True)
    assert answer.redirect_chain == [(INDEXES, 302)]
    assert messages(answer) == ["Nothing needs repair here."]


def test_repair_creates_an_index_that_was_dropped_by_hand(fresh):
    fresh.execute(f"DROP INDEX {INDEX}")
    client = staff(*CARE)
    client.post(REPAIR, {"step": steps(client.get(REPAIR))})
    (run,) = wait_for_runs("fresh")
    assert (run.action, run.status, run.error) == ("create", "succeeded", "")
    assert fresh.indexes()[INDEX]


# Progress


def test_page_of_a_run_shows_where_it_is_and_who_is_waited_for(fresh, engine):
    fill(fresh, engine)
    client = staff(*CARE)
    with snapshot(fresh) as holder:
        answer = client.post(rebuild_page(), {"concurrently": "on"})
        wait_for(fresh, WAITS_FOR_SNAPSHOT)
        page = text(client.get(answer.headers["Location"]))
        with holder.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        data = client.get(answer.headers["Location"].replace(RUNS, PROGRESS)).json()
    wait_for_runs("fresh")
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    assert "pgembedding_django/progress.js" in page
    (run,) = data["runs"]
    assert data["done"] is False
    assert run["percent"] == 97
    assert run["words"].endswith(f"97% · waiting for backend {pid} to end its transaction")


def test_progress_of_a_run_that_waits_for_its_turn():
    run = IndexRun.objects.create(schema="public", index=INDEX, table="tests_article")
    assert staff(*LOOK).get(f"{PROGRESS}?run={run.pk}").json() == {
        "done": False,
        "runs": [{"id": run.pk, "done": False, "percent": None, "words": "Queued"}],
    }


def test_interrupted_run_is_shown_as_such():
    run = IndexRun.objects.create(
        schema="public", index=INDEX, table="t", status="running", pid=1, started=timezone.now()
    )
    page = text(staff(*LOOK).get(f"{RUNS}?run={run.pk}"))
    assert re.search(r"Interrupted after \d", page)
    assert "<noscript>" not in page


def test_run_that_failed_before_it_began_has_no_duration():
    run = IndexRun.objects.create(schema="public", index=INDEX, table="t", status="failed", error="No server.")
    page = text(staff(*LOOK).get(f"{RUNS}?run={run.pk}"))
    assert '<p role="status" class="pgembedding-words failed">Failed</p>' in page
    assert "No server." in page


def test_run_of_a_partition_says_which():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        pid, start = cursor.fetchone()
    run = IndexRun.objects.create(
        schema="public",
        index=INDEX,
        table="t",
        status="running",
        pid=pid,
        backend_start=start,
        started=timezone.now(),
        part=2,
        parts=3,
    )
    words = staff(*LOOK).get(f"{PROGRESS}?run={run.pk}").json()["runs"][0]["words"]
    assert re.fullmatch(r"Running for 0\.\d s · partition 2 of 3", words)


@pytest.mark.parametrize("query", ["", "?run=0", "?run=x", "?run=²", "?run=99999999999999999999"])
def test_page_of_no_run_leads_back(query):
    answer = staff(*LOOK).get(RUNS + query, follow=True)
    assert answer.redirect_chain == [(INDEXES, 302)]
    assert messages(answer) == ["There is no such run."]


def test_progress_of_no_run_is_empty_and_done():
    assert staff(*LOOK).get(PROGRESS).json() == {"done": True, "runs": []}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (75, "1 min 15 s"), (7800, "2 h 10 min")]
)
def test_seconds_are_shown_as_people_say_them(seconds, shown):
    assert show_seconds(seconds) == shown
