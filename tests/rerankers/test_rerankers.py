"""Which reranker an alias names, and what any reranker's scores must be."""

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.rerankers import HttpReranker, Reranker, RerankingError, get_reranker


def by_length(question, texts):
    return [len(text) for text in texts]


class Fixed(Reranker):
    def __init__(self, scores):
        self.scores = scores

    def compute(self, question, texts):
        return self.scores


@pytest.fixture
def rerankers(settings):
    def configure(**entries):
        settings.PGEMBEDDING = {**settings.PGEMBEDDING, "RERANKERS": entries}

    return configure


def test_function_of_the_project_scores(rerankers):
    rerankers(default={"BACKEND": f"{__name__}.by_length"})
    assert get_reranker().score("q", ["a", "bbb"]).tolist() == [1, 3]


def test_class_gets_its_options(rerankers):
    rerankers(far={"BACKEND": "pgembedding_django.rerankers.HttpReranker", "OPTIONS": {"base_url": "http://x/v1/"}})
    reranker = get_reranker("far")
    assert (type(reranker), reranker.url) == (HttpReranker, "http://x/v1/rerank")


SETTING = 'PGEMBEDDING["RERANKERS"]["default"]'
MISSING = f'{SETTING} must be a dict with the dotted path of a Reranker as its "BACKEND".'


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, MISSING),
        ({"default": {}}, MISSING),
        ({"default": 5}, MISSING),
        ({"default": {"BACKEND": "no.such"}}, f"{SETTING}[\"BACKEND\"] cannot be imported: No module named 'no'"),
        (
            {"default": {"BACKEND": "builtins.int"}},
            f"{SETTING}[\"BACKEND\"] must be a Reranker or a function, got <class 'int'>.",
        ),
    ],
)
def test_wrong_setting_is_told(rerankers, entries, message):
    rerankers(**entries)
    with pytest.raises(ImproperlyConfigured) as caught:
        get_reranker()
    assert str(caught.value) == message


def test_wrong_options_are_told(rerankers):
    rerankers(default={"BACKEND": "pgembedding_django.rerankers.HttpReranker", "OPTIONS": {"nosuch": 1}})
    with pytest.raises(ImproperlyConfigured, match=r"\[\"OPTIONS\"\] do not suit pgembedding_django.rerankers"):
        get_reranker()


def test_rerankers_that_are_no_dict_are_told(settings):
    settings.PGEMBEDDING = {"RERANKERS": []}
    with pytest.raises(ImproperlyConfigured, match=r'PGEMBEDDING\["RERANKERS"\] must be a dict, got list'):
        get_reranker()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1], "Fixed must answer one score for each of 2 texts, got shape (1,)."),
        ([[1, 2]], "Fixed must answer one score for each of 2 texts, got shape (1, 2)."),
        ([1, float("inf")], "Fixed answered inf for the text 1."),
    ],
)
def test_scores_that_cannot_be_used_are_told(scores, message):
    with pytest.raises(RerankingError) as caught:
        Fixed(scores).score("q", ["a", "b"])
    assert str(caught.value) == message


async def test_scores_in_async_code():
    assert (await Fixed([2, 1]).ascore("q", ["a", "b"])).tolist() == [2, 1]


def test_base_class_has_no_scores():
    with pytest.raises(NotImplementedError):
        Reranker().score("q", ["a"])


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        HttpReranker("http://x").score("q", ["a"])
    assert str(caught.value) == "HttpReranker needs httpx: pip install httpx"
