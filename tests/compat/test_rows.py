"""Canaries of compat.rows: what Django keeps in instances and querysets for itself."""

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import prefetch_related_objects

from pgembedding_django.compat.rows import RESERVED, hint_of, is_fetched, prepare_related
from tests.models import Article, Section

pytestmark = pytest.mark.django_db


def test_reserved_names_are_those_that_django_sets():
    user = User.objects.create(username="a")
    prefetch_related_objects([user], "groups")
    assert [name for name in vars(user) if name.startswith("_") and name not in ("_password",)] == list(RESERVED)


def test_hint_of_related_rows_is_their_instance():
    user = User.objects.create(username="a")
    assert hint_of(user.groups.all()) is user
    assert hint_of(Group.objects.all()) is None


def test_is_fetched_once_the_rows_are_read():
    groups = Group.objects.all()
    assert not is_fetched(groups)
    assert list(groups) == []
    assert is_fetched(groups)


def test_prepared_row_has_the_key_of_what_was_saved_since():
    article = Article(section=Section())
    article.section.save()
    prepare_related(article, "load")
    assert article.section_id == article.section.pk


def test_prepared_row_of_an_unsaved_one_says_who_refuses_it():
    with pytest.raises(ValueError, match=r"load\(\) prohibited"):
        prepare_related(Article(section=Section()), "load")
