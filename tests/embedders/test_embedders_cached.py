"""CachedEmbedder: a question is embedded once, and nothing wrong in the cache is believed."""

import asyncio

import numpy as np
import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders import Embedder, EmbeddingError, get_embedder
from pgembedding_django.embedders.cached import CachedEmbedder

asked = []


class Counting(Embedder):
    """Gives the length and 0.1; keeps what it is asked."""

    dimensions = 2
    concurrency = 7

    def compute(self, texts):
        asked.extend(texts)
        return [[len(text), np.nan if "bad" in text else 0.1] for text in texts]

    def estimate_tokens(self, text):
        return 42

    def close(self):
        asked.append("closed")

    @property
    def sends_to(self):
        return "https://example.com"


@pytest.fixture(autouse=True)
def configured(settings):
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "other"},
    }
    embedders = {
        "inner": {"BACKEND": f"{__name__}.Counting", "OPTIONS": {"price": 0.5, "document_prefix": "d: "}},
        "default": {
            "BACKEND": "pgembedding_django.embedders.cached.CachedEmbedder",
            "OPTIONS": {"embedder": "inner", "cache": "other"},
        },
    }
    settings.PGEMBEDDING = {"EMBEDDERS": embedders}
    yield embedders
    caches["default"].clear()
    caches["other"].clear()
    asked.clear()


def entries():
    return caches["other"]._cache


def poison(value):
    """Put something else where a vector was."""
    [key] = entries()
    caches["other"].set(key.removeprefix(":1:"), value)


def test_embed_query_again_is_not_computed_again():
    first, second = get_embedder().embed_query("abc"), get_embedder().embed_query("abc")
    assert first.tolist() == second.tolist() == [3, float(np.float32(0.1))]
    assert second.dtype == np.float32
    assert asked == ["abc"]


def test_embed_query_other_text_is_computed():
    assert get_embedder().embed_query("abc").tolist() != get_embedder().embed_query("ab").tolist()
    assert asked == ["abc", "ab"]


def test_aembed_query_shares_the_entries():
    async def ask():
        return [(await get_embedder().aembed_query("abc")).tolist() for _ in range(2)]

    assert asyncio.run(ask()) == [get_embedder().embed_query("abc").tolist()] * 2
    assert asked == ["abc"]


def test_embed_documents_pass_through_uncached():
    assert get_embedder().embed(["a", "b"]).shape == (2, 2)
    assert asyncio.run(get_embedder().aembed(["a"])).shape == (1, 2)
    assert asked == ["d: a", "d: b", "d: a"]
    assert entries() == {}


def test_entry_is_kept_by_hash_and_for_good():
    get_embedder().embed_query("a secret question")
    [(key, expiry)] = caches["other"]._expire_info.items()
    assert expiry is None
    assert key.startswith(":1:pgembedding:")
    assert "secret" not in key


def test_entry_of_another_model_is_not_used(configured):
    get_embedder().embed_query("abc")
    configured["inner"]["OPTIONS"]["document_prefix"] = "other: "
    get_embedder().embed_query("abc")
    assert asked == ["abc", "abc"]


@pytest.mark.parametrize(
    "value",
    [None, "text", 3, b"", b"abc", np.float32([1]).tobytes(), np.float32([1, np.nan]).tobytes(), [1.0, 2.0]],
    ids=["none", "text", "number", "empty", "odd bytes", "another length", "NaN", "list"],
)
def test_entry_that_is_no_vector_counts_as_none(value):
    get_embedder().embed_query("abc")
    poison(value)
    assert get_embedder().embed_query("abc").tolist() == [3, float(np.float32(0.1))]
    assert asked == ["abc", "abc"]


def test_wrong_answer_is_not_kept():
    for _ in range(2):
        with pytest.raises(EmbeddingError) as caught:
            get_embedder().embed_query("bad")
    assert str(caught.value) == "Counting's vector of the query must be finite, got nan at position 1."
    assert entries() == {}


def test_everything_else_is_what_the_embedder_inside_says():
    cached, inner = get_embedder(), get_embedder("inner")
    for name in ("identity", "dimensions", "price", "batch_size", "concurrency", "sends_to", "document_prefix"):
        assert getattr(cached, name) == getattr(inner, name)
    assert cached.estimate_tokens("a") == 42
    cached.close()
    assert asked == ["closed"]


def test_timeout_is_given_to_the_cache():
    for _ in range(2):
        CachedEmbedder(embedder="inner", cache="other", timeout=0).embed_query("abc")
    assert asked == ["abc", "abc"]


def test_embedder_that_is_cached_itself_is_refused():
    with pytest.raises(ImproperlyConfigured) as caught:
        CachedEmbedder(embedder="default").embed_query("a")
    assert str(caught.value) == 'CachedEmbedder.embedder must name an embedder of another kind, got "default".'


def test_cache_that_is_not_configured_is_named():
    with pytest.raises(ImproperlyConfigured) as caught:
        CachedEmbedder(embedder="inner", cache="none").embed_query("a")
    assert str(caught.value) == 'CachedEmbedder.cache must be an alias in CACHES, got "none".'
