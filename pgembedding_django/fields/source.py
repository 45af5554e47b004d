"""The text that a vector stands for, and the digest that tells when either has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, F, Field, Func, Model, Q, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.embedders import get_embedder

__all__ = ["BY_HAND", "SUFFIX", "InvalidSource", "Source", "hash_text"]

#: What the name of the digest adds to the name of its vector.
SUFFIX = "_digest"

#: What stands between the texts of several columns.
JOINT = "\n\n"

#: What str.isspace() calls white space; the server's btrim() strips nothing but spaces unless told.
WHITESPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

#: The digest of an instance whose vector was assigned: save() replaces it.
BY_HAND = ""


class InvalidSource(TypeError):
    """The source of a row's vector gave something else than text."""


def _literal(text: str) -> str:
    """Return a constant as an escaped literal of Postgres."""
    return "E'" + "".join(f"\\u{ord(character):04x}" for character in text) + "'"


class Column(Combinable):
    """A column of the model. Not F(): django-modeltranslation turns that into the column of the active language."""

    def __init__(self, name: str) -> None:
        self.name = name

    def resolve_expression(self, query: Any = None, *args: Any, **kwargs: Any) -> Any:
        return F(self.name).resolve_expression(query, *args, **kwargs)


class ColumnText(Func):
    """The stripped text of a column, NULL where it is blank."""

    template: str = f"NULLIF(btrim((%(expressions)s)::text, {_literal(WHITESPACE)}), '')"
    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        return f"pgembedding_strip({sql}, %s)", (*params, WHITESPACE)


class JoinedText(Func):
    """The texts of columns joined, empty where all are blank."""

    template: str = f"concat_ws({_literal(JOINT)}, %(expressions)s)"
    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        parts = [compiler.compile(part) for part in self.get_source_expressions()]
        texts = ", ".join(sql for sql, _ in parts)
        return f"pgembedding_join(%s, {texts})", (JOINT, *(value for _, params in parts for value in params))


class Digest(Func):
    """What `Source.digest` returns, of a prefix and a text."""

    template = "encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
    arg_joiner = " || "
    output_field = CharField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="pgembedding_sha256(%(expressions)s)", **context)


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text in hex, also of one that is no Unicode: refusing it is left to the embedder."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Source:
    """
    The text of a row, and the digest of text and embedder.

    model: whose table holds the vector. name: of the vector's field. parts: names of columns, or of one method.
    """

    model: type[Model]
    name: str
    parts: tuple[str, ...]
    embedder: str
    dimensions: int | None

    @cached_property
    def columns(self) -> list[Field[Any, Any]]:
        """The fields that make the text; none where a method does."""
        concrete = {field.name: field for field in self.model._meta.concrete_fields}
        return [concrete[part] for part in self.parts] if set(self.parts) <= concrete.keys() else []

    @property
    def digest_name(self) -> str:
        return self.name + SUFFIX

    def text(self, row: Model) -> str:
        """
        Return the text of a row, stripped; "" where there is none.

        Raises InvalidSource, a TypeError, if the source gives something else.
        """
        texts = (self._part(row, part) for part in self.parts)
        return JOINT.join(text for text in texts if text)

    def digest(self, text: str) -> str:
        """
        Return the SHA-256 of the embedder's identity, the dimensions and a text, in hex.

        Raises ImproperlyConfigured if the field's embedder is.
        """
        return hash_text(self._prefix() + text)

    def digests(self, columns: Mapping[str, Sequence[Any]], count: int) -> list[str | None]:
        """
        Return the digests of many rows, of the columns that make the text; None where a text is none.

        All are None where nothing embeds here.
        """
        try:
            prefix = self._prefix()
        except ImproperlyConfigured:
            return [None] * count
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [self._digest_of(SimpleNamespace(**row), prefix) for row in rows]

    def _digest_of(self, row: Any, prefix: str) -> str | None:
        try:
            return hash_text(prefix + self.text(row))
        except InvalidSource:
            return None

    def is_stale(self, row: Model) -> bool:
        """Tell whether an instance needs another vector; a vector just assigned is never stale."""
        vector = getattr(row, self.name)
        if vector is None:
            return bool(self.text(row))
        known = getattr(row, self.digest_name)
        return bool(known != BY_HAND and known != self.digest(self.text(row)))

    @property
    def text_expression(self) -> Func:
        """What `text` returns, in SQL."""
        return JoinedText(*(ColumnText(Column(field.name)) for field in self.columns))

    @property
    def digest_expression(self) -> Func:
        """What `digest` returns of a row's text, in SQL."""
        return Digest(Value(self._prefix()), self.text_expression)

    @property
    def stale_condition(self) -> Q:
        """Which rows of a source made of columns are stale."""
        missing = Q(**{f"{self.name}__isnull": True}) & ~Q(Exact(self.text_expression, Value("")))
        return missing | (Q(**{f"{self.name}__isnull": False}) & ~Q(**{self.digest_name: self.digest_expression}))

    def _part(self, row: Model, part: str) -> str:
        value = getattr(row, part)
        value = value() if callable(value) else value
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidSource(
                f"{self.model.__name__}.{part}, the source of {self.model.__name__}.{self.name}, must be text, "
                f"got {type(value).__name__}."
            )
        return value.strip(WHITESPACE)

    def _prefix(self) -> str:
        return f"{get_embedder(self.embedder).identity}\x1f{self.dimensions}\x1f"
