"""Cuts the passage out of a text that says most about a question, and marks the question's words in it."""

import re

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: Characters of a snippet: about three lines on a desktop.
LENGTH = 320

#: Words that are everywhere, and so mark nothing.
COMMON = (
    "about all also and any are but can could did does for from get has have how into its not one only other should "
    "some such than that the their them then there these they this use using was what when where which who why will "
    "with would you your"
)


def pattern_of(question: str) -> re.Pattern[str] | None:
    """Return what finds the words that begin as a telling word of the question does; None if it has none."""
    words = {word for word in re.findall(r"\w{3,}", question.lower()) if word not in COMMON.split()}
    # The longest first, so that "exceptions" is not found as "exception" and an s.
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    return re.compile(rf"(\b(?:{alternatives})\w*)", re.IGNORECASE) if words else None


def snippet(text: str, pattern: re.Pattern[str] | None) -> SafeString:
    """Return the most telling piece of a text as HTML, the words marked; the beginning where none is found."""
    text = " ".join(text.split())
    start = _best_start(text, pattern) if pattern else 0
    end = start + LENGTH
    cut = text[start:end] if end >= len(text) else text[start:end].rpartition(" ")[0]
    return format_html("{}{}{}", "… " if start else "", _mark(cut, pattern), " …" if end < len(text) else "")


def _best_start(text: str, pattern: re.Pattern[str]) -> int:
    starts = [match.start() for match in pattern.finditer(text)]
    if not starts or starts[0] < LENGTH // 2:
        return 0
    best = max(starts, key=lambda start: (sum(start <= other < start + LENGTH for other in starts), -start))
    # The sentence's beginning, if it is near.
    sentence = text.rfind(". ", max(0, best - LENGTH // 2), best)
    return sentence + 2 if sentence >= 0 else best


def _mark(text: str, pattern: re.Pattern[str] | None) -> SafeString:
    # Split by a pattern with one group, every second piece is a match.
    pieces = pattern.split(text) if pattern else [text]
    marked = ((format_html("<mark>{}</mark>", piece) if i % 2 else piece,) for i, piece in enumerate(pieces))
    return format_html_join("", "{}", marked)
