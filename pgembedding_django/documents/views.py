"""SearchView: a collection's search as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import View

from pgembedding_django.documents.contents import as_result
from pgembedding_django.documents.filters import parse_filter
from pgembedding_django.documents.models import Collection

__all__ = ["SearchView"]

logger = logging.getLogger("pgembedding_django")


class SearchView(View):
    """
    Answer GET ?q=question&k=5&filter={"lang":"en"} with the nearest documents of a collection.

    `path("search/<str:collection>/", SearchView.as_view())`. k: 5 unless given. filter: JSON of a metadata filter, as
    documents.filters.parse_filter takes it.
    max_k, max_query_length (characters), max_filter_length: what one request may ask for.
    Each request embeds its question, which may cost money: has_permission() decides who may ask, by default users
    who may view documents.
    Answers {"collection", "query", "results": [{"key", "distance", "content", "metadata"}]}, or {"error": sentence}
    with 400, 403, 404, 405 or, where the embedder fails or is not configured, 503.
    """

    http_method_names = ["get", "head", "options"]
    max_k = 50
    max_query_length = 1000
    max_filter_length = 2000

    def has_permission(self, request: HttpRequest, collection: Collection | None) -> bool:
        """Tell whether a request may search a collection; None stands for a name that none has."""
        user = getattr(request, "user", None)
        return user is not None and bool(user.has_perm("pgembedding_documents.view_document"))

    def get(self, request: HttpRequest, collection: str) -> JsonResponse:
        """Search."""
        # Postgres holds no NUL, which a URL can.
        target = None if "\0" in collection else Collection.objects.filter(name=collection).first()
        if not self.has_permission(request, target):
            return _refuse(403, "You may not search this collection.")
        if target is None:
            return _refuse(404, "There is no collection of this name.")
        try:
            query, k, conditions = self._read(request)
            documents = target.documents.filter(parse_filter(conditions))
        except ValueError as error:
            return _refuse(400, str(error))
        try:
            nearest = documents.nearest(target.embed_query(query), k)
        # The reasons may name hosts and settings, which are not for the asker.
        except ImproperlyConfigured:
            logger.exception('The embedder of collection "%s" is not configured.', target.name)
            return _refuse(503, "The embedder of this collection is not configured.")
        except ValueError:
            logger.exception('The embedder of collection "%s" failed.', target.name)
            return _refuse(503, "The embedder of this collection does not answer. Try again later.")
        results = [as_result(document) for document in nearest]
        return JsonResponse({"collection": target.name, "query": query, "results": results})

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        allowed = ", ".join(name.upper() for name in self.http_method_names if hasattr(self, name))
        return _refuse(405, "A search is a GET request.", Allow=allowed)

    def _read(self, request: HttpRequest) -> tuple[str, int, Mapping[str, Any]]:
        query, k, conditions = (request.GET.get(name, "") for name in ("q", "k", "filter"))
        if not query.strip():
            raise ValueError("q must be a question, got none.")
        if len(query) > self.max_query_length:
            raise ValueError(f"q must have at most {self.max_query_length} characters, got {len(query)}.")
        if len(conditions) > self.max_filter_length:
            raise ValueError(f"filter must have at most {self.max_filter_length} characters, got {len(conditions)}.")
        # Digits of other scripts are none here, and no request makes int() read a number of thousands of them.
        if k and not (k.isascii() and k.isdigit() and len(k) < 10 and 1 <= int(k) <= self.max_k):
            raise ValueError(f"k must be a whole number from 1 to {self.max_k}.")
        return query, int(k or min(5, self.max_k)), _parse_json(conditions)


def _parse_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("filter must be a JSON object.") from error
    if not isinstance(value, dict):
        raise ValueError("filter must be a JSON object.")
    return value


def _refuse(status: int, reason: str, **headers: str) -> JsonResponse:
    return JsonResponse({"error": reason}, status=status, headers=headers)
