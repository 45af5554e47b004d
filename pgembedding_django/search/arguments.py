"""The numbers and names that the queryset's methods accept, each mistake told in one sentence."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from pgembedding_django.bounds import is_integer, is_number
from pgembedding_django.compat.rows import RESERVED
from pgembedding_django.engines import MAX_EF_SEARCH
from pgembedding_django.fields import EmbeddingField, MeasuredField
from pgembedding_django.functions import Distance
from pgembedding_django.indexes import IvfflatIndex, VectorIndex

__all__ = [
    "check_alias",
    "check_exact",
    "check_length",
    "check_match",
    "check_reading",
    "check_similarity",
    "checked_candidates",
    "checked_cut",
    "checked_ef_search",
    "checked_k",
    "checked_limit",
    "checked_limits",
    "checked_weights",
]

#: The bound of ivfflat.probes (pgvector 0.8, src/ivfflat.h).
MAX_PROBES = 32_768

#: The greatest weight of a ranking; more says nothing more.
MAX_WEIGHT = 1_000_000

#: The most rows that one call can ask for, an int4.
MAX_K = 2**31 - 1


def checked_k(k: object) -> int:
    return _checked_integer(k, 1, MAX_K, f"k must be an integer from 1 to {MAX_K}")


def checked_candidates(candidates: object, k: int) -> int:
    if candidates is None:
        return min(5 * k, MAX_K)
    return _checked_integer(candidates, k, MAX_K, f"candidates must be an integer from k = {k} to {MAX_K}")


def checked_weights(weights: Any) -> tuple[float, float]:
    pair = tuple(weights) if isinstance(weights, list | tuple) else ()
    if len(pair) != 2 or not all(is_number(weight, 0, MAX_WEIGHT) for weight in pair) or not any(pair):
        raise ValueError(
            f"weights must be two numbers from 0 to {MAX_WEIGHT:,}, of the meaning and of the words, not both 0, "
            f"got {weights!r}."
        )
    return float(pair[0]), float(pair[1])


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


def checked_limits(max_distance: object, min_similarity: object, distance: type[Distance]) -> float | None:
    """Return the greatest distance that passes both limits; None without one."""
    limits = [] if max_distance is None else [checked_limit(max_distance)]
    if min_similarity is not None:
        _check_has_similarity("min_similarity", distance)
        if not is_number(min_similarity, 0, 1):
            raise ValueError(f"min_similarity must be a number from 0 to 1, got {min_similarity!r}.")
        # Whatever points away has similarity 0.
        limits += [1 - float(min_similarity)] if min_similarity > 0 else []
    return min(limits, default=None)


def check_similarity(
    model: type[Model], annotations: Mapping[str, Any], similarity: str | None, alias: str, distance: type[Distance]
) -> None:
    if similarity is None:
        return
    _check_has_similarity("similarity", distance)
    check_alias(model, annotations, similarity)
    if similarity == alias:
        raise ValueError(f"similarity must have another name than the distance, got {similarity!r} for both.")


def _check_has_similarity(name: str, distance: type[Distance]) -> None:
    if distance.distance != "cosine":
        raise ValueError(f'{name} needs the cosine distance, got "{distance.distance}". Say distance="cosine".')


def check_match(match: object) -> None:
    if match not in ("mean", "best"):
        raise ValueError(f'match must be "mean" or "best", got {match!r}.')


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
