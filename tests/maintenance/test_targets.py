"""What a person types for a model, its field and a filter of its rows."""

import pytest
from django.contrib.auth.models import Permission

from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.maintenance.rebuilding.targets import parse_filters, parse_target
from tests.models import Article


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("tests.Article", (Article, None)),
        ("tests.article", (Article, None)),
        ("tests.Article.embedding", (Article, "embedding")),
    ],
)
def test_target_names_a_model_and_perhaps_a_field(label, expected):
    assert parse_target(label) == expected


@pytest.mark.parametrize("label", ["", "tests", "tests.Nothing", "nowhere.Article", "."])
def test_target_that_names_no_model_is_refused(label):
    with pytest.raises(ValueError) as caught:
        parse_target(label)
    assert str(caught.value) == f'"{label}" names no model. Write app.Model or app.Model.field, such as blog.Article.'


def test_filters_hold_values_of_their_fields():
    texts = ["published=true", "section=3", "title=a=b"]
    assert parse_filters(Article, texts) == {"published": True, "section": 3, "title": "a=b"}


@pytest.mark.parametrize(
    "text",
    [
        "nothing=1",
        "section__name=x",
        "title__most=1",
        "title__=1",
        "nothing__gt=1",
        "title",
        "=1",
        "'; DROP TABLE tests_article=1",
    ],
)
def test_filter_that_names_no_field_is_refused(text):
    with pytest.raises(ValueError) as caught:
        parse_filters(Article, [text])
    assert str(caught.value) == (
        "A filter must be name=value or name__lookup=value with a field of Article (id, title, published, section, "
        f'embedding, embedding_digest) and a lookup of it such as gt, got "{text}".'
    )


def test_filters_take_lookups_with_values_of_their_fields():
    texts = ["id__gt=100", "section__isnull=false", "id__in=1,2", "id__range=3,4", "title__startswith=a__b"]
    expected = {
        "id__gt": 100,
        "section__isnull": False,
        "id__in": [1, 2],
        "id__range": [3, 4],
        "title__startswith": "a__b",
    }
    assert parse_filters(Article, texts) == expected
    assert str(Article.objects.filter(**expected).query)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "published=perhaps",
            'Article.published cannot be filtered by "perhaps": “Perhaps” value must be either True or False.',
        ),
        ("id__gt=many", 'Article.id__gt cannot be filtered by "many": “many” value must be an integer.'),
        ("id__in=1,x", 'Article.id__in cannot be filtered by "1,x": “x” value must be an integer.'),
        ("id__range=1", 'Article.id__range cannot be filtered by "1": A range has two values.'),
        (
            "section__isnull=so",
            'Article.section__isnull cannot be filtered by "so": “So” value must be either True or False.',
        ),
    ],
)
def test_filter_with_a_value_that_is_none_of_the_field_is_refused(text, sentence):
    with pytest.raises(ValueError) as caught:
        parse_filters(Article, [text])
    assert str(caught.value) == sentence


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["handbook", "2024"])
def test_filter_names_a_related_row_by_its_natural_key(name):
    collection = Collection.objects.create(name=name)
    assert parse_filters(Document, [f"collection={name}"]) == {"collection": collection}
    assert parse_filters(Document, [f"collection={collection.pk}"]) == {"collection": collection.pk}


@pytest.mark.django_db
def test_filter_by_a_natural_key_of_several_parts_takes_the_primary_key():
    assert parse_filters(Permission, ["content_type=3"]) == {"content_type": 3}
