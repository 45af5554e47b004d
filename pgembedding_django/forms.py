"""The form field that reads a JSON list, and the widget that shows a vector in one line."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from pgembedding_django import vectors
from pgembedding_django.vectors import InvalidVector, Vector, wire

__all__ = ["EmbeddingFormField", "EmbeddingWidget", "EmptyValues", "TextFormField", "describe"]

SHOWN_VALUES = 4

#: Characters shown of what is no vector, such as a text that was refused.
SHOWN_CHARACTERS = 80


class EmptyValues(list[Any]):
    """Django's empty values, for fields whose values are arrays: `array in [None, ""]` has no truth value."""

    def __contains__(self, value: object) -> bool:
        return value is None or (isinstance(value, str | list | tuple | dict) and super().__contains__(value))


EMPTY_VALUES = EmptyValues((None, "", [], (), {}))


def describe(vector: Vector) -> str:
    """Return one line for people: dimensions, norm and the first values."""
    shown = ", ".join(map(_rounded, vector[:SHOWN_VALUES].tolist()))
    more = ", …" if vector.size > SHOWN_VALUES else ""
    dimensions = ngettext("%(count)s dimension", "%(count)s dimensions", vector.size) % {
        "count": number_format(vector.size, force_grouping=True)
    }
    norm = _("norm %(norm)s") % {"norm": _rounded(float(np.linalg.norm(vector.astype(np.float64))))}
    return f"{dimensions} · {norm} · [{shown}{more}]"


def _rounded(number: float) -> str:
    # number_format cuts off what it does not show, so that a norm of 0.99999 would read 0.9999.
    return number_format(round(number, 4), decimal_pos=4) if math.isfinite(number) else str(number)


class EmbeddingWidget(forms.Widget):
    """Show a vector, read-only: a form keeps the row's vector where none is sent."""

    read_only = True

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        return format_html('<span class="embedding readonly">{}</span>', self._text(value))

    def _text(self, value: Any) -> str:
        if value in EMPTY_VALUES:
            return str(_("No vector yet"))
        if isinstance(value, Vector):
            return describe(value)
        return Truncator(value).chars(SHOWN_CHARACTERS)

    def use_required_attribute(self, initial: Any) -> bool:
        return False

    def id_for_label(self, id_: str) -> str:
        return ""


class TextFormField(forms.CharField):
    """A line of text for a value that is written as one, such as "101"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"empty_value": None, **kwargs})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(None if initial is None else str(initial), data)


class EmbeddingBoundField(forms.BoundField):
    """
    Read what was sent, also where the widget is read-only: only what it did not ask for is the vector that the row has.

    A vector that is required and missing, or that was sent already, has an input in place of the read-only line.
    """

    @property
    def data(self) -> Any:
        return super().data if self._is_sent or not self._is_read_only else self.initial

    def as_widget(self, widget: Any = None, attrs: Any = None, only_initial: bool = False) -> SafeString:
        return super().as_widget(widget or self._widget, attrs, only_initial)

    @property
    def id_for_label(self) -> str:
        return self._widget.id_for_label(self.field.widget.attrs.get("id") or self.auto_id)

    @property
    def _widget(self) -> forms.Widget:
        missing = self.field.required and self.initial in EMPTY_VALUES
        asks = self._is_read_only and (missing or self._is_sent)
        return forms.Textarea({"rows": 2, **self.field.widget.attrs}) if asks else self.field.widget

    @property
    def _is_read_only(self) -> bool:
        return bool(getattr(self.field.widget, "read_only", False))

    @property
    def _is_sent(self) -> bool:
        return self.form.is_bound and not self.field.disabled and super().data not in EMPTY_VALUES


class EmbeddingFormField(forms.Field):
    """
    Read a vector from a JSON list of numbers, such as "[0.1, 0.2]".

    dimensions: the length that the vector must have, or None for any.
    half: whether every element must also fit half precision.
    Cleans to a Vector, or None.
    """

    widget = EmbeddingWidget
    empty_values: EmptyValues = EMPTY_VALUES
    default_error_messages: ClassVar[dict[str, Any]] = {
        "required": _(
            "This vector is required. Enter it as a list of numbers, or let the field be null until it is embedded."
        ),
    }

    dimensions: int | None
    half: bool

    def __init__(self, *, dimensions: int | None = None, half: bool = False, **kwargs: Any) -> None:
        self.dimensions, self.half = dimensions, half
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Vector | None:
        if value in self.empty_values:
            return None
        try:
            return vectors.to_vector(
                value, name=str(self.label or _("The vector")), dimensions=self.dimensions, half=self.half
            )
        except InvalidVector as error:
            raise ValidationError(error.message, error.code, error.params) from error

    def prepare_value(self, value: Any) -> Any:
        read_only = getattr(self.widget, "read_only", False)
        if isinstance(value, str) and not read_only:
            return value
        try:
            vector = self.to_python(value)
        except ValidationError:
            return value
        return vector if vector is None or read_only else wire.encode_text(vector)

    def has_changed(self, initial: Any, data: Any) -> bool:
        if self.disabled:
            return False
        try:
            before, after = self.to_python(initial), self.to_python(data)
        except ValidationError:
            return True
        if before is None or after is None:
            return before is not after
        return not np.array_equal(before, after)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> EmbeddingBoundField:
        return EmbeddingBoundField(form, self, field_name)
