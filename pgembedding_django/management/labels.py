"""What commands take as an argument for a model or a field of it."""

from __future__ import annotations

from django.apps import apps
from django.core.management import CommandError
from django.db.models import Model

__all__ = ["get_model"]


def get_model(label: str) -> type[Model]:
    """
    Return the model that a label such as "blog.Article" names.

    Raises CommandError if there is none.
    """
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise CommandError(f'"{label}" names no model. Write app.Model, such as blog.Article. ({error})') from error
