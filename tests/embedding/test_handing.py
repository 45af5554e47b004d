"""embed(enqueue=True) and manage.py embed --enqueue: what workers are handed, and what becomes of it."""

import io
from importlib import import_module

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from pgembedding_django.documents.models import Collection
from pgembedding_django.embedding import handing
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.embedding.rows import get_field
from tests.models import Article, Memo
from tests.support.scripted import vector_of
from tests.tasks import DOWN, RecordingBackend

pytestmark = pytest.mark.django_db


def add(count):
    return Article.objects.bulk_create([Article(title=f"text {number}") for number in range(count)])


@pytest.fixture
def queue(settings, monkeypatch):
    """What a backend that does nothing was handed."""
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.RecordingBackend"}}
    monkeypatch.setattr(RecordingBackend, "enqueued", [])
    return RecordingBackend.enqueued


def test_stale_rows_are_handed_over_in_parts_of_whole_batches(scripted, queue, monkeypatch):
    monkeypatch.setattr(handing, "PART", 25)
    monkeypatch.setattr(scripted, "batch_size", 10)
    pks = [str(row.pk) for row in add(50)]
    Article.objects.filter(pk=pks[0]).embed()
    assert Article.objects.embed(enqueue=True).enqueued == 49
    assert queue == [["tests.Article", "embedding", part, "default"] for part in (pks[1:21], pks[21:41], pks[41:])]


def test_limit_of_the_rows_handed_over(scripted, queue):
    add(5)
    assert Article.objects.embed(enqueue=True, limit=3).enqueued == 3
    assert len(queue[0][2]) == 3


def test_rows_that_a_run_has_claimed_are_left_to_it(scripted, queue):
    first, second = add(2)
    with Claims(get_field(Article, None), "default") as claims:
        claims.take([first.pk], fresh_too=False)
        Article.objects.embed(enqueue=True)
    assert queue[0][2] == [str(second.pk)]


def test_tasks_embed_them_and_twice_pays_once(scripted):
    add(3)
    Article.objects.embed(enqueue=True)
    Article.objects.embed(enqueue=True)
    assert all(row.embedding.tolist() == vector_of(row.title) for row in Article.objects.all())
    assert set(scripted.paid.values()) == {1}


@pytest.mark.parametrize("options", [{"all": True}, {"batch_size": 5}, {"concurrency": 2}, {"progress": print}])
def test_options_of_a_run_are_refused(scripted, options):
    with pytest.raises(ValueError) as caught:
        Article.objects.embed(enqueue=True, **options)
    assert str(caught.value) == f"embed(enqueue=True) takes field= and limit= alone, got {next(iter(options))}."


def test_framework_that_is_missing_is_named(scripted, monkeypatch):
    add(1)
    tasks = import_module("pgembedding_django.embedding.tasks")
    monkeypatch.setattr(tasks, "embed_rows", lambda *args: None)
    with pytest.raises(ImproperlyConfigured, match=r"Background work needs Django 6\.0"):
        Article.objects.embed(enqueue=True)


# manage.py embed --enqueue


def run(*args, **options):
    out = io.StringIO()
    call_command("embed", *args, enqueue=True, stdout=out, **options)
    return out.getvalue()


def test_command_hands_over_and_says_how_to_see_what_is_left(scripted, queue):
    add(2)
    assert run("tests.Article", limit=1) == (
        "tests.Article.embedding: 1 stale row handed to the workers. What is left tells: manage.py embed "
        "tests.Article.embedding --dry-run\n"
    )
    assert len(queue[0][2]) == 1


def test_command_hands_over_the_named_field(scripted, queue):
    Memo.objects.create(title="a")
    run("tests.Memo.loud")
    assert queue[0][1] == "loud"


@pytest.mark.parametrize("option", ["all", "batch_size", "concurrency"])
def test_command_refuses_options_of_a_run(scripted, option):
    with pytest.raises(CommandError) as caught:
        run("tests.Article", **{option: 1})
    assert str(caught.value) == f"--enqueue takes --limit alone, got --{option.replace('_', '-')}."


def test_command_whose_queue_is_down_says_so(scripted, settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    add(1)
    with pytest.raises(CommandError) as caught:
        run("tests.Article")
    assert str(caught.value) == f"{DOWN} What was handed over is kept."


def test_command_refuses_collections_of_documents(scripted):
    Collection.objects.create(name="python").documents.create(content="a", key="a")
    with pytest.raises(CommandError, match="cannot be handed to tasks"):
        run("pgembedding_documents.Document")
