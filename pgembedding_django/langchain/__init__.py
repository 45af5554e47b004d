"""LangChain's PGEmbedding, over the collections of `pgembedding_django.documents`."""

from pgembedding_django.langchain.store import ADA_TOKEN_COUNT, PGEmbedding

__all__ = ["ADA_TOKEN_COUNT", "PGEmbedding"]
