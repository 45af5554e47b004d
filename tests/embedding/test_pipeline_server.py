"""embed() with an OpenAI-compatible server that fails, over real HTTP."""

import threading

import pytest
from django.db import connections

from pgembedding_django.embedders import EmbedderUnavailable, get_embedder
from pgembedding_django.embedders.errors import EmbeddingError
from tests.models import Article
from tests.support.embeddings_server import JSON, EmbeddingsServer, error_of, vector_of

ROWS = 10_000

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_closed")]


@pytest.fixture
def server(settings):
    """A server, and the embedder that asks it."""
    with EmbeddingsServer() as server:
        options = {"model": "test", "dimensions": 3, "base_url": server.url, "api_key": "sk-secret", "concurrency": 8}
        backend = "pgembedding_django.embedders.openai.OpenAIEmbedder"
        embedders = {"default": {"BACKEND": backend, "OPTIONS": options}}
        settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}
        server.options = options
        yield server


@pytest.fixture
def _closed(server):
    yield
    get_embedder().close()


def add(count):
    Article.objects.bulk_create([Article(title=f"{number} texts") for number in range(count)])


def test_embed_through_a_server_that_fails_a_fifth_of_its_requests_is_right_and_pays_once(server):
    server.fail(0.2, seed=7)
    add(ROWS)
    report = Article.objects.embed(batch_size=50)
    assert (report.embedded, report.failed, report.changed, report.texts) == (ROWS, 0, 0, ROWS)
    assert not Article.objects.stale().exists()
    wrong = [row for row in Article.objects.all() if row.embedding.tolist() != vector_of(row.title)]
    assert wrong == []
    assert len(server.served) == ROWS
    assert set(server.served.values()) == {1}
    assert len(server.requests) > ROWS / 50


def test_embed_of_a_text_that_the_server_refuses_embeds_the_others(server):
    server.poison = "7 "
    add(20)
    report = Article.objects.embed()
    assert sorted(row.title for row in Article.objects.stale()) == ["17 texts", "7 texts"]
    assert (report.embedded, report.failed) == (18, 2)


def test_embed_of_a_text_that_the_server_fails_for_embeds_the_others_and_names_its_row(server):
    server.options["deadline"] = 0.1
    server.poison, server.poisoned = "7 ", (500, error_of("Internal error."), JSON)
    add(64)
    report = Article.objects.embed(batch_size=16)
    bad = Article.objects.filter(title__contains="7 ").order_by("pk")
    assert (report.embedded, sorted(pk for pk, _ in report.failures)) == (58, [row.pk for row in bad])
    assert [row.pk for row in Article.objects.stale().order_by("pk")] == [row.pk for row in bad]
    assert report.failures[0][1].endswith("answered 500: Internal error. It answers other texts.")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_embed_with_a_key_that_the_server_refuses_stops_and_hides_it(server, status, caplog):
    server.answer(error_of("Incorrect API key provided: sk-secret."), status=status, times=100)
    add(20)
    with pytest.raises(EmbeddingError) as error:
        Article.objects.embed(batch_size=1, concurrency=1)
    assert not isinstance(error.value, EmbedderUnavailable)
    assert "sk-secret" not in str(error.value) + caplog.text
    assert len(server.requests) <= 3


def test_embed_with_a_server_that_stays_away_says_so_and_leaves_the_rows_stale(server):
    server.options["deadline"] = 0.2
    server.answer(error_of("Overloaded."), status=503, times=1000)
    add(20)
    with pytest.raises(EmbedderUnavailable):
        Article.objects.embed(batch_size=5)
    assert Article.objects.stale().count() == 20


@pytest.mark.django_db(transaction=True)
def test_embed_by_two_workers_through_a_server_that_fails_pays_once(server):
    server.fail(0.2, seed=11)
    server.latency = 0.005
    add(300)

    def work():
        Article.objects.embed(batch_size=10, concurrency=2)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.served) == 300
    assert set(server.served.values()) == {1}
    assert not Article.objects.stale().exists()
