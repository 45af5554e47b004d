# %% [markdown]
# # PGEmbedding: LangChain over Postgres and HNSW
#
# This is the notebook of LangChain's `PGEmbedding`, with **one import changed**:
#
# | | |
# |---|---|
# | before | `from langchain_community.vectorstores import PGEmbedding` |
# | now | `from pgembedding_django.langchain import PGEmbedding` |
#
# `TextLoader` is retired with langchain-community too; `Blob`, of langchain-core, reads a file in its place.
#
# ```
# pip install "pgembedding-django[langchain,embedded]" langchain-openai
# ```
#
# No Django project is needed. The server has pgvector, or the archived pg_embedding: the store uses what it finds.

# %%
import os
import re
import tempfile
import zlib
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings
from langchain_text_splitters import CharacterTextSplitter

from pgembedding_django.langchain import PGEmbedding
from pgembedding_django.testing import embedded

# %% [markdown]
# ## Load a text and split it
#
# The text is what every Python has: its own reference, here on exceptions.

# %%
path = Path(tempfile.mkdtemp()) / "exceptions.txt"
path.write_text("\n\n".join(topics[name] for name in ("exceptions", "try", "raise", "with")), encoding="utf-8")

documents = [Document(Blob.from_path(path).as_string(), metadata={"source": path.name})]
text_splitter = CharacterTextSplitter(chunk_size=1000, chunk_overlap=0)
docs = text_splitter.split_documents(documents)
len(docs)

# %% [markdown]
# ## Embeddings
#
# OpenAI's where `OPENAI_API_KEY` is set; `OPENAI_BASE_URL` names a compatible server, which wants texts and not
# OpenAI's tokens. Without a key, a stand-in that needs no network: it knows words, and nothing of their meaning.


# %%
class HashedWords(Embeddings):
    """The words of a text, each counted in one of 1536 places."""

    def embed_query(self, text):
        places = [zlib.crc32(word.encode()) % 1536 for word in re.findall(r"\w{4,}", text.lower())]
        counts = np.bincount(places, minlength=1536)
        return (counts / max(np.linalg.norm(counts), 1)).tolist()

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False) if "OPENAI_API_KEY" in os.environ else HashedWords()

# %% [markdown]
# ## A database
#
# `POSTGRES_CONNECTION_STRING`, or an embedded Postgres in the folder `.postgres/notebook`.

# %%
CONNECTION_STRING = os.environ.get("POSTGRES_CONNECTION_STRING")
if not CONNECTION_STRING:
    entry = embedded.database(".postgres/notebook")
    CONNECTION_STRING = f"postgresql://{entry['USER']}@/{entry['NAME']}?host={entry['HOST']}&port={entry['PORT']}"

# %% [markdown]
# ## Store the documents
#
# The extension, the tables and the collection are made where they are missing. `pre_delete_collection=True` replaces
# what the collection held, in one transaction.

# %%
collection_name = "python_exceptions"

db = PGEmbedding.from_documents(
    embedding=embeddings,
    documents=docs,
    collection_name=collection_name,
    connection_string=CONNECTION_STRING,
    pre_delete_collection=True,
)

# %% [markdown]
# ## Search, with scores
#
# A score is the L2 distance: the less, the nearer.

# %%
query = "Which method of the context manager is invoked at the end of a with statement?"
docs_with_score = db.similarity_search_with_score(query)

for doc, score in docs_with_score:
    print(f"{score:.3f}  {doc.page_content[:90]!r}")

# %% [markdown]
# ## Index the collection
#
# The arguments are the old ones. `dims` must be the dimensions of the vectors; `max_elements` meant something to
# pg_embedding before 0.3 only.

# %%
db.create_hnsw_index(max_elements=10000, dims=1536, m=8, ef_construction=16, ef_search=16)

indexed = db.similarity_search_with_score(query)
[doc.page_content for doc, _ in indexed] == [doc.page_content for doc, _ in docs_with_score]

# %% [markdown]
# ## As a retriever

# %%
retriever = db.as_retriever(search_kwargs={"k": 2, "filter": {"source": {"$eq": "exceptions.txt"}}})

for doc in retriever.invoke(query):
    print(doc.id, doc.metadata)

# %% [markdown]
# ## Come back to it later

# %%
store = PGEmbedding.from_existing_index(
    embedding=embeddings,
    collection_name=collection_name,
    connection_string=CONNECTION_STRING,
)
store.similarity_search(query, k=1)[0].page_content == docs_with_score[0][0].page_content

# %% [markdown]
# ## Add, replace, delete
#
# The same id again replaces the document.

# %%
store.add_texts(["Exceptions are good."], metadatas=[{"draft": True}], ids=["opinion"])
store.add_texts(
    ["Exceptions are a way of breaking out of the normal flow."], metadatas=[{"draft": False}], ids=["opinion"]
)
print(store.get_by_ids(["opinion"])[0].page_content)

store.delete(["opinion"])
store.get_by_ids(["opinion"])
