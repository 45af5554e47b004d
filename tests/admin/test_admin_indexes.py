"""The list of indexes in the admin, and the page of one."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pgembedding_django.admin.index_columns import scans
from pgembedding_django.maintenance import find_index, rebuild
from pgembedding_django.models import HnswIndexStatus, IndexRun, RecallMeasurement
from tests.admin import (
    ARTICLES,
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
)
from tests.models import Article

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def site(settings):
    serve(settings, Article)


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def opclass():
    with connection.cursor() as cursor:
        cursor.execute("SELECT opclass FROM pgembedding_hnsw_index WHERE name = %s", [INDEX])
        return cursor.fetchone()[0]


def options():
    with connection.cursor() as cursor:
        cursor.execute("SELECT options ? 'dims' FROM pgembedding_hnsw_index WHERE name = %s", [INDEX])
        return " WITH (dims = 3)" if cursor.fetchone()[0] else ""


def names(answer):
    return [row.name for row in answer.context["cl"].result_list]


def detail(name=INDEX):
    return f"{INDEXES}{quote(label(name))}/change/"


def record(**values):
    """Record a rebuild that ended well."""
    start = timezone.now()
    defaults = {
        "schema": "public",
        "index": INDEX,
        "table": "tests_article",
        "status": "succeeded",
        "person": "ada",
        "started": start,
        "finished": start + timedelta(seconds=75),
        "size_before": 2048,
        "size_after": 1024,
    }
    return IndexRun.objects.create(**{**defaults, **values})


def measure(**values):
    defaults = {
        "run": uuid4(),
        "schema": "public",
        "index": INDEX,
        "model": "tests.Article",
        "field": "embedding",
        "k": 10,
        "sample": 200,
        "rows": 5000,
        "ef_search": None,
        "recall": 0.9321,
        "low": 0.91,
        "high": 0.95,
        "p50_ms": 1.25,
        "p95_ms": 2.5,
    }
    return RecallMeasurement.objects.create(**{**defaults, **values})


# The list


def test_list_shows_every_index_with_its_state_and_field():
    answer = staff(*LOOK).get(INDEXES)
    assert names(answer) == [INDEX, "pair_one_cosine", "pair_two_l1"]
    page = text(answer)
    assert page.count('<span class="pgembedding-state healthy">Healthy</span>') == 3
    assert 'tests.Article.embedding<div class="quiet">public.tests_article</div>' in page


def test_list_shows_the_worst_first_with_what_to_do():
    invalidate("pair_two_l1")
    answer = staff(*LOOK).get(INDEXES)
    assert names(answer)[0] == "pair_two_l1"
    page = text(answer)
    assert '<span class="pgembedding-state invalid">Invalid</span>' in page
    assert "Repair rebuilds it." in page


def test_list_sorted_by_a_column_is_in_its_order():
    invalidate("pair_two_l1")
    assert names(staff(*LOOK).get(INDEXES, {"o": "1"})) == [INDEX, "pair_one_cosine", "pair_two_l1"]


def test_list_counts_and_filters_by_state():
    invalidate("pair_two_l1")
    client = staff(*LOOK)
    page = text(client.get(INDEXES))
    assert '<a href="?state=invalid">Invalid (1)</a>' in page
    assert '<a href="?state=healthy">Healthy (2)</a>' in page
    assert names(client.get(INDEXES, {"state": "invalid"})) == ["pair_two_l1"]


def test_list_searches_names_and_tables():
    assert names(staff(*LOOK).get(INDEXES, {"q": "pair"})) == ["pair_one_cosine", "pair_two_l1"]


def test_list_tells_of_an_index_that_is_declared_and_missing():
    execute(f"DROP INDEX {INDEX}")
    answer = staff(*LOOK).get(INDEXES)
    assert names(answer) == ["pair_one_cosine", "pair_two_l1"]
    assert f"<strong>{INDEX}</strong> of table tests_article is declared for tests.Article.embedding" in text(answer)
    assert names(staff(*LOOK, name="ben").get(INDEXES, {"state": "missing"})) == []


def test_list_shows_the_last_rebuild_and_recall():
    record()
    measure()
    page = text(staff(*LOOK).get(INDEXES))
    assert '<td class="field-recall">0.932</td>' in page
    assert f'<td class="field-rebuilt">{timezone.localdate():%m/%d/%Y}</td>' in page


def test_pages_without_time_zones_show_the_last_rebuild(settings):
    settings.USE_TZ = False
    record(finished=datetime(2026, 3, 4, 12, 30))
    client = staff(*LOOK)
    assert '<td class="field-rebuilt">03/04/2026</td>' in text(client.get(INDEXES))
    assert "03/04/2026 12:30 p.m. by ada" in text(client.get(detail()))


def test_list_of_no_index_says_how_to_get_one():
    page = text(staff(*LOOK).get(INDEXES, {"q": "nothing"}))
    assert "This database has no HNSW index." not in page
    for name in (INDEX, "pair_one_cosine", "pair_two_l1"):
        execute(f"DROP INDEX {name}")
    page = text(staff(*LOOK, name="ben").get(INDEXES))
    assert "This database has no HNSW index. A model declares one by HnswIndex in Meta.indexes." in page


def test_list_shows_the_latest_work():
    run = record(status="failed", error="It broke.")
    page = text(staff(*LOOK).get(INDEXES))
    assert f'<a href="{INDEXES}runs/?run={run.pk}">Rebuild {INDEX}</a>' in page
    assert "Failed after 1 min 15 s" in page
    assert "It broke." in page


def test_list_of_an_index_that_no_model_declares_shows_its_field():
    execute(f"CREATE INDEX required_hnsw ON tests_required USING hnsw (embedding {opclass()}){options()}")
    page = text(staff(*LOOK).get(INDEXES))
    assert "tests.Required.embedding" in page


def test_list_of_an_index_of_another_program_shows_its_table():
    execute("CREATE TABLE foreigner AS SELECT id, embedding FROM tests_article")
    execute(f"CREATE INDEX foreign_hnsw ON foreigner USING hnsw (embedding {opclass()}){options()}")
    page = text(staff(*LOOK).get(INDEXES))
    assert 'embedding<div class="quiet">public.foreigner</div>' in page


# Who may do what


def test_anonymous_is_sent_to_the_login(client):
    assert client.get(INDEXES).headers["Location"].startswith("/admin/login/")


def test_staff_without_permission_is_refused_before_any_index_is_looked_at():
    client = staff()
    with CaptureQueriesContext(connection) as queries:
        assert client.get(INDEXES).status_code == 403
    assert not [query["sql"] for query in queries if "pgembedding_hnsw_index" in query["sql"]]


def test_viewer_has_no_action_and_no_button():
    invalidate()
    page = text(staff(*LOOK).get(INDEXES))
    assert "<select" not in page
    assert f"{INDEXES}repair/" not in page


def test_caretaker_has_the_actions_and_the_button():
    invalidate()
    page = text(staff(*CARE).get(INDEXES))
    assert '<option value="rebuild_selected">Rebuild selected indexes</option>' in page
    assert '<option value="repair_selected">Repair selected indexes</option>' in page
    assert f'<a href="{INDEXES}repair/">Repair</a>' in page


def test_button_to_repair_is_not_there_where_nothing_needs_it():
    assert f'<a href="{INDEXES}repair/">' not in text(staff(*CARE).get(INDEXES))


@pytest.mark.parametrize("action", ["rebuild_selected", "repair_selected"])
def test_forged_action_of_a_viewer_is_refused(action):
    answer = staff(*LOOK).post(INDEXES, {"action": action, "_selected_action": [label()], "index": "0"})
    assert answer.status_code == 403


@pytest.mark.parametrize(("action", "page"), [("rebuild_selected", "rebuild"), ("repair_selected", "repair")])
def test_action_leads_to_the_page_that_asks(action, page):
    answer = staff(*CARE).post(INDEXES, {"action": action, "_selected_action": [label()], "index": "0"})
    assert answer.headers["Location"] == f"{INDEXES}{page}/?index={label()}"
    assert not IndexRun.objects.exists()


@pytest.mark.parametrize("page", ["add/", f"{1}/delete/"])
def test_index_can_neither_be_added_nor_deleted(page, admin_client):
    assert admin_client.get(INDEXES + page).status_code in (302, 403)


def test_post_to_the_page_of_an_index_is_refused(admin_client):
    assert admin_client.post(detail(), {"name": "x"}).status_code == 403


# Indexes of other programs

FOREIGN = {
    "expression over an array": "real[]) ((e::vector(3)) vector_l2_ops)",
    "sparse": "sparsevec(1000)) (e sparsevec_l2_ops)",
    "bits": "bit(8)) (e bit_jaccard_ops)",
    "no column": "int) ((ARRAY[1, 2]::real[]::vector(2)) vector_cosine_ops)",
}


@pytest.fixture(params=FOREIGN)
def foreign(request):
    """An index that no model knows, of a table that looks large."""
    column, indexed = FOREIGN[request.param].split(") (", 1)
    execute(f"CREATE TABLE elsewhere (e {column})")
    execute(f"CREATE INDEX elsewhere_hnsw ON elsewhere USING hnsw ({indexed}")
    execute("UPDATE pg_class SET reltuples = 100000, relpages = 100000 WHERE relname LIKE 'elsewhere%'")
    return request.param


@pytest.mark.pgvector
def test_foreign_index_is_shown_and_rebuilt_like_any_other(foreign):
    client = staff(*CARE)
    for page in (INDEXES, detail("elsewhere_hnsw"), rebuild_page("elsewhere_hnsw")):
        answer = client.get(page)
        assert answer.status_code == 200
        assert "elsewhere_hnsw" in text(answer)


@pytest.mark.pgvector
@pytest.mark.parametrize("foreign", ["expression over an array"], indirect=True)
def test_foreign_index_of_an_expression_names_its_column(foreign):
    assert HnswIndexStatus.objects.get(name="elsewhere_hnsw").column == "e"
    assert 'e<div class="quiet">public.elsewhere</div>' in text(staff(*LOOK).get(INDEXES))


# What is read


def reads(answer_of, table):
    """Return how often a request reads a table."""
    with CaptureQueriesContext(connection) as queries:
        answer_of()
    return sum(table in query["sql"] for query in queries.captured_queries)


def test_whole_catalogue_is_read_for_the_list_alone():
    execute("DROP INDEX pair_two_l1")
    client = staff(*CARE)
    chosen = {"action": "rebuild_selected", "_selected_action": [label()], "index": "0"}
    requests = [
        lambda: client.get(INDEXES),
        lambda: client.post(INDEXES, chosen),
        lambda: client.get(rebuild_page()),
        lambda: client.post(rebuild_page(), {"concurrently": "on"}),
        lambda: client.get(detail()),
    ]
    # What is missing is told by the migrations.
    assert [reads(request, "django_migrations") for request in requests][1:] == [0, 0, 0, 0]
    assert reads(requests[0], "django_migrations") > 0


@pytest.mark.parametrize("page", ["rebuild", "repair"])
def test_action_on_all_pages_of_the_list_leads_to_the_page_that_asks(page):
    chosen = {"action": f"{page}_selected", "_selected_action": [label()], "index": "0", "select_across": "1"}
    answer = staff(*CARE).post(f"{INDEXES}?q={INDEX}", chosen)
    assert answer.headers["Location"] == f"{INDEXES}{page}/?index={label()}"


# The page of one


def test_detail_keeps_its_address_when_a_rebuild_gives_the_index_another_oid(migrated_database, settings):
    settings.DATABASE_ROUTERS = ["tests.admin.FreshRouter"]
    before = find_index(INDEX, "fresh").oid
    rebuild(INDEX, using="fresh")
    assert find_index(INDEX, "fresh").oid != before
    assert INDEX in text(staff(*LOOK).get(detail()))


def test_detail_leads_to_the_history_of_the_index(admin_user):
    LogEntry.objects.create(
        user=admin_user,
        content_type=ContentType.objects.get_for_model(HnswIndexStatus),
        object_id=label(),
        object_repr=label(),
        action_flag=CHANGE,
        change_message="Rebuild: succeeded.",
    )
    client = staff(*LOOK)
    address = f"{INDEXES}{quote(label())}/history/"
    assert f'href="{address}"' in text(client.get(detail()))
    assert "Rebuild: succeeded." in text(client.get(address))


def test_detail_shows_what_is_known_of_an_index(engine):
    page = text(staff(*LOOK).get(detail("pair_two_l1")))
    assert "public.pair_two_l1" in page
    assert '<div class="pgembedding-option">l1</div><div class="pgembedding-option">' in page
    assert "m=8" in page
    assert "CREATE INDEX pair_two_l1 ON public.tests_pair USING hnsw" in page
    assert "Not measured yet. Run: manage.py measure_recall tests.Pair.two" in page
    assert "None yet." in page


def test_detail_shows_the_history_of_runs():
    record()
    record(index="pair_one_cosine", person="somebody else")
    page = text(staff(*LOOK).get(detail()))
    assert "by ada, in 1 min 15 s" in page
    assert "Succeeded after 1 min 15 s" in page
    assert "somebody else" not in page


def test_detail_of_a_rebuild_by_a_command_names_nobody():
    record(person="")
    assert ", in 1 min 15 s" in text(staff(*LOOK).get(detail()))


def test_detail_draws_the_newest_recall_and_lists_all():
    measure(ef_search=11, recall=0.5, run=uuid4())
    newest = uuid4()
    measure(ef_search=40, run=newest)
    measure(ef_search=20, recall=0.8, run=newest, filter="title=a")
    answer = staff(*LOOK).get(detail())
    assert [each.ef_search for each in answer.context["measurements"]] == [20, 40, 11]
    page = text(answer)
    assert "ef 20" in page
    assert "ef 11" not in page
    assert "0.910 – 0.950" in page
    assert "title=a" in page


def test_detail_has_buttons_for_who_may_rebuild_and_repair():
    invalidate()
    page = text(staff(*CARE).get(detail()))
    assert f'href="{INDEXES}rebuild/?index={label()}"' in page
    assert f'href="{INDEXES}repair/?index={label()}"' in page


def test_detail_has_no_buttons_for_who_may_look():
    invalidate()
    page = text(staff(*LOOK).get(detail()))
    assert f"{INDEXES}rebuild/" not in page
    assert f"{INDEXES}repair/" not in page


@pytest.mark.parametrize("pk", ["0", "x", "99999999999999999999"])
def test_detail_of_no_index_leads_back_with_a_message(pk):
    answer = staff(*LOOK).get(f"{INDEXES}{pk}/change/", follow=True)
    assert answer.redirect_chain == [("/admin/", 302)]
    assert "doesn’t exist" in messages(answer)[0]


def test_scans_are_shown_with_the_time_since_which_they_count():
    since = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    assert scans(HnswIndexStatus(scans=1234, stats_reset=since)) == "1,234 since 03/04/2026 5:06 a.m."
    assert scans(HnswIndexStatus(scans=1234)) == "1,234"


# Hostile names and errors


def test_hostile_names_comments_and_errors_are_escaped_on_every_page():
    execute(f'ALTER INDEX pair_one_cosine RENAME TO "{HOSTILE}"')
    execute(f"COMMENT ON INDEX \"{HOSTILE}\" IS '{HOSTILE}'")
    invalidate(f'"{HOSTILE}"')
    run = record(index=HOSTILE, person=HOSTILE, status="failed", error=HOSTILE, notice=HOSTILE)
    measure(index=HOSTILE, filter=HOSTILE)
    client = staff(*CARE)
    pages = [
        INDEXES,
        f"{INDEXES}?q={HOSTILE}&state=invalid",
        detail(HOSTILE),
        f"{INDEXES}rebuild/?{urlencode({'index': label(HOSTILE)})}",
        f"{INDEXES}repair/",
        f"{INDEXES}runs/?run={run.pk}",
    ]
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert HOSTILE not in text(answer), page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text(answer), page


# From a model's own admin


def test_model_offers_the_rebuild_of_its_indexes_to_who_may():
    Article.objects.create(title="a")
    page = text(staff(*CARE, "view_article").get(ARTICLES))
    assert '<option value="rebuild_indexes">Rebuild the HNSW indexes of articles</option>' in page


@pytest.mark.parametrize("selected", [{}, {"_selected_action": ["1"]}], ids=["none", "one"])
def test_model_leads_to_the_page_that_asks_with_or_without_a_selection(selected):
    Article.objects.create(pk=1, title="a")
    client = staff(*CARE, "view_article")
    answer = client.post(ARTICLES, {"action": "rebuild_indexes", "index": "0", **selected})
    assert answer.headers["Location"] == f"{INDEXES}rebuild/?model=tests.article"
    builds = client.get(answer.headers["Location"]).context["builds"]
    assert [build["report"].name for build in builds] == [INDEX]


@pytest.mark.parametrize("codenames", [(), LOOK], ids=["nothing", "look"])
@pytest.mark.parametrize("selected", [{}, {"_selected_action": ["1"]}], ids=["none", "one"])
def test_model_neither_offers_nor_takes_the_action_of_others(codenames, selected):
    Article.objects.create(pk=1, title="a")
    client = staff(*codenames, "view_article")
    assert "rebuild_indexes" not in text(client.get(ARTICLES))
    assert client.post(ARTICLES, {"action": "rebuild_indexes", "index": "0", **selected}).status_code == 403


@pytest.mark.parametrize(
    "data", [{"_save": "Save"}, {"index": "1"}, {"index": "x"}], ids=["save", "the other button", "nonsense"]
)
def test_model_leads_nowhere_unless_the_button_of_the_action_was_pressed(data):
    client = staff(*CARE, "view_article")
    answer = client.post(ARTICLES, {"action": "rebuild_indexes", **data})
    assert answer.headers.get("Location", ARTICLES) == ARTICLES


def test_model_in_a_site_without_the_indexes_does_not_offer_it(settings, admin_client):
    serve(settings, Article, indexes=False)
    Article.objects.create(title="a")
    assert "rebuild_indexes" not in text(admin_client.get(ARTICLES))


@pytest.mark.parametrize("actions", [None, []])
def test_model_without_actions_offers_it_unless_it_wants_none(settings, admin_client, actions):
    serve(settings, Article, actions=actions)
    Article.objects.create(title="a")
    assert ("rebuild_indexes" in text(admin_client.get(ARTICLES))) is (actions is not None)


def test_popup_of_a_model_offers_no_action(admin_client):
    Article.objects.create(title="a")
    assert "rebuild_indexes" not in text(admin_client.get(ARTICLES, {"_popup": "1"}))
