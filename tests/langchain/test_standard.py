"""LangChain's own suite, and the signatures of the retired class."""

import inspect

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from pgembedding_django.langchain import PGEmbedding


@pytest.mark.django_db(transaction=True)
class TestStandard(VectorStoreIntegrationTests):
    """LangChain's own suite, sync and async."""

    @pytest.fixture
    def vectorstore(self):
        return PGEmbedding(embedding_function=self.get_embeddings(), using="default")


# What the retired class took

EMPTY = inspect.Parameter.empty
NEW = {"collection_name": "langchain", "ids": None, "pre_delete_collection": False}
SIGNATURES = {
    "__init__": {
        "connection_string": EMPTY,
        "embedding_function": EMPTY,
        "collection_name": "langchain",
        "collection_metadata": None,
        "pre_delete_collection": False,
        "logger": None,
    },
    "connect": {},
    "create_hnsw_extension": {},
    "create_tables_if_not_exists": {},
    "drop_tables": {},
    "create_collection": {},
    "delete_collection": {},
    "get_collection": {"session": EMPTY},
    "create_hnsw_index": {"max_elements": 10000, "dims": 1536, "m": 8, "ef_construction": None, "ef_search": 16},
    "add_embeddings": {"texts": EMPTY, "embeddings": EMPTY, "metadatas": EMPTY, "ids": EMPTY},
    "add_texts": {"texts": EMPTY, "metadatas": None, "ids": None},
    "similarity_search": {"query": EMPTY, "k": 4, "filter": None},
    "similarity_search_with_score": {"query": EMPTY, "k": 4, "filter": None},
    "similarity_search_with_score_by_vector": {"embedding": EMPTY, "k": 4, "filter": None},
    "similarity_search_by_vector": {"embedding": EMPTY, "k": 4, "filter": None},
    "from_texts": {"texts": EMPTY, "embedding": EMPTY, "metadatas": None, **NEW},
    "from_embeddings": {"text_embeddings": EMPTY, "embedding": EMPTY, "metadatas": None, **NEW},
    "from_documents": {"documents": EMPTY, "embedding": EMPTY, **NEW},
    "from_existing_index": {"embedding": EMPTY, "collection_name": "langchain", "pre_delete_collection": False},
    "get_connection_string": {"kwargs": EMPTY},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_method_takes_what_the_retired_one_took(name):
    parameters = inspect.signature(getattr(PGEmbedding, name)).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    assert [p.name for p in positional] == list(SIGNATURES[name])
    for parameter in positional:
        assert SIGNATURES[name][parameter.name] in (EMPTY, parameter.default)
