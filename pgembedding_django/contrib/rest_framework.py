"""Django REST framework: vectors in serializers, and a filter backend that ranks by nearest()."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import orjson
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import CursorPagination
from rest_framework.throttling import UserRateThrottle

from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError
from pgembedding_django.fields import BitField, EmbeddingField, SparseVectorField
from pgembedding_django.fields.digest import DigestField
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.vectors import InvalidVector, Vector, to_vector

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

__all__ = ["NearestFilter", "NearestThrottle", "TextField", "VectorField", "register"]


class VectorField(serializers.Field):
    """
    Read and write a vector as a list of numbers; what ModelSerializer makes of an EmbeddingField.

    dimensions: the length that the vector must have; the model field's unless given.
    """

    _spectacular_annotation = {"field": {"type": "array", "items": {"type": "number", "format": "float"}}}

    def __init__(self, *, dimensions: int | None = None, half: bool = False, **kwargs: Any) -> None:
        kwargs.pop("max_length", None)
        self.dimensions, self.half = dimensions, half
        super().__init__(**kwargs)

    def bind(self, field_name: str, parent: Any) -> None:
        super().bind(field_name, parent)
        model = getattr(getattr(parent, "Meta", None), "model", None)
        declared = None if model is None else {f.name: f for f in model._meta.concrete_fields}.get(self.source)
        if self.dimensions is None and isinstance(declared, EmbeddingField):
            self.dimensions, self.half = declared.dimensions, declared.storage == "half"

    def to_internal_value(self, data: object) -> Vector:
        if not isinstance(data, list | str):
            raise ValidationError(f"Expected a list of numbers, got {type(data).__name__}.", "type")
        try:
            return to_vector(data, name=self.field_name, dimensions=self.dimensions, half=self.half)
        except InvalidVector as error:
            raise ValidationError(str(error), error.code) from error

    def to_representation(self, value: Vector) -> list[float]:
        # The shortest decimals: 0.1, where tolist() would say 0.10000000149011612.
        numbers: list[float] = orjson.loads(str(value))
        return numbers


class TextField(serializers.ModelField):
    """Read and write bits or a sparse vector as text; what ModelSerializer makes of a BitField or SparseVectorField."""

    _spectacular_annotation = {"field": {"type": "string"}}


class HiddenDigest(serializers.HiddenField):
    """The digest beside a vector: no client reads or writes it, unless Meta.fields names it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default=self._skip)

    @staticmethod
    def _skip() -> None:
        raise serializers.SkipField

    def bind(self, field_name: str, parent: Any) -> None:
        super().bind(field_name, parent)
        named = getattr(parent.Meta, "fields", ())
        if isinstance(named, list | tuple) and field_name in named:
            self.write_only, self.read_only = False, True

    def to_representation(self, value: str) -> str:
        return value


def register() -> None:
    """Let every ModelSerializer take the fields of this package by what they are, and leave a digest out."""
    mapping: dict[Any, Any] = serializers.ModelSerializer.serializer_field_mapping
    mapping[EmbeddingField], mapping[DigestField] = VectorField, HiddenDigest
    mapping[BitField] = mapping[SparseVectorField] = TextField


class NearestFilter(BaseFilterBackend):
    """
    Rank what a view lists: `?nearest=<text>`, or `?similar_to=<pk>` of a row that the view lists.

    Stands last in `filter_backends`: the backends before it say which rows are ranked. `k` and `max_distance` in the
    request bound the answer. A view sets, where the defaults do not suit it:
    nearest_field: the name of the EmbeddingField; needed only where the model has several.
    nearest_k: how many rows unless the request says (10). nearest_max_k: the most that it may say (100).
    nearest_max_text: the most characters of a text (1,000), which the field's embedder embeds while the client waits.
    Raises ValidationError, a 400, for what is out of these bounds or cannot be ranked; NotFound for an unknown row.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        text, key = request.query_params.get("nearest"), request.query_params.get("similar_to")
        if not text and not key:
            return queryset
        if text and key:
            raise ValidationError({"nearest": "Give nearest or similar_to, not both."})
        rows = self._check(queryset, view)
        query = self._text(text, view) if text else self._row(rows, key)
        k, limit, field = self._k(request, view), self._distance(request), getattr(view, "nearest_field", None)
        try:
            return rows.nearest(query, k, max_distance=limit, field=field)
        except ValueError as error:
            raise ValidationError({"nearest" if text else "similar_to": str(error)}) from error
        except (EmbedderUnavailable, EmbeddingError) as error:
            raise ValidationError({"nearest": "The text could not be embedded just now. Try again."}) from error

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            _parameter("nearest", "string", "Rank by nearness to this text."),
            _parameter("similar_to", "string", "Rank by nearness to the row with this key, itself left out."),
            _parameter("k", "integer", f"How many rows are ranked, at most {_most(view)}."),
            _parameter("max_distance", "number", "Leave out what is farther than this."),
        ]

    def _check(self, queryset: QuerySet[Any], view: APIView) -> EmbeddingQuerySet[Any]:
        if not isinstance(queryset, EmbeddingQuerySet):
            raise ImproperlyConfigured(
                f"NearestFilter ranks an EmbeddingQuerySet, got {type(queryset).__name__} from {type(view).__name__}. "
                "Give the model an EmbeddingManager."
            )
        behind = [backend.__name__ for backend in _behind(self, view)]
        if isinstance(getattr(view, "paginator", None), CursorPagination):
            behind.append(type(view.paginator).__name__)
        if behind or queryset.query.is_sliced:
            what = " and ".join(behind) or "A slice"
            raise ValidationError(
                {
                    "nearest": f"{what} cannot stand behind or before a ranking: put NearestFilter last, on rows that "
                    "are not sliced, and page by number or by limit."
                }
            )
        return queryset

    def _text(self, text: str, view: APIView) -> str:
        most = getattr(view, "nearest_max_text", 1000)
        if len(text) > most:
            raise ValidationError({"nearest": f"A text has at most {most:,} characters, got {len(text):,}."})
        return text

    def _row(self, rows: QuerySet[Any], key: str | None) -> Model:
        try:
            return rows.get(pk=key)  # type: ignore[no-any-return]
        except (rows.model.DoesNotExist, ValueError, TypeError) as error:
            raise NotFound(f"No {rows.model._meta.verbose_name} {key} is listed here.") from error

    def _k(self, request: Request, view: APIView) -> int:
        text, most = request.query_params.get("k"), _most(view)
        if text is None:
            return min(getattr(view, "nearest_k", 10), most)
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise ValidationError({"k": f"k is a number from 1 to {most}, got {text!r}."})
        return int(text)

    def _distance(self, request: Request) -> float | None:
        text = request.query_params.get("max_distance")
        try:
            limit = None if text is None else float(text)
        except ValueError:
            limit = math.nan
        if limit is not None and math.isnan(limit):
            raise ValidationError({"max_distance": f"max_distance is a number, got {text!r}."})
        return limit


class NearestThrottle(UserRateThrottle):
    """Throttle the requests that rank, which may cost a paid call each, by the rate of the scope "nearest"."""

    scope = "nearest"

    def allow_request(self, request: Request, view: APIView) -> bool:
        if not request.query_params.get("nearest"):
            return True
        allowed: bool = super().allow_request(request, view)
        return allowed


def _behind(backend: NearestFilter, view: APIView) -> list[type]:
    backends = list(getattr(view, "filter_backends", ()))
    return backends[backends.index(type(backend)) + 1 :] if type(backend) in backends else []


def _most(view: APIView) -> int:
    most: int = getattr(view, "nearest_max_k", 100)
    return most


def _parameter(name: str, kind: str, description: str) -> dict[str, Any]:
    return {"name": name, "required": False, "in": "query", "description": description, "schema": {"type": kind}}
