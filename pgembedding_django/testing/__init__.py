"""What a project's own tests need: an embedder without a model, proof that a search uses its index, a Postgres."""

from __future__ import annotations

from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.testing.assertions import assertIndexUsed

__all__ = ["DummyEmbedder", "assertIndexUsed"]
