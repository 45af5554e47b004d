"""The methods whose names begin with a, and the others under a running event loop."""

import asyncio

import pytest
from langchain_core.documents import Document

from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, texts


@pytest.mark.django_db(transaction=True)
class TestAsync:
    @pytest.fixture
    def store(self):
        return PGEmbedding(embedding_function=Letters())

    async def test_every_search_works(self, store):
        await store.aadd_texts((letter for letter in "abc"), [{"page": page} for page in (1, 2, 3)])
        only = {"page": {"$lt": 3}}
        assert texts(await store.asimilarity_search("a", filter=only)) == ["a", "b"]
        assert texts(await store.asimilarity_search_by_vector([1, 1], filter=only)) == ["a", "b"]
        assert [score for _, score in await store.asimilarity_search_with_score("a", filter=only)] == [0, 1]
        assert texts(await store.amax_marginal_relevance_search("a", filter=only)) == ["a", "b"]
        assert texts(await store.amax_marginal_relevance_search_by_vector([1, 1], filter=only)) == ["a", "b"]
        assert texts(await store.amax_marginal_relevance_search("c", k=1)) == ["c"]
        assert [score for _, score in await store.asimilarity_search_with_relevance_scores("a", filter=only)] == (
            pytest.approx([1, 1 - 2**-0.5])
        )

    async def test_retrievers_work(self, store):
        await store.aadd_documents(Document(letter) for letter in "abc")
        for kind in ("similarity", "mmr", "similarity_score_threshold"):
            retriever = store.as_retriever(search_type=kind, search_kwargs={"k": 1, "score_threshold": 0.9})
            assert texts(await retriever.ainvoke("b")) == ["b"]

    async def test_new_stores_work(self, store):
        made = await PGEmbedding.afrom_documents((Document(letter, id=letter) for letter in "ab"), Letters())
        assert texts(await made.aget_by_ids(["b", "a"])) == ["b", "a"]
        replaced = await PGEmbedding.afrom_texts(list("c"), Letters(), ids=["c"], pre_delete_collection=True)
        assert texts(await replaced.asimilarity_search("a")) == ["c"]

    async def test_ready_embeddings_are_stored(self, store):
        assert await store.aadd_embeddings(iter("ab"), iter([[1, 1], [1, 2]]), ids=iter("12")) == ["1", "2"]
        assert texts(await store.aget_by_ids(["2"])) == ["b"]

    async def test_ready_embeddings_make_a_store(self, store):
        made = await PGEmbedding.afrom_embeddings(iter([("a", [1, 1]), ("b", [1, 2])]), Letters(), ids=["1", "2"])
        assert texts(await made.aget_by_ids(["2"])) == ["b"]
        assert made.embeddings.calls == []

    async def test_texts_are_embedded_in_batches_of_a_size(self, store):
        await store.aadd_documents([Document(letter) for letter in "abc"], ids=list("123"), batch_size=2)
        assert store.embeddings.calls == [["a", "b"], ["c"]]
        assert (await store.aget(include=[]))["ids"] == ["1", "2", "3"]

    async def test_nothing_is_no_call(self, store):
        assert await store.aadd_texts([]) == []
        made = await PGEmbedding.afrom_texts([], store.embeddings)
        assert made.embeddings.calls == []

    async def test_sync_methods_work_under_a_running_loop(self, store):
        made = PGEmbedding.from_texts(list("ab"), Letters(), ids=["a", "b"])
        made.create_hnsw_index(dims=2)
        assert texts(made.similarity_search("b", k=1)) == ["b"]
        assert made.delete(["b"])
        assert texts(made.get_by_ids(["a", "b"])) == ["a"]

    async def test_cancelled_while_embedding_stores_nothing(self, store):
        class Slow(Letters):
            async def aembed_documents(self, texts):
                started.set()
                await asyncio.Event().wait()

        started = asyncio.Event()
        slow = PGEmbedding(embedding_function=Slow())
        adding = asyncio.create_task(slow.aadd_texts(list("ab")))
        await started.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert await store.asimilarity_search("a") == []

    async def test_cancelled_while_writing_stores_all_or_none_and_leaves_the_store_usable(self, store):
        adding = asyncio.create_task(store.aadd_embeddings(list("ab"), [[1, 1], [1, 2]], ids=["1", "2"]))
        await asyncio.sleep(0)  # The thread that writes has it now.
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert len(await store.aget_by_ids(["1", "2"])) in (0, 2)
        await store.aadd_texts(["c"], ids=["3"])
        assert texts(await store.aget_by_ids(["3"])) == ["c"]

    async def test_searches_at_once_work(self, store):
        store.add_texts(list("abc"))
        found = await asyncio.gather(*(store.asimilarity_search(letter, k=1) for letter in "abc" * 5))
        assert [texts(documents) for documents in found] == [["a"], ["b"], ["c"]] * 5
