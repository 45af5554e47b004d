"""What a person needs to know when a build fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, InterfaceError, OperationalError, connections
from django.template.defaultfilters import pluralize

from pgembedding_django.loading.primary import READ_ONLY
from pgembedding_django.maintenance.indexes.lookup import statuses
from pgembedding_django.maintenance.rebuilding.session import Session
from pgembedding_django.models import HnswIndexStatus
from pgembedding_django.operations import sqlstate

__all__ = ["REBUILD_RIGHTS", "end_sentence", "explain_refusal", "explained", "is_connection_lost"]

#: PostgreSQL 17 has the privilege MAINTAIN.
MAINTAIN_VERSION = 170000

#: SQLSTATE of a right that a role lacks, and of a statement cancelled.
NO_RIGHT, CANCELLED = "42501", "57014"

#: SQLSTATE of a disk that is full, and of /dev/shm, in which the processes of a parallel build share their memory.
DISK_FULL = "53100"

#: SQLSTATE of a connection that the server ended or refused, and the class of those that failed.
ENDED, FAILED_CLASS = ("57P01", "57P02", "57P03", "57P05"), "08"

#: What a role needs that rebuilds and repairs.
REBUILD_RIGHTS = (
    "SELECT on pgembedding_hnsw_index, SELECT, INSERT and UPDATE on pgembedding_django_indexrun, and ownership of "
    "the table"
)


def explain_refusal(error: Exception, using: str, rights: str) -> str:
    """Return an error of the server in one sentence, with the remedy where a right is missing or nobody may write."""
    if _is_ours(error):
        return str(error)
    said = end_sentence(error)
    if is_connection_lost(error):
        return f'The connection to database "{using}" failed: {said}'
    if sqlstate(error) == NO_RIGHT:
        role = connections[using].settings_dict["USER"]
        return f"{said} This needs {rights}: let the owner grant them to role {role}."
    if sqlstate(error) == READ_ONLY:
        return f'{said} Database "{using}" is read-only here. Use a primary server and a role that may write.'
    return said


def is_connection_lost(error: Exception) -> bool:
    """Tell whether an error means that the connection failed or was lost."""
    state = sqlstate(error)
    if state:
        return state in ENDED or state.startswith(FAILED_CLASS)
    # Without the server there is nobody to give a code, but the driver still is the cause.
    return isinstance(error, InterfaceError | OperationalError) and not _is_ours(error)


def _is_ours(error: Exception) -> bool:
    """Tell whether this package worded an error, and not the driver."""
    return error.__cause__ is None or isinstance(error.__cause__, Error)


def end_sentence(error: Exception) -> str:
    """Return the first line of what an error says, with a full stop; the lines after it are the driver's."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".") + "."


@contextmanager
def explained(status: HnswIndexStatus, session: Session) -> Iterator[None]:
    """Raise an error of the server again with the index, the reason, what is left behind and the remedy."""
    before = _invalid(status, session)
    try:
        yield
    except Error as error:
        text = f"Index {status.name} of table {status.table} {_reason(error, status, session)}."
        if status.valid:
            text += " The old index still serves."
        # The server is gone, so the catalogue cannot be read.
        with suppress(Error):
            if left := ", ".join(sorted(_invalid(status, session) - before)):
                text += f" Left behind: {left}. Run: manage.py rebuild_hnsw_indexes --repair"
        raise type(error)(text) from error


def _reason(error: Error, status: HnswIndexStatus, session: Session) -> str:
    code = sqlstate(error)
    if code == NO_RIGHT:
        return f"cannot be changed by role {_remedy_of_rights(status, session)}"
    if code == CANCELLED:
        return _reason_of_cancel(session)
    remedy = ""
    if code == DISK_FULL and "shared memory" in str(error):
        remedy = ". Give it less memory, or a larger /dev/shm, or build without help (parallel_workers=0)"
    return f"failed: {end_sentence(error).rstrip('.')}{remedy}"


def _reason_of_cancel(session: Session) -> str:
    """Return why a statement was cancelled, by give_up or by somebody else, and which backends it waited for."""
    reason = "was cancelled"
    if session.gave_up:
        reason = f"was given up after {session.give_up:g} second{pluralize(session.give_up)}"
    blockers = session.last_progress.blocked_by if session.last_progress else ()
    return reason + (
        f" of waiting for backend{pluralize(blockers)} {', '.join(map(str, blockers))}" if blockers else ""
    )


def _remedy_of_rights(status: HnswIndexStatus, session: Session) -> str:
    role, owner, version = session.fetch(
        "SELECT current_user, pg_get_userbyid(relowner), current_setting('server_version_num')::integer "
        "FROM pg_class WHERE oid = %s",
        [status.table_oid],
    )[0]
    what = f"MAINTAIN ON {status.schema}.{status.table}" if version >= MAINTAIN_VERSION else owner
    return f"{role}, which does not own it. Let {owner} do it, or run as a superuser: GRANT {what} TO {role}"


def _invalid(status: HnswIndexStatus, session: Session) -> set[str]:
    invalid = statuses(session.using).filter(table_oid=status.table_oid, valid=False, building_pid=None)
    return set(invalid.values_list("name", flat=True))
