"""A check of the indexes that a database should have: each is there, whole, and as its model declares it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils import translation

from pgembedding_django.checks.built import find_differences, is_migrated
from pgembedding_django.checks.common import AppConfigs
from pgembedding_django.engines import get_engine_for
from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.indexes.lookup import can_read
from pgembedding_django.models import HnswIndexStatus

REPAIR = " Run: manage.py rebuild_hnsw_indexes --repair"


def check_indexes(
    app_configs: AppConfigs = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that each index of the databases asked about serves as declared; silent where it may not read them."""
    # Messages of checks are English, and so is the advice in them.
    with translation.override(None):
        reports = [(report, alias) for alias in databases or () for report in _list(alias)]
    return [message for report, alias in reports for message in _check_report(report, alias)]


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
    elif report.state is State.UNGUARDED:
        yield Warning(
            f"{where} is not guarded.",
            hint=report.advice + REPAIR,
            obj=report.model,
            id="pgembedding.W036",
        )
    elif report.state is State.MISSING and report.repairable and report.model and is_migrated(report.model, alias):
        yield Warning(
            f"{where} is missing.",
            hint=report.advice + REPAIR,
            obj=report.model,
            id="pgembedding.W032",
        )
    if differences := find_differences(report, alias):
        built, declared = (", ".join(each) for each in zip(*differences, strict=True))
        yield Warning(
            f"{where} was built with {built}, and the model declares {declared}.",
            hint="Run makemigrations and migrate. Where no migration is left to run, drop the index." + REPAIR,
            obj=report.model,
            id="pgembedding.W029",
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
