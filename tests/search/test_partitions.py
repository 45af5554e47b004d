"""What a project does with a model, over a table of partitions."""

import io

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import modify_settings

from pgembedding_django.checks import check_indexes
from pgembedding_django.maintenance import list_indexes, measure_recall
from pgembedding_django.maintenance.recall.tuning import tune
from pgembedding_django.testing import assertIndexUsed
from tests.composite.models import Leaf
from tests.support.many import QUERY, VECTORS

pytestmark = pytest.mark.pgvector

N = 1_200
NAME = "leaf_embedding_hnsw"
RANKED = np.argsort(np.linalg.norm(VECTORS[:N].astype(np.float64) - QUERY, axis=1)).tolist()
LEAVES = """CREATE TABLE composite_leaf (tenant_id int, id int, body text DEFAULT '', embedding vector(3),
    embedding_digest varchar(64), other vector(3), PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (tenant_id)"""


@pytest.fixture
def leaves(migrated_database):
    """N leaves of three tenants in a partition each, and their index."""
    with modify_settings(INSTALLED_APPS={"append": "tests.composite"}):
        migrated_database.execute(LEAVES)
        for tenant in range(3):
            migrated_database.execute(
                f"CREATE TABLE leaf_{tenant} PARTITION OF composite_leaf FOR VALUES IN ({tenant})"
            )
        with connections["fresh"].schema_editor() as editor:
            editor.add_index(Leaf, Leaf._meta.indexes[0])
        migrated_database.execute("SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off")
        Leaf.objects.using("fresh").bulk_load(
            (
                Leaf(tenant_id=i % 3, id=i // 3, body=f"leaf {i}", embedding=vector)
                for i, vector in enumerate(VECTORS[:N])
            ),
            rebuild_indexes=True,
        )
        yield Leaf.objects.using("fresh")


def ids(rows):
    return [row.id * 3 + row.tenant_id for row in rows]


def test_search_of_all_partitions_merges_their_indexes(leaves):
    rows = leaves.nearest(QUERY, 10, field="embedding")
    assert ids(rows) == RANKED[:10]
    assert rows.explain_nearest().endswith(" It reads the index of 3 of 3 partitions.")
    assertIndexUsed(rows)


def test_search_of_one_partition_leaves_out_the_others(leaves):
    rows = leaves.filter(tenant_id=1).nearest(QUERY, 10, field="embedding", exact=False)
    assert ids(rows) == [i for i in RANKED if i % 3 == 1][:10]
    assert rows.explain_nearest().endswith(" It reads the index of 1 of 3 partitions.")
    assert "leaf_0" not in rows.explain()


def test_search_for_nothing_reads_no_partition(leaves):
    rows = leaves.filter(pk__in=[]).nearest(QUERY, field="embedding", exact=False)
    assert "partitions" not in rows.explain_nearest()


@pytest.mark.parametrize("analyzed", ["composite_leaf", "leaf_0, leaf_1, leaf_2"])
def test_filter_is_counted_over_all_partitions_in_one_scan(
    leaves, migrated_database, django_assert_num_queries, analyzed
):
    migrated_database.execute("UPDATE pg_class SET reltuples = -1 WHERE relname = 'composite_leaf'", superuser=True)
    migrated_database.execute(f"ANALYZE {analyzed}")
    list(leaves.nearest(QUERY, 1, field="embedding"))  # What is asked once for a server.
    rows = leaves.filter(id__lt=390).nearest(QUERY, 2, field="embedding")
    with django_assert_num_queries(2, using="fresh"):
        assert ids(rows) == [i for i in RANKED if i // 3 < 390][:2]
    assert "of 1,200 rows" in rows.explain_nearest()


def test_embed_embeds_the_rows_of_each_partition_once(leaves):
    leaves.update(embedding=None)
    assert leaves.embed(batch_size=500).embedded == N
    assert leaves.stale().count() == 0


def test_recall_and_tuning_know_the_index(leaves):
    report = measure_recall(Leaf, "embedding", k=5, sample=10, ef_search=[40], using="fresh")
    assert (report.size, report.rows[0].recall > 0.9) == (N, True)
    assert tune(Leaf, "embedding", recall=0.5, k=3, sample_rows=100, using="fresh").reached


def test_index_that_was_dropped_is_built_again_by_repair(leaves, migrated_database):
    migrated_database.execute(f"DROP INDEX {NAME}")
    assert [message.id for message in check_indexes(databases=["fresh"])] == ["pgembedding.W032"]
    call_command("rebuild_hnsw_indexes", NAME, "--repair", "--noinput", database="fresh", stdout=io.StringIO())
    found = {report.name: report for report in list_indexes("fresh") if report.model is Leaf}
    assert set(found) == {NAME, *(f"leaf_{tenant}_{NAME}" for tenant in range(3))}
    assert {report.state.value for report in found.values()} == {"healthy"}
    assert {report.declared.name for report in found.values()} == {NAME}
