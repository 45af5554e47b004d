"""Ways to search that a person writes in one line: `hybrid fields=title,body weights=1,2`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Model
from django.utils.module_loading import import_string

from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.search.reranking import rerank

__all__ = ["Way", "parse_way"]

#: Answers a text with the best of some rows, the best first: (rows, text, k).
Way = Callable[[EmbeddingQuerySet[Any], str, int], Iterable[Model]]

#: Arguments that are lists, also with one value.
LISTS = ("fields", "weights")


def parse_way(line: str) -> Way:
    """
    Return the way to search that a line names.

    line: `nearest`, `hybrid` or `rerank`, and its arguments as name=value, lists with commas between; rerank takes
        those of nearest() too, and candidates. Or the dotted path of a function (rows, text, k) -> rows.
    Raises ValueError for any other line, ImportError if there is no such function.
    """
    method, *words = shlex.split(line) or [""]
    options = dict(_parse_option(line, word) for word in words)
    if method == "nearest":
        return lambda rows, text, k: rows.nearest(text, k, **options)
    if method == "hybrid":
        return lambda rows, text, k: rows.hybrid(text, k, **options)
    if method == "rerank":
        return lambda rows, text, k: _rerank(rows, text, k, **options)
    if "." not in method or options:
        raise ValueError(
            "A way to search must be nearest, hybrid or rerank with name=value, or the dotted path of a function "
            f'(rows, text, k), got "{line}".'
        )
    found: Way = import_string(method)
    return found


def _parse_option(line: str, word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f'Each argument of a way to search must be name=value, got "{word}" in "{line}".')
    is_list = name in LISTS or "," in value
    return name, [_parse_value(part) for part in value.split(",")] if is_list else _parse_value(value)


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rerank(
    rows: EmbeddingQuerySet[Any],
    text: str,
    k: int,
    *,
    by: str = "default",
    of: str | None = None,
    candidates: int | None = None,
    **options: Any,
) -> list[Model]:
    near = rows.nearest(text, candidates or 5 * k, **options)
    return rerank(near, text, k, by=by, field=options.get("field"), of=of)
