"""The retriever of a store, which knows one kind of search more than LangChain's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever

__all__ = ["StoreRetriever"]


class StoreRetriever(VectorStoreRetriever):
    """A retriever that may search by "hybrid" too: its search_kwargs are those of hybrid_search()."""

    allowed_search_types: ClassVar[Collection[str]] = (*VectorStoreRetriever.allowed_search_types, "hybrid")

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        if self.search_type != "hybrid":
            return super()._get_relevant_documents(query, run_manager=run_manager, **kwargs)
        store: Any = self.vectorstore
        found: list[Document] = store.hybrid_search(query, **{**self.search_kwargs, **kwargs})
        return found

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        if self.search_type != "hybrid":
            return await super()._aget_relevant_documents(query, run_manager=run_manager, **kwargs)
        store: Any = self.vectorstore
        found: list[Document] = await store.ahybrid_search(query, **{**self.search_kwargs, **kwargs})
        return found
