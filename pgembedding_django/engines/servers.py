"""
What a server can do: Postgres as it comes, and what differs where a table lies on several servers.

Longer than other modules: what differs between servers is read side by side.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.explained import Plan, Task, expected_rows, tasks_of
from pgembedding_django.engines.places import place
from pgembedding_django.engines.shards import IndexTotals, read_shards

__all__ = ["CITUS", "PLAIN", "YUGABYTE", "CitusServer", "Estimate", "Server", "Statement", "find_server", "server_with"]

#: SQL and its parameters.
Statement = tuple[str, Sequence[Any]]

#: Rows counted at most where no plan tells how many there are: a filter that keeps more is none to read
#: exactly, and counting on would take as long as that.
MOST_COUNTED = 100_000

#: How long the shards of a table are remembered, in seconds.
SECONDS = 60.0


class Estimate(NamedTuple):
    """How many rows a filter keeps, how many the index holds, and in how many parts of the table the former may be."""

    kept: int
    held: int
    parts: int = 1


class Parts(NamedTuple):
    """How many parts a table has of which each is searched by itself, and the rows of the largest."""

    number: int
    rows: int


class Server:
    """Postgres as it comes. What a subclass cannot do, the code has another way for."""

    #: Whether set_config() within a statement reaches whatever runs it; else settings are made by SET LOCAL.
    settings_in_statement: ClassVar[bool] = True
    #: Whether EXPLAIN (FORMAT JSON) tells rows and indexes; else rows are counted, and the index is taken to be read.
    explains: ClassVar[bool] = True
    #: Whether SELECT ... FOR UPDATE SKIP LOCKED locks rows anywhere in a table; else workers take turns to claim rows.
    locks_rows: ClassVar[bool] = True
    #: Whether an UPDATE may compare digests that it computes (STABLE functions); else the row is locked and read first.
    updates_by_digest: ClassVar[bool] = True
    #: Whether CREATE INDEX takes a WHERE; else the index holds every row.
    partial_indexes: ClassVar[bool] = True
    #: Whether an index is built, rebuilt and dropped beside writes; else they wait for it.
    concurrent_builds: ClassVar[bool] = True
    #: Whether WITH ... AS MATERIALIZED is known; else a CTE is one without that word.
    materializes: ClassVar[bool] = True
    #: Whether its catalogue has the statistics of every table; else they are not asked for.
    keeps_statistics: ClassVar[bool] = True
    #: Whether one statement searches for several vectors (CROSS JOIN LATERAL); else each is a statement of its own.
    joins_lateral: ClassVar[bool] = True

    @property
    def materialized(self) -> str:
        """What stands between AS and a CTE that is to be computed once."""
        return "MATERIALIZED " if self.materializes else ""

    @property
    def concurrently(self) -> str:
        """What stands in a statement that builds, rebuilds or drops an index beside writes."""
        return "CONCURRENTLY " if self.concurrent_builds else ""

    def setting(self, connection: BaseDatabaseWrapper, settings: Mapping[str, str]) -> AbstractContextManager[None]:
        """Return what statements run inside that need settings which none of them makes itself."""
        return _set_local(connection, settings)

    def estimate(self, connection: BaseDatabaseWrapper, kept: Statement, held: Statement) -> Estimate:
        """
        Return how many rows two statements give, as far as it takes no reading of them.

        kept: rows behind a filter. held: all rows that an index has.
        """
        if not self.explains:
            return Estimate(_count(connection, kept), _count(connection, held))
        # OFFSET 0 keeps the parts of a partitioned table together.
        sql = f"({kept[0]} OFFSET 0) UNION ALL ({held[0]} OFFSET 0)"
        top = self.explain(connection, (sql, (*kept[1], *held[1])))
        parts = [int(part["Plan Rows"]) for part in top.get("Plans", ())]
        if top["Node Type"] == "Append" and len(parts) == 2:
            return Estimate(parts[0], max(parts))
        # The planner sees that the filter keeps nothing, and leaves it out.
        return Estimate(0, int(top["Plan Rows"]))

    def explain(self, connection: BaseDatabaseWrapper, statement: Statement) -> Plan:
        """Return the plan of a statement."""
        sql, params = statement
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            (plan,) = cursor.fetchone()
        top: Plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        return top

    def names_of_parts(self, connection: BaseDatabaseWrapper, quoted_table: str, index: str) -> list[str]:
        """Return the names that an index has where the rows are, beside its own."""
        return []

    def index_totals(
        self, connection: BaseDatabaseWrapper, tables: Collection[int]
    ) -> dict[tuple[int, str], IndexTotals]:
        """Return what is known of indexes where the rows are, by the table's oid and the index's name."""
        return {}

    def parts(self, connection: BaseDatabaseWrapper, quoted_table: str) -> Parts | None:
        """Return the parts of a table; None where it is one, whose own count of rows tells."""
        return None

    def distribute(self, table: str, column: str, colocate_with: str) -> list[str]:
        """
        Return the statements that spread a table by a column, none where there is one server.

        All names come as literals of SQL. colocate_with: another table, or "".
        """
        return []

    def copy_everywhere(self, table: str) -> list[str]:
        """Return the statements that keep a table on every server."""
        return []

    def gather(self, table: str) -> list[str]:
        """Return the statements that bring a table back to one server."""
        return []


class CitusServer(Server):
    """
    Citus 12 and up: a table's rows lie in shards, on several servers.

    Source: Citus documentation, "SQL Support and Workarounds", and Citus 14 with two workers.
    """

    # It stays on the coordinator, where no row is.
    settings_in_statement = False
    # "SELECT … FOR UPDATE work in single-shard queries only" (same page).
    locks_rows = False
    # "STABLE functions used in UPDATE queries cannot be called with column references" (same page).
    updates_by_digest = False
    joins_lateral = False
    # Those of a shard are on its worker.
    keeps_statistics = False

    def __init__(self) -> None:
        self._parts: dict[Hashable, tuple[float, Parts | None]] = {}

    def setting(self, connection: BaseDatabaseWrapper, settings: Mapping[str, str]) -> AbstractContextManager[None]:
        # SET LOCAL reaches the workers' transactions too, those that begin later as well.
        return _set_local(connection, {"citus.propagate_set_commands": "local", **settings})

    def estimate(self, connection: BaseDatabaseWrapper, kept: Statement, held: Statement) -> Estimate:
        with _set_local(connection, {"citus.explain_all_tasks": "on"}):
            plan, whole = self.explain(connection, kept), self.explain(connection, held)
        tasks, all_tasks = tasks_of(plan), tasks_of(whole)
        if not all_tasks:
            # A table that is on the coordinator alone.
            return Estimate(expected_rows(plan), expected_rows(whole))
        return Estimate(expected_rows(plan), _rows_of(tasks, all_tasks), len(tasks))

    def names_of_parts(self, connection: BaseDatabaseWrapper, quoted_table: str, index: str) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT shard_name(i.indexrelid::regclass, s.shardid) FROM pg_index i "
                "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_dist_shard s ON s.logicalrelid = i.indrelid "
                "WHERE i.indrelid = to_regclass(%s) AND c.relname = %s",
                [quoted_table, index],
            )
            # Quoted, and with its schema where the search path leaves that out.
            return [name.rpartition(".")[2].strip('"') for (name,) in cursor.fetchall()]

    def index_totals(
        self, connection: BaseDatabaseWrapper, tables: Collection[int]
    ) -> dict[tuple[int, str], IndexTotals]:
        return read_shards(connection, tables)

    def parts(self, connection: BaseDatabaseWrapper, quoted_table: str) -> Parts | None:
        key = place(connection), quoted_table
        until, parts = self._parts.get(key, (0.0, None))
        if time.monotonic() >= until:
            tasks = self._tasks(connection, quoted_table)
            parts = Parts(len(tasks), max(task.rows for task in tasks)) if tasks else None
            self._parts[key] = (time.monotonic() + SECONDS, parts)
        return parts

    def distribute(self, table: str, column: str, colocate_with: str) -> list[str]:
        beside = f", colocate_with => {colocate_with}" if colocate_with else ""
        return [SEQUENTIAL, f"SELECT create_distributed_table({table}, {column}{beside})"]

    def copy_everywhere(self, table: str) -> list[str]:
        return [SEQUENTIAL, f"SELECT create_reference_table({table})"]

    def gather(self, table: str) -> list[str]:
        return [
            SEQUENTIAL,
            f"SELECT undistribute_table(logicalrelid) FROM pg_dist_partition WHERE logicalrelid = to_regclass({table})",
        ]

    def _tasks(self, connection: BaseDatabaseWrapper, quoted_table: str) -> list[Task]:
        with _set_local(connection, {"citus.explain_all_tasks": "on"}):
            return tasks_of(self.explain(connection, (f"SELECT FROM {quoted_table}", ())))


class YugabyteServer(Server):
    """
    YugabyteDB, as its documentation describes it; nobody has run this on one.

    Source: YugabyteDB documentation, "pgvector extension", limitations.
    """

    partial_indexes = False
    concurrent_builds = False


#: Within a transaction, what follows on the same tables would otherwise be refused; outside of one it does nothing.
SEQUENTIAL = "SELECT set_config('citus.multi_shard_modify_mode', 'sequential', true)"

#: One of each serves all connections.
PLAIN, CITUS, YUGABYTE = Server(), CitusServer(), YugabyteServer()


def server_with(extensions: Collection[str], version: str = "") -> Server:
    """Return the server of a database that has some extensions, and a version of pgvector such as "0.8.0-yb-1.0"."""
    if "-yb-" in version:
        return YUGABYTE
    return CITUS if "citus" in extensions else PLAIN


def find_server(connection: BaseDatabaseWrapper) -> Server:
    """Ask a database for its server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname::text FROM pg_extension")
        return server_with([name for (name,) in cursor.fetchall()])


def _rows_of(tasks: list[Task], all_tasks: list[Task]) -> int:
    """Return the rows of the shards that some tasks read."""
    tables = {table for task in tasks for table in task.tables}
    read = [task.rows for task in all_tasks if tables & set(task.tables)]
    return sum(read) if read else sum(task.rows for task in all_tasks)


def _count(connection: BaseDatabaseWrapper, statement: Statement) -> int:
    sql, params = statement
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({sql} LIMIT {MOST_COUNTED}) counted", params)
        count: int = cursor.fetchone()[0]
    return count


@contextmanager
def _set_local(connection: BaseDatabaseWrapper, settings: Mapping[str, str]) -> Iterator[None]:
    """Make settings for a block: in a short transaction, or until the block ends in the one that is open."""
    if not connection.in_atomic_block:
        with transaction.atomic(connection.alias):
            _set(connection, settings)
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(['current_setting(%s, true)'] * len(settings))}", list(settings))
        before = cursor.fetchone()
    _set(connection, settings)
    yield
    # After an error the transaction is over, and the settings with it.
    _set(connection, dict(zip(settings, before, strict=True)))


def _set(connection: BaseDatabaseWrapper, settings: Mapping[str, str | None]) -> None:
    quoted = [f"SET LOCAL {name} TO {_literal(value)}" for name, value in settings.items()]
    with connection.cursor() as cursor:
        cursor.execute("; ".join(quoted))


def _literal(value: str | None) -> str:
    """Return a setting as SQL; one that the server did not know before has its default."""
    return "DEFAULT" if value is None else "'{}'".format(value.replace("'", "''"))
