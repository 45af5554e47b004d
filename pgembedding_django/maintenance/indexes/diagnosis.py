"""What is wrong with an index, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pgembedding_django.engines import Engine
from pgembedding_django.maintenance.indexes.progress import BuildProgress
from pgembedding_django.models import HnswIndexStatus

__all__ = ["State", "describe_progress", "diagnose", "find_parent", "is_unread"]

#: Share of a table's rows that are dead: past it autovacuum should have come (autovacuum_vacuum_scale_factor is 0.2).
BLOATED_DEAD_SHARE = 0.2

#: Times the size that a new index would have, so that a rebuild halves it at least. Of indexes that were just built,
#: the estimate is within 3% (pgvector 0.8.5, 32 and 384 dimensions, m of 8 to 48).
BLOATED_SIZE_FACTOR = 2

#: Bytes and rows below which neither bloat nor idleness costs anything worth a rebuild: both are read in no time.
SMALL_SIZE = 8 * 1024**2
SMALL_ROWS = 10_000

#: How long the server must have counted before an index that nothing read is called unused: a week, so that the jobs
#: of each weekday had their turn.
UNUSED_AFTER = timedelta(days=7)

#: The names that REINDEX CONCURRENTLY gives the index that it builds and the one that it replaces.
LEFTOVER = re.compile(r"(?P<base>.*)_cc(new|old)\d*", re.DOTALL)


class State(TextChoices):
    """What an index is like, worst first."""

    CRASHED = "crashed", gettext_lazy("crashed")
    UNGUARDED = "unguarded", gettext_lazy("unguarded")
    INVALID = "invalid", gettext_lazy("invalid")
    MISSING = "missing", gettext_lazy("missing")
    BUILDING = "building", gettext_lazy("building")
    BLOATED = "bloated", gettext_lazy("bloated")
    UNUSED = "unused", gettext_lazy("unused")
    UNKNOWN = "unknown", gettext_lazy("unknown")
    HEALTHY = "healthy", gettext_lazy("healthy")


def diagnose(
    status: HnswIndexStatus,
    *,
    engine: Engine,
    since: datetime | None,
    sound: bool = True,
    guarded: bool = True,
    leftover_of: str = "",
    progress: BuildProgress | None = None,
    now: datetime | None = None,
) -> tuple[State, str]:
    """
    Return the state of an index and the advice that goes with it.

    since: from when on its scans are known to have been counted, None where its age is not known.
    sound: whether the engine lets anything use the table's indexes. guarded: whether searches of it can be safe.
    """
    if status.building_pid is not None:
        return State.BUILDING, describe_progress(status.building_pid, progress)
    if not status.valid:
        return State.INVALID, _advise_invalid(status, leftover_of)
    if not sound:
        return State.CRASHED, _(
            "The server crashed after it was built, and it lost rows. Searches read every row and writes are refused "
            "until it is rebuilt."
        )
    if not guarded:
        return State.UNGUARDED, _(
            "It was not made by a migration of this project, so nothing keeps its readers and writers apart, and "
            "searches read every row. Repair rebuilds it and guards its table."
        )
    if bloat := _advise_bloated(status, engine):
        return State.BLOATED, bloat
    if status.dead_share is None:
        return State.UNKNOWN, _(
            "This server is a standby, which counts no dead rows and only its own scans. Ask the primary."
        )
    if since is not None and is_unread(status) and (now or timezone.now()) - since >= UNUSED_AFTER:
        return State.UNUSED, _(
            "No search of this server has read it since %(since)s. See why by explain_nearest(), or drop it; replicas "
            "count their own."
        ) % {"since": date_format(since)}
    return State.HEALTHY, ""


def find_parent(status: HnswIndexStatus, others: Collection[HnswIndexStatus]) -> str:
    """
    Return the name of the index whose interrupted rebuild left an invalid one behind, "" where there is none.

    The two must also agree in all that REINDEX copies. It cuts a long name to fit its suffix.
    """
    match = LEFTOVER.fullmatch(status.name)
    if status.valid or not match:
        return ""
    return next(
        (
            other.name
            for other in others
            if other.oid != status.oid and other.name.startswith(match["base"]) and _twins(status, other)
        ),
        "",
    )


def describe_progress(pid: int, progress: BuildProgress | None) -> str:
    """Describe the progress of a backend's build, and the backends that it waits for."""
    if progress is None:
        return _("Backend %(pid)s is building it.") % {"pid": pid}
    text = _("Backend %(pid)s is building it: %(phase)s, %(percent)d%%.") % {
        "pid": pid,
        "phase": progress.phase,
        "percent": progress.percent,
    }
    if not progress.blocked_by:
        return text
    waits = ngettext("It waits for backend %(pids)s.", "It waits for backends %(pids)s.", len(progress.blocked_by))
    return text + " " + waits % {"pids": ", ".join(map(str, progress.blocked_by))}


def _twins(status: HnswIndexStatus, other: HnswIndexStatus) -> bool:
    names = ("table_oid", "method", "signature", "opclass", "options")
    return all(getattr(status, name) == getattr(other, name) for name in names)


def _advise_invalid(status: HnswIndexStatus, leftover_of: str) -> str:
    if status.partitioned:
        return _("Some partition lacks its index, and searches read every row there. Repair builds it.")
    if not status.live:
        return _("An interrupted DROP INDEX CONCURRENTLY left it behind. Repair drops it.")
    burden = _("no search uses it, but every write maintains it") if status.ready else _("nothing uses it")
    if leftover_of:
        return _("An interrupted rebuild of %(index)s left it behind: %(burden)s. Repair drops it.") % {
            "index": leftover_of,
            "burden": burden,
        }
    return _("Its build, or a drop of it, was interrupted: %(burden)s. Repair rebuilds it.") % {"burden": burden}


def _advise_bloated(status: HnswIndexStatus, engine: Engine) -> str:
    dead_share = status.dead_share or 0.0
    if dead_share >= BLOATED_DEAD_SHARE and (status.rows or 0) >= SMALL_ROWS:
        return _("%(share)d%% of the table's rows are dead. Rebuild the index, then run VACUUM.") % {
            "share": 100 * dead_share
        }
    if status.size < SMALL_SIZE or status.rows is None or status.dimensions is None:
        return ""
    estimate = engine.lists_size if status.method == "ivfflat" else engine.index_size
    fresh = estimate(status.opclass, status.rows, status.dimensions, status.options)
    if (status.rows and not fresh) or status.size < BLOATED_SIZE_FACTOR * max(fresh, 1):
        return ""  # Of vectors whose size is not known, or not bloated.
    return _("A new one of the same rows would have %(percent)d%% of its size. Rebuild it.") % {
        "percent": 100 * fresh / status.size
    }


def is_unread(status: HnswIndexStatus) -> bool:
    """Tell whether no search has read an index that is large enough to be worth it, as far as the server counts."""
    # pg_embedding counts the entries that its scans return, not the scans.
    # A partition that nobody asks for has no index of its own to drop.
    return not (status.scans or status.entries_read or status.parent_oid) and (status.rows or 0) >= SMALL_ROWS
