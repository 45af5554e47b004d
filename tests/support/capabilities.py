"""Servers that lack what Postgres has: the tests' own server, of which the engine is told that it can less."""

import pytest

from pgembedding_django.engines import ENGINES
from pgembedding_django.engines.pgvector import PgvectorEngine
from pgembedding_django.engines.servers import CitusServer, Server


class BareServer(Server):
    """Lacks all that a server may lack."""

    settings_in_statement = False
    explains = False
    locks_rows = False
    updates_by_digest = False
    partial_indexes = False
    concurrent_builds = False
    materializes = False
    joins_lateral = False


class ShardedServer(CitusServer):
    """
    A cluster of one server, whose plans look as if two servers had a half of each table.

    shards: those that a statement with a WHERE of its own reads.
    """

    def __init__(self, shards=2):
        super().__init__()
        self.shards = shards

    def explain(self, connection, statement):
        plan = super().explain(connection, statement)
        shards = self.shards if "WHERE" in statement[0] else 2
        return {
            "Node Type": "Custom Scan",
            "Plan Rows": 0 if shards == 1 else 100_000,
            "Distributed Query": {"Job": {"Tasks": [{"Remote Plan": [[{"Plan": plan}]]} for _ in range(shards)]}},
        }


class Engine(PgvectorEngine):
    """pgvector on a server of the test's choice."""

    def __init__(self, server):
        super().__init__()
        self.chosen = server

    def server(self, connection):
        return self.chosen


@pytest.fixture
def serve(monkeypatch):
    """Let pgvector be on another server until the end of the test."""

    def serve(server):
        monkeypatch.setitem(ENGINES, "pgvector", Engine(server))
        return server

    return serve
