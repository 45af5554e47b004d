from datetime import date

import pytest
from django.db import connection

from pgembedding_django.documents.filters import parse_filter
from pgembedding_django.documents.models import Collection, Document

pytestmark = pytest.mark.django_db

ROWS = {
    "adam": {"name": "adam", "age": 1, "height": 10.5, "active": True, "tags": ["a", "b"], "born": "2021-01-01"},
    "bob": {"name": "bob", "age": 2, "height": 5, "active": False, "tags": ["b", "c"], "born": "2021-02-02"},
    "jane": {"name": "Jane", "age": "2", "height": None, "active": "true", "born": "2021-03-03", "place": {"x": 1}},
}
HOSTILE = ["it's", '"', "%", "_", "a%s", "\\", "a__contains", "a.b", "0", "-1", "a.$b ? (1 == 1)", "'; DROP TABLE x --"]


@pytest.fixture
def collection():
    made = Collection.objects.create(name="people")
    made.add(Document(key=key, content=key, metadata=metadata, embedding=[1, 2]) for key, metadata in ROWS.items())
    return made


def found(conditions):
    return set(Document.objects.filter(parse_filter(conditions)).values_list("key", flat=True))


@pytest.mark.parametrize(
    ("conditions", "keys"),
    [
        ({}, "adam bob jane"),
        ({"name": "adam"}, "adam"),
        ({"name": "jane"}, ""),
        ({"age": 2}, "bob"),
        ({"age": 2.0}, "bob"),
        ({"age": "2"}, "jane"),
        ({"active": True}, "adam"),
        ({"active": "true"}, "jane"),
        ({"age": True}, ""),
        ({"height": None}, "jane"),
        ({"age": 2, "active": False}, "bob"),
        ({"tags": "b"}, "adam bob"),
        ({"tags": ["a", "b"]}, "adam"),
        ({"tags": ["b", "a"]}, ""),
        ({"tags": ["a"]}, ""),
        ({"place": {"$eq": {"x": 1}}}, "jane"),
        ({"place": {"$eq": {}}}, ""),
        ({"age": {"$ne": 2}}, "adam jane"),
        ({"height": {"$ne": 5}}, "adam jane"),
        ({"place": {"$ne": 5}}, "jane"),
        ({"age": {"$lt": 2}}, "adam"),
        ({"age": {"$lte": 2}}, "adam bob"),
        ({"age": {"$gt": 1}}, "bob"),
        ({"age": {"$gte": 1}}, "adam bob"),
        ({"age": {"$gt": "1"}}, "jane"),
        ({"age": {"$gt": 0, "$lt": 2}}, "adam"),
        ({"height": {"$gt": 5}}, "adam"),
        ({"active": {"$gte": False}}, "adam bob"),
        ({"tags": {"$gt": "b"}}, "bob"),
        ({"born": {"$gte": "2021-02-01"}}, "bob jane"),
        ({"born": {"$between": ["2021-01-15", "2021-02-15"]}}, "bob"),
        ({"age": {"$between": (1, 2)}}, "adam bob"),
        ({"age": {"$between": [2, 1]}}, ""),
        ({"age": {"$in": [1, "2"]}}, "adam jane"),
        ({"active": {"$in": [True]}}, "adam"),
        ({"tags": {"$in": ["a", "x"]}}, "adam"),
        ({"age": {"$in": []}}, ""),
        ({"place": {"$in": [{"x": 1}, 5]}}, "jane"),
        ({"height": {"$in": [None, -1]}}, "jane"),
        ({"age": {"$in": [2, "x", *range(200, 400)]}}, "bob"),
        ({"active": {"$in": [1, True, *range(200, 400)]}}, "adam"),
        ({"height": {"$in": [None, *range(200, 400)]}}, "jane"),
        ({"tags": {"$in": ["a", *range(200, 400)]}}, "adam"),
        ({"tags": {"$nin": ["a", *range(200, 400)]}}, "bob"),
        ({"age": {"$nin": [1, 5]}}, "bob jane"),
        ({"tags": {"$nin": ["a"]}}, "bob"),
        ({"age": {"$nin": []}}, "adam bob jane"),
        ({"name": {"$like": "%a%"}}, "adam jane"),
        ({"name": {"$like": "j%"}}, ""),
        ({"name": {"$ilike": "J_NE"}}, "jane"),
        ({"age": {"$like": "2"}}, "bob jane"),
        ({"name": {"$like": r"\%"}}, ""),
        ({"height": {"$exists": True}}, "adam bob jane"),
        ({"tags": {"$exists": False}}, "jane"),
        ({"age": {"in": ["1", "2"]}}, "adam bob jane"),
        ({"age": {"IN": [1]}}, "adam"),
        ({"active": {"in": ["x", True]}}, "adam"),
        ({"name": {"substring": "AN"}}, "jane"),
        ({"name": {"SUBSTRING": "%"}}, ""),
        ({"$and": [{"age": {"$gt": 0}}, {"active": True}]}, "adam"),
        ({"$or": [{"age": 1}, {"name": "bob"}]}, "adam bob"),
        ({"$OR": [{"age": 1}]}, "adam"),
        ({"$or": [{"age": 1, "active": False}, {"age": 2}]}, "bob"),
        ({"$not": {"age": {"$gt": 1}}}, "adam jane"),
        ({"$not": {"place": {"$like": "%"}}}, "adam bob"),
        ({"$not": {"tags": {"substring": "c"}}}, "adam jane"),
        ({"$not": {"place": {"in": ["x"]}}}, "adam bob jane"),
        ({"$not": {"place": {"$eq": {"x": 1}}}}, "adam bob"),
        ({"$not": [{"age": 1}, {"name": "bob"}]}, "jane"),
        ({"$not": {"$or": [{"age": 1}, {"name": "bob"}]}}, "jane"),
        ({"name": "bob", "$or": [{"age": 1}, {"age": 2}]}, "bob"),
        ({"name__startswith": "a"}, ""),
        ({"place__x": 1}, ""),
        ({"place.x": 1}, ""),
    ],
)
def test_filter_keeps_rows(collection, conditions, keys):
    assert found(conditions) == set(keys.split())


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "condition",
    [
        lambda text: {text: 1},
        lambda text: {text: {"$in": [1]}},
        lambda text: {text: {"$gt": 0}},
        lambda text: {text: {"$exists": True}},
        lambda text: {text: {"$like": "1"}},
        lambda text: {"value": text},
        lambda text: {"value": {"$between": [text, text]}},
        lambda text: {"value": {"in": [text]}},
        lambda text: {"value": {"substring": text}},
        lambda text: {"$not": {"value": {"$ne": text}}},
    ],
)
def test_filter_takes_hostile_texts_as_data(text, condition):
    collection = Collection.objects.create(name="hostile")
    hostile = Document(key="hostile", content="", metadata={text: 1, "value": text}, embedding=[1, 2])
    plain = Document(key="plain", content="", metadata={"value": "plain", "a": {"b": 1}}, embedding=[1, 2])
    collection.add([hostile, plain])
    assert found(condition(text)) == {"hostile"}


def test_filter_of_as_many_levels_as_it_may_have_works(collection):
    conditions = {"name": "adam"}
    for _ in range(24):
        conditions = {"$not": [conditions]}
    found = collection.documents.filter(parse_filter(conditions))
    assert set(found) == set(collection.documents.filter(parse_filter({"name": "adam"})))
    with pytest.raises(ValueError, match="A filter must have at most 50 dicts and lists within each other"):
        parse_filter({"$not": [conditions]})


def test_filter_goes_before_nearest(collection):
    rows = collection.documents.filter(parse_filter({"age": {"$gte": 1}})).nearest([1, 2], 5)
    assert {row.key for row in rows} == {"adam", "bob"}


@pytest.mark.parametrize("conditions", [{"name": "adam"}, {"tags": {"$in": ["a", "b"]}}, {"place": {"$eq": {"x": 1}}}])
def test_equality_uses_the_index(collection, conditions):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    rows = Document.objects.filter(parse_filter(conditions))
    assert "Bitmap Index Scan on pgembedding_documents_metadata" in rows.explain()


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (["name"], "A filter must map keys to conditions, got ['name']."),
        ({1: 2}, "A filter must map keys to conditions, got {1: 2}."),
        ({"$xor": []}, "A filter must have keys, $and, $or or $not, got '$xor'."),
        ({"$or": []}, "$or must be a list of filters with a condition each, got []."),
        ({"$and": {"a": 1}}, "$and must be a list of filters with a condition each, got {'a': 1}."),
        ({"$or": [{}]}, "$or must be a list of filters with a condition each, got [{}]."),
        ({"$not": 1}, "$not must be a list of filters with a condition each, got 1."),
        ({"a": {}}, "A filter must have a value or an operator for 'a', got an empty dict."),
        (
            {"a": {"$regex": "b"}},
            "A filter's operator must be one of $eq, $ne, $lt, $lte, $gt, $gte, $in, $nin, "
            "$between, $like, $ilike, $exists, in, substring, got '$regex'.",
        ),
        (
            {"a": {1: "b"}},
            "A filter's operator must be one of $eq, $ne, $lt, $lte, $gt, $gte, $in, $nin, "
            "$between, $like, $ilike, $exists, in, substring, got 1.",
        ),
        ({"a": {"$in": "b"}}, "$in must be a list of values, got 'b'."),
        ({"a": {"$in": 1}}, "$in must be a list of values, got 1."),
        ({"a": {"$between": [1]}}, "$between must have a lowest and a highest value, got 1 values."),
        ({"a": {"$gt": [1]}}, "$gt must be a number, a text or a boolean, got [1]."),
        ({"a": {"$like": 1}}, "$like must be a text, got 1."),
        ({"a": {"$like": "b\\"}}, "$like must not end with a single backslash. Write two for the character."),
        ({"a": {"$exists": 1}}, "$exists must be True or False, got 1."),
        (
            {"a": date(2021, 1, 1)},
            "$eq must be a value of JSON, got datetime.date(2021, 1, 1). Write dates as the metadata has them.",
        ),
        ({"a": float("nan")}, "$eq must be a value of JSON, got nan. Write dates as the metadata has them."),
        ({"a": "b\0"}, "$eq must be a text that Postgres can hold, without NUL or a lone surrogate."),
        (
            {"a": {"$eq": {"b": ["\ud800"]}}},
            "$eq must be a text that Postgres can hold, without NUL or a lone surrogate.",
        ),
        ({"a\0": 1}, "A key must be a text that Postgres can hold, without NUL or a lone surrogate."),
        ({"a": {"in": ["\0"]}}, "in must be a text that Postgres can hold, without NUL or a lone surrogate."),
        ({"a": {"$in": b"x" * 100}}, "$in must be a list of values, got bytes."),
        ({"a": 10**5000}, "$eq must be a value of JSON, got int. Write dates as the metadata has them."),
    ],
)
def test_wrong_filter_says_what_is_wrong(conditions, message):
    with pytest.raises(ValueError) as caught:
        parse_filter(conditions)
    assert str(caught.value) == message
