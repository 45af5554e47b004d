"""
The admin in a real browser: the care of indexes, the search by meaning, the similar rows.

PGEMBEDDING_PICTURES=docs/images writes the documentation's pictures.
"""

import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from playwright.sync_api import expect, sync_playwright

from tests.example.test_browser import CHROMIUM, SIDEWAYS, browser_type_launch_args  # noqa: F401 (a fixture)
from tests.example.test_example import site  # noqa: F401 (a fixture)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.pgvector,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium"),
]

PICTURES = os.environ.get("PGEMBEDDING_PICTURES")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
INDEXES = "/admin/pgembedding_django/hnswindexstatus/"
SECTIONS = "/admin/pydocs/section/"
LOGIN = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "countess"}

LOOKER = """
from django.contrib.auth.models import Permission, User
bob = User.objects.create_user("bob", password="looks", is_staff=True)
bob.user_permissions.add(Permission.objects.get(codename="view_hnswindexstatus"))
"""


class Database:
    """The site's database, through the driver alone: Django refuses it beside a browser."""

    def __init__(self, name):
        known = ("user", "password", "host", "port")
        self.params = {key: value for key, value in connection.get_connection_params().items() if key in known}
        self.params["dbname"] = name

    @contextmanager
    def open(self, autocommit=True):
        raw = connection.Database.connect(**self.params)
        raw.autocommit = autocommit
        try:
            yield raw.cursor()
        finally:
            raw.close()

    @contextmanager
    def locked(self):
        """Keep a concurrent build at its beginning."""
        with self.open(autocommit=False) as cursor:
            cursor.execute("LOCK TABLE pydocs_section IN ROW EXCLUSIVE MODE")
            yield

    @contextmanager
    def snapshot(self):
        """Keep a concurrent build just before its end."""
        with self.open(autocommit=False) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM django_session")
            yield

    def leave_invalid(self):
        """Interrupt a rebuild, which leaves an invalid index behind."""
        with self.locked(), self.open() as cursor:
            cursor.execute("SET statement_timeout = 300")
            with pytest.raises(connection.Database.OperationalError):
                cursor.execute("REINDEX INDEX CONCURRENTLY section_embedding_hnsw")


@pytest.fixture(scope="module")
def database(site):  # noqa: F811
    site.manage("createsuperuser", "--no-input", "--email=", **LOGIN)
    site.manage("shell", "--verbosity=0", "-c", LOOKER)
    site.manage("measure_recall", "pydocs.Section", "--sample=50")
    return Database(site.database)


@pytest.fixture(scope="module")
def playwright(database):
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright, browser_type_launch_args):  # noqa: F811
    browser = playwright.chromium.launch(**browser_type_launch_args)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def storage_state(browser, site):  # noqa: F811
    """The cookies of ada, who may do everything."""
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("countess")
    page.get_by_role("button", name="Log in").click()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="module")
def browser_context_args(site, storage_state):  # noqa: F811
    return {"base_url": site.url, "storage_state": storage_state, "viewport": DESKTOP}


@pytest.fixture
def picture():
    """Write a picture of the documentation, where that is asked for."""

    def picture(page, name, **options):
        if PICTURES:
            page.screenshot(path=Path(PICTURES, f"{name}.png"), **options)

    return picture


@pytest.fixture
def leftover(database):
    """An invalid index in the database."""
    database.leave_invalid()
    yield
    with database.open() as cursor:
        cursor.execute("DROP INDEX IF EXISTS section_embedding_hnsw_ccnew")


LONG = "n" * 62


@pytest.fixture
def long_names(database):
    """An index, its table and a section whose names are one long word each, and the section's key."""
    with database.open() as cursor:
        cursor.execute(f"CREATE TABLE t{LONG} (e vector(3))")
        cursor.execute(f"CREATE INDEX i{LONG} ON t{LONG} USING hnsw (e vector_l2_ops)")
        cursor.execute("SELECT id, title FROM pydocs_section ORDER BY id DESC LIMIT 1")
        pk, title = cursor.fetchone()
        cursor.execute("UPDATE pydocs_section SET title = %s WHERE id = %s", [LONG, pk])
        yield pk
        cursor.execute("UPDATE pydocs_section SET title = %s WHERE id = %s", [title, pk])
        cursor.execute(f"DROP TABLE t{LONG}")


@pytest.fixture
def stale(database):
    """A section that has another text than its vector stands for."""
    with database.open() as cursor:
        cursor.execute("SELECT id, text, embedding, embedding_digest FROM pydocs_section ORDER BY id LIMIT 1")
        pk, *values = cursor.fetchone()
        cursor.execute("UPDATE pydocs_section SET text = %s WHERE id = %s", ["Another.", pk])
    yield pk
    with database.open() as cursor:
        changes = "text = %s, embedding = %s, embedding_digest = %s"
        cursor.execute(f"UPDATE pydocs_section SET {changes} WHERE id = %s", [*values, pk])


def open_index(page):
    page.goto(INDEXES)
    page.get_by_role("link", name="section_embedding_hnsw", exact=True).first.click()


def ask_to_rebuild(page):
    """Take the action on the list, as far as the page that asks."""
    page.goto(INDEXES)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="section_embedding_hnsw", exact=True))
    row.get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("rebuild_selected")
    page.locator("button[name=index]").click()
    expect(page.get_by_role("heading", name="Rebuild 1 HNSW index")).to_be_visible()


def rebuild(page):
    page.get_by_role("button", name="Rebuild").click()
    expect(page.get_by_role("heading", name="Rebuild: public.section_embedding_hnsw")).to_be_visible()


def search(page, question):
    page.goto(SECTIONS)
    page.get_by_role("textbox", name="By meaning").fill(question)
    page.get_by_role("search", name="Search by meaning").get_by_role("button", name="Search").click()


# Indexes


def test_list_shows_an_invalid_index_first_and_what_to_do(page, leftover, picture):
    page.goto(INDEXES)
    first = page.locator("#result_list tbody tr").first
    expect(first).to_contain_text("section_embedding_hnsw_ccnew")
    expect(first.locator(".pgembedding-state")).to_have_text("Invalid")
    expect(first).to_contain_text("Repair drops it.")
    picture(page, "admin-indexes")


def test_rebuild_asks_shows_a_bar_to_its_end_and_the_outcome(page, database, picture):
    ask_to_rebuild(page)
    page.get_by_label("Memory").fill("64MB")
    picture(page, "admin-rebuild")
    with database.snapshot():
        rebuild(page)
        expect(page.get_by_role("status")).to_contain_text("waiting for old snapshots · 97%", timeout=30_000)
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "97")
        picture(page, "admin-progress")
    expect(page.get_by_role("status")).to_contain_text("Succeeded after", timeout=30_000)
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "100.0")
    expect(page.get_by_text("by ada.")).to_be_visible()
    picture(page, "admin-outcome")


def test_second_click_is_refused_politely(page, database):
    with database.snapshot():
        ask_to_rebuild(page)
        rebuild(page)
        progress = page.url
        ask_to_rebuild(page)
        page.get_by_role("button", name="Rebuild").click()
        expect(page.locator(".messagelist .error")).to_contain_text("section_embedding_hnsw is busy: rebuild")
    page.goto(progress)
    expect(page.get_by_role("status")).to_contain_text("Succeeded after", timeout=30_000)


def test_progress_without_javascript_comes_by_reloading(browser, browser_context_args, database):
    context = browser.new_context(**browser_context_args, java_script_enabled=False)
    page = context.new_page()
    with database.snapshot():
        ask_to_rebuild(page)
        rebuild(page)
        expect(page.get_by_role("status")).to_contain_text("97%", timeout=30_000)
    expect(page.get_by_role("status")).to_contain_text("Succeeded after", timeout=30_000)
    context.close()


def test_repair_shows_its_plan_and_drops_the_leftover(page, leftover, picture):
    page.goto(INDEXES)
    page.get_by_role("link", name="Repair", exact=True).click()
    expect(page.get_by_role("checkbox", name=re.compile("Drop section_embedding_hnsw_ccnew"))).to_be_checked()
    picture(page, "admin-repair")
    page.get_by_role("button", name="Repair").click()
    expect(page.get_by_role("status")).to_contain_text("Succeeded after", timeout=30_000)
    page.goto(INDEXES)
    expect(page.locator(".pgembedding-state.invalid")).to_have_count(0)


def test_page_of_an_index_draws_its_recall(page, picture):
    open_index(page)
    expect(page.get_by_role("img", name="Recall of the 10 nearest")).to_be_visible()
    picture(page, "admin-index", full_page=True)


# Rows


def test_search_by_meaning_shows_the_nearest_first(page, picture):
    search(page, "how do I catch an exception?")
    expect(page.locator("#result_list tbody tr").first).to_contain_text("except clause")
    expect(page.get_by_role("textbox", name="By meaning")).to_have_value("how do I catch an exception?")
    picture(page, "admin-search")


def test_search_by_meaning_pages_without_repeating(page):
    search(page, "how do I catch an exception?")
    seen = []
    for number in range(1, 5):
        page.goto(f"{SECTIONS}?_meaning=how+do+I+catch+an+exception%3F&p={number}")
        seen += page.locator("input.action-select").evaluate_all("boxes => boxes.map(box => box.value)")
    assert len(seen) == len(set(seen)) == 200
    page.locator("a[href$='&p=1']").click()
    expect(page.locator("#result_list tbody tr").first).to_contain_text("except clause")


def test_similar_rows_lead_from_one_to_the_next(page, picture):
    page.goto(f"{SECTIONS}?q=except+clause")
    page.get_by_role("link", name="except clause").click()
    panel = page.locator(".pgembedding-panel")
    expect(panel.get_by_role("row")).to_have_count(9)
    page.evaluate("document.querySelector('.pgembedding-panel').scrollIntoView({block: 'center'})")
    picture(page, "admin-similar")
    name = panel.get_by_role("link").first.inner_text()
    panel.get_by_role("link").first.click()
    expect(page.locator("#content h2").first).to_have_text(name)


LONGEST = "xmlrpc.server.SimpleXMLRPCDispatcher.register_introspection_functions"


@pytest.fixture
def dotted(database):
    """The longest title and topic of the whole corpus, in the sections that are found."""
    with database.open() as cursor:
        cursor.execute("SELECT id, title, topic FROM pydocs_section")
        before = cursor.fetchall()
        topic = "multiprocessing.resource_tracker"
        cursor.execute("UPDATE pydocs_section SET title = %s, topic = %s", [LONGEST, topic])
        yield
        for pk, *values in before:
            cursor.execute("UPDATE pydocs_section SET title = %s, topic = %s WHERE id = %s", [*values, pk])


def test_search_by_meaning_shows_each_column_whole_on_a_desktop(page, dotted):
    page.set_viewport_size(DESKTOP)
    search(page, "how do I catch an exception?")
    expect(page.locator("#result_list tbody tr").first).to_contain_text(LONGEST)
    assert page.locator(".results").evaluate("list => list.scrollWidth - list.clientWidth") == 0
    topic = page.locator("#result_list .field-topic").first
    assert topic.evaluate("cell => cell.getClientRects().length") == 1


def test_stale_row_is_embedded_by_its_button(page, stale):
    page.goto(f"{SECTIONS}{stale}/change/")
    expect(page.locator(".pgembedding-vector .pgembedding-state")).to_contain_text("Stale")
    page.get_by_role("button", name="Save and embed").click()
    expect(page.locator(".messagelist .success")).to_contain_text("1 embedded")
    expect(page.locator(".pgembedding-vector .pgembedding-state")).to_have_text("Fresh")


# Everywhere


@pytest.mark.parametrize("address", ["detail", "rebuild"])
def test_phone_scrolls_wide_tables_by_the_keyboard(page, address):
    page.set_viewport_size(PHONE)
    open_index(page) if address == "detail" else ask_to_rebuild(page)
    region = page.locator(".pgembedding-scroll").first
    region.focus()
    assert region.evaluate("region => document.activeElement === region && region.scrollWidth > region.clientWidth")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.pgembedding-scroll').scrollLeft > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", [INDEXES, f"{SECTIONS}?_meaning=exceptions", "detail", "change", "rebuild"])
def test_phone_has_no_sideways_scrolling(page, address, scheme):
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    if address == "rebuild":
        ask_to_rebuild(page)
    elif address == "detail":
        open_index(page)
    elif address == "change":
        page.goto(SECTIONS)
        page.locator("#result_list tbody th a").first.click()
    else:
        page.goto(address)
    assert page.evaluate(SIDEWAYS) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_shows_a_stale_vector_without_sideways_scrolling(page, stale, scheme):
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{SECTIONS}{stale}/change/")
    state = page.locator(".pgembedding-vector .pgembedding-state")
    expect(state).to_have_text("Stale: the text or the embedder changed since")
    assert state.evaluate(CONTRAST) >= 4.5
    assert page.evaluate(SIDEWAYS) == 0


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_wrap_names_of_one_long_word(page, long_names, size):
    page.set_viewport_size(size)
    page.goto(INDEXES)
    assert page.evaluate(SIDEWAYS) == 0
    page.get_by_role("link", name=f"i{LONG}", exact=True).click()
    assert page.evaluate(SIDEWAYS) == 0
    page.goto(f"{SECTIONS}{long_names}/change/")
    assert page.evaluate(SIDEWAYS) == 0


def test_list_shows_every_column_on_a_desktop_beside_a_long_name(page, long_names):
    page.goto(INDEXES)
    expect(page.get_by_role("columnheader", name="Rebuilt")).to_be_in_viewport(ratio=1)


@pytest.fixture
def failed(database):
    """The key of a run that failed before one that is still queued."""
    names = 'schema, index, "table", action, person, parameters, part, parts, created, notice, error, status'
    values = "'public', 'i', 't', 'rebuild', '', '{}', 1, 1, now(), '', 'Why.'"
    table = "pgembedding_django_indexrun"
    with database.open() as cursor:
        for status in ("failed", "queued"):
            cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({values}, '{status}') RETURNING id")
        pk = cursor.fetchone()[0]
        yield pk - 1
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({pk - 1}, {pk})")


def test_bar_of_a_run_that_failed_stands_still_while_another_is_awaited(page, failed):
    with page.expect_response("**/progress/**"):
        page.goto(f"{INDEXES}runs/?run={failed}&run={failed + 1}")
    expect(page.locator(f"#run-{failed + 1} progress:indeterminate")).to_be_visible()
    page.wait_for_timeout(200)
    expect(page.locator(f"#run-{failed} progress:indeterminate")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_are_legible(page, leftover, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(INDEXES)
    for state in page.locator("#result_list .pgembedding-state").all():
        assert state.evaluate(CONTRAST) >= 4.5
    if scheme == "dark":
        return
    page.set_viewport_size(PHONE)
    expect(page.locator("#result_list .pgembedding-state").first).to_be_in_viewport()


def test_pages_run_under_a_strict_content_security_policy(page, leftover):
    refused = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    page.route("**/admin/pgembedding_django/**", add_policy)
    page.goto(INDEXES)
    open_index(page)
    ask_to_rebuild(page)
    assert not refused


def add_policy(route):
    answer = route.fetch()
    policy = {"content-security-policy": "default-src 'self'; img-src 'self' data:"}
    route.fulfill(response=answer, headers={**answer.headers, **policy})


#: The contrast of an element's text with the background behind it, by WCAG 2.
CONTRAST = """element => {
    const channels = color => color.match(/[0-9.]+/g).map(Number);
    let behind = element;
    while (channels(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const luminance = color => {
        const [r, g, b] = channels(color).map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance).sort();
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


# Who may not


@pytest.fixture
def looker(site, browser):  # noqa: F811
    """The page of somebody who may look at indexes, and no more."""
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("bob")
    page.get_by_label("Password").fill("looks")
    page.get_by_role("button", name="Log in").click()
    yield page
    context.close()


def test_who_may_only_look_finds_no_action_and_is_refused(looker):
    looker.goto(INDEXES)
    expect(looker.get_by_role("link", name="section_embedding_hnsw", exact=True)).to_be_visible()
    expect(looker.locator("select[name=action]")).to_have_count(0)
    answer = looker.goto(f"{INDEXES}rebuild/?model=pydocs.section")
    assert answer.status == 403


@pytest.mark.parametrize(("who", "token"), [("looker", "own"), ("page", "forged")])
def test_forged_post_is_refused(request, database, who, token):
    page = request.getfixturevalue(who)
    page.goto(INDEXES)
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    form = {"concurrently": "on", "csrfmiddlewaretoken": cookies["csrftoken"] if token == "own" else "f" * 32}
    answer = page.request.post(f"{INDEXES}rebuild/?model=pydocs.section", form=form)
    assert answer.status == 403
