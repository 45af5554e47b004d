"""The form field that reads a JSON list, and the widget that shows a vector in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from pgembedding_django import vectors
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["EmbeddingFormField", "EmbeddingWidget", "EmptyValues", "describe"]

SHOWN_VALUES = 4


class EmptyValues(list[Any]):
    """Django's empty values, for fields whose values are arrays: `array in [None, ""]` has no truth value."""

    def __contains__(self, value: object) -> bool:
        return value is None or (isinstance(value, str | list | tuple | dict) and len(value) == 0)


EMPTY_VALUES = EmptyValues((None, "", [], (), {}))


def describe(vector: Vector) -> str:
    """Return one line for people: dimensions, norm and the first values."""
    shown = ", ".join(number_format(value, decimal_pos=4) for value in vector[:SHOWN_VALUES].tolist())
    more = ", …" if vector.size > SHOWN_VALUES else ""
    dimensions = ngettext("%(count)s dimension", "%(count)s dimensions", vector.size) % {
        "count": number_format(vector.size, force_grouping=True)
    }
    norm = _("norm %(norm)s") % {"norm": number_format(float(np.linalg.norm(vector)), decimal_pos=4)}
    return f"{dimensions} · {norm} · [{shown}{more}]"


class EmbeddingWidget(forms.Widget):
    """Show a vector, read-only: a form that holds it keeps the row's vector as it is."""

    read_only = True

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        text = describe(value) if isinstance(value, np.ndarray) else (value or _("No vector yet"))
        return format_html('<span class="embedding readonly">{}</span>', text)

    def use_required_attribute(self, initial: Any) -> bool:
        return False

    def id_for_label(self, id_: str) -> str:
        return ""


class EmbeddingBoundField(forms.BoundField):
    """Where nothing was sent under the field's name, the vector that the row has counts as sent."""

    @property
    def data(self) -> Any:
        widget, form = self.field.widget, self.form
        if getattr(widget, "read_only", False) and widget.value_omitted_from_data(
            form.data, form.files, self.html_name
        ):
            return self.initial
        return super().data


class EmbeddingFormField(forms.Field):
    """
    Read a vector from a JSON list of numbers, such as "[0.1, 0.2]".

    dimensions: the length that the vector must have, or None for any.
    half: whether every element must also fit half precision.
    Cleans to a float32 ndarray of shape (d,), or None.
    """

    widget = EmbeddingWidget
    empty_values = EMPTY_VALUES
    default_error_messages = {
        "required": _(
            "This vector is required, and it is made in code. Set it before the form is saved, "
            "or let the field be null until it is embedded."
        ),
    }

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
        if isinstance(value, np.ndarray) and not getattr(self.widget, "read_only", False):
            return vectors.encode_text(value)
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            before, after = self.to_python(initial), self.to_python(data)
        except ValidationError:
            return True
        if before is None or after is None:
            return before is not after
        return not np.array_equal(before, after)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> EmbeddingBoundField:
        return EmbeddingBoundField(form, self, field_name)
