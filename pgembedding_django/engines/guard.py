"""The SQL that keeps a pg_embedding index from hanging the server, and from being written to after a crash."""

from __future__ import annotations

from pgembedding_django import locks

__all__ = ["GATE", "GUARDED", "HAS_FUNCTIONS", "MARKS", "UNSOUND", "create", "drop", "mark"]

#: A search takes one of so many keys of a table for itself, a write takes all of them shared. So searches run beside
#: searches and writes beside writes, and never one beside the other. More searches than keys wait for each other.
SLOTS = 16

#: How long a search waits for writes before it reads every row instead. A write lasts milliseconds, but its lock lasts
#: until its transaction ends; and under the server's deadlock_timeout of a second no search is part of a deadlock.
PATIENCE = "100ms"

#: Name of the trigger and its function.
GUARD = "pgembedding_guard"

#: The tables whose indexes are sound. It is unlogged, so the server empties it when it recovers from a crash.
MARKS = "pgembedding_sound"

#: The function that tells whether a table is marked; a standby cannot read an unlogged table, nor trust its index.
IS_SOUND = "pgembedding_is_sound"

#: The function that takes a search's lock and tells whether it may read the index.
ENTER = "pgembedding_enter"

#: Whether the functions of this version are there.
HAS_FUNCTIONS = f"SELECT to_regprocedure('{ENTER}(regclass)') IS NOT NULL"

#: A condition with the table's quoted name as its parameter.
GATE = f"(SELECT {ENTER}(%s::regclass))"

_HAS_TRIGGER = (
    f"EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = {{oid}} AND g.tgname = '{GUARD}' "
    "AND g.tgenabled IN ('O', 'A'))"
)

#: Those of the tables in the parameter that carry the guard.
GUARDED = f"SELECT t FROM unnest(%s::bigint[]) t WHERE {_HAS_TRIGGER.format(oid='t')}"

#: Those of them that are not marked.
UNSOUND = f"{GUARDED} AND NOT {IS_SOUND}(t::oid::regclass)"

_HAS_INDEX = (
    "EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "WHERE a.amname = 'hnsw' AND i.indrelid = to_regclass({literal}))"
)

_IS_SOUND_BODY = (
    "BEGIN IF pg_is_in_recovery() THEN RETURN false; END IF; "
    f"RETURN EXISTS (SELECT FROM {MARKS} m WHERE m.relid = $1); END"
)


def _key(slot: str, table: str) -> str:
    return f"(({locks.GUARD} + {slot})::bigint << 32) | {table}::bigint"


# A key that is free is taken without waiting, and the server gives none for which a write waits.
_ENTER_BODY = (
    f"DECLARE mine integer := pg_backend_pid() % {SLOTS}; BEGIN "
    f"IF NOT {IS_SOUND}($1) OR NOT {_HAS_TRIGGER.format(oid='$1')} THEN RETURN false; END IF; "
    f"FOR i IN 0..{SLOTS - 1} LOOP IF pg_try_advisory_xact_lock({_key(f'(mine + i) % {SLOTS}', '$1::oid')}) "
    f"THEN RETURN true; END IF; END LOOP; "
    f"PERFORM pg_advisory_xact_lock({_key('mine', '$1::oid')}); RETURN true; "
    f"EXCEPTION WHEN lock_not_available OR deadlock_detected THEN RETURN false; END"
)

_GUARD_BODY = (
    f"BEGIN PERFORM pg_advisory_xact_lock_shared({_key('slot', 'TG_RELID')}) "
    f"FROM generate_series(0, {SLOTS - 1}) slot; "
    f"IF NOT {IS_SOUND}(TG_RELID) THEN RAISE EXCEPTION "
    f"'The HNSW index of table % lost rows when the server crashed, and a write would bring the server down.', "
    f"TG_RELID::regclass USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format("
    f"'Run: REINDEX TABLE %s; INSERT INTO {MARKS} VALUES (%s)', TG_RELID::regclass, TG_RELID); END IF; "
    f"RETURN NULL; END"
)


def create(table: str, literal: str) -> list[str]:
    """
    Return what must run before the first HNSW index of a table is made.

    table: the quoted name. literal: the same as a text literal.
    """
    return [
        f"CREATE UNLOGGED TABLE IF NOT EXISTS {MARKS} (relid oid PRIMARY KEY)",
        f"GRANT SELECT ON {MARKS} TO PUBLIC",
        f"CREATE OR REPLACE FUNCTION {IS_SOUND}(relid regclass) RETURNS boolean STABLE LANGUAGE plpgsql "
        f"AS $${_IS_SOUND_BODY}$$",
        f"CREATE OR REPLACE FUNCTION {ENTER}(relid regclass) RETURNS boolean LANGUAGE plpgsql "
        f"SET lock_timeout = '{PATIENCE}' AS $${_ENTER_BODY}$$",
        f"CREATE OR REPLACE FUNCTION {GUARD}() RETURNS trigger LANGUAGE plpgsql AS $${_GUARD_BODY}$$",
        f"CREATE OR REPLACE TRIGGER {GUARD} BEFORE INSERT OR UPDATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {GUARD}()",
        # Where an index is there already, only a rebuild proves it sound.
        f"INSERT INTO {MARKS} SELECT to_regclass({literal}) WHERE NOT {_HAS_INDEX.format(literal=literal)} "
        f"ON CONFLICT DO NOTHING",
    ]


def mark(literal: str) -> str:
    """Return what marks a table whose indexes are sound."""
    return f"INSERT INTO {MARKS} SELECT to_regclass({literal}) ON CONFLICT DO NOTHING"


def drop(table: str, literal: str) -> str:
    """Return what drops the trigger and the mark of a table that has no HNSW index any more."""
    return (
        f"DO $$ BEGIN IF NOT {_HAS_INDEX.format(literal=literal)} AND to_regclass({literal}) IS NOT NULL THEN "
        f"DROP TRIGGER IF EXISTS {GUARD} ON {table}; DELETE FROM {MARKS} WHERE relid = to_regclass({literal}); "
        f"END IF; END $$"
    )
