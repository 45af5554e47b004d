import sys
from importlib import import_module

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.compat import background
from tests.tasks import DOWN


def double(number):
    return 2 * number


def test_task_with_framework_can_be_enqueued():
    background.enqueue(background.task(double), 2)


def test_task_without_framework_is_the_function(no_framework):
    assert background.task(double) is double


def test_enqueue_without_framework_says_what_to_install(no_framework):
    with pytest.raises(ImproperlyConfigured, match=r'pip install "pgembedding-django\[tasks\]"'):
        background.enqueue(double, 2)


def test_enqueue_where_the_queue_is_down_says_so_without_its_words(settings):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    with pytest.raises(background.NotEnqueued) as caught:
        background.enqueue(background.task(double), 2)
    assert str(caught.value) == DOWN
    assert type(caught.value.__cause__).__name__ == "DownError"


def test_has_workers_without_framework_is_false(no_framework):
    assert not background.has_workers()


def test_has_workers_by_default_is_false():
    assert not background.has_workers()


def test_is_available_without_framework_is_false(no_framework):
    assert not background.is_available()


def test_has_workers_with_a_backend_of_another_kind_is_true(settings):
    settings.TASKS = {"default": {"BACKEND": f"{__name__}.Queue"}}
    assert background.has_workers()


def test_framework_that_lacks_a_module_itself_raises(monkeypatch, tmp_path):
    """Not to be taken for a framework that is not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "django_tasks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "django.tasks", None)
    (tmp_path / "django_tasks.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        background.is_available()


def __getattr__(name):
    """Make the class `Queue` of whichever framework there is, when it is asked for."""
    if name != "Queue":
        raise AttributeError(name)
    immediate = import_module(f"{background._framework().__name__}.backends.immediate").ImmediateBackend
    return type(name, (immediate,), {"__module__": __name__})
