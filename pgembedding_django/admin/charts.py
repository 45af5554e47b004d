"""Draws a vector as a small bar chart."""

from __future__ import annotations

import numpy as np
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pgembedding_django.vectors import Vector

__all__ = ["draw_vector"]

#: The most bars, and their distance and the chart's height in units of the viewBox, pixels on most screens.
BARS, STEP, HEIGHT = 128, 3, 48


def draw_vector(vector: Vector) -> SafeString:
    """
    Return an SVG with a bar for each number, up or down from the middle.

    Of a long vector, each bar is the largest of several numbers. Its colour is that of the text around it.
    """
    bars = [max(part.tolist(), key=abs) for part in np.array_split(vector, min(vector.size, BARS))]
    peak = max(map(abs, bars)) or 1.0
    middle = HEIGHT / 2
    path = " ".join(
        f"M{STEP * (place + 0.5):g} {middle:g}V{middle - bar / peak * (middle - 1):.1f}"
        for place, bar in enumerate(bars)
    )
    return format_html(
        '<svg class="pgembedding-chart" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<path d="M0 {}H{}" stroke="currentColor" stroke-opacity="0.3"/>'
        '<path d="{}" stroke="currentColor" stroke-width="{}"/></svg>',
        *(STEP * len(bars), HEIGHT, STEP * len(bars), HEIGHT, _describe(vector.size, len(bars))),
        *(f"{middle:g}", STEP * len(bars)),
        *(path, STEP - 1),
    )


def _describe(size: int, bars: int) -> str:
    if size == bars:
        return ngettext("The only number of the vector", "The %(size)d numbers of the vector", size) % {"size": size}
    return _("The vector, each bar the largest of about %(each)d numbers") % {"each": round(size / bars)}
