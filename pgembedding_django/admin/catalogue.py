"""The catalogue of indexes as the pages of the admin need it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from pgembedding_django.admin.access import database
from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.declared import model_tables
from pgembedding_django.maintenance.indexes.diagnosis import find_parent
from pgembedding_django.maintenance.indexes.lookup import root_of, statuses
from pgembedding_django.maintenance.recall.plots import draw_recall
from pgembedding_django.models import HnswIndexStatus, IndexRun, RecallMeasurement

__all__ = ["attach", "draw_latest", "measurements_of", "owner_of", "recent_runs", "report_of", "reports_of", "select"]

#: Runs and measurements that a page lists.
SHOWN = 20


def reports_of(request: HttpRequest) -> list[IndexReport]:
    """Return a report of each index, read once for a page."""
    reports: list[IndexReport] | None = getattr(request, "pgembedding_reports", None)
    if reports is None:
        reports = list_indexes(database())
        request.pgembedding_reports = reports  # type: ignore[attr-defined]
    return reports


def attach(status: HnswIndexStatus, report: IndexReport) -> HnswIndexStatus:
    """Let an index carry its report to the columns that print it."""
    vars(status)["report"] = report
    return status


def report_of(status: HnswIndexStatus) -> IndexReport:
    """Return the report that attach() gave an index."""
    report: IndexReport = vars(status)["report"]
    return report


def select(request: HttpRequest) -> list[HnswIndexStatus]:
    """
    Return the indexes that an address names, by label or by the model that they belong to.

    Raises LookupError, with a sentence for people, if one is no HNSW index or if there is none.
    """
    present = {status.label: status for status in statuses(database())}
    labels, models = request.GET.getlist("index"), request.GET.getlist("model")
    for label in labels:
        if label not in present:
            text = _("This database has no HNSW index %(index)s; it may have been dropped.")
            raise LookupError(text % {"index": label})
    chosen = [*labels, *(status.label for status in _of_models(models, present.values()))]
    if not chosen:
        raise LookupError(_("There is no index to rebuild. Select one below."))
    return [present[label] for label in dict.fromkeys(chosen)]


def _of_models(labels: list[str], present: Collection[HnswIndexStatus]) -> list[HnswIndexStatus]:
    """Return the indexes of some models, without what an interrupted rebuild left behind."""
    if not labels:
        return []
    tables = {oid for oid, model in model_tables(database()).items() if model._meta.label_lower in labels}
    roots = {status.label: root_of(status, present) for status in present}
    of_models = [status for status in present if roots[status.label].table_oid in tables]
    return [status for status in of_models if not find_parent(status, present)]


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
    measurements = RecallMeasurement.objects.using(database()).filter(schema=status.schema, index=status.name)[:SHOWN]
    runs = list(dict.fromkeys(each.run for each in measurements))
    return sorted(measurements, key=lambda each: (runs.index(each.run), each.ef_search is None, each.ef_search or 0))


def draw_latest(measurements: Sequence[RecallMeasurement]) -> SafeString:
    """Draw the curve of the newest measurement, "" where there is none."""
    latest = [each for each in measurements if each.run == measurements[0].run]
    if not latest:
        return SafeString()
    title = _("Recall of the %(k)d nearest") % {"k": latest[0].k}
    return SafeString(draw_recall(latest, title=title))
