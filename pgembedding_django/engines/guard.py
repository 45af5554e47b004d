"""The SQL that keeps a pg_embedding index from hanging the server, and from being written to after a crash."""

from __future__ import annotations

__all__ = ["GATE", "MARKS", "UNSOUND", "WRITE_LOCK", "create", "drop"]

#: The high half of the advisory lock's key, "pgem" in ASCII; the low half is the table's oid.
LOCK_SPACE = 0x7067656D << 32

#: Name of the trigger and its function.
GUARD = "pgembedding_guard"

#: The tables whose indexes are sound. It is unlogged, so the server empties it when it recovers from a crash.
MARKS = "pgembedding_sound"

#: The function that tells whether a table is marked; a standby cannot read an unlogged table, nor trust its index.
IS_SOUND = "pgembedding_is_sound"

#: A condition with the table's quoted name as its two parameters: waits for writers, then tells whether to scan.
GATE = (
    f"((SELECT pg_advisory_xact_lock_shared({LOCK_SPACE} | %s::regclass::oid::bigint)) IS NOT NULL "
    f"AND (SELECT {IS_SOUND}(%s::regclass)))"
)

#: What the trigger takes, with the table's quoted name as its parameter.
WRITE_LOCK = f"SELECT pg_advisory_xact_lock({LOCK_SPACE} | %s::regclass::oid::bigint)"

#: Those of the tables in the parameter that carry the guard and are not marked.
UNSOUND = (
    f"SELECT t FROM unnest(%s::bigint[]) t WHERE NOT {IS_SOUND}(t::oid::regclass) "
    f"AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t AND g.tgname = '{GUARD}')"
)

_HAS_INDEX = (
    "EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "WHERE a.amname = 'hnsw' AND i.indrelid = to_regclass({literal}))"
)


def create(table: str, literal: str) -> list[str]:
    """
    Return what must run before the first HNSW index of a table is made.

    table: the quoted name. literal: the same as a text literal.
    """
    return [
        f"CREATE UNLOGGED TABLE IF NOT EXISTS {MARKS} (relid oid PRIMARY KEY)",
        f"CREATE OR REPLACE FUNCTION {IS_SOUND}(relid regclass) RETURNS boolean STABLE LANGUAGE plpgsql AS $$ BEGIN "
        f"IF pg_is_in_recovery() THEN RETURN false; END IF; "
        f"RETURN EXISTS (SELECT FROM {MARKS} m WHERE m.relid = $1); END $$",
        f"CREATE OR REPLACE FUNCTION {GUARD}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock({LOCK_SPACE} | TG_RELID::bigint); "
        f"IF NOT {IS_SOUND}(TG_RELID) THEN RAISE EXCEPTION "
        f"'The HNSW index of table % lost rows when the server crashed, and a write would bring the server down.', "
        f"TG_RELID::regclass USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format("
        f"'Run: REINDEX TABLE %s; INSERT INTO {MARKS} VALUES (%s)', TG_RELID::regclass, TG_RELID); END IF; "
        f"RETURN NULL; END $$",
        f"CREATE OR REPLACE TRIGGER {GUARD} BEFORE INSERT OR UPDATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {GUARD}()",
        # Where an index is there already, only a rebuild proves it sound.
        f"INSERT INTO {MARKS} SELECT to_regclass({literal}) WHERE NOT {_HAS_INDEX.format(literal=literal)} "
        f"ON CONFLICT DO NOTHING",
    ]


def drop(table: str, literal: str) -> str:
    """Return what drops the trigger and the mark of a table that has no HNSW index any more."""
    return (
        f"DO $$ BEGIN IF NOT {_HAS_INDEX.format(literal=literal)} AND to_regclass({literal}) IS NOT NULL THEN "
        f"DROP TRIGGER IF EXISTS {GUARD} ON {table}; DELETE FROM {MARKS} WHERE relid = to_regclass({literal}); "
        f"END IF; END $$"
    )
