"""Django's tasks framework: Django's own from 6.0 on, the django-tasks package before."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["NotEnqueued", "enqueue", "has_workers", "is_available", "task"]


class NotEnqueued(RuntimeError):
    """The backend of the setting TASKS did not take a task, as when its server is down."""


def task(function: Callable[..., Any]) -> Any:
    """Make a module's function a task of the framework, or leave it as it is where no framework is installed."""
    framework = _framework()
    return framework.task(function) if framework else function


def enqueue(task: Any, *args: Any) -> None:
    """
    Hand a task to the backend of the setting TASKS.

    args: what JSON holds.
    Raises ImproperlyConfigured if no tasks framework is installed, NotEnqueued from whatever else the backend raises.
    """
    if not hasattr(task, "enqueue"):
        raise ImproperlyConfigured(
            'Background work needs Django 6.0, or django-tasks: pip install "pgembedding-django[tasks]"'
        )
    try:
        task.enqueue(*args)
    except Exception as error:
        # Each backend raises what its own queue does, and these share no class. Their words may repeat a password.
        raise NotEnqueued(
            f"The backend of TASKS raised {type(error).__name__} and did not take the work. Start it, then try again."
        ) from error


def is_available() -> bool:
    """Tell whether a tasks framework is installed."""
    return _framework() is not None


def has_workers() -> bool:
    """Tell whether TASKS hands work to other processes, and does not run it at once in the one that asks."""
    framework = _framework()
    if framework is None:
        return False
    backend = type(framework.task_backends["default"])
    return not backend.__module__.endswith((".immediate", ".dummy"))


def _framework() -> ModuleType | None:
    for name in ("django.tasks", "django_tasks"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    return None
