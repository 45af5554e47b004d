"""LangChain's PGEmbedding, over the collections of `pgembedding_django.documents`."""

try:
    from pgembedding_django.langchain.store import ADA_TOKEN_COUNT, PGEmbedding
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("langchain_core"):
        raise
    raise ImportError(
        'pgembedding_django.langchain needs langchain-core: pip install "pgembedding-django[langchain]"'
    ) from error

__all__ = ["ADA_TOKEN_COUNT", "PGEmbedding"]
