"""django-unfold: bits and sparse vectors have its text input."""

from __future__ import annotations

from typing import Any

from unfold.overrides import FORMFIELD_OVERRIDES, FORMFIELD_OVERRIDES_INLINE
from unfold.widgets import UnfoldAdminTextInputWidget

from pgembedding_django.fields import BitField, SparseVectorField

__all__ = ["register"]


def register() -> None:
    """Let its ModelAdmin and its inlines style the inputs of these fields as those of any text."""
    overrides: list[dict[Any, Any]] = [FORMFIELD_OVERRIDES, FORMFIELD_OVERRIDES_INLINE]
    for known in overrides:
        for field in (BitField, SparseVectorField):
            known[field] = {"widget": UnfoldAdminTextInputWidget}
