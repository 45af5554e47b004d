"""Writes into the admin's log what somebody asked for there, and how it ended."""

from __future__ import annotations

import logging

from django.apps import apps
from django.db import Error

from pgembedding_django.models import HnswIndexStatus, IndexRun

__all__ = ["log_outcome", "log_run"]

logger = logging.getLogger("pgembedding_django")


def log_outcome(run: IndexRun) -> None:
    """Log the status of a run in the name of its user, if there is one and the project has the admin."""
    if not run.user or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.auth import get_user_model

    try:
        user = get_user_model()._base_manager.filter(pk=run.user).first()
        if user is not None:
            log_run(run, user.pk)
    except Error:
        # The log may be in another database than the index, and the run has ended whatever becomes of it.
        logger.exception("The admin's log does not have the end of run %s: %s", run.pk, run)


def log_run(run: IndexRun, user_id: int | str) -> None:
    """Add the status of a run to the admin's log; needs django.contrib.admin and its tables."""
    from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
    from django.contrib.contenttypes.models import ContentType

    flags = {IndexRun.Action.CREATE: ADDITION, IndexRun.Action.DROP: DELETION}
    label = f"{run.schema}.{run.index}" if run.schema else None
    text = f"{run.get_action_display()}: {run.get_status_display()}".capitalize()
    LogEntry.objects.create(
        user_id=user_id,
        content_type=ContentType.objects.get_for_model(HnswIndexStatus),
        object_id=label,
        object_repr=(label or run.index)[:200],
        action_flag=flags.get(IndexRun.Action(run.action), CHANGE),
        change_message=f"{text}. {run.error}".strip(),
    )
