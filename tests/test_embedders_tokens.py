"""The offline estimate of tokens, and what is cut and split by it."""

import pytest

from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.embedders.tokens import estimate_tokens, split, truncate


@pytest.mark.parametrize(
    ("text", "estimate"),
    [
        ("", 1),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("x" * 300, 100),
        ("жж", 2),  # 2 bytes a character
        ("日本語", 5),  # 3 bytes a character
        ("🎉", 2),  # 4 bytes
        ("abcж", 2),
        ("\ud800", 2),
        ("\x00\x00\x00", 1),
    ],
)
def test_estimate_tokens_counts_bytes(text, estimate):
    assert estimate_tokens(text) == estimate


#: Tokens of cl100k_base (OpenAI Cookbook, "How to count tokens with tiktoken").
KNOWN = [("tiktoken is great!", 6), ("antidisestablishmentarianism", 6), ("お誕生日おめでとう", 9)]


@pytest.mark.parametrize(("text", "tokens"), KNOWN)
def test_estimate_tokens_of_words_errs_high(text, tokens):
    assert estimate_tokens(text) >= tokens


def test_embedder_estimate_counts_the_prefix_of_documents():
    assert DummyEmbedder(document_prefix="abc").estimate_tokens("abc") == 2


@pytest.mark.parametrize("text", ["x" * 1000, "ж" * 1000, "xж🎉日" * 250, "🎉" * 1000, "short"])
def test_truncate_gives_the_longest_head_that_fits(text):
    head = truncate(text, 50)
    assert text.startswith(head)
    assert estimate_tokens(head) <= 50
    assert head == text or estimate_tokens(text[: len(head) + 1]) > 50


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1], [[0]]),
        ([1, 1, 1, 1], [[0, 1, 2], [3]]),  # most texts
        ([4, 4, 4], [[0, 1], [2]]),  # most tokens
        ([11, 1], [[0], [1]]),  # one alone
        ([1, 11, 1], [[0], [1], [2]]),
        ([5, 5, 1], [[0, 1], [2]]),
    ],
)
def test_split_fills_requests_in_order(sizes, parts):
    texts = ["x" * 3 * size for size in sizes]
    assert [list(part) for part in split(texts, most_texts=3, most_tokens=10)] == parts
