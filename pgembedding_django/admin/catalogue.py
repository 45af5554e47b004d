"""The catalogue of indexes as the pages of the admin need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from pgembedding_django.admin.access import database
from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.recall.plots import draw_recall
from pgembedding_django.models import HnswIndexStatus, IndexRun, RecallMeasurement

__all__ = ["draw_latest", "measurements_of", "owner_of", "recent_runs", "reports_of", "select"]

#: Runs and measurements that a page lists.
SHOWN = 20


def reports_of(request: HttpRequest) -> list[IndexReport]:
    """Return a report of each index, read once for a page."""
    found: list[IndexReport] | None = getattr(request, "pgembedding_reports", None)
    if found is None:
        found = list_indexes(database())
        request.pgembedding_reports = found  # type: ignore[attr-defined]
    return found


def select(request: HttpRequest) -> list[IndexReport]:
    """
    Return the indexes that an address names, by oid or by the model that they belong to.

    Raises LookupError, with a sentence for people, if one is no HNSW index or if there is none.
    """
    reports = reports_of(request)
    present = {str(report.status.oid): report for report in reports if report.status}
    oids, models = request.GET.getlist("index"), request.GET.getlist("model")
    unknown = [oid for oid in oids if oid not in present]
    if unknown:
        raise LookupError(_("This database has no HNSW index %(oid)s; it may have been dropped.") % {"oid": unknown[0]})
    found = [present[oid] for oid in dict.fromkeys(oids)]
    found += [
        report
        for report in present.values()
        if report.model and report.model._meta.label_lower in models and not report.leftover_of
    ]
    if not found:
        raise LookupError(_("There is no index to rebuild. Select one below."))
    return found


def owner_of(report: IndexReport) -> str:
    """Return the field that an index is of, such as "app.Model.field"; "" for an index of another program."""
    if report.model is None:
        return ""
    label = report.model._meta.label
    return f"{label}.{report.field.name}" if report.field else label


def recent_runs(status: HnswIndexStatus | None = None) -> QuerySet[IndexRun]:
    """Return what was last done to an index, or to any."""
    runs = IndexRun.objects.using(database())
    return (runs.filter(schema=status.schema, index=status.name) if status else runs)[:SHOWN]


def measurements_of(status: HnswIndexStatus) -> list[RecallMeasurement]:
    """Return the last measurements of an index, the newest first, each by ascending ef_search."""
    found = RecallMeasurement.objects.using(database()).filter(schema=status.schema, index=status.name)[:SHOWN]
    runs = list(dict.fromkeys(each.run for each in found))
    return sorted(found, key=lambda each: (runs.index(each.run), each.ef_search is None, each.ef_search or 0))


def draw_latest(measurements: Sequence[RecallMeasurement]) -> SafeString:
    """Draw the curve of the newest measurement, "" where there is none."""
    latest: list[Any] = [each for each in measurements if each.run == measurements[0].run]
    if not latest:
        return SafeString()
    title = _("Recall of the %(k)d nearest") % {"k": latest[0].k}
    return SafeString(draw_recall(latest, title=title))
