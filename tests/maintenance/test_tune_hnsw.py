"""manage.py tune_hnsw."""

import io

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from pgembedding_django import HnswIndex
from tests.models import Article
from tests.support.tables import load_articles

pytestmark = pytest.mark.django_db


@pytest.fixture
def many():
    load_articles(np.random.default_rng(8).standard_normal((500, 3)).astype(np.float32))


def run(*args):
    out = io.StringIO()
    call_command("tune_hnsw", *args, stdout=out)
    return out.getvalue()


def test_command_prints_the_table_and_the_line_to_paste(many):
    lines = run("tests.Article", "--recall=0.9", "--noinput", "--sample-rows=400").splitlines()
    assert lines[0].split()[:4] == ["m", "ef_construction", "ef_search", "recall@10"]
    assert lines[1].split()[:3] == ["8", "64", "20"]
    assert lines[3] == (
        "HnswIndex(ef_construction=64, ef_search=20, fields=['embedding'], m=8, name='article_embedding_hnsw')"
    )
    assert lines[5] == "Measured on 400 of 500 rows, asked by 50 others."
    assert lines[6].startswith("The same ef_search finds less in a larger graph: ")
    assert max(map(len, lines[:2])) <= 100


@pytest.mark.pgvector
def test_command_shows_the_precision_of_each_build_where_one_is_declared(many, monkeypatch):
    index = HnswIndex(fields=["embedding"], name="a", precision="binary")
    monkeypatch.setattr(Article._meta, "indexes", [index])
    monkeypatch.setattr("pgembedding_django.maintenance.recall.tuning.FINER", {"binary": (None,)})
    Article.objects.all().delete()
    Article.objects.bulk_load(Article(title="", embedding=[1, 2, i]) for i in range(1000))
    lines = run("tests.Article", "--recall=0.9", "--noinput").splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["precision", "m"], ["binary", "8"], ["full", "8"]]


def test_command_on_all_rows_warns_of_no_larger_graph(many):
    assert run("tests.Article", "--recall=0.9", "--noinput").endswith(
        "Measured on 450 of 500 rows, asked by 50 others.\n"
    )


def test_command_asks_before_it_copies(many, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    assert "HnswIndex(" in run("tests.Article", "--recall=0.9", "--sample-rows=400")
    assert asked[0].startswith("This copies up to 400 rows of tests.Article to a temporary table and builds ")


def test_command_answered_with_no_does_nothing(many, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr("builtins.input", lambda question: "")
    with django_assert_num_queries(0), pytest.raises(CommandError, match=r"^Tuning cancelled\.$"):
        run("tests.Article", "--recall=0.9")


def test_command_refuses_before_it_asks(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    with pytest.raises(CommandError, match=r"^recall must be over 0 and at most 1, got 2\.0\.$"):
        run("tests.Article", "--recall=2")


def test_command_where_no_build_reaches_the_recall_fails(many, monkeypatch):
    monkeypatch.setattr("pgembedding_django.maintenance.recall.tuning.BUILDS", ((2, 4),))
    monkeypatch.setattr("pgembedding_django.maintenance.recall.trials.EF_SEARCH", (1,))
    with pytest.raises(CommandError, match=r"^No build tried reaches a recall of 1 on the sample: the best finds 0\."):
        run("tests.Article", "--recall=1", "--noinput")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["tests.Nothing", "--recall=1"],
            '"tests.Nothing" names no model. Write app.Model or app.Model.field, such as blog.Article.',
        ),
        (["tests.Tag", "--recall=1"], "Tag has no EmbeddingField, so nearest() has nothing to search."),
        (["tests.Pair", "--recall=1"], "Pair has 2 embedding fields (one, two). Name one with field=."),
        (["tests.Article"], "Error: the following arguments are required: --recall"),
    ],
)
def test_command_with_wrong_arguments_is_refused(args, message):
    with pytest.raises(CommandError) as caught:
        run(*args, "--noinput")
    assert str(caught.value) == message
