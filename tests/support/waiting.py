"""Waiting for what a thread, another process or the server does: a test that waits in vain fails."""

import time

from django.db import Error

#: The advisory locks of this database: a server has others.
ADVISORY_LOCKS = (
    "SELECT mode, classid, objid, objsubid, granted FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def wait_until(condition, seconds=60, what=""):
    """Ask until the answer is true, and return it."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, what or f"waited {seconds} s in vain"
        time.sleep(0.01)
    return answer


def wait_for(database, sql, seconds=60):
    """Ask a database until there is a row, and return the rows."""
    return wait_until(lambda: database.execute(sql), seconds, sql)


def once_it_is_back(connection, ask):
    """Return what a function returns of a server that crashed, once it has recovered."""

    def look():
        try:
            return [ask()]
        except Error:
            return connection.close()

    return wait_until(look, what="the server did not come back")[0]
