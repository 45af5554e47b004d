"""embed_each(): one outcome for each text, and one bad text never sinks the others."""

import asyncio

import numpy as np
import pytest

from pgembedding_django.embedders import Embedder, EmbedderUnavailable, EmbeddingError, TextRejected
from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.embedders.wordllama import WordLlamaEmbedder


class Picky(Embedder):
    """Refuses a batch with a text that has "bad" in it, and is away for one with "away"; counts what it is asked."""

    def __init__(self, **common):
        super().__init__(**common)
        self.calls = []

    def compute(self, texts):
        self.calls.append(len(texts))
        if any("bad" in text for text in texts):
            raise EmbeddingError("Picky dislikes it.")
        if any("away" in text for text in texts):
            raise EmbedderUnavailable("Picky is away.")
        return [[len(text), 1] for text in texts]


class Broken(Embedder):
    """Fails for every text."""

    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def compute(self, texts):
        self.calls += 1
        raise self.error


class Lengths(Embedder):
    """Gives each text a vector of as many ones as the text says."""

    def compute(self, texts):
        return [np.ones(int(text)) for text in texts]


def lists(outcomes):
    return [outcome.tolist() for outcome in outcomes]


def test_embed_each_gives_a_vector_for_each_text():
    outcomes = Picky().embed_each(["a", "bc"])
    assert lists(outcomes) == [[1, 1], [2, 1]]
    assert [outcome.dtype for outcome in outcomes] == [np.float32, np.float32]


def test_embed_each_no_texts_gives_nothing():
    assert Picky().embed_each([]) == []
    assert asyncio.run(Picky().aembed_each([])) == []


def test_embed_each_one_str_is_refused():
    with pytest.raises(TypeError) as caught:
        Picky().embed_each("text")
    assert str(caught.value) == "Picky.embed_each() takes a list of texts, got one str."


def test_embed_each_only_unusable_texts_computes_nothing():
    picky = Picky()
    outcomes = picky.embed_each(["", None, "\ud800"])
    assert [str(outcome) for outcome in outcomes] == [
        "Picky needs text to embed, but text 0 is blank.",
        "Picky embeds str, but text 1 is NoneType.",
        "Picky needs Unicode, but text 2 has a lone surrogate at character 0.",
    ]
    assert {type(outcome) for outcome in outcomes} == {TextRejected}
    assert picky.calls == []


def test_embed_each_refused_text_is_found_by_halving():
    picky = Picky()
    texts = [*"abcdefg", "bad"]
    outcomes = picky.embed_each(texts)
    assert lists(outcomes[:7]) == [[1, 1]] * 7
    assert str(outcomes[7]) == "Picky cannot embed text 7: Picky dislikes it."
    assert isinstance(outcomes[7], TextRejected)
    assert picky.calls == [8, 1, 4, 4, 2, 2, 1, 1]  # the second is the probe


def test_embed_each_refused_text_keeps_its_place_behind_a_blank_one():
    blank, bad, good = Picky().embed_each(["", "bad", "a"])
    assert "text 0 is blank" in str(blank)
    assert "cannot embed text 1" in str(bad)
    assert good.tolist() == [1, 1]


def test_embed_each_all_texts_refused_are_all_reported():
    outcomes = Picky().embed_each(["bad 1", "bad 2"])
    assert [type(outcome) for outcome in outcomes] == [TextRejected, TextRejected]


def test_embed_each_embedder_that_refuses_everything_is_asked_twice():
    broken = Broken(EmbeddingError("No key."))
    with pytest.raises(EmbeddingError) as caught:
        broken.embed_each([*"abcdefgh"])
    assert caught.value is broken.error
    assert broken.calls == 2


def test_embed_each_outage_is_not_halved():
    broken = Broken(EmbedderUnavailable("Away.", retry_after=7))
    with pytest.raises(EmbedderUnavailable) as caught:
        broken.embed_each(["a", "b"])
    assert caught.value.retry_after == 7
    assert broken.calls == 1


def test_embed_each_text_that_the_embedder_fails_for_is_isolated():
    """An outage that other texts do not meet is none."""
    outcomes = Picky().embed_each(["a", "bad", "away", "bad"])
    assert outcomes[0].tolist() == [1, 1]
    assert str(outcomes[2]) == "Picky cannot embed text 2: Picky is away. It answers other texts."
    assert [type(outcome) for outcome in outcomes[1:]] == [TextRejected] * 3


def test_embed_each_outage_half_way_keeps_what_is_embedded():
    class Leaving(Picky):
        def compute(self, texts):
            if texts[0] == "b":
                raise EmbedderUnavailable("Leaving.", retry_after=9)
            return super().compute(texts)

    outcomes = Leaving().embed_each(["a", "bad", "b", "c"])
    assert outcomes[0].tolist() == [1, 1]
    assert [str(outcome) for outcome in outcomes[2:]] == ["Leaving."] * 2


def test_embed_each_wrong_count_is_no_fault_of_the_texts():
    class Short(Picky):
        def compute(self, texts):
            return super().compute(texts)[1:]

    with pytest.raises(EmbeddingError) as caught:
        Short().embed_each(["a", "b"])
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == "Short gave 1 vectors for 2 texts."


def test_embed_each_exception_of_the_embedder_itself_passes_through():
    with pytest.raises(ZeroDivisionError):
        Broken(ZeroDivisionError()).embed_each(["a"])


def test_embed_each_without_dimensions_most_vectors_decide():
    outcomes = Lengths().embed_each(["2", "3", "3"])
    assert str(outcomes[0]) == "Lengths's vector of text 0 must have 3 dimensions, got 2."
    assert lists(outcomes[1:]) == [[1, 1, 1]] * 2


def test_embed_each_no_vector_of_the_dimensions_raises():
    with pytest.raises(EmbeddingError) as caught:
        Lengths(dimensions=4).embed_each(["", "2", "3"])
    assert type(caught.value) is EmbeddingError
    assert str(caught.value) == "Lengths's vector of text 1 must have 4 dimensions, got 2."


def test_embed_first_error_is_raised():
    with pytest.raises(TextRejected, match="cannot embed text 1"):
        Picky().embed(["a", "bad", "bad"])


def test_aembed_gives_what_embed_gives():
    embedder = DummyEmbedder()

    async def ask():
        return await embedder.aembed(["a", "b"]), await embedder.aembed_query("a"), await embedder.aembed_each(["b"])

    embedded, query, [each] = asyncio.run(ask())
    assert embedded.tolist() == embedder.embed(["a", "b"]).tolist()
    assert query.tolist() == embedder.embed_query("a").tolist()
    assert each.tolist() == embedded[1].tolist()


@pytest.mark.parametrize("method", ["aembed", "aembed_each", "aembed_query"])
def test_aembed_wrong_text_is_refused(method):
    async def ask():
        return await getattr(DummyEmbedder(), method)(" " if method == "aembed_query" else [" "])

    if method == "aembed_each":
        assert isinstance(asyncio.run(ask())[0], TextRejected)
    else:
        with pytest.raises(TextRejected, match="is blank"):
            asyncio.run(ask())


def test_embedder_without_compute_says_so():
    with pytest.raises(NotImplementedError, match=r"Embedder must implement compute\(\)"):
        Embedder().embed(["a"])


def test_prefixes_of_a_class_and_of_the_options_are_used():
    class Prefixed(Picky):
        query_prefix, document_prefix = "query: ", "doc: "

    assert lists(Prefixed().embed_each(["a"])) == [[6, 1]]
    assert Prefixed().embed_query("a").tolist() == [8, 1]
    assert Prefixed(query_prefix="", document_prefix="longer: ").embed_query("a").tolist() == [1, 1]


def test_identity_names_class_dimensions_and_the_prefix_of_documents():
    path = f"{__name__}.Picky"
    assert Picky().identity == path
    assert Picky(dimensions=2, query_prefix="q").identity == f"{path}:2"
    assert Picky(document_prefix="doc: ").identity == f"{path}:'doc: '"
    assert DummyEmbedder().identity == "pgembedding_django.embedders.dummy.DummyEmbedder:16"


def test_suggestions_of_an_offline_embedder():
    embedder = DummyEmbedder(price=0.5)
    assert (embedder.sends_to, embedder.concurrency, embedder.batch_size, embedder.price) == ("", 1, 256, 0.5)
    assert DummyEmbedder().price is None
    embedder.close()


@pytest.mark.parametrize(
    "text", ["word " * 2**18, "a\x00b", "שלום עולם", "🎉🎊" * 9], ids=["1 MB", "NUL", "RTL", "emoji"]
)
def test_wordllama_embeds_any_text(text):
    outcome = WordLlamaEmbedder().embed_each(["a plain text", text])[1]
    assert isinstance(outcome, TextRejected) or np.isfinite(outcome).all()


def test_wordllama_text_without_a_known_token_is_rejected_alone(monkeypatch):
    computed = [[np.nan, np.nan], [0.6, 0.8]]
    monkeypatch.setattr(WordLlamaEmbedder, "compute", lambda self, texts: np.pad(computed, ((0, 0), (0, 62))))
    rejected, vector = WordLlamaEmbedder(dimensions=64).embed_each(["unknown", "known"])
    assert str(rejected) == "WordLlamaEmbedder's vector of text 0 must be finite, got nan at position 0."
    assert vector[:2].tolist() == pytest.approx([0.6, 0.8])
