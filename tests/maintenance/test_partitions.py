"""Indexes of partitioned tables: what is listed of them, and what a rebuild and a repair do, part by part."""

import pytest
from django.core.management import call_command

from pgembedding_django.maintenance import list_indexes, rebuild
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.estimate import estimate_disk, estimate_memory
from pgembedding_django.maintenance.rebuilding.jobs import perform
from pgembedding_django.maintenance.rebuilding.repair import plan_repair, queue_step

pytestmark = pytest.mark.pgvector

PARTS = ["parted_1_e_idx", "parted_2_e_idx"]


def filenode(database, name):
    return database.execute("SELECT pg_relation_filenode(%s::regclass)", [name])


@pytest.fixture
def parted(migrated_database):
    """A table of two partitions with 100 and 300 rows, an index of both, and statistics."""
    for statement in (
        "CREATE TABLE parted (id int, e vector(3)) PARTITION BY LIST (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)",
        "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2)",
        "INSERT INTO parted SELECT 1 + (g % 4 > 0)::int, ARRAY[g, 1, 2]::vector FROM generate_series(1, 400) g",
        "CREATE INDEX parted_hnsw ON parted USING hnsw (e vector_l2_ops)",
        "ANALYZE parted_1",
        "ANALYZE parted_2",
    ):
        migrated_database.execute(statement)
    return migrated_database


@pytest.fixture
def lacking(parted):
    """The same, where one partition lacks its index, as an interrupted build leaves it."""
    parted.execute("DROP INDEX parted_hnsw")
    parted.execute("CREATE INDEX parted_hnsw ON ONLY parted USING hnsw (e vector_l2_ops)")
    parted.execute("CREATE INDEX parted_1_e_idx ON parted_1 USING hnsw (e vector_l2_ops)")
    parted.execute("ALTER INDEX parted_hnsw ATTACH PARTITION parted_1_e_idx")
    return parted


def report(name):
    return next(each for each in list_indexes("fresh") if each.name == name)


def test_index_of_all_partitions_has_the_sum_of_its_parts(parted):
    whole, parts = report("parted_hnsw").status, [report(name).status for name in PARTS]
    assert (whole.rows, [part.rows for part in parts]) == (400, [100, 300])
    assert whole.size == sum(part.size for part in parts) > 0
    parted.execute("SET enable_seqscan = off")
    parted.execute("SELECT id FROM parted WHERE id = 2 ORDER BY e <-> '[1,1,1]' LIMIT 1")
    parted.execute("SELECT pg_stat_force_next_flush()")
    parted.execute("SELECT 1")
    assert [report(name).status.scans for name in ("parted_hnsw", *PARTS)] == [1, 0, 1]


def test_index_of_a_table_without_partitions_has_nothing(migrated_database):
    migrated_database.execute("CREATE TABLE none (id int, e vector(3)) PARTITION BY LIST (id)")
    migrated_database.execute("CREATE INDEX none_hnsw ON none USING hnsw (e vector_l2_ops)")
    found = report("none_hnsw")
    assert (found.state, found.status.size, found.status.rows, found.status.scans) == (State.HEALTHY, 0, None, 0)
    assert (estimate_memory(found.status, "fresh"), estimate_disk(found.status, "fresh")) == (None, 0)


def test_build_needs_the_room_of_the_largest_partition(parted):
    whole, larger = find_index("parted_hnsw", "fresh"), find_index("parted_2_e_idx", "fresh")
    assert estimate_memory(whole, "fresh") == estimate_memory(larger, "fresh") > 0
    assert estimate_disk(whole, "fresh") == estimate_disk(larger, "fresh") > 0


def test_rebuild_of_one_partition_leaves_the_others(parted):
    before = [filenode(parted, name) for name in PARTS]
    run = rebuild("parted_1_e_idx", using="fresh")
    after = [filenode(parted, name) for name in PARTS]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
    assert (run.part, run.parts) == (1, 1)


def test_rebuild_of_all_partitions_records_their_sizes(parted):
    run = rebuild("parted_hnsw", using="fresh")
    assert run.parts == 2
    assert run.size_before == run.size_after > 0


def test_index_that_a_partition_lacks_is_invalid_and_repair_builds_it_there(lacking, capsys):
    found = report("parted_hnsw")
    assert (found.state, found.repairable) == (State.INVALID, True)
    kept = filenode(lacking, "parted_1_e_idx")
    call_command("rebuild_hnsw_indexes", "parted_hnsw", "--repair", "--noinput", database="fresh")
    assert "Build parted_hnsw on the partitions of parted that lack it." in capsys.readouterr().out
    assert report("parted_hnsw").state is State.HEALTHY
    assert filenode(lacking, "parted_1_e_idx") == kept
    assert lacking.indexes()["parted_2_parted_hnsw"]


def test_repair_of_partitions_records_how_many_it_builds(lacking):
    [step] = plan_repair("fresh")
    run = queue_step(step, using="fresh")
    perform(run)
    assert (run.action, run.status, run.part, run.parts) == ("create", "succeeded", 1, 1)


def test_repair_of_one_partition_builds_what_was_interrupted_there(lacking):
    lacking.execute("CREATE INDEX broken ON parted_2 USING hnsw (e vector_l2_ops)")
    lacking.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass", superuser=True)
    call_command("rebuild_hnsw_indexes", "broken", "--repair", "--noinput", database="fresh")
    assert report("broken").state is State.HEALTHY
    call_command("rebuild_hnsw_indexes", "parted_hnsw", "--repair", "--noinput", database="fresh")
    assert report("parted_hnsw").state is State.HEALTHY
    assert set(lacking.indexes()) >= {"parted_hnsw", "parted_1_e_idx", "broken"}


def test_partition_that_is_detached_keeps_its_index_and_one_that_is_attached_brings_its_own(parted):
    parted.execute("ALTER TABLE parted DETACH PARTITION parted_1")
    alone, whole = report("parted_1_e_idx").status, report("parted_hnsw").status
    assert (alone.parent_oid, whole.rows) == (None, 300)
    kept = filenode(parted, "parted_1_e_idx")
    parted.execute("ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES IN (1)")
    alone, whole = report("parted_1_e_idx").status, report("parted_hnsw").status
    assert (alone.parent_oid, whole.rows) == (whole.oid, 400)
    assert filenode(parted, "parted_1_e_idx") == kept
