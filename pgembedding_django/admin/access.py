"""Who may do what to indexes, and on which database; and what a request asks for."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.db import connections, router
from django.http import HttpRequest

from pgembedding_django.models import HnswIndexStatus

__all__ = ["chosen_action", "database", "has_indexes", "is_served", "may_rebuild", "may_repair"]


def may_rebuild(request: HttpRequest) -> bool:
    return has_indexes() and request.user.has_perm("pgembedding_django.rebuild_hnswindexstatus")


def may_repair(request: HttpRequest) -> bool:
    return has_indexes() and request.user.has_perm("pgembedding_django.repair_hnswindexstatus")


def database() -> str:
    """Return the alias of the database whose indexes the admin shows: that which may be written to."""
    return router.db_for_write(HnswIndexStatus)


def has_indexes() -> bool:
    """Tell whether that database can have indexes of vectors, which SQLite has not."""
    return connections[database()].vendor == "postgresql"


def is_served(site: AdminSite) -> bool:
    """Tell whether a site has the pages of the indexes."""
    return site.is_registered(HnswIndexStatus)


def chosen_action(request: HttpRequest) -> str:
    """Return the action whose button was pressed, above the list or below it; "" where another one was."""
    actions, place = request.POST.getlist("action"), request.POST.get("index", "")
    return str(actions[int(place)]) if place in ("0", "1") and int(place) < len(actions) else ""
