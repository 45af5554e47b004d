"""A check of the indexes that a database has: none is left by an interrupted build, or incomplete after a crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from pgembedding_django.checks.common import AppConfigs
from pgembedding_django.engines import get_engine_for
from pgembedding_django.maintenance.catalogue import IndexReport, State, can_read, list_indexes
from pgembedding_django.models import HnswIndexStatus

REPAIR = " Run: manage.py rebuild_hnsw_indexes --repair"


def check_indexes(
    app_configs: AppConfigs = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that each index of the databases asked about serves; none is where the view of them cannot be read."""
    return [message for alias in databases or () for report in _list(alias) for message in _check_report(report, alias)]


def _check_report(report: IndexReport, alias: str) -> Iterator[CheckMessage]:
    where = f'Index {report.label} of table {report.table} in database "{alias}"'
    if report.state is State.INVALID:
        yield Warning(
            f"{where} is invalid.",
            hint=report.advice + REPAIR * report.repairable,
            obj=report.model,
            id="pgembedding.W027",
        )
    elif report.state is State.CRASHED:
        yield Warning(
            f"{where} lost rows when the server crashed.",
            hint=report.advice + REPAIR,
            obj=report.model,
            id="pgembedding.W028",
        )


def _list(alias: str) -> list[IndexReport]:
    if connections[alias].vendor != "postgresql":
        return []
    try:
        get_engine_for(alias)
    except ImproperlyConfigured:
        return []  # E007 says so.
    # `migrate` runs the checks, and it may be what brings the view up to date.
    return list_indexes(alias) if can_read(HnswIndexStatus, alias) else []
