"""The page of the documentation about passages, as it is written."""

import re
from pathlib import Path

import pytest
from django.db import connection

PAGE = Path(__file__).parents[2] / "docs" / "passages.md"
MODELS, USE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[:2]


@pytest.mark.django_db
def test_the_example_runs(isolated, settings, capsys):
    dummy = "pgembedding_django.embedders.dummy.DummyEmbedder"
    embedders = {"default": {"BACKEND": dummy, "OPTIONS": {"dimensions": 256}}}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}
    names = {"__name__": "tests.models"}
    exec(MODELS.replace("class Article(", "class Story(").replace("Article,", "Story,"), names)
    Article, ArticlePassage = names["Story"], names["ArticlePassage"]
    with connection.schema_editor() as editor:
        editor.create_model(Article)
        editor.create_model(ArticlePassage)
    body = "\n\n".join(f"Paragraph {i} of many words. " * 20 for i in range(9))
    Article.objects.create(title="Errors and exceptions", body=body)
    exec(USE, {**names, "Article": Article})
    assert ArticlePassage.objects.count() > 4
    distance, printed = capsys.readouterr().out.split(" ", 1)
    assert float(distance) > 0
    assert printed.startswith("Errors and exceptions Paragraph")
