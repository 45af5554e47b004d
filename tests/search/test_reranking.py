"""rerank(): rows in the order of a reranker's scores."""

import pytest
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager, arerank, rerank
from pgembedding_django.rerankers import Reranker

pytestmark = pytest.mark.django_db


class ByLength(Reranker):
    def compute(self, question, texts):
        self.asked = question, list(texts)
        return [len(text) for text in texts]


@pytest.fixture
def rows(isolated):
    class Story(models.Model):
        title = models.CharField(max_length=20)
        body = models.TextField(blank=True)
        embedding = EmbeddingField(dimensions=3, source="body", null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

        def shout(self):
            return self.title.upper() * 2

    with connection.schema_editor() as editor:
        editor.create_model(Story)
    for position, (title, body) in enumerate([("a", "xx"), ("bb", ""), ("c", "xxxx"), ("d", "xx")]):
        Story.objects.create(title=title, body=body, embedding=[position, 0, 0])
    return Story.objects.nearest([0, 0, 0], 4)


def test_rows_come_by_score_and_ties_keep_their_order(rows):
    reranker = ByLength()
    found = rerank(rows, "a question", by=reranker)
    assert [(row.title, row.score) for row in found] == [("c", 4), ("a", 2), ("d", 2), ("bb", None)]
    assert reranker.asked == ("a question", ["xx", "xxxx", "xx"])


def test_k_cuts_the_answer(rows):
    assert [row.title for row in rerank(rows, "q", 1, by=ByLength(), alias="points")] == ["c"]


@pytest.mark.parametrize(("of", "best"), [("title", "bb"), ("shout", "bb")])
def test_another_text_of_the_rows_is_read(rows, of, best):
    assert rerank(rows, "q", 1, by=ByLength(), of=of)[0].title == best


async def test_rerank_in_async_code():
    assert await arerank([], "q") == []


def test_no_rows_ask_nobody():
    assert rerank([], "q") == []


def test_values_are_refused(rows):
    with pytest.raises(ValueError, match=r"rerank\(\) orders instances of a model, got dict. Leave out values\(\)."):
        rerank(rows.values("title"), "q", by=ByLength())


def test_k_out_of_bounds_is_refused(rows):
    with pytest.raises(ValueError, match="k must be a positive integer, got 0"):
        rerank(rows, "q", 0, by=ByLength())


def test_alias_of_the_setting_is_asked(rows, settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "RERANKERS": {"mine": {"BACKEND": f"{__name__}.ByLength"}}}
    assert rerank(rows, "q", 1, by="mine")[0].title == "c"
