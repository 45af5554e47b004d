"""manage.py embed: what it says, asks and exits with."""

import io
import re
import signal
import threading

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connections

from pgembedding_django.documents.models import Collection, Document
from tests.models import Article, Memo
from tests.support.scripted import AWAY, vector_of
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db


def run(*args, **options):
    """Run the command and return what it printed to either stream."""
    out = io.StringIO()
    try:
        call_command("embed", *args, stdout=out, stderr=out, no_color=True, **options)
    finally:
        run.printed = out.getvalue()
    return run.printed


def add(*titles):
    return Article.objects.bulk_create([Article(title=title) for title in titles])


DUMMY = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 3}}


@pytest.fixture
def answer(monkeypatch):
    """What the user types; without it, a question fails the test."""

    def no_answer(prompt):
        raise AssertionError(prompt)

    monkeypatch.setattr("builtins.input", no_answer)
    return lambda text: monkeypatch.setattr("builtins.input", lambda prompt: text)


def test_embed_says_what_it_did(scripted, answer):
    add("a", "b", "b")
    printed = run("tests.Article")
    assert printed.startswith(
        'tests.Article.embedding: embedding the stale rows by "default" (scripted:a).\n'
        "3 embedded, 0 without text, 0 edited meanwhile, 0 failed; 2 texts and about 2 tokens in 1 request, "
    )
    assert not Article.objects.stale().exists()


def test_embed_of_a_named_field_leaves_the_others(scripted):
    Memo.objects.create(title="a")
    run("tests.Memo.loud")
    assert Memo.objects.get().loud.tolist() == vector_of("A")
    assert Memo.objects.get().embedding is None


def test_embed_passes_its_options_on(scripted):
    add(*"abcde")
    run("tests.Article", limit=4, batch_size=2, concurrency=1)
    assert scripted.sizes == [2, 2]
    run("tests.Article", "--all")
    assert len(scripted.paid) == 5


def test_dry_run_says_what_would_be_sent_and_sends_nothing(scripted, answer):
    scripted.configure(price=20, sends_to="https://api.example.com/v1")
    add("abc", "abcdef")
    assert run("tests.Article", "--dry-run") == (
        'tests.Article.embedding: 2 rows to embed by "default" (scripted:a), 9 characters, at most about 3 tokens, at '
        "a price of about 0.0001.\nTheir texts are sent to https://api.example.com/v1, which may charge for them.\n"
    )
    assert scripted.sizes == []


def test_embed_names_an_embedder_without_its_module(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": DUMMY}}
    assert 'rows to embed by "default" (DummyEmbedder:3), 0 char' in run("tests.Article", "--dry-run")


@pytest.mark.parametrize(("typed", "embedded"), [("y", 1), ("YES", 1), ("", 0), ("n", 0)])
def test_embed_that_sends_texts_away_asks_first(scripted, answer, typed, embedded):
    scripted.configure(sends_to="https://api.example.com/v1")
    add("a")
    answer(typed)
    run("tests.Article")
    assert len(scripted.paid) == embedded


def test_embed_with_noinput_asks_nothing(scripted, answer):
    scripted.configure(sends_to="https://api.example.com/v1")
    add("a")
    run("tests.Article", "--noinput")
    assert scripted.paid == {"a": 1}


@pytest.mark.parametrize("options", [{}, {"sends_to": "https://api.example.com/v1"}], ids=["stays", "noinput"])
def test_embed_counts_nothing_where_nobody_is_asked(scripted, answer, options, monkeypatch):
    scripted.configure(**options)
    monkeypatch.setattr("pgembedding_django.embedding.run.estimate", None)
    add("a")
    said = 'tests.Article.embedding: embedding {} by "default" (scripted:a).\n'
    assert run("tests.Article", "--noinput").startswith(said.format("the stale rows"))
    assert run("tests.Article", "--noinput", "--all").startswith(said.format("every row"))


def test_embed_with_nothing_to_send_asks_nothing(scripted, answer):
    scripted.configure(sends_to="https://api.example.com/v1")
    assert "0 rows to embed" in run("tests.Article")


def test_embed_with_failed_rows_names_them_and_fails(scripted):
    bad = add("a", "bad")[1]
    with pytest.raises(CommandError) as error:
        run("tests.Article")
    assert str(error.value) == "1 row could not be embedded; what was stale still is."
    assert f"pk {bad.pk}: it is bad\n1 embedded" in run.printed


def test_embed_with_an_embedder_out_of_reach_says_how_to_go_on(scripted):
    add("a", "b")
    scripted.before = lambda texts: scripted.failures.append(AWAY) if texts == ["b"] else None
    with pytest.raises(CommandError) as error:
        run("tests.Article", batch_size=1, concurrency=1)
    assert str(error.value) == ("The server is away. What was embedded is kept. Run the same command again to go on.")
    assert "\n1 embedded" in run.printed


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("tests", '"tests" names no model. Write app.Model or app.Model.field, such as blog.Article.'),
        ("tests.Nothing", '"tests.Nothing" names no model. Write app.Model or app.Model.field, such as blog.Article.'),
        (
            "nothing.Article",
            '"nothing.Article" names no model. Write app.Model or app.Model.field, such as blog.Article.',
        ),
        ("tests.Required", "Required has no EmbeddingField with a source."),
        ("tests.Memo", "Memo has 2 fields to embed (embedding, loud). Name one."),
        ("tests.Article.title", "field must name an EmbeddingField of Article that has a source (embedding), got"),
    ],
)
def test_embed_of_what_cannot_be_embedded_says_why(label, message):
    with pytest.raises(CommandError) as error:
        run(label)
    assert str(error.value).startswith(message)


def test_embed_of_documents_shares_its_limit_among_the_collections(settings):
    for name in "abc":
        collection = Collection.objects.create(name=name)
        Document.objects.bulk_create([Document(collection=collection, content=f"{name}{n}", key=n) for n in range(2)])
    assert "3 rows" not in run("pgembedding_documents.Document", "--dry-run", limit=3)
    run("pgembedding_documents.Document", limit=3)
    assert Document.objects.exclude(embedding=None).count() == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit must be a positive integer, got 0."),
        ({"batch_size": -1}, "batch_size must be a positive integer, got -1."),
    ],
)
def test_embed_with_a_wrong_number_says_so(scripted, options, message):
    with pytest.raises(CommandError, match=f"^{message}$"):
        run("tests.Article", **options)


def test_embed_without_an_embedder_says_which_setting(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    with pytest.raises(CommandError, match=r'^PGEMBEDDING\["EMBEDDERS"\]\["default"\] is not set.$'):
        run("tests.Article")


def test_embed_without_a_key_says_so_before_any_request(settings, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    backend = {"BACKEND": "pgembedding_django.embedders.openai.OpenAIEmbedder", "OPTIONS": {"dimensions": 3}}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": backend}}
    add("a")
    with pytest.raises(CommandError, match=r"OpenAIEmbedder has no .*key: set OPENAI_API_KEY"):
        run("tests.Article", "--noinput")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_embed_that_is_interrupted_writes_what_is_under_way(scripted, number):
    add(*"abcdefgh")
    before = signal.getsignal(number)
    scripted.before = lambda texts: signal.raise_signal(number) if texts == ["b"] else None
    with pytest.raises(CommandError) as error:
        run("tests.Article", batch_size=1, concurrency=1)
    assert str(error.value) == "Stopped. What was embedded is kept. Run the same command again to go on."
    assert error.value.returncode == 128 + number
    assert "Stopping once what is under way is written. Ctrl-C again drops it.\n" in run.printed
    assert 2 <= Article.objects.exclude(embedding=None).count() < 8
    assert signal.getsignal(number) is before


def test_embed_whose_connection_is_killed_says_what_is_kept(scripted, migrated_database):
    Article.objects.using("fresh").bulk_create([Article(title=title) for title in "ab"])
    ((pid,),) = migrated_database.execute("SELECT pg_backend_pid()")

    def cut(texts):
        if texts == ["b"]:
            wait_for(migrated_database, "SELECT 1 FROM tests_article WHERE embedding IS NOT NULL")
            migrated_database.execute(f"SELECT pg_terminate_backend({pid})")

    scripted.before = cut
    with pytest.raises(CommandError) as error:
        run("tests.Article", database="fresh", batch_size=1, concurrency=1)
    assert error.value.returncode == 1
    assert str(error.value).startswith('The connection to database "fresh" failed: ')
    assert str(error.value).endswith(". What was embedded is kept. Run the same command again to go on.")
    assert "\n1 embedded, " in run.printed


@pytest.mark.django_db(transaction=True)
def test_embed_in_another_thread_leaves_signals_alone(scripted):
    add("a")
    raised = []

    def work():
        try:
            run("tests.Article")
        except CommandError as error:
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == []
    assert Article.objects.get().embedding.tolist() == vector_of("a")


@pytest.mark.parametrize(("label", "column"), [("tests.Article", "title"), ("tests.Memo.loud", "title")])
def test_dry_run_names_texts_that_are_too_long(scripted, monkeypatch, label, column):
    monkeypatch.setattr(scripted, "max_tokens", 10)
    model = apps.get_model(*label.split(".")[:2])
    rows = [model.objects.create(**{column: "x" * length}) for length in (20, 150, 40, 60, 70, 80, 90)]
    said = run(label, "--dry-run")
    named = sorted(re.search(r"pk ([\d, ]+), \.\.\.", said)[1].split(", "))
    assert "6 texts of about more than 10 tokens, which the embedder does not take whole" in said
    assert len(named) == 5
    assert str(rows[0].pk) not in named


def test_dry_run_names_one_text_that_is_too_long(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "max_tokens", 10)
    Article.objects.create(title="short")
    row = Article.objects.create(title="x" * 150)
    assert f"1 text of about more than 10 tokens, which the embedder does not take whole: pk {row.pk}." in run(
        "tests.Article", "--dry-run"
    )
