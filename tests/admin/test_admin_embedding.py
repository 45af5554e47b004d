"""The action that embeds the selected rows again."""

import pytest

from pgembedding_django.admin import embedding
from pgembedding_django.embedding.tasks import embed_rows
from tests.admin import ARTICLES, embed_with, messages, serve, staff, text
from tests.models import Article, Memo, Pair
from tests.tasks import DOWN

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def site(settings):
    serve(settings, Article)


def embed(client, *rows, **data):
    data = {"action": "embed_selected", "index": "0", "_selected_action": [row.pk for row in rows], **data}
    return client.post(ARTICLES, data, follow=True)


def test_action_embeds_the_selected_rows_and_tells_how_many(admin_client):
    one, two = (Article.objects.create(title=title) for title in ("one", "two"))
    answer = embed(admin_client, one)
    one.refresh_from_db()
    two.refresh_from_db()
    assert one.embedding is not None
    assert two.embedding is None
    assert messages(answer) == ["Article.embedding: 1 embedded, 0 fresh already, 0 without text, 0 failed."]


def test_action_leaves_rows_that_are_fresh(admin_client):
    article = Article.objects.create(title="one", embedding=[1, 2, 3])
    answer = embed(admin_client, article)
    assert messages(answer) == ["Article.embedding: 0 embedded, 1 fresh already, 0 without text, 0 failed."]


def test_action_whose_embedder_fails_says_why(admin_client, settings):
    embed_with(settings, "tests.admin.AwayEmbedder")
    answer = embed(admin_client, Article.objects.create(title="one"))
    assert "The server is away." in " ".join(messages(answer))
    assert "<script>The server" not in text(answer)


def test_action_tells_which_rows_failed(admin_client, settings):
    embed_with(settings, "tests.admin.PickyEmbedder", dimensions=3)
    good, bad = (Article.objects.create(title=title) for title in ("good", "bad"))
    counts, failure = messages(embed(admin_client, good, bad))
    assert counts == "Article.embedding: 1 embedded, 0 fresh already, 0 without text, 1 failed."
    assert failure.startswith(f"Article.embedding, {bad.pk}: ")


def test_action_whose_embedder_is_not_configured_says_so(admin_client, settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    answer = embed(admin_client, Article.objects.create(title="one"))
    assert messages(answer) == ['Article.embedding: PGEMBEDDING["EMBEDDERS"]["default"] is not set.']


def test_action_on_too_many_rows_names_the_command(admin_client):
    rows = Article.objects.bulk_create(Article(title="a") for _ in range(201))
    answer = embed(admin_client, rows[0], select_across="1")
    assert messages(answer) == [
        "201 rows are too many for a page. Select at most 200, or run: manage.py embed tests.Article"
    ]
    assert not Article.objects.exclude(embedding=None).exists()


@pytest.fixture
def enqueued(settings):
    """What was handed to a backend that has workers."""
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.RecordingBackend"}}
    from tests.tasks import RecordingBackend

    yield RecordingBackend.enqueued
    RecordingBackend.enqueued.clear()


def test_action_hands_the_rows_to_a_worker_where_there_is_one(admin_client, enqueued, monkeypatch):
    monkeypatch.setattr(embedding, "TASK_ROWS", 2)
    rows = Article.objects.bulk_create(Article(title="a") for _ in range(3))
    answer = embed(admin_client, *rows)
    assert messages(answer) == ["Article.embedding: a worker embeds those of the 3 rows that are not fresh."]
    assert [(label, field, len(pks), using) for label, field, pks, using in enqueued] == [
        ("tests.Article", "embedding", 2, "default"),
        ("tests.Article", "embedding", 1, "default"),
    ]
    assert {pk for _, _, pks, _ in enqueued for pk in pks} == {str(row.pk) for row in rows}


def test_action_on_one_row_tells_of_one(admin_client, enqueued):
    answer = embed(admin_client, Article.objects.create(title="a"))
    assert messages(answer) == ["Article.embedding: a worker embeds the row if it is not fresh."]


def test_action_where_the_queue_is_down_says_so(admin_client, settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    answer = embed(admin_client, Article.objects.create(title="a"))
    assert messages(answer) == [f"Article.embedding: {DOWN}"]


class Replicated:
    """Rows are read from the default database and written to "fresh"."""

    def db_for_read(self, model, **hints):
        return "default"

    def db_for_write(self, model, **hints):
        return "fresh" if model is Article else None


@pytest.fixture
def replicated(migrated_database, settings):
    """A row of each database, of the same key."""
    settings.DATABASE_ROUTERS = [Replicated()]
    for alias in ("default", "fresh"):
        Article.objects.using(alias).create(pk=1, title="one")
    return Article(pk=1)


def are_embedded():
    return [Article.objects.using(alias).get().embedding is not None for alias in ("default", "fresh")]


def test_action_embeds_where_rows_are_written(admin_client, replicated):
    embed(admin_client, replicated)
    assert are_embedded() == [False, True]


def test_worker_embeds_where_rows_are_written(admin_client, enqueued, replicated):
    embed(admin_client, replicated)
    assert are_embedded() == [False, False]
    embed_rows.func(*enqueued.pop())
    assert are_embedded() == [False, True]


def test_worker_embeds_the_rows_that_the_action_handed_over(admin_client, enqueued):
    one, two = (Article.objects.create(title=title) for title in ("one", "two"))
    embed(admin_client, one)
    embed_rows.func(*enqueued.pop())
    assert [Article.objects.get(pk=row.pk).embedding is None for row in (one, two)] == [False, True]


def test_action_whose_source_gives_no_text_says_so(admin_client, settings, monkeypatch):
    serve(settings, Memo)
    monkeypatch.setattr(Memo, "shout", lambda self: 7)
    answer = admin_client.post(
        "/admin/tests/memo/",
        {"action": "embed_selected", "index": "0", "_selected_action": [Memo.objects.create(title="a").pk]},
        follow=True,
    )
    assert messages(answer) == [
        "Memo.embedding: 1 embedded, 0 fresh already, 0 without text, 0 failed.",
        "Memo.loud: Memo.shout, the source of Memo.loud, must be text, got int.",
    ]


def test_action_is_not_offered_to_who_may_only_view():
    Article.objects.create(title="one")
    client = staff("view_article", "view_hnswindexstatus")
    assert "embed_selected" not in text(client.get(ARTICLES))


def test_action_is_not_offered_for_vectors_without_a_source(settings, admin_client):
    serve(settings, Pair)
    Pair.objects.create()
    assert "embed_selected" not in text(admin_client.get("/admin/tests/pair/"))


@pytest.mark.parametrize(("title", "state"), [("one", "fresh"), ("other", "stale")])
def test_page_tells_whether_the_vector_stands_for_the_text(admin_client, title, state):
    article = Article.objects.create(title="one", embedding=[1, 2, 3])
    Article.objects.filter(pk=article.pk).update(title=title)
    page = text(admin_client.get(f"{ARTICLES}{article.pk}/change/"))
    assert f'<span class="pgembedding-state {state}">' in page


def test_page_without_the_embedder_tells_no_freshness(admin_client, settings):
    article = Article.objects.create(title="one", embedding=[1, 2, 3])
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    assert "pgembedding-state" not in text(admin_client.get(f"{ARTICLES}{article.pk}/change/"))


def test_page_of_a_row_whose_source_gives_no_text_says_so(admin_client, settings, monkeypatch):
    serve(settings, Memo)
    memo = Memo.objects.create(title="one", loud=[1, 2, 3])
    monkeypatch.setattr(Memo, "shout", lambda self: 7)
    page = text(admin_client.get(f"/admin/tests/memo/{memo.pk}/change/"))
    assert "Memo.shout, the source of Memo.loud, must be text, got int." in page
