"""The ranking by words that hybrid() joins: a module apart, since a project on SQLite has no driver of Postgres."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django.contrib.postgres.search import SearchHeadline, SearchQuery, SearchRank, SearchVector, SearchVectorField
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, ExpressionWrapper, F, Model, QuerySet, TextField
from django.db.models.sql.compiler import SQLCompiler
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from pgembedding_django.compat.queries import key_names
from pgembedding_django.fields import measured_fields
from pgembedding_django.search.conditions import Inline

__all__ = ["check_text", "check_words", "mark_words", "rank_by_words"]

#: The most words of a text that hybrid() searches for. Postgres ranks a row that has them all in the square of their
#: number (4 ms at 1,000, 290 ms at 10,000), and has no stack for 20,000 (Postgres 18).
MAX_WORDS = 1_000

#: Where a marked word begins and ends, while the text is no HTML yet: characters that no text shows.
BEGIN, END = "\x02", "\x03"

WORD = re.compile(r"\w+")


class ParsedOnce(SearchQuery):
    """The words of a text, parsed once: websearch_to_tsquery() is stable, so Postgres calls it for every row."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = super().as_sql(compiler, connection, *args, **extra)
        # As they come: `@@` of Django 5.2 joins lists.
        return f"(SELECT {sql})", params


def check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ValueError(f"hybrid() searches by text, got {type(text).__name__}.")
    if "\0" in text:
        raise ValueError("hybrid() searches by text without NUL characters, which Postgres cannot take. Remove them.")
    words = sum(1 for _ in WORD.finditer(text))
    if words > MAX_WORDS:
        raise ValueError(
            f"hybrid() searches by at most {MAX_WORDS:,} words, got {words:,}. Shorten the text, or ask nearest(), "
            "which takes any that the embedder takes."
        )


def check_words(model: type[Model], fields: Sequence[str]) -> None:
    vectors_ = [field.name for field in measured_fields(model)]
    if (
        isinstance(fields, str)
        or not fields
        or not all(isinstance(name, str) and name not in vectors_ for name in fields)
    ):
        raise ValueError(f"fields must be a list of names of text fields, got {fields!r}.")
    if len(fields) > 1 and any(is_search_vector(model, name) for name in fields):
        raise ValueError(f"fields must name text fields, or a SearchVectorField alone, got {fields!r}.")


def rank_by_words(rows: QuerySet[Any], text: str, fields: list[str], config: str | None, alias: str) -> Any:
    """
    Return keys and ranks of the rows that have the words of a text in some fields, the best first.

    fields: text fields, or a SearchVectorField alone, which is searched as it is stored. alias: the name of the rank.
    """
    options: dict[str, Any] = {} if config is None else {"config": config}
    stored = is_search_vector(rows.model, fields[0])
    vector: Any = F(fields[0]) if stored else SearchVector(*fields, **options)
    query = ParsedOnce(text, search_type="websearch", **options)
    matching = rows.annotate(_words=vector, **{alias: SearchRank(vector, query)}).filter(_words=query)
    # Django counts a composite key as one column where it orders by the place of another (ticket 37354).
    rank = F(alias) if len(key_names(rows.model)) == 1 else Inline(F(alias))
    return matching.order_by(rank.desc(), "pk").values("pk", alias)


def mark_words(model: type[Model], field: str, text: str, config: str | None) -> Any:
    """Return an extract of a text field in which the words of a text are marked."""
    if not isinstance(field, str) or not isinstance(_field_of(model, field), CharField | TextField):
        raise ValueError(f"snippet must name a text field of {model.__name__}, got {field!r}.")
    options: dict[str, Any] = {} if config is None else {"config": config}
    query = ParsedOnce(text, search_type="websearch", **options)
    headline = SearchHeadline(field, query, start_sel=BEGIN, stop_sel=END, **options)
    return ExpressionWrapper(headline, output_field=MarkedField())


class MarkedField(TextField):  # type: ignore[type-arg]
    """HTML of a text: escaped, with its marked words in <mark>."""

    def from_db_value(self, value: str | None, *args: Any) -> SafeString | None:
        if value is None:
            return None
        return mark_safe(escape(value).replace(BEGIN, "<mark>").replace(END, "</mark>"))  # noqa: S308 - escaped


def _field_of(model: type[Model], name: str) -> Any:
    return next((field for field in model._meta.get_fields() if field.name == name), None)


def is_search_vector(model: type[Model], name: str) -> bool:
    """Tell whether a field stores words as Postgres searches them, so that an index may serve it."""
    found = [field for field in model._meta.get_fields() if field.name == name]
    # A GeneratedField has another field's output.
    return any(isinstance(getattr(field, "output_field", field), SearchVectorField) for field in found)
