"""SearchView: what it answers, whom, and what it refuses."""

import json
from types import ModuleType

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django.urls import path

from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.documents.views import SearchView
from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.embedders.dummy import DummyEmbedder

pytestmark = pytest.mark.django_db


class OpenView(SearchView):
    max_k = 3
    max_query_length = 20

    def has_permission(self, request, collection):
        return True


@pytest.fixture(autouse=True)
def urls(settings):
    module = ModuleType("urls")
    module.urlpatterns = [
        path("search/<str:collection>/", SearchView.as_view()),
        path("open/<str:collection>/", OpenView.as_view()),
    ]
    settings.ROOT_URLCONF = module


@pytest.fixture
def fruit():
    collection = Collection.objects.create(name="fruit")
    texts = ["red apple", "yellow banana", "red cherry", "green kiwi"]
    collection.add_texts(texts, [{"red": "red" in text} for text in texts], keys=["a", "b", "c", "k"])
    return collection


@pytest.fixture
def client_of():
    """Make a client of a user with some permissions."""

    def make(*permissions, **attributes):
        client = Client()
        user = User.objects.create_user("user", password="user", **attributes)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return make


def get(client, url="/open/fruit/", **query):
    response = client.get(url, query)
    assert response["content-type"] == "application/json"
    return response.status_code, response.json()


def test_search_answers_the_nearest(fruit, client):
    status, answer = get(client, q="red apple", k="2")
    assert (status, answer["collection"], answer["query"]) == (200, "fruit", "red apple")
    first = answer["results"][0]
    assert first == {"key": "a", "content": "red apple", "metadata": {"red": True}, "distance": first["distance"]}
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert len(answer["results"]) == 2


def test_search_without_k_answers_five_or_what_is_allowed(fruit, client):
    assert len(get(client, q="red")[1]["results"]) == 3


def test_search_behind_a_filter_answers_what_passes(fruit, client):
    _, answer = get(client, q="red", k="3", filter=json.dumps({"red": False}))
    assert {result["key"] for result in answer["results"]} == {"b", "k"}


def test_search_in_an_empty_collection_answers_nothing(client):
    Collection.objects.create(name="fruit")
    assert get(client, q="red")[1]["results"] == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({}, "q must be a question, got none."),
        ({"q": " "}, "q must be a question, got none."),
        ({"q": "x" * 21}, "q must have at most 20 characters, got 21."),
        ({"q": "x", "k": "0"}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "k": "4"}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "k": "-1"}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "k": "1.5"}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "k": "٣"}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "k": "9" * 5000}, "k must be a whole number from 1 to 3."),
        ({"q": "x", "filter": "{"}, "filter must be a JSON object."),
        ({"q": "x", "filter": "[" * 1990}, "filter must be a JSON object."),
        ({"q": "x", "filter": " " * 2001}, "filter must have at most 2000 characters, got 2001."),
        ({"q": "x", "filter": "[1]"}, "filter must be a JSON object."),
        ({"q": "x", "filter": '{"$not": [1]}'}, "A filter must map keys to conditions, got 1."),
        ({"q": "x", "filter": '{"a": {"$or": 1}}'}, None),
        ({"q": "x", "filter": '{"a": NaN}'}, None),
        ({"q": "x", "filter": '{"a": "\\ud800"}'}, None),
    ],
)
def test_search_with_bad_input_is_refused(fruit, client, query, error):
    status, answer = get(client, **query)
    assert status == 400
    assert error is None or answer == {"error": error}


@pytest.mark.parametrize(("opened", "closed"), [('{"$not":', "}"), ('{"a":[', "]}"), ('{"$or":[', "]}")])
def test_search_with_a_deep_filter_is_refused(fruit, client, opened, closed):
    deep = opened * 190 + '{"red": true}' + closed * 190
    error = "A filter must have at most 50 dicts and lists within each other."
    assert get(client, q="red", filter=deep) == (400, {"error": error})


@pytest.mark.parametrize("name", ["nuts", "a%00b", "'; DROP TABLE x; --"])
def test_search_in_an_unknown_collection_is_not_found(client, name):
    assert get(client, f"/open/{name}/", q="x") == (404, {"error": "There is no collection of this name."})


def test_search_by_another_method_is_not_allowed(fruit, client):
    answer = client.post("/open/fruit/", {"q": "x"})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.json() == {"error": "A search is a GET request."}


def test_search_asks_for_permission_first(fruit, client):
    expected = (403, {"error": "You may not search this collection."})
    assert get(client, "/search/fruit/", q="x") == expected
    assert get(client, "/search/nuts/", q="x") == expected
    assert get(client, "/search/fruit/") == expected


def test_search_is_refused_to_users_without_permission(fruit, client_of):
    assert get(client_of(is_staff=True), "/search/fruit/", q="x")[0] == 403


def test_search_is_answered_to_users_who_may_view_documents(fruit, client_of):
    assert get(client_of("view_document"), "/search/fruit/", q="x")[0] == 200


def test_search_without_users_is_refused(fruit):
    request = RequestFactory().get("/", {"q": "x"})
    assert SearchView.as_view()(request, collection="fruit").status_code == 403


def test_search_pays_for_nothing_that_it_refuses(fruit, client, monkeypatch):
    monkeypatch.setattr(DummyEmbedder, "compute", None)
    assert get(client, "/search/fruit/", q="x")[0] == 403
    assert get(client, q="x", k="0")[0] == 400


@pytest.fixture
def failing(monkeypatch):
    def fail(self, texts):
        raise EmbeddingError("https://secret.example refused the key sk-secret")

    monkeypatch.setattr(DummyEmbedder, "compute", fail)


def test_search_with_a_failing_embedder_is_unavailable(fruit, client, failing, caplog):
    status, answer = get(client, q="red")
    assert (status, answer["error"]) == (503, "The embedder of this collection does not answer. Try again later.")
    assert 'The embedder of collection "fruit" failed.' in caplog.text


def test_search_with_an_unknown_embedder_is_unavailable(fruit, client):
    Collection.objects.update(embedder="gone")
    expected = (503, {"error": "The embedder of this collection is not configured."})
    assert get(client, q="red") == expected


def test_search_with_an_embedder_of_other_dimensions_is_unavailable(client):
    Collection.objects.create(name="fruit").add([Document(embedding=[1, 2])])
    assert get(client, q="red")[0] == 503
