"""Draws recall against latency as SVG, for a page or a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from pgembedding_django.maintenance.recall.sampling import Recall
from pgembedding_django.models import RecallMeasurement

__all__ = ["draw_recall", "standalone"]

#: What is drawn: fresh, or from the history.
Point = Recall | RecallMeasurement

#: Left, top, right and bottom of what takes room.
Box = tuple[float, float, float, float]

#: The drawing and its plot area, in units of a viewBox that a phone shows at about one pixel each.
WIDTH, HEIGHT = 400, 260
LEFT, TOP, RIGHT, BOTTOM = 48, 36, 384, 210

#: The width of a letter and the height of a line of a label, in the same units.
LETTER, LINE = 6.4, 13

#: Legible on white and on the dark grey of Django's admin, 4.5 to 1 on both.
ACCENT = "#4a86a8"

#: A file has no page to take its colours from.
STYLE = "<style>svg:root{color-scheme:light dark;color:CanvasText;background:Canvas;max-width:50rem}</style>"


def draw_recall(points: Iterable[Point], *, title: str, target: float | None = None) -> str:
    """
    Return an SVG of recall against the median latency, a labelled point with its interval for each ef_search.

    points: at least one; that without an ef_search, nearest() by itself, is a ring beside the curve.
    title: any text, escaped here. target: a recall drawn as a dashed line.
    It takes its width and its colours from the page that it stands in, and has no style or script of its own.
    """
    drawn = sorted(points, key=lambda point: (point.ef_search is None, point.ef_search or 0))
    across = _Scale(0, max(point.p50_ms for point in drawn) or 1, LEFT, RIGHT)
    lowest = min(1 if target is None else target, *(point.low for point in drawn))
    up = _Scale(min(math.floor(lowest * 10) / 10, 0.9), 1, BOTTOM, TOP)
    parts = [*_frame(title), *_axes(across, up)]
    if target is not None:
        parts.append(_line(LEFT, up(target), RIGHT, up(target), f'stroke="{ACCENT}" stroke-dasharray="4 4"'))
    curve = " ".join(f"{across(p.p50_ms):.1f},{up(p.recall):.1f}" for p in drawn if p.ef_search is not None)
    parts.append(f'<polyline points="{curve}" fill="none" stroke="{ACCENT}" stroke-width="2"/>')
    places = [(point, across(point.p50_ms), up(point.recall)) for point in drawn]
    for point, x, y in places:
        parts.append(_line(x, up(point.low), x, up(point.high), f'stroke="{ACCENT}"'))
        parts.append(_dot(point, x, y))
    return "\n".join([*parts, *_labels(places), "</svg>"])


def standalone(svg: str) -> str:
    """Return a drawing as a file of its own, light or dark as its reader's system is."""
    return svg.replace(">", f">{STYLE}", 1)


class _Scale:
    """Maps a range of values to a range of places, with round values between."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        step = 10.0 ** math.floor(math.log10((high - low) / 3))
        self.step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
        # Whole steps, so that the last tick stands at the end; room for rounding errors.
        self.low, self.high = low, low + self.step * math.ceil((high - low) / self.step - 1e-6)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Sequence[float]:
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


def _frame(title: str) -> Iterator[str]:
    text = escape(title)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
    )
    yield f"<title>{text}</title>"
    yield f'<text x="{LEFT}" y="16" font-weight="bold">{text}</text>'


def _axes(across: _Scale, up: _Scale) -> Iterator[str]:
    faint = 'stroke="currentColor" stroke-opacity="0.2"'
    for value in up.ticks():
        yield _line(LEFT, up(value), RIGHT, up(value), faint)
        yield f'<text x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
    for value in across.ticks():
        yield _line(across(value), TOP, across(value), BOTTOM, faint)
        yield f'<text x="{across(value):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
    middle = (LEFT + RIGHT) / 2
    yield f'<text x="{middle}" y="{BOTTOM + 36}" text-anchor="middle">recall against milliseconds (p50)</text>'


def _dot(point: Point, x: float, y: float) -> str:
    inside = ACCENT if point.ef_search is not None else "none"
    words = f"{_label(point)}: {point.recall:.3f} ({point.low:.3f} to {point.high:.3f}) in {point.p50_ms:.2f} ms"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{inside}" stroke="{ACCENT}" stroke-width="2">'
        f"<title>{words}</title></circle>"
    )


def _labels(places: Sequence[tuple[Point, float, float]]) -> Iterator[str]:
    """Write beside each point, as near as other labels and points allow; a line leads to one that is not beside it."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for _, x, y in places]
    for point, x, y in places:
        box = next((box for box in _boxes(x, y, LETTER * len(_label(point))) if _is_free(box, taken)), None)
        if box is None:
            continue  # Dozens of points in one place; each has its words as a title.
        taken.append(box)
        left, top, right, bottom = box
        anchor, place = ("start", left) if left > x else ("end", right)
        if not -2 * LINE <= top - y <= LINE:
            yield _line(x, y, place, (top + bottom) / 2, 'stroke="currentColor" stroke-opacity="0.4"')
        yield f'<text x="{place:.1f}" y="{bottom - 2:.1f}" text-anchor="{anchor}">{_label(point)}</text>'


def _boxes(x: float, y: float, width: float) -> Iterator[Box]:
    """Yield the places for a label, from the nearest on: below and above, right and left."""
    for away in range(round((BOTTOM - TOP) / LINE)):
        for bottom in (y + 18 + away * LINE, y - 6 - away * LINE):
            for left in (x + 4, x - 4 - width):
                if LEFT <= left <= WIDTH - width and TOP - LINE < bottom < BOTTOM:
                    yield left, bottom - LINE, left + width, bottom


def _is_free(box: Box, taken: Iterable[Box]) -> bool:
    left, top, right, bottom = box
    return not any(left < x2 and x1 < right and top < y2 and y1 < bottom for x1, y1, x2, y2 in taken)


def _label(point: Point) -> str:
    return "nearest()" if point.ef_search is None else f"ef {point.ef_search}"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'
