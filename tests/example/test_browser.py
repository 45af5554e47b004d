"""The example's pages in a real browser, with JavaScript switched off."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.example.test_example import site  # noqa: F401 (a fixture)

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.pgvector,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium"),
]

QUESTION = "how do I catch an exception?"
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


# pytest-playwright keeps its event loop until the session ends, and Django refuses the database to whatever runs
# beside one. These fixtures take the place of its own: they begin after the last use of the database and end with the
# module.


@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {
        "executable_path": str(CHROMIUM),
        "args": ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
    }


@pytest.fixture(scope="module")
def playwright(site):  # noqa: F811
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright, browser_type_launch_args):
    browser = playwright.chromium.launch(**browser_type_launch_args)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def browser_context_args(site):  # noqa: F811
    return {"base_url": site.url, "java_script_enabled": False}


@pytest.fixture
def answer(page):
    """The page after a question was typed and sent."""
    page.goto("/")
    page.get_by_label("Your question").fill(QUESTION)
    page.get_by_role("button", name="Search").click()
    return page


def results(page):
    return page.get_by_role("main").get_by_role("list").last.get_by_role("listitem")


def background(page):
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(channel) for channel in re.findall(r"\d+", color)]


def test_search_shows_ten_results_with_marked_words(answer):
    expect(results(answer)).to_have_count(10)
    expect(results(answer).first.get_by_role("heading")).to_have_text("except clause")
    expect(results(answer).first.locator("mark").first).to_have_text("exception")
    expect(answer.get_by_label("Your question")).to_have_value(QUESTION)


def test_search_bars_shorten_with_distance(answer):
    bars = answer.locator(".bar > span").all()
    widths = [bar.bounding_box()["width"] for bar in bars]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1] > 0


def test_filter_shows_one_part_and_keeps_the_question(answer):
    answer.get_by_role("link", name="Standard library").click()
    expect(answer.get_by_role("link", name="Standard library")).to_have_attribute("aria-current", "true")
    expect(answer.locator(".results .part.library")).to_have_count(10)
    expect(answer.get_by_label("Your question")).to_have_value(QUESTION)


def test_topic_with_its_number_narrows_the_answer_and_is_left_again(answer):
    topics = answer.locator(".topics a")
    numbers = [int(number) for number in answer.locator(".topics .number").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    name = topics.first.inner_text().rpartition(" ")[0]
    topics.first.click()
    every = answer.get_by_role("link", name="search every topic")
    expect(every).to_contain_text(name)
    assert results(answer).count() >= min(numbers[0], 10)
    every.click()
    expect(results(answer)).to_have_count(10)


def test_filter_stays_for_the_next_question(answer):
    answer.get_by_role("link", name="Language reference").click()
    answer.get_by_label("Your question").fill("split a string at commas")
    answer.get_by_role("button", name="Search").click()
    expect(answer.locator(".results .part.language")).to_have_count(10)


def test_more_like_this_shows_the_neighbours_without_the_section(answer):
    results(answer).first.get_by_role("link", name="More like this").click()
    expect(answer.get_by_role("status")).to_contain_text("Like The try statement › except clause: 10 sections")
    expect(results(answer)).to_have_count(10)
    expect(answer.locator("h2", has_text=re.compile("^except clause$"))).to_have_count(0)


def test_example_question_answers_with_one_click(page):
    page.goto("/")
    page.get_by_role("link", name="what does yield do?").click()
    expect(results(page).first.get_by_role("heading")).to_have_text("The yield statement")


def test_blank_question_is_told_kindly(page):
    page.goto("/")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("Ask in a few words of English")


def test_keyboard_reaches_the_question_after_two_links(page):
    page.goto("/")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Your question")).to_be_focused()


@pytest.mark.parametrize("path", ["/", "/?q=", "/?q=parse+command+line+arguments"])
@pytest.mark.parametrize("width", [320, 390])
def test_phone_has_no_sideways_scrolling(page, path, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(path)
    assert page.evaluate(SIDEWAYS) == 0


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_background_follows_the_color_scheme(page, scheme, dark):
    page.emulate_media(color_scheme=scheme)
    page.goto("/")
    assert (max(background(page)) < 60) is dark
    assert (min(background(page)) > 200) is not dark


def test_admin_shows_the_vector_read_only(page, site):  # noqa: F811
    login = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "countess"}
    site.manage("createsuperuser", "--no-input", "--email=", **login)
    page.goto("/admin/pydocs/section/?q=except+clause")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("countess")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="except clause").click()
    expect(page.locator(".field-embedding")).to_contain_text("256 dimensions · norm 1.0000 · [")
    expect(page.locator(".field-embedding :is(input, textarea)")).to_have_count(0)
