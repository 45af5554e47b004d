"""The search itself: what both views call."""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

from example_project.pydocs.models import Section
from pgembedding_django.embedders import get_embedder

#: Rows of an answer, where the question does not say how many.
ROWS = 10

#: Of so many, the nearest, the topics are counted.
COUNTED = 50


@cache
def load_model() -> None:
    """Let an offline embedder load its model, so that no question is timed with it; nothing is sent away for that."""
    embedder = get_embedder()
    if not embedder.sends_to:
        embedder.embed_query("hello")


class Answer(NamedTuple):
    """
    The sections, nearest first; topics: of the nearest 50, the most frequent first, each with its number of sections.

    milliseconds: to embed the question and to find them.
    """

    sections: list[Section]
    topics: dict[str, int]
    milliseconds: float


def search(
    query: str | Section, *, part: str = "", topic: str = "", k: int | None = None, counts: bool = False
) -> Answer:
    """
    Return the sections nearest to a question or to another section; counts: with the topics that they are about.

    Raises ValueError, with a sentence for people, if the question is blank or says nothing to the embedder, and its
    subclass EmbeddingError if the embedder cannot be asked.
    """
    where = {name: value for name, value in {"part": part, "topic": topic}.items() if value}
    load_model()
    started = time.perf_counter()
    wanted = k or ROWS
    nearest = Section.objects.filter(**where).nearest(query, max(wanted, COUNTED) if counts else wanted)
    sections = list(nearest)[:wanted]
    topics = nearest.facets("topic")["topic"] if counts else {}
    return Answer(sections, topics, (time.perf_counter() - started) * 1000)
