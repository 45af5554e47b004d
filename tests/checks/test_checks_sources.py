import pytest
from django.db import models

from pgembedding_django import EmbeddingField
from pgembedding_django.checks import check_sources

HINT = "Name one or several CharFields or TextFields of the model, or one method that returns text."


class Upper(models.CharField):
    """Text that is not in the table what it is in Python."""

    def from_db_value(self, value, expression, connection):
        return value.upper()


class Lower(models.CharField):
    def to_python(self, value):
        return value.lower()


def make_item(**options):
    class Item(models.Model):
        title = models.CharField(max_length=200)
        slug = models.SlugField()
        number = models.IntegerField()
        upper = Upper(max_length=20)
        lower = Lower(max_length=20)
        section = models.ForeignKey("tests.Section", models.CASCADE)
        embedding = EmbeddingField(dimensions=3, null=True, **options)

        class Meta:
            app_label = "tests"

        def passage(self):
            return self.title

    return Item


def found(registry):
    return [(error.id, error.msg, error.hint) for error in check_sources([registry.get_app_config("tests")])]


@pytest.mark.parametrize("source", ["title", "slug", ["title", "slug"], ("title",), "passage", "__str__", None])
def test_source_of_text_gives_no_message(isolated, source):
    make_item(source=source)
    assert found(isolated) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("bdy", 'names "bdy", which Item has neither as a field nor as a method'),
        (["title", "bdy"], 'names "bdy", which Item has neither as a field nor as a method'),
        (["title", "passage"], 'names "passage", a method, beside others'),
        ("number", 'names "number", which is no plain column of text but a IntegerField'),
        ("section", 'names "section", which is no plain column of text but a ForeignKey'),
        ("embedding", 'names "embedding", which is no plain column of text but a EmbeddingField'),
        ("upper", 'names "upper", which is no plain column of text but a Upper'),
        ("lower", 'names "lower", which is no plain column of text but a Lower'),
        ([], "names nothing"),
    ],
)
def test_source_that_gives_no_text_is_an_error(isolated, source, problem):
    make_item(source=source)
    assert found(isolated) == [("pgembedding.E040", f"Item.embedding's source {problem}.", HINT)]


@pytest.mark.parametrize("before", [True, False])
def test_digest_of_the_user_s_own_is_an_error(isolated, before):
    own, vector = models.TextField(), EmbeddingField(source="title")
    fields = (
        {"embedding_digest": own, "embedding": vector} if before else {"embedding": vector, "embedding_digest": own}
    )
    title = models.CharField(max_length=20)
    type("Item", (models.Model,), {"__module__": "tests.models", "title": title, **fields})
    assert found(isolated) == [
        (
            "pgembedding.E041",
            "Item.embedding keeps a digest in embedding_digest, a name that Item gives another field.",
            "Give embedding_digest another name.",
        )
    ]


@pytest.mark.parametrize("sync", ["save", "task"])
def test_sync_without_source_is_an_error(isolated, sync):
    make_item(sync=sync)
    assert found(isolated) == [
        (
            "pgembedding.E042",
            f'Item.embedding has sync="{sync}", but no source to embed.',
            "Name the text in source=, or leave sync out.",
        )
    ]


def test_sync_by_tasks_without_a_framework_is_an_error(isolated, no_framework):
    make_item(source="title", sync="task")
    assert found(isolated) == [
        (
            "pgembedding.E043",
            'Item.embedding has sync="task", but there is no tasks framework.',
            'Use Django 6.0, or run: pip install "pgembedding-django[tasks]"',
        )
    ]


def test_sync_by_tasks_with_a_framework_gives_no_message(isolated):
    make_item(source="title", sync="task")
    assert found(isolated) == []


def test_sync_that_is_none_of_the_three_is_refused():
    with pytest.raises(ValueError) as error:
        EmbeddingField(source="title", sync="later")
    assert str(error.value) == 'EmbeddingField.sync must be "manual", "task" or "save", got \'later\'.'


def test_sync_is_deconstructed():
    assert EmbeddingField(source="title", sync="task").deconstruct()[3] == {"source": "title", "sync": "task"}
