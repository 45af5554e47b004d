"""How many tokens a text costs, estimated offline: exact tokenizers are large, or download their tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

#: Neither letter, digit nor white space; a token each, though some have one together.
SYMBOLS = bytes(code for code in range(128) if not (chr(code).isalnum() or chr(code).isspace()))

#: Blanks for all but digits.
DIGITS_ALONE = bytes(code if chr(code).isdecimal() else ord(" ") for code in range(256))

#: In thirds of a token. English has about 4 characters a token (OpenAI help, "What are tokens and how to count them?").
#: Digits come in groups of up to 3, and the blank before them alone (the pattern of OpenAI's cl100k_base). A byte of
#: UTF-8 beyond ASCII: of 20 languages, Telugu has the most, a token for 1.5 of them (OpenAI, "Hello GPT-4o").
LETTER, GROUP, BLANK, BYTE = 1, 3, 2, 2


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few; at least 1."""
    plain = text.encode("ascii", "ignore")
    others = len(text.encode("utf-8", "surrogatepass")) - len(plain)
    symbols = len(plain) - len(plain.translate(None, SYMBOLS))
    numbers = [len(number) for number in plain.translate(DIGITS_ALONE).split()]
    letters = len(plain) - symbols - sum(numbers)
    groups = symbols + sum((size + 2) // 3 for size in numbers)
    thirds = LETTER * letters + GROUP * groups + BLANK * len(numbers) + BYTE * others
    return -(-thirds // 3) or 1


def truncate(text: str, tokens: int) -> str:
    """Return the longest head of a text that is estimated at no more than so many tokens."""
    return text[: bisect_right(range(1, len(text) + 1), tokens, key=lambda size: estimate_tokens(text[:size]))]


def split(sizes: Sequence[int], *, most_texts: int, most_tokens: int) -> Iterator[range]:
    """
    Yield the positions of neighbouring texts that fit into one request; a text too long for one gets its own.

    sizes: the tokens of each text.
    """
    start = tokens = 0
    for position, more in enumerate(sizes):
        if position > start and (position - start == most_texts or tokens + more > most_tokens):
            yield range(start, position)
            start, tokens = position, 0
        tokens += more
    if start < len(sizes):
        yield range(start, len(sizes))
