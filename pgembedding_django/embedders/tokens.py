"""How many tokens a text costs, estimated offline: exact tokenizers are large, or download their tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

#: English has about 4 characters a token (OpenAI help, "What are tokens and how to count them?"), so 3 errs high; runs
#: of digits and symbols have fewer.
ASCII_PER_TOKEN = 3

#: Other scripts take 2 to 4 bytes of UTF-8 a character; a tokenizer that works on bytes needs at most a token for each,
#: and about a token for 3 in Japanese (9 for 27 bytes: OpenAI Cookbook, "How to count tokens with tiktoken").
BYTES_PER_TOKEN = 2


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, for prose rather too many than too few; at least 1."""
    size = len(text.encode("utf-8", "surrogatepass"))
    ascii_size = len(text.encode("ascii", "ignore"))
    return -(-(BYTES_PER_TOKEN * ascii_size + ASCII_PER_TOKEN * (size - ascii_size)) // 6) or 1


def truncate(text: str, tokens: int) -> str:
    """Return the longest head of a text that is estimated at no more than so many tokens."""
    return text[: bisect_right(range(1, len(text) + 1), tokens, key=lambda size: estimate_tokens(text[:size]))]


def split(texts: Sequence[str], *, most_texts: int, most_tokens: int) -> Iterator[range]:
    """Yield the positions of neighbouring texts that fit into one request; a text too long for one gets its own."""
    start = tokens = 0
    for position, text in enumerate(texts):
        more = estimate_tokens(text)
        if position > start and (position - start == most_texts or tokens + more > most_tokens):
            yield range(start, position)
            start, tokens = position, 0
        tokens += more
    if start < len(texts):
        yield range(start, len(texts))
