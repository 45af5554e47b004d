"""Draws the relevance of several ways to search as SVG, for a page or a file."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from django.template.defaultfilters import pluralize

from pgembedding_django.maintenance.recall.plots import ACCENT
from pgembedding_django.maintenance.relevance.relevance import Relevance, RelevanceReport

__all__ = ["draw_relevance"]

#: In units of a viewBox that a phone shows at about one pixel each: the whole, the bars, and the room of a way.
WIDTH, LEFT, RIGHT, TOP, STEP = 400, 64, 344, 32, 82

#: The opacity of the bar of each measure.
SHADES = {"nDCG": 1.0, "RR": 0.6, "R": 0.35}


def draw_relevance(report: RelevanceReport) -> str:
    """
    Return an SVG with three bars for each way: nDCG, reciprocal rank and recall at k, each from 0 to 1.

    It takes its width and its colours from the page that it stands in, and has no style or script of its own.
    """
    number = len(report.questions)
    title = f"{report.model}: {number:,} question{pluralize(number)}, {report.k} row{pluralize(report.k)} of each"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + STEP * len(report.ways)}" width="100%" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    for place, way in enumerate(report.ways):
        parts.extend(_draw_way(way, report.k, TOP + STEP * place))
    return "\n".join([*parts, "</svg>"])


def _draw_way(way: Relevance, k: int, top: int) -> Iterator[str]:
    yield f'<text x="8" y="{top + 12}">{escape(way.way)}</text>'
    for place, (name, value) in enumerate(zip(SHADES, (way.ndcg, way.mrr, way.recall), strict=True)):
        y = top + 20 + 18 * place
        yield f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{name}@{k}</text>'
        yield (
            f'<rect x="{LEFT}" y="{y}" width="{(RIGHT - LEFT) * value:.1f}" height="14" fill="{ACCENT}" '
            f'fill-opacity="{SHADES[name]}"/>'
        )
        yield f'<text x="{LEFT + (RIGHT - LEFT) * value + 5:.1f}" y="{y + 11}">{value:.3f}</text>'
