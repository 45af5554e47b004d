import re

import pytest
from django.db import DatabaseError

from pgembedding_django.engines import ENGINES
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.estimate import estimate_disk, estimate_memory, warn_of_memory
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from tests.support.maintenance import INDEX, fill


@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("type_", "opclass", "dimensions", "m"),
    [
        ("vector", "vector_l2_ops", 32, 16),
        ("halfvec", "halfvec_l2_ops", 96, 8),
        ("bit", "bit_hamming_ops", 256, 16),
    ],
)
def test_estimate_agrees_with_the_server_on_memory_and_size(migrated_database, type_, opclass, dimensions, m):
    random = {
        "bit": f"(SELECT string_agg((random() > 0.5)::int::text, '') FROM generate_series(1, {dimensions}) WHERE g > 0)"
    }.get(type_, f"(SELECT array_agg(random()) FROM generate_series(1, {dimensions}) WHERE g > 0)::real[]")
    migrated_database.execute(f"CREATE TABLE t (e {type_}({dimensions}))")
    migrated_database.execute(f"INSERT INTO t SELECT {random}::{type_}({dimensions}) FROM generate_series(1, 3500) g")
    migrated_database.execute(f"CREATE INDEX t_hnsw ON t USING hnsw (e {opclass}) WITH (m = {m}, ef_construction = 32)")
    run = rebuild("t_hnsw", using="fresh", maintenance_work_mem="1MB", parallel_workers=0)
    fitted = int(re.search(r"no longer fits into maintenance_work_mem after (\d+) tuples", run.notice)[1])
    engine = ENGINES["pgvector"]
    assert engine.graph_size(opclass, fitted, dimensions, {"m": str(m)}) == pytest.approx(1024**2, rel=0.02)
    assert engine.index_size(opclass, 3500, dimensions, {"m": str(m)}) == pytest.approx(
        find_index("t_hnsw", "fresh").size, rel=0.1
    )


@pytest.mark.pg_embedding
def test_estimate_of_pg_embedding_is_of_disk_alone(migrated_database, engine):
    fill(migrated_database, engine, 3000)
    migrated_database.execute("VACUUM ANALYZE tests_article")
    rebuild(INDEX, using="fresh")
    status = find_index(INDEX, "fresh")
    assert (estimate_memory(status, "fresh"), warn_of_memory(status, "1MB", "fresh")) == (0, "")
    assert engine.index_size(status.opclass, 3000, 3, status.options) == pytest.approx(status.size, rel=0.1)


def test_estimate_without_rows_is_unknown(migrated_database):
    status = find_index(INDEX, "fresh")
    assert (estimate_memory(status, "fresh"), warn_of_memory(status, None, "fresh")) == (None, "")


@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("type_", "opclass", "dimensions", "lists"),
    [("vector", "vector_l2_ops", 32, 100), ("halfvec", "halfvec_l2_ops", 96, 20), ("bit", "bit_hamming_ops", 256, 50)],
)
def test_estimate_agrees_with_the_server_on_lists(migrated_database, type_, opclass, dimensions, lists):
    random = {
        "bit": f"(SELECT string_agg((random() > 0.5)::int::text, '') FROM generate_series(1, {dimensions}) WHERE g > 0)"
    }.get(type_, f"(SELECT array_agg(random()) FROM generate_series(1, {dimensions}) WHERE g > 0)::real[]")
    migrated_database.execute(f"CREATE TABLE t (e {type_}({dimensions}))")
    migrated_database.execute(f"INSERT INTO t SELECT {random}::{type_}({dimensions}) FROM generate_series(1, 3500) g")
    migrated_database.execute(f"CREATE INDEX t_lists ON t USING ivfflat (e {opclass}) WITH (lists = {lists})")
    migrated_database.execute("ANALYZE t")
    status = find_index("t_lists", "fresh")
    assert estimate_disk(status, "fresh") == pytest.approx(status.size, rel=0.2)
    assert warn_of_memory(status, "1MB", "fresh").startswith("The lists of t_lists are made in about ")
    with pytest.raises(DatabaseError, match="memory required is"):
        rebuild("t_lists", using="fresh", maintenance_work_mem="1MB")
    enough = f"{estimate_memory(status, 'fresh') // 1024 + 1}kB"
    assert "may refuse it" not in rebuild("t_lists", using="fresh", maintenance_work_mem=enough).notice
