"""System checks: pgembedding.E001 and so on, each with a hint."""

from __future__ import annotations

from django.core import checks
from django.core.checks import Tags

from pgembedding_django.checks.admins import check_admins
from pgembedding_django.checks.arrays import check_arrays
from pgembedding_django.checks.databases import check_databases
from pgembedding_django.checks.indexes import check_indexes
from pgembedding_django.checks.models import check_models
from pgembedding_django.checks.passages import check_passages
from pgembedding_django.checks.sources import check_sources
from pgembedding_django.checks.zeros import check_zeros

__all__ = [
    "check_admins",
    "check_arrays",
    "check_databases",
    "check_indexes",
    "check_models",
    "check_passages",
    "check_sources",
    "check_zeros",
    "register",
]


def register() -> None:
    """Add the checks to Django's; done once when the app is ready."""
    checks.register(check_models, Tags.models)
    checks.register(check_arrays, Tags.models)
    checks.register(check_sources, Tags.models)
    checks.register(check_passages, Tags.models)
    checks.register(check_admins, Tags.admin)
    checks.register(check_databases, Tags.database)
    checks.register(check_indexes, Tags.database)
    checks.register(check_zeros, Tags.database)
