"""What tells that a field is on a model that copies another, such as a history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Field, Model
from django.db.models.signals import class_prepared

__all__ = ["is_copied", "when_prepared"]

#: The attribute by which django-pghistory's event models name the model whose rows they keep.
TRACKED_MODEL = "pgh_tracked_model"


def is_copied(field: Field[Any, Any], model: type[Model]) -> bool:
    """Tell whether a field is being added to a copy of its model, such as a history, and not to an heir of it."""
    owner: type[Model] | None = getattr(field, "model", None)
    is_another_s = owner is not None and owner is not model and not owner._meta.abstract
    return is_another_s or hasattr(model, TRACKED_MODEL)


def when_prepared(model: type[Model], function: Callable[[type[Model]], None]) -> None:
    """Call a function once all fields of a model's class are there."""
    if model._meta.apps.all_models[model._meta.app_label].get(str(model._meta.model_name)) is model:
        function(model)
        return

    def prepared(sender: type[Model], **kwargs: Any) -> None:
        class_prepared.disconnect(prepared, sender)
        function(sender)

    class_prepared.connect(prepared, sender=model, weak=False)
