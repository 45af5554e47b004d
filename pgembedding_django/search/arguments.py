"""What the queryset's methods accept, each mistake told in one sentence before any SQL."""

from __future__ import annotations

import math
import numbers
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from types import FrameType
from typing import Any, TypeAlias, TypeGuard, cast

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import router
from django.db.models import Model, OuterRef, QuerySet

from pgembedding_django import vectors
from pgembedding_django.bounds import is_integer
from pgembedding_django.embedders import RefusedByServer, TextRejected, get_embedder
from pgembedding_django.engines import MAX_EF_SEARCH
from pgembedding_django.fields import EmbeddingField, MeasuredField, measured_fields
from pgembedding_django.fields.sized import SizedField, indexed_lengths
from pgembedding_django.functions import Distance
from pgembedding_django.indexes import IvfflatIndex, VectorIndex, declared_index
from pgembedding_django.vectors import InvalidVector, Vector, VectorLike

__all__ = [
    "Query",
    "check_alias",
    "check_direction",
    "check_each",
    "check_exact",
    "check_groups",
    "check_length",
    "check_reading",
    "check_text",
    "check_unranked",
    "check_unsliced",
    "checked_candidates",
    "checked_cut",
    "checked_ef_search",
    "checked_k",
    "checked_limit",
    "embedding_field",
    "find_field",
    "find_measured_field",
    "is_instance",
    "is_row_of",
    "query_vector",
    "warn_of_other_index",
]

#: What nearest() compares the rows with.
Query: TypeAlias = VectorLike | Model

#: The most words of a text that hybrid() searches for. Postgres ranks a row that has them all in the square of their
#: number (4 ms at 1,000, 290 ms at 10,000), and has no stack for 20,000 (Postgres 18).
MAX_WORDS = 1_000

WORD = re.compile(r"\w+")

#: What of an instance Django keeps for itself.
RESERVED = ("_state", "_prefetched_objects_cache")
#: The bound of ivfflat.probes (pgvector 0.8, src/ivfflat.h).
MAX_PROBES = 32_768

#: The most rows that one call can ask for, an int4.
MAX_K = 2**31 - 1


def embedding_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return the field that a method is about: the one named, else the only one; its vectors have one length."""
    field = find_field(model, name)
    if field.dimensions is not None:
        return field
    lengths = indexed_lengths(field)
    if len(lengths) != 1:
        raise ValueError(
            f"{field.label} has no dimensions, which only nearest() can do without, unless its indexes are of one "
            f"length, got {len(lengths)} lengths."
        )
    return SizedField(field, *lengths)


def find_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return that field even where its vectors may have any length."""
    field: MeasuredField = find_measured_field(model, name)
    if not isinstance(field, EmbeddingField):
        raise ValueError(f"{field.label} is a {type(field).__name__}, which only nearest() knows.")
    return field


def find_measured_field(model: type[Model], name: str | None) -> EmbeddingField:
    """Return the field that nearest() is about, of bits or sparse vectors too."""
    label = model.__name__
    columns = {field.name: field for field in measured_fields(model)}
    embeddings = {name: field for name, field in columns.items() if isinstance(field, EmbeddingField)}
    # Bits and sparse vectors beside an embedding are searched by name.
    fields = embeddings or columns if name is None else columns
    if not fields:
        raise TypeError(f"{label} has no EmbeddingField, so nearest() has nothing to search.")
    if name is None and len(fields) > 1:
        raise ValueError(f"{label} has {len(fields)} embedding fields ({', '.join(fields)}). Name one with field=.")
    if name is not None and name not in fields:
        raise ValueError(f"field must name an EmbeddingField of {label} ({', '.join(fields)}), got {name!r}.")
    # All that a search asks of a field, each kind of column has.
    return cast(EmbeddingField, fields[name] if name is not None else next(iter(fields.values())))


def query_vector(model: type[Model], field: EmbeddingField, query: Any) -> Vector:
    """Return the vector of a query: a vector, a text to embed, or an instance of the model."""
    if isinstance(query, Model):
        query = _vector_of(model, field, query)
    elif isinstance(query, str) and isinstance(field, EmbeddingField):
        query = _embed(field, query)
    remedy = f"Pass a vector, a text or an instance of {model.__name__}."
    if query is None:
        raise ValueError(f"{field.label} cannot be compared with None. {remedy}")
    if isinstance(query, OuterRef):
        raise ValueError(
            f"nearest() ranks {field.label} by one vector, got OuterRef. For each row of another query, use "
            f'annotate(d=L2Distance("{field.name}", OuterRef(...))).order_by("d")[:k] in its subquery.'
        )
    try:
        # A copy, because the query runs later than this.
        return copy(field.to_query(query))
    except InvalidVector as error:
        if error.code != "type":
            raise
        raise ValueError(f"{error} {remedy}") from error


def is_instance(value: object, model: type[Model]) -> TypeGuard[Model]:
    """Tell whether a value is a row of a model; a proxy has the rows of its concrete model."""
    return isinstance(value, cast("type[Model]", model._meta.concrete_model))


def _vector_of(model: type[Model], field: EmbeddingField, instance: Model) -> Any:
    if not is_instance(instance, model):
        raise ValueError(f"query must be an instance of {model.__name__}, got {type(instance).__name__}.")
    vector = getattr(instance, field.attname)
    if vector is None:
        raise ValueError(f"{field.label} of the instance with pk {instance.pk!r} is None, so nothing is near it.")
    return vector


def _embed(field: EmbeddingField, text: str) -> Vector:
    try:
        return get_embedder(field.embedder).embed_query(text)
    except ImproperlyConfigured as error:
        raise ValueError(f"{field.label} cannot be searched by text: {error} Pass a vector, or set it.") from error
    except RefusedByServer:
        # Of whom nobody knows whether it means the text.
        raise
    except TextRejected as error:
        raise ValueError(f"{field.label} cannot be searched by this text: {error}") from error


def is_row_of(alias: str, instance: Model) -> bool:
    """Tell whether a database holds an instance: it came from there, or from one that a router relates to it."""
    if instance._state.db in (None, alias):
        return True
    # As between a primary and its replica, of which only the routers know.
    twin = copy(instance)
    twin._state.db = alias
    return router.allow_relation(instance, twin)


def checked_k(k: object) -> int:
    return _checked_integer(k, 1, MAX_K, f"k must be an integer from 1 to {MAX_K}")


def checked_candidates(candidates: object, k: int) -> int:
    if candidates is None:
        return min(5 * k, MAX_K)
    return _checked_integer(candidates, k, MAX_K, f"candidates must be an integer from k = {k} to {MAX_K}")


def checked_ef_search(ef_search: object) -> int | None:
    if ef_search is None:
        return None
    return _checked_integer(ef_search, 1, MAX_EF_SEARCH, f"ef_search must be an integer from 1 to {MAX_EF_SEARCH}")


def _checked_integer(value: object, least: int, most: int, rule: str) -> int:
    """Return an integer of any kind, numpy's too, as Python's own."""
    if not is_integer(value, least, most):
        raise ValueError(f"{rule}, got {value!r}.")
    return int(value)


def checked_limit(max_distance: object, name: str = "max_distance") -> float:
    """Return a distance as a float; one too large for it is infinite."""
    try:
        if isinstance(max_distance, numbers.Real | Decimal) and not isinstance(max_distance, bool):
            limit = float(max_distance)
            if limit == limit:
                return limit
    except OverflowError:
        return math.inf if cast(float, max_distance) > 0 else -math.inf
    except ValueError:
        pass  # A signalling NaN.
    raise ValueError(f"{name} must be a number, got {max_distance!r}.")


def checked_cut(alias: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    """
    Return the greatest distance that passes the conditions of a filter() after nearest().

    Raises TypeError unless they are the alias's lt and lte.
    """
    allowed = (f"{alias}__lt", f"{alias}__lte")
    wrong = [type(arg).__name__ for arg in args] + [name for name in kwargs if name not in allowed]
    if wrong:
        raise TypeError(
            f"A queryset that nearest() returned can be filtered by {' and '.join(allowed)} only, got "
            f"{', '.join(wrong)}. Filter before nearest()."
        )
    limits = {name: checked_limit(value, name) for name, value in kwargs.items()}
    # Less than a number is at most the next smaller one.
    return min(math.nextafter(limit, -math.inf) if name == allowed[0] else limit for name, limit in limits.items())


def check_exact(exact: object) -> None:
    if exact is not None and not isinstance(exact, bool):
        raise ValueError(f"exact must be True, False or None, got {exact!r}.")


def check_length(field: MeasuredField) -> None:
    if not isinstance(field, EmbeddingField):
        raise ValueError(f"{field.label} has no length, so its rows cannot be compared. Give the field one.")


def check_reading(index: VectorIndex | None, ef_search: int | None, probes: object) -> None:
    if probes is not None and not is_integer(probes, 1, MAX_PROBES):
        raise ValueError(f"probes must be an integer from 1 to {MAX_PROBES}, got {probes!r}.")
    reads_lists = isinstance(index, IvfflatIndex)
    if index is not None and (ef_search is not None if reads_lists else probes is not None):
        wrong, right = ("ef_search", "probes") if reads_lists else ("probes", "ef_search")
        raise ValueError(f"{wrong} is nothing of {index.name}, which is a {index.kind}. Give {right}.")


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


def check_unsliced(rows: QuerySet[Any], method: str, remedy: str) -> None:
    if rows.query.is_sliced:
        raise TypeError(
            f"{method} must stand before any slice, got {rows.model.__name__} rows that are sliced or ranked already. "
            f"{remedy}"
        )


def check_groups(rows: QuerySet[Any], method: str) -> None:
    if isinstance(rows.query.group_by, tuple):
        raise TypeError(
            f"{method} ranks rows, got groups of {rows.model.__name__} rows. Rank first, and aggregate the rows of "
            "filter(pk__in=rows.values('pk'))."
        )


def check_each(rows: QuerySet[Any], method: str) -> None:
    if rows.query.distinct_fields:
        names = ", ".join(f'"{name}"' for name in rows.query.distinct_fields)
        raise TypeError(
            f"{method} cannot stand behind distinct({names}): which row of each would it rank? Use nearest(), which "
            "ranks the nearest of each."
        )


def check_unranked(ranked_by: str, method: str, remedy: str = "Put it before.") -> None:
    if ranked_by:
        raise TypeError(f"{method} cannot stand behind {ranked_by}, which returns a slice. {remedy}")


def check_alias(model: type[Model], annotations: Mapping[str, Any], alias: str) -> None:
    if not isinstance(alias, str) or not alias.isidentifier() or "__" in alias:
        raise ValueError(f"alias must be a name for an attribute, got {alias!r}.")
    if alias in annotations:
        raise ValueError(f"alias {alias!r} is an annotation of this queryset already. Choose another.")
    try:
        model._meta.get_field(alias)
    except FieldDoesNotExist:
        if hasattr(model, alias) or alias in RESERVED:
            raise ValueError(f"alias {alias!r} is an attribute of {model.__name__}. Choose another.") from None
        return
    raise ValueError(f"alias {alias!r} is a field of {model.__name__}. Choose another.")


def check_direction(field: EmbeddingField, distance: type[Distance], vector: Vector) -> None:
    if distance.distance == "cosine" and vectors.is_zero(vector):
        raise ValueError(f"{field.label} has no cosine distance to a vector of zeros, which has no direction.")


def warn_of_other_index(field: EmbeddingField, distance: type[Distance]) -> None:
    """Warn at the line of the caller's code if an index is there, but for another distance."""
    other = declared_index(field)
    if other is not None:
        warnings.warn(
            f'{field.label} is indexed for distance "{other.distance}" by {other.name}, so nearest() by '
            f'"{distance.distance}" reads every row. Add an HnswIndex for it, or say exact=True.',
            RuntimeWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the stacklevel, for the function that asks, of the first frame outside Django and this package."""
    # Frame 0 is this function and 1 the one that warns, which is stacklevel 1.
    level = 1
    while _package_of(sys._getframe(level)) in ("django", __name__.partition(".")[0]):
        level += 1
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
