"""The state of the indexes, their rebuilds and their recall: what the commands and the admin do, as functions."""

from __future__ import annotations

from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.jobs import start_rebuild
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.maintenance.rebuilding.runs import progress_of
from pgembedding_django.maintenance.recall.recall import measure_recall
from pgembedding_django.maintenance.relevance.questions import read_questions
from pgembedding_django.maintenance.relevance.relevance import measure_relevance
from pgembedding_django.maintenance.replicas import replica_lag

__all__ = [
    "IndexReport",
    "find_index",
    "list_indexes",
    "measure_recall",
    "measure_relevance",
    "progress_of",
    "read_questions",
    "rebuild",
    "replica_lag",
    "start_rebuild",
]
