"""Passages: pieces of a long text, each a row with a vector of its own, in a model of the project's own."""

from __future__ import annotations

from pgembedding_django.passages.managers import PassageManager, PassageQuerySet
from pgembedding_django.passages.models import Passage
from pgembedding_django.passages.run import PassageReport
from pgembedding_django.passages.splitting import Splits

__all__ = ["Passage", "PassageManager", "PassageQuerySet", "PassageReport", "Splits"]
