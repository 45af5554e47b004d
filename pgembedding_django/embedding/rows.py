"""Reads rows as the pipeline sees them: a text, its digest, and whether the vector still stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, ExpressionWrapper, F, Func, Model, Q, QuerySet, TextField, Value
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.fields import EmbeddingField, embedding_fields
from pgembedding_django.fields.source import Source

__all__ = ["Key", "Row", "base_rows", "get_field", "read_rows", "stale_pks", "stale_rows"]

#: Rows whose primary keys, or whose instances where a method is the source, are in memory at once.
PAGE = 1000

#: What the pipeline adds to the rows that it reads.
TEXT, DIGEST, MISSING = "_pgembedding_text", "_pgembedding_digest", "_pgembedding_missing"
KEY = "_pgembedding_key"


class Key(Func):
    """The primary key of a model as JSON text, also a composite one."""

    template = "(jsonb_build_array(%(expressions)s))::text"
    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="json_array(%(expressions)s)", **context)

    @classmethod
    def of(cls, model: type[Model]) -> Key:
        return cls(*(F(field.attname) for field in model._meta.pk_fields))


class Row(NamedTuple):
    """
    A row's text, and the state of its vector.

    digest: of the text as it is. missing: whether there is no vector. known: the digest that the row has.
    key: the primary key as claims name it.
    """

    pk: Any
    key: str
    text: str
    digest: str
    missing: bool
    known: str | None

    @property
    def is_stale(self) -> bool:
        """Whether the vector does not stand for the text."""
        return bool(self.text) if self.missing else self.known != self.digest


def get_field(model: type[Model], name: str | None) -> EmbeddingField:
    """
    Return the field of a model that has a source; name is needed where several have.

    Raises TypeError if none has, ValueError if the name is not one of them.
    """
    fields = {field.name: field for field in embedding_fields(model) if field.source is not None}
    if not fields:
        raise TypeError(f"{model.__name__} has no EmbeddingField with a source. Name the text in source=.")
    if name is None and len(fields) > 1:
        raise ValueError(f"{model.__name__} has {len(fields)} fields to embed ({', '.join(fields)}). Name one.")
    if name is not None and name not in fields:
        raise ValueError(
            f"field must name an EmbeddingField of {model.__name__} that has a source ({', '.join(fields)}), "
            f"got {name!r}."
        )
    return fields[name] if name is not None else next(iter(fields.values()))


def stale_rows(queryset: QuerySet[Any], field: EmbeddingField) -> QuerySet[Any]:
    """Return the rows of a queryset that are stale: a condition, or the primary keys where a method is the source."""
    source = field.text_source
    if source.columns:
        return queryset.filter(source.stale_condition)
    return queryset.filter(pk__in=list(stale_pks(queryset, field)))


def stale_pks(
    queryset: QuerySet[Any], field: EmbeddingField, *, fresh_too: bool = False, page: int = PAGE
) -> Iterator[Any]:
    """Yield the primary keys of the stale rows in order, or of all rows; reads so many at a time."""
    source = field.text_source
    if not (source.columns or fresh_too):
        yield from _stale_by_method(queryset, field)
        return
    rows = queryset if fresh_too else queryset.filter(source.stale_condition)
    for pks in _pages(rows, page):
        yield from pks


def _stale_by_method(queryset: QuerySet[Any], field: EmbeddingField) -> Iterator[Any]:
    for pks in _pages(queryset, PAGE):
        rows = read_rows(base_rows(field, queryset.db).filter(pk__in=pks), field.text_source)
        stale = {row.pk for row in rows if row.is_stale}
        yield from (pk for pk in pks if pk in stale)


def _pages(rows: QuerySet[Any], size: int) -> Iterator[list[Any]]:
    """Yield the primary keys in order; a page that is not full is the last."""
    rows = rows.order_by("pk")
    page = list(rows.values_list("pk", flat=True)[:size])
    while page:
        yield list(dict.fromkeys(page))
        page = list(rows.filter(pk__gt=page[-1]).values_list("pk", flat=True)[:size]) if len(page) == size else []


def base_rows(field: EmbeddingField, using: str) -> QuerySet[Any]:
    """Return all rows of the table that holds a field's vectors."""
    return field.model._base_manager.using(using)


def read_rows(rows: QuerySet[Any], source: Source, *, texts: bool = True) -> Iterator[Row]:
    """
    Read rows of the table that holds the vectors.

    texts: whether the texts of columns are wanted, or their digests alone.
    """
    missing = ExpressionWrapper(Q(**{f"{source.name}__isnull": True}), output_field=BooleanField())
    rows = rows.annotate(**{MISSING: missing, KEY: Key.of(rows.model)})
    if source.columns:
        text = source.text_expression if texts else Value("", output_field=TextField())
        named = rows.annotate(**{TEXT: text, DIGEST: source.digest_expression})
        return starmap(Row, named.values_list("pk", KEY, TEXT, DIGEST, MISSING, source.digest_name))
    vectors = [field.name for field in embedding_fields(source.model)]
    return (_read(row, source) for row in rows.defer(*vectors))


def _read(row: Model, source: Source) -> Row:
    text = source.text(row)
    known = getattr(row, source.digest_name)
    return Row(row.pk, getattr(row, KEY), text, source.digest(text), getattr(row, MISSING), known)
