import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django import background


def double(number):
    return 2 * number


@pytest.fixture
def no_framework(monkeypatch):
    # None in sys.modules is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "django.tasks", None)
    monkeypatch.setitem(sys.modules, "django_tasks", None)


def test_task_with_framework_can_be_enqueued():
    background.enqueue(background.task(double), 2)


def test_task_without_framework_is_the_function(no_framework):
    assert background.task(double) is double


def test_enqueue_without_framework_says_what_to_install(no_framework):
    with pytest.raises(ImproperlyConfigured, match=r'pip install "pgembedding-django\[tasks\]"'):
        background.enqueue(double, 2)


def test_has_workers_without_framework_is_false(no_framework):
    assert not background.has_workers()


def test_has_workers_by_default_is_false():
    assert not background.has_workers()
