"""From text to vector: which rows are stale, and how they get the vector of their text."""

from __future__ import annotations

from pgembedding_django.embedding.estimate import Estimate, estimate
from pgembedding_django.embedding.rows import get_field, stale_rows
from pgembedding_django.embedding.run import EmbedRun
from pgembedding_django.embedding.settlement import EmbedReport

__all__ = ["EmbedReport", "EmbedRun", "Estimate", "estimate", "get_field", "stale_rows"]
