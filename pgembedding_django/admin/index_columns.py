"""What the admin prints of an index, a function for each column."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pgembedding_django.admin.catalogue import owner_of, report_of
from pgembedding_django.admin.progress import show_seconds
from pgembedding_django.maintenance.indexes.catalogue import IndexReport
from pgembedding_django.models import HnswIndexStatus

__all__ = ["BRIEF", "DETAILS", "rows"]

#: What the admin prints for None.
UNKNOWN = "-"


@admin.display(description=gettext_lazy("state"))
def state(row: HnswIndexStatus) -> SafeString:
    """The state, and what is wrong and what to do where something is."""
    report = report_of(row)
    badge = format_html('<span class="pgembedding-state {}">{}</span>', report.state.value, badge_text(report))
    return format_html('{}<div class="pgembedding-advice">{}</div>', badge, report.advice) if report.advice else badge


def badge_text(report: IndexReport) -> str:
    return report.state.label.capitalize()


@admin.display(description=gettext_lazy("indexed"), ordering="table")
def owner(row: HnswIndexStatus) -> SafeString:
    """The field, and its table."""
    name = owner_of(report_of(row)) or row.column
    return format_html('{}<div class="quiet">{}.{}</div>', name, row.schema, row.table)


@admin.display(description=gettext_lazy("options"))
def kind(row: HnswIndexStatus) -> SafeString:
    """The distance, and what the index was built with."""
    lists = ["IVFFlat"] if row.method == "ivfflat" else []
    parts = [
        *lists,
        report_of(row).distance or row.opclass,
        *(f"{name}={value}" for name, value in row.options.items()),
    ]
    return format_html_join("", '<div class="pgembedding-option">{}</div>', ((part,) for part in parts))


@admin.display(description=gettext_lazy("size"), ordering="size")
def shown_size(row: HnswIndexStatus) -> str:
    return filesizeformat(row.size)


@admin.display(description=gettext_lazy("rows"), ordering="rows")
def rows(row: HnswIndexStatus) -> str:
    """Those of the table, by the last ANALYZE."""
    return _("unknown") if row.rows is None else str(number_format(row.rows, force_grouping=True))


@admin.display(description=gettext_lazy("dead rows"))
def dead(row: HnswIndexStatus) -> str:
    return _("unknown") if row.dead_share is None else f"{row.dead_share:.0%}"


@admin.display(description=gettext_lazy("scans"))
def scans(row: HnswIndexStatus) -> str:
    """How often it was read, and since when the server counts."""
    if row.stats_reset is None:
        return str(number_format(row.scans, force_grouping=True))
    since = {"scans": number_format(row.scans, force_grouping=True), "since": _moment(row.stats_reset)}
    return _("%(scans)s since %(since)s") % since


@admin.display(description=gettext_lazy("last rebuild"))
def last_rebuild(row: HnswIndexStatus) -> str:
    run = report_of(row).last_rebuild
    if run is None or run.finished is None or run.duration is None:
        return _("not yet")
    said = {"when": _moment(run.finished), "time": show_seconds(run.duration.total_seconds()), "person": run.person}
    if not run.person:
        return _("%(when)s, in %(time)s") % said
    return _("%(when)s by %(person)s, in %(time)s") % said


@admin.display(description=gettext_lazy("last recall"))
def last_recall(row: HnswIndexStatus) -> str:
    """The share of the nearest rows that nearest() found by itself."""
    measured = report_of(row).last_recall
    if measured is None:
        return _("not measured yet")
    said = {"recall": number_format(round(measured.recall, 3), 3), "k": measured.k, "when": _moment(measured.created)}
    return _("%(recall)s of the %(k)s nearest, %(when)s") % said


@admin.display(description=gettext_lazy("definition"))
def definition(row: HnswIndexStatus) -> SafeString:
    return format_html("<code>{}</code>", row.definition)


@admin.display(description=gettext_lazy("rebuilt"))
def rebuilt(row: HnswIndexStatus) -> str:
    run = report_of(row).last_rebuild
    return UNKNOWN if run is None or run.finished is None else _moment(run.finished, "SHORT_DATE_FORMAT")


@admin.display(description=gettext_lazy("recall"))
def recall(row: HnswIndexStatus) -> str:
    measured = report_of(row).last_recall
    return UNKNOWN if measured is None else str(number_format(round(measured.recall, 3), 3))


def _moment(when: datetime, form: str = "SHORT_DATETIME_FORMAT") -> str:
    # With USE_TZ=False all moments are naive.
    return date_format(localtime(when) if is_aware(when) else when, form)


Column = Callable[[HnswIndexStatus], str]

#: What a list of indexes shows, beside their names.
BRIEF: list[Column] = [state, owner, rows, shown_size, recall, rebuilt]

#: What the page of one index shows.
DETAILS: list[Column] = [state, owner, kind, shown_size, rows, dead, scans, last_rebuild, last_recall, definition]
