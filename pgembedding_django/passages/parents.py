"""The rows whose texts are split: which they are, and which of them have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, Exists, ForeignKey, Func, Model, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.constants import LOOKUP_SEP
from django.db.models.lookups import IsNull
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.embedding import get_field
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.source import Column, ColumnText, Digest
from pgembedding_django.passages.splitting import Splits

if TYPE_CHECKING:
    from pgembedding_django.passages.models import Passage

__all__ = ["DIGEST", "Parents", "parents_of"]

#: What stands between the texts of columns where a digest is made: a character that no text shows.
SEPARATOR = "\x1f"

#: The annotation that holds the digest of a parent's text, and of how it is split.
DIGEST = "pgembedding_digest"


class RawText(Func):
    """The text of a column, empty where it is NULL."""

    template = "COALESCE((%(expressions)s)::text, '')"
    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="COALESCE(%(expressions)s, '')", **context)


@dataclass(frozen=True)
class Parents:
    """
    What the passages of a model are pieces of.

    key: the foreign key to the parent. column: the name of the parent's text. field: the passages' vectors.
    """

    passages: type[Passage]
    key: ForeignKey[Any, Any]
    column: str
    splits: Splits
    field: EmbeddingField

    @property
    def model(self) -> type[Model]:
        return self.key.related_model

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a passage's text depends on."""
        return (self.column, *self.splits.context)

    def rows(self, using: str) -> QuerySet[Any]:
        """Return every parent, also those that the model's managers leave out."""
        return self.model._base_manager.using(using)

    def digested(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return parents with the digest of their text, and of how it is split."""
        parts: list[Any] = [Value(f"{self.splits.identity}{SEPARATOR}{SEPARATOR.join(self.columns)}")]
        for column in self.columns:
            # Beside a text, a constant is one too.
            parts += [RawText(Column(column)), Value(SEPARATOR)]
        return cast("QuerySet[Any]", rows.annotate(**{DIGEST: Digest(*parts)}))

    def stale(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the parents whose passages are not those of their text."""
        own = self.passages._base_manager.using(rows.db).filter(
            **{self.key.attname: OuterRef(self.key.target_field.attname)}
        )
        fresh = Exists(own.filter(parent_digest=OuterRef(DIGEST)))
        has_text = IsNull(ColumnText(Column(self.column)), False)
        return self.digested(rows).filter(~fresh, Q(has_text) | Q(Exists(own)))


def parents_of(model: type[Passage]) -> Parents:
    """
    Return what the passages of a model are pieces of.

    Raises ImproperlyConfigured, in one sentence, if `splits` names no text behind one foreign key.
    """
    splits = getattr(model, "splits", None)
    if isinstance(splits, str):
        splits = Splits(splits)
    if not isinstance(splits, Splits):
        raise ImproperlyConfigured(
            f"{model.__name__}.splits must name the text that is split, or be a Splits, got {splits!r}."
        )
    *path, column = splits.column.split(LOOKUP_SEP)
    keys = [key for key in _foreign_keys(model) if path in ([], [key.name]) and _has_text(key, (column,))]
    if len(keys) != 1:
        several = f"{len(keys)} foreign keys lead to one" if keys else "no foreign key leads to one"
        raise ImproperlyConfigured(
            f"{model.__name__}.splits must name a CharField or TextField of the model that a foreign key refers to, "
            f"got {splits.column!r}: {several}."
        )
    if not _has_text(keys[0], splits.context):
        raise ImproperlyConfigured(
            f"{model.__name__}.splits must name text columns of {keys[0].related_model.__name__} in context, "
            f"got {', '.join(splits.context)}."
        )
    return Parents(model, keys[0], column, splits, get_field(model, None))


def _foreign_keys(model: type[Model]) -> list[ForeignKey[Any, Any]]:
    fields = (field for field in model._meta.concrete_fields if isinstance(field, ForeignKey))
    return [field for field in fields if not field.remote_field.parent_link]


def _has_text(key: ForeignKey[Any, Any], names: tuple[str, ...]) -> bool:
    try:
        fields = [key.related_model._meta.get_field(name) for name in names]
    except FieldDoesNotExist:
        return False
    return all(isinstance(field, CharField | TextField) for field in fields)
