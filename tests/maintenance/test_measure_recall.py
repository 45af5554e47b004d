"""manage.py measure_recall."""

import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from pgembedding_django import HnswIndex
from pgembedding_django.models import RecallMeasurement
from tests.models import Article
from tests.support.tables import load_articles

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "article_embedding_hnsw"


@pytest.fixture
def many():
    load_articles(np.random.default_rng(5).standard_normal((1000, 3)).astype(np.float32))


@pytest.fixture
def thin(many, monkeypatch):
    """The rows of `many` in a graph of too few links, searched with too few candidates."""
    (declared,) = Article._meta.indexes
    index = HnswIndex(fields=["embedding"], name=NAME, m=2, ef_construction=4, ef_search=5)
    monkeypatch.setattr(Article._meta, "indexes", [index])
    with connection.schema_editor() as editor:
        editor.execute(f"DROP INDEX {NAME}")
        editor.add_index(Article, index)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_sort = off")  # so few rows are rather sorted
        yield
        cursor.execute("RESET enable_sort")
    with connection.schema_editor() as editor:
        editor.execute(f"DROP INDEX {NAME}")
        editor.add_index(Article, declared)


def run(*args):
    out, err = io.StringIO(), io.StringIO()
    call_command("measure_recall", *args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_command_prints_a_table_and_what_to_do(many):
    out, err = run("tests.Article", "--sample=10", "--k=5")
    lines = out.splitlines()
    assert lines[:3] == [
        f"tests.Article.embedding, index public.{NAME} (m=16, ef_construction=64)",
        "10 of 1,000 rows asked for the 5 nearest others. New queries find less at a small ef_search.",
        "",
    ]
    assert lines[3].split() == ["ef_search", "recall@5", "95%", "interval", "p50", "p95"]
    table = lines[4 : lines.index("", 4)]
    assert [line.split()[0] for line in table] == [*(line.split()[0] for line in table[:-1]), "nearest()"]
    assert table[-1].split()[1:5] == ["1.000", "0.929", "to", "1.000"]
    assert "is the smallest measured that reaches a recall of 0.95." in out
    assert max(map(len, [*table, *lines[:4]])) <= 100
    assert err == ""


def test_command_that_asks_for_one_row_says_so(many):
    out, _ = run("tests.Article", "--sample=5", "--k=1")
    assert "5 of 1,000 rows asked for the 1 nearest other. New" in out


def test_command_measures_behind_a_filter(many):
    out, _ = run("tests.Article.embedding", "--sample=5", "--filter", "published=true")
    assert "5 of 500 rows where published=True asked" in out


def test_command_asks_the_questions_of_a_file(many, tmp_path):
    (tmp_path / "questions.txt").write_text("one\n\n  zwölf \n", encoding="utf-8")
    out, _ = run("tests.Article", "--queries", str(tmp_path / "questions.txt"))
    assert out.splitlines()[1] == "2 queries asked 1,000 rows for the 10 nearest."


def test_command_asks_the_vectors_of_a_file(many, tmp_path):
    np.save(tmp_path / "vectors.npy", np.eye(3))
    out, _ = run("tests.Article", "--queries", str(tmp_path / "vectors.npy"), "--filter", "published=true")
    assert out.splitlines()[1] == "3 queries asked 500 rows where published=True for the 10 nearest."


def test_command_keeps_the_history(many):
    run("tests.Article", "--sample=5")
    assert set(RecallMeasurement.objects.values_list("index", "sample")) == {(NAME, 5)}


def test_command_on_a_read_only_connection_says_that_nothing_is_stored(many):
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        _, err = run("tests.Article", "--sample=5")
        cursor.execute("SET default_transaction_read_only = off")
    assert err == "Not stored: this connection may not write the history.\n"


@pytest.mark.pgvector
def test_command_tries_the_ef_search_given(many):
    out, _ = run("tests.Article", "--sample=5", "--ef-search=30,10", "--json")
    assert [row["ef_search"] for row in json.loads(out)["measured"]] == [10, 30, None]


def test_command_prints_json(many):
    found = json.loads(run("tests.Article", "--sample=5", "--json", "--min=0.5")[0])
    assert (found["model"], found["rows"], found["target"], found["sample"]) == ("tests.Article", 1000, 0.5, 5)
    assert found["index"]["name"] == NAME
    assert found["smallest_ef_search"] == found["measured"][0]["ef_search"]
    assert found["advice"][0].endswith("that reaches a recall of 0.5.")


def test_command_draws_a_file(many, tmp_path):
    run("tests.Article", "--sample=5", "--plot", str(tmp_path / "recall.svg"))
    drawing = ElementTree.parse(tmp_path / "recall.svg").getroot()
    assert drawing.findtext("{http://www.w3.org/2000/svg}title") == "tests.Article.embedding, recall@10"


def test_command_that_could_not_draw_is_refused_before_it_measures(tmp_path):
    with pytest.raises(CommandError) as caught:
        run("tests.Article", "--plot", str(tmp_path / "nope" / "recall.svg"))
    assert str(caught.value) == f"--plot needs a folder that is there, got {tmp_path / 'nope'}."


def test_command_that_cannot_draw_prints_first(many, tmp_path, capsys):
    with pytest.raises(CommandError) as caught:
        call_command("measure_recall", "tests.Article", "--sample=5", "--plot", str(tmp_path))
    assert str(caught.value) == f"--plot cannot write {tmp_path}: Is a directory."
    assert "ef_search" in capsys.readouterr().out


def test_command_with_a_minimum_that_is_reached_succeeds(many):
    out, _ = run("tests.Article", "--sample=5", "--min=0.95")
    assert "reaches a recall of 0.95" in out


def test_command_with_a_minimum_fails_for_a_bad_index_and_says_why(thin, capsys):
    with pytest.raises(CommandError) as caught:
        call_command("measure_recall", "tests.Article", "--sample=40", "--min=0.95")
    assert str(caught.value).startswith("nearest() finds 0.")
    assert str(caught.value).endswith(" of the exact answers, less than 0.95.")
    assert caught.value.returncode == 1
    assert f"The graph is thin: {NAME} was built with m=2 and ef_construction=4." in capsys.readouterr().out
    assert RecallMeasurement.objects.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["tests.Nothing"],
            '"tests.Nothing" names no model. Write app.Model or app.Model.field, such as blog.Article.',
        ),
        (["tests.Tag"], "Tag has no EmbeddingField, so nearest() has nothing to search."),
        (["tests.Article.title"], "field must name an EmbeddingField of Article (embedding), got 'title'."),
        (["tests.Article", "--k=0"], "k must be an integer from 1 to 100,000, got 0."),
        (["tests.Article", "--min=2"], 'argument --min: must be a number from 0 to 1, got "2"'),
        (
            ["tests.Article", "--ef-search=40,a"],
            'argument --ef-search: must be integers with commas between, got "40,a"',
        ),
        (["tests.Article", "--queries=/nowhere"], "--queries cannot read /nowhere: No such file or directory."),
        (
            ["tests.Article", "--filter=title__regex=("],
            "invalid regular expression: parentheses () not balanced",
        ),
        (
            ["tests.Required"],
            "Required.embedding has no HnswIndex or IvfflatIndex in Meta.indexes, so there is nothing to measure.",
        ),
    ],
)
def test_command_with_wrong_arguments_is_refused(args, message):
    with pytest.raises(CommandError) as caught:
        run(*args)
    assert str(caught.value) in (message, f"Error: {message}")
