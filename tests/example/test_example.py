"""The example project: its corpus, its command, its page; the latter two in processes with its own settings."""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import urlopen
from uuid import uuid4

import pytest
from django.conf import settings as tests_settings
from django.db import connection

from example_project.pydocs.corpus import docstrings, entries, topics
from example_project.pydocs.passage import passage, prose
from example_project.pydocs.snippets import LENGTH, pattern_of, snippet
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

#: Sections that the processes load: all of the language reference, and the methods of str.
SECTIONS = 300

TOPIC = """Cheese
******

All that there is to say about cheese, in one sentence.


"cheddar" clause
================

Not much call for it around here, as the owner has told us.

cheese.cut(slices)
cheese.grate()

   Return the cheese in as many pieces as were asked for.

-[ Footnotes ]-

[1] The cat has eaten it.
"""


class Site:
    """The example project on a database of its own: its commands, and its server."""

    def __init__(self, folder):
        self.database = f"example_{uuid4().hex}"
        self.log = folder / "server.log"
        self.process = None

    @property
    def environment(self):
        entry = tests_settings.DATABASES["default"]
        where = urlencode({key.lower(): entry[key] for key in ("HOST", "PORT") if entry[key]})
        url = f"postgres://{quote(entry['USER'])}:{quote(entry['PASSWORD'])}@/{self.database}?{where}"
        inherited = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
        return {**inherited, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "example_project.settings"}

    def run(self, *args, **variables):
        """Run a command to its end."""
        command = [sys.executable, "-W", "error", "manage.py", *args]
        environment = {**self.environment, **variables}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    def manage(self, *args, **variables):
        """Run a command that must succeed and return what it printed."""
        done = self.run(*args, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def serve(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        command = [sys.executable, "manage.py", "runserver", "--noreload", address]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._wait()

    def _wait(self):
        def answers():
            assert self.process.poll() is None, self.log.read_text()
            with suppress(URLError):
                return self.get("/static/pydocs/search.css")

        wait_until(answers, what="The server did not answer.")

    def get(self, path, **query):
        """Return the status and the body of an answer."""
        try:
            with urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture(scope="module")
def site(tmp_path_factory, offered_extensions, django_db_blocker):
    """The example project, loaded and served; `site.first` is what the first `demo` printed."""
    site = Site(tmp_path_factory.mktemp("site"))
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {site.database} TEMPLATE template0")
    try:
        site.first = site.manage("demo", f"--limit={SECTIONS}")
        site.serve()
        yield site
    finally:
        site.stop()
        with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {site.database} WITH (FORCE)")


# The corpus


@pytest.fixture(scope="module")
def corpus():
    return list(entries())


@pytest.fixture
def cheese():
    return {entry.name: entry for entry in topics.split("cheese", TOPIC)}


def test_topic_with_headings_is_split_at_them(cheese):
    assert list(cheese) == ["cheese#cheese", "cheese#cheddar-clause", "cheese#cheese.cut"]
    assert cheese["cheese#cheese"].text == "All that there is to say about cheese, in one sentence."


def test_topic_subheading_keeps_its_heading_and_loses_its_quotes(cheese):
    entry = cheese["cheese#cheddar-clause"]
    assert (entry.topic, entry.title) == ("Cheese", "cheddar clause")


def test_topic_definition_with_two_signatures_is_one_section(cheese):
    entry = cheese["cheese#cheese.cut"]
    assert (entry.title, entry.topic) == ("cheese.cut", "cheddar clause")
    assert entry.text.startswith("cheese.cut(slices)\ncheese.grate()\n\n   Return")


def test_topic_footnotes_are_left_out(cheese):
    assert not any("The cat" in entry.text for entry in cheese.values())


def test_topic_short_section_is_left_out():
    assert not list(topics.split("gruyere", "Gruyere\n*******\n\nNo.\n"))


def test_topic_without_heading_gives_nothing():
    assert not list(topics.split("air", "There is nothing here that has a heading above it."))


def test_topic_pages_are_known_for_every_topic():
    assert set(topics.topics) - set(topics.PAGE_OF) == set()


def test_entries_are_thousands_and_unique(corpus):
    assert len(corpus) > 3000
    assert len({entry.name for entry in corpus}) == len({entry.text for entry in corpus}) == len(corpus)


def test_entries_come_in_a_fixed_order(corpus):
    assert list(entries()) == corpus


@pytest.mark.parametrize(
    ("name", "part", "title", "url"),
    [
        ("try#except-clause", "language", "except clause", "/reference/compound_stmts.html#except-clause"),
        ("string-methods#str.split", "library", "str.split", "/library/stdtypes.html#str.split"),
        ("json.dumps", "library", "json.dumps", "/library/json.html#json.dumps"),
        ("os.path.join", "library", "os.path.join", "/library/os.path.html#os.path.join"),
        ("builtins.sorted", "library", "sorted", "/library/functions.html#sorted"),
    ],
)
def test_entries_have_part_title_and_address(corpus, name, part, title, url):
    (found,) = (entry for entry in corpus if entry.name == name)
    assert (found.part, found.title) == (part, title)
    assert found.url.endswith(url)


def test_docstrings_of_jokes_and_tests_are_left_out(corpus):
    assert {"this", "antigravity", "idlelib", "test", "turtle"}.isdisjoint(entry.topic for entry in corpus)
    assert {"json", "email.message"} <= {entry.topic for entry in corpus}


def test_docstrings_of_private_names_are_left_out(corpus):
    names = [entry.name for entry in corpus if "#" not in entry.name]
    assert not [name for name in names if "._" in name or name.startswith("_")]


def test_docstrings_are_read_without_importing_their_modules():
    before = set(sys.modules)
    list(docstrings.docstring_entries())
    assert set(sys.modules) - before <= set(docstrings.COMPILED)


def test_passage_begins_with_headings_and_skips_grammar():
    text = "   try_stmt ::= ...\n\nIt handles exceptions."
    assert passage("Statements", "try", text) == "Statements: try\n\nIt handles exceptions."


def test_prose_of_nothing_but_code_is_the_code():
    assert prose(">>> 1 + 1\n2") == ">>> 1 + 1\n2"


# Snippets


def test_snippet_marks_words_and_their_longer_forms():
    found = snippet("Exceptions are caught. Not exempt.", pattern_of("how do I catch an exception?"))
    assert found == "<mark>Exceptions</mark> are caught. Not exempt."


def test_snippet_of_text_with_html_is_escaped():
    assert snippet("<script> & list", pattern_of("list")) == "&lt;script&gt; &amp; <mark>list</mark>"


def test_snippet_of_long_text_is_cut_where_the_words_are():
    text = "Filler words. " * 60 + "Here is the needle, and the needle again. " + "Filler words. " * 60
    found = snippet(text, pattern_of("needle"))
    assert found.startswith("… Here is the <mark>needle</mark>, and the <mark>needle</mark> again.")
    assert found.endswith(" …")


def test_snippet_without_telling_words_is_the_beginning():
    assert pattern_of("what is it?") is None
    found = snippet("word " * 200, None)
    assert found.startswith("word word")
    assert LENGTH - 5 <= len(found) <= LENGTH + 2


# The command


@pytest.mark.pgvector
def test_demo_first_run_loads_embeds_and_answers(site):
    assert f"Sections  {SECTIONS}: {SECTIONS} new\n" in site.first
    assert f"Vectors   {SECTIONS} embedded in " in site.first
    assert "Index     section_embedding_hnsw (HNSW, cosine), made by the migration\n" in site.first
    answer = site.first.partition("how do I catch an exception?")[2].splitlines()[1:6]
    assert answer[0].startswith("  0.")
    assert answer[0].endswith("  The try statement › except clause")
    assert any(line.endswith("  Exceptions") for line in answer)


@pytest.mark.pgvector
def test_demo_next_run_mends_what_differs_and_then_nothing(site):
    site.manage(
        "shell",
        "--verbosity=0",
        "--command",
        "from django.db import connection\n"
        "from example_project.pydocs.models import Section\n"
        "Section.objects.filter(name='pass#pass').update(text='Old.')\n"
        "Section.objects.filter(name='break#break').delete()\n"
        "Section.objects.create(name='goto#goto')\n"
        "connection.cursor().execute('DROP INDEX section_embedding_hnsw')",
    )
    mended, again = (site.manage("demo", f"--limit={SECTIONS}") for _ in range(2))
    assert f"Sections  {SECTIONS}: 1 new, 1 changed, 1 removed\n" in mended
    # The text that had changed is the one of its vector again.
    assert "Vectors   1 embedded in " in mended
    assert "was missing, so it was made again\n" in mended
    assert f"Sections  {SECTIONS}: nothing changed\n" in again
    assert "Vectors   up to date\n" in again


@pytest.mark.pgvector
def test_demo_after_a_change_of_embedder_embeds_again(site):
    site.manage(
        "shell",
        "--verbosity=0",
        "--command",
        "from example_project.pydocs.models import Section\n"
        "Section.objects.filter(topic='Exceptions').update(embedding_digest='of another model')",
    )
    assert "Vectors   1 embedded in " in site.manage("demo", f"--limit={SECTIONS}")


@pytest.mark.pgvector
def test_demo_with_openai_out_of_reach_says_so(site):
    # Nothing listens on port 9 ("discard").
    key = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = site.run("demo", f"--limit={SECTIONS}", EMBEDDER="openai", **key)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "CommandError: The demo stops where the embedder did: http://127.0.0.1:9/v1 cannot be reached (ConnectError)."
    )
    assert "Embedder  text-embedding-3-small, paid for by your OPENAI_API_KEY\n" in done.stdout


@pytest.mark.pgvector
def test_demo_sends_nothing_away_because_a_key_is_there(site):
    done = site.run("demo", f"--limit={SECTIONS}", OPENAI_API_KEY="none", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert "Embedder  WordLlamaEmbedder, offline (EMBEDDER=openai uses your OPENAI_API_KEY)\n" in done.stdout
    assert done.returncode == 0


@pytest.mark.pgvector
def test_demo_prints_commands_that_work(site):
    lines = site.first.partition("Where to look next\n")[2].splitlines()
    commands = {line.split("manage.py ")[1].split()[0]: line.strip() for line in lines if "manage.py " in line}
    assert list(commands) == ["runserver", "createsuperuser", "hnsw_indexes", "measure_recall"]
    for name in ("hnsw_indexes", "measure_recall"):
        command, _, _what = commands[name].partition("  ")
        done = subprocess.run(command, shell=True, cwd=ROOT, env=site.environment, capture_output=True, text=True)
        assert "section_embedding_hnsw" in done.stdout, command


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgres://nobody@localhost:9/pydocs", "The database cannot be used: "),
        ("mysql://nobody@localhost/pydocs", "DATABASE_URL must name a Postgres: "),
        ("localhost", "DATABASE_URL must name a Postgres: "),
    ],
)
def test_wrong_database_url_is_answered_in_one_sentence(site, url, sentence):
    done = site.run("demo", DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


@pytest.mark.pgvector
def test_migrations_of_the_example_are_complete(site):
    assert site.manage("makemigrations", "--check", "--dry-run") == "No changes detected\n"
    assert site.manage("check") == "System check identified no issues (0 silenced).\n"


# The page and the JSON


@pytest.mark.pgvector
def test_page_without_question_suggests_some(site):
    status, page = site.get("/")
    assert status == 200
    assert '<a href="/?q=how%20do%20I%20catch%20an%20exception%3F">' in page
    assert f"{SECTIONS} sections of Python’s own documentation" in page


@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"q": " "}, "WordLlamaEmbedder needs text to embed, but the query is blank."),
        ({"q": "x" * 301}, "Question: Ensure this value has at most 300 characters (it has 301)."),
        ({"q": "a\0b"}, "Question: Null characters are not allowed."),
        ({"q": "yield", "part": "cookbook"}, "Part: Select a valid choice."),
        ({"like": "9" * 30}, "Section: There is no such section."),
    ],
)
def test_page_of_what_cannot_be_searched_says_why(site, query, sentence):
    status, page = site.get("/", **query)
    assert status == 400
    assert sentence in page
    assert "Try one of these" in page


@pytest.mark.pgvector
def test_page_with_html_in_the_question_escapes_it(site):
    _, page = site.get("/", q='"><script>alert(1)</script>')
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.pgvector
def test_json_ranks_sections_by_distance(site):
    status, body = site.get("/search.json", q="how do I catch an exception?", k=3)
    results = json.loads(body)["results"]
    distances = [result["distance"] for result in results]
    assert (status, len(results), results[0]["title"]) == (200, 3, "except clause")
    assert distances == sorted(distances)
    assert 0 < distances[0] < 1


@pytest.mark.pgvector
def test_json_with_a_part_answers_from_that_part_only(site):
    _, body = site.get("/search.json", q="how do I catch an exception?", part="library", k=20)
    assert [result["part"] for result in json.loads(body)["results"]] == ["library"] * 20


@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({}, "the query is blank."),
        ({"q": "yield", "k": 0}, "k: Ensure this value is greater than or equal to 1."),
        ({"q": "yield", "k": 51}, "k: Ensure this value is less than or equal to 50."),
        ({"q": "yield", "k": "x"}, "k: Enter a whole number."),
    ],
)
def test_json_with_bad_arguments_is_an_error(site, query, error):
    status, body = site.get("/search.json", **query)
    assert status == 400
    assert list(json.loads(body)) == ["error"]
    assert json.loads(body)["error"].endswith(error)


def test_questions_are_answered_by_sections_of_the_corpus():
    questions = (ROOT / "example_project" / "pydocs" / "questions.jsonl").read_text().splitlines()
    names = {entry.name for entry in entries()}
    assert {key for line in questions for key in json.loads(line)["answers"]} <= names
