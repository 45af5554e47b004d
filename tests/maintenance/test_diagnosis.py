from datetime import UTC, datetime, timedelta

import pytest

from pgembedding_django.engines import ENGINES
from pgembedding_django.maintenance.indexes.diagnosis import State, diagnose, find_parent
from pgembedding_django.maintenance.indexes.progress import BuildProgress
from pgembedding_django.models import HnswIndexStatus

NOW = datetime(2026, 6, 15, tzinfo=UTC)
PGVECTOR = ENGINES["pgvector"]


def status(**changed):
    """A healthy index of 100,000 rows of 384 dimensions, which takes 25,000 pages when it is new."""
    values = {
        "oid": 1,
        "schema": "public",
        "name": "note_hnsw",
        "table": "note",
        "table_oid": 9,
        "column": "e",
        "signature": "a",
        "type": "vector",
        "dimensions": 384,
        "opclass": "vector_l2_ops",
        "options": {},
        "valid": True,
        "ready": True,
        "live": True,
        "partitioned": False,
        "size": 25_000 * 8192,
        "rows": 100_000,
        "dead_share": 0.0,
        "scans": 5,
        "entries_read": 50,
    }
    return HnswIndexStatus(**{**values, **changed})


def diagnosis(engine=PGVECTOR, since=NOW - timedelta(days=7), sound=True, leftover_of="", progress=None, **changed):
    return diagnose(
        status(**changed),
        engine=engine,
        since=since,
        sound=sound,
        leftover_of=leftover_of,
        progress=progress,
        now=NOW,
    )


BLOATED = "A new one of the same rows would have 40% of its size. Rebuild it."
DEAD = "25% of the table's rows are dead. Rebuild the index, then run VACUUM."
UNUSED = (
    "No search of this server has read it since June 8, 2026. See why by explain_nearest(), or drop it; replicas count "
    "their own."
)
UNKNOWN = "This server is a standby, which counts no dead rows and only its own scans. Ask the primary."
BEHIND = "An interrupted rebuild of note_hnsw left it behind: "
BURDEN = "no search uses it, but every write maintains it"
HALF_WAY = BuildProgress("building index: loading tuples", 45.7)
WAITING = BuildProgress("waiting for old snapshots", 97, (7, 8))


@pytest.mark.parametrize(
    ("changed", "state", "advice"),
    [
        ({}, State.HEALTHY, ""),
        ({"rows": None, "scans": 0, "entries_read": 0}, State.HEALTHY, ""),
        ({"building_pid": 7, "valid": False}, State.BUILDING, "Backend 7 is building it."),
        (
            {"building_pid": 7, "progress": HALF_WAY},
            State.BUILDING,
            "Backend 7 is building it: building index: loading tuples, 45%.",
        ),
        (
            {"building_pid": 7, "progress": WAITING},
            State.BUILDING,
            "Backend 7 is building it: waiting for old snapshots, 97%. It waits for backends 7, 8.",
        ),
        (
            {"valid": False, "ready": False},
            State.INVALID,
            "Its build, or a drop of it, was interrupted: nothing uses it. Repair rebuilds it.",
        ),
        (
            {"valid": False},
            State.INVALID,
            f"Its build, or a drop of it, was interrupted: {BURDEN}. Repair rebuilds it.",
        ),
        ({"valid": False, "leftover_of": "note_hnsw"}, State.INVALID, f"{BEHIND}{BURDEN}. Repair drops it."),
        (
            {"valid": False, "ready": False, "leftover_of": "note_hnsw"},
            State.INVALID,
            f"{BEHIND}nothing uses it. Repair drops it.",
        ),
        (
            {"valid": False, "ready": False, "live": False},
            State.INVALID,
            "An interrupted DROP INDEX CONCURRENTLY left it behind. Repair drops it.",
        ),
        (
            {"valid": False, "partitioned": True},
            State.INVALID,
            "Some partition lacks its index, and searches read every row there. Repair builds it.",
        ),
        (
            {"sound": False},
            State.CRASHED,
            "The server crashed after it was built, and it lost rows. Searches read every row and writes are refused "
            "until it is rebuilt.",
        ),
        ({"rows": 40_000}, State.BLOATED, BLOATED),
        ({"rows": 0}, State.BLOATED, BLOATED.replace("40", "0")),
        ({"rows": 60_000}, State.HEALTHY, ""),
        ({"rows": 40, "size": 8_000_000}, State.HEALTHY, ""),
        ({"dead_share": 0.25}, State.BLOATED, DEAD),
        ({"dead_share": 0.19}, State.HEALTHY, ""),
        ({"dead_share": 0.25, "rows": 9_999, "size": 0}, State.HEALTHY, ""),
        ({"scans": 0, "entries_read": 0}, State.UNUSED, UNUSED),
        ({"scans": 0, "entries_read": 1}, State.HEALTHY, ""),
        ({"scans": 0, "entries_read": 0, "rows": 9_999, "size": 0}, State.HEALTHY, ""),
        ({"scans": 0, "entries_read": 0, "parent_oid": 8}, State.HEALTHY, ""),
        ({"dead_share": None}, State.UNKNOWN, UNKNOWN),
        ({"dead_share": None, "rows": 40_000}, State.BLOATED, BLOATED),
        ({"scans": 0, "entries_read": 0, "since": NOW - timedelta(days=6)}, State.HEALTHY, ""),
        ({"scans": 0, "entries_read": 0, "since": None}, State.HEALTHY, ""),
    ],
)
def test_diagnosis_says_what_is_wrong_and_what_to_do(changed, state, advice):
    assert diagnosis(**changed) == (state, advice)


def test_bloat_of_pg_embedding_is_measured_by_its_own_pages():
    # m=16: 132 bytes of links, 1,536 of vector and 8 of label: 4 to a page.
    options = {"dims": "384", "m": "16"}
    engine = ENGINES["pg_embedding"]
    assert engine.index_size("ann_l2_ops", 100_000, 384, options) == 25_000 * 8192
    assert diagnosis(engine, opclass="ann_l2_ops", options=options, rows=40_000) == (State.BLOATED, BLOATED)


@pytest.mark.parametrize(
    ("name", "changed", "parent"),
    [
        ("note_hnsw_ccnew", {}, "note_hnsw"),
        ("note_hnsw_ccnew12", {}, "note_hnsw"),
        ("note_hnsw_ccold", {}, "note_hnsw"),
        ("note_hn_ccnew", {}, "note_hnsw"),  # a long name is cut to fit the suffix
        ("note_hnsw_ccnew", {"valid": True}, ""),
        ("note_hnsw_cc", {}, ""),
        ("other_ccnew", {}, ""),
        ("note_hnsw_ccnew", {"opclass": "vector_cosine_ops"}, ""),
        ("note_hnsw_ccnew", {"options": {"m": "8"}}, ""),
        ("note_hnsw_ccnew", {"signature": "b"}, ""),
        ("note_hnsw_ccnew", {"table_oid": 8}, ""),
    ],
)
def test_leftover_is_known_by_all_that_a_rebuild_copies(name, changed, parent):
    left = status(**{"oid": 2, "name": name, "valid": False, **changed})
    assert find_parent(left, [left, status()]) == parent
