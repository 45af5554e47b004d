"""Embeddings of LangChain that are easy to write down, and what a store holds."""

import asyncio

from langchain_core.embeddings import Embeddings


class Letters(Embeddings):
    """Two numbers that are easy to write down: how many letters, and the first one's place in the alphabet."""

    def __init__(self):
        self.calls = []

    def embed_documents(self, texts):
        self.calls.append(texts)
        return [[float(len(text)), float(ord(text[0]) - 96)] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


class Wrong(Letters):
    """Gives what it is told."""

    def __init__(self, *vectors):
        self.vectors = vectors

    def embed_documents(self, texts):
        return list(self.vectors)


def asyncio_run(method):
    """Return an async method as one that can be called without awaiting it."""

    def run(*args, **kwargs):
        return asyncio.run(method(*args, **kwargs))

    return run


def contents(store):
    return dict(store.get_collection().documents.values_list("key", "content"))


def texts(documents):
    return [document.page_content for document in documents]
