"""PGEMBEDDING is read at call time, and a wrong type is named."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django import conf
from pgembedding_django.engines import get_engine_for


@pytest.mark.parametrize(
    ("setting", "engine"),
    [
        ({}, "pgvector"),
        ({"ENGINE": "pg_embedding"}, "pg_embedding"),
        ({"ENGINE": {"default": "pg_embedding"}}, "pg_embedding"),
        ({"ENGINE": {"other": "pg_embedding"}}, "pgvector"),
        ({"ENGINE": {}}, "pgvector"),
    ],
)
def test_engine_name_setting_gives_the_engine_of_the_alias(settings, setting, engine):
    settings.PGEMBEDDING = setting
    assert conf.engine_name("default") == engine


def test_engine_name_without_setting_is_pgvector(settings):
    del settings.PGEMBEDDING
    assert conf.engine_name("default") == "pgvector"
    assert conf.embedders() == {}


def test_engine_name_changed_setting_is_seen_at_once(settings):
    settings.PGEMBEDDING = {"ENGINE": "pgvector"}
    assert conf.engine_name("default") == "pgvector"
    settings.PGEMBEDDING["ENGINE"] = "pg_embedding"
    assert conf.engine_name("default") == "pg_embedding"


def test_embedders_setting_is_given_as_it_is(settings):
    configured = {"default": {"BACKEND": "some.Embedder"}}
    settings.PGEMBEDDING = {"EMBEDDERS": configured}
    assert conf.embedders() is configured


@pytest.mark.parametrize("read", [conf.embedders, lambda: conf.engine_name("default")])
@pytest.mark.parametrize(("setting", "kind"), [(None, "NoneType"), ("pgvector", "str"), ([], "list")])
def test_setting_of_another_type_is_refused(settings, read, setting, kind):
    settings.PGEMBEDDING = setting
    with pytest.raises(ImproperlyConfigured) as caught:
        read()
    assert str(caught.value) == f"PGEMBEDDING must be a dict, got {kind}."


@pytest.mark.parametrize(("engine", "kind"), [(None, "NoneType"), (3, "int"), ({"default": None}, "NoneType")])
def test_engine_of_another_type_is_refused(settings, engine, kind):
    settings.PGEMBEDDING = {"ENGINE": engine}
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.engine_name("default")
    assert str(caught.value) == (
        f'PGEMBEDDING["ENGINE"] must be an engine\'s name or a dict of alias to name, got {kind}.'
    )


@pytest.mark.parametrize(("embedders", "kind"), [(None, "NoneType"), ("openai", "str"), ([{}], "list")])
def test_embedders_of_another_type_are_refused(settings, embedders, kind):
    settings.PGEMBEDDING = {"EMBEDDERS": embedders}
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.embedders()
    assert str(caught.value) == f'PGEMBEDDING["EMBEDDERS"] must be a dict, got {kind}.'


def test_engine_that_is_none_of_ours_names_the_choices(settings):
    settings.PGEMBEDDING = {"ENGINE": "faiss"}
    with pytest.raises(ImproperlyConfigured) as caught:
        get_engine_for("default")
    assert str(caught.value) == 'PGEMBEDDING["ENGINE"] must be "pgvector" or "pg_embedding", got "faiss".'
