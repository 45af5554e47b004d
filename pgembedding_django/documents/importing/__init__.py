"""Collections from the tables of LangChain's own vector stores."""

from pgembedding_django.documents.importing.copying import ImportReport, ImportRun
from pgembedding_django.documents.importing.source import Source, SourceError
from pgembedding_django.documents.importing.tables import StoreTable

__all__ = ["ImportReport", "ImportRun", "Source", "SourceError", "StoreTable"]
