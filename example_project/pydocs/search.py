"""The search itself: what both views call."""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

from example_project.pydocs.models import Section
from pgembedding_django.embedders import get_embedder

#: Rows of an answer, where the question does not say how many.
ROWS = 10


@cache
def load_model() -> None:
    """Let an offline embedder load its model, so that no question is timed with it; nothing is sent away for that."""
    embedder = get_embedder()
    if not embedder.sends_to:
        embedder.embed_query("hello")


class Answer(NamedTuple):
    """The sections, nearest first, and the milliseconds that it took to embed the question and to find them."""

    sections: list[Section]
    milliseconds: float


def search(query: str | Section, *, part: str = "", k: int | None = None) -> Answer:
    """
    Return the sections nearest to a question or to another section.

    Raises ValueError, with a sentence for people, if the question is blank or says nothing to the embedder, and its
    subclass EmbeddingError if the embedder cannot be asked.
    """
    sections = Section.objects.filter(part=part) if part else Section.objects.all()
    load_model()
    started = time.perf_counter()
    found = list(sections.nearest(query, k or ROWS))
    return Answer(found, (time.perf_counter() - started) * 1000)
