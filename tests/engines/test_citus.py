"""Everything on a real Citus cluster, whose address the environment gives; elsewhere test_servers.py has its fakes."""

import os
import threading

import environ
import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import modify_settings

from pgembedding_django import Centroid, DistributeTable, diversify
from pgembedding_django.embedding.single import embed_one
from pgembedding_django.maintenance import find_index, list_indexes, measure_recall, rebuild
from pgembedding_django.maintenance.indexes.diagnosis import State
from tests.composite.models import Leaf
from tests.support.many import QUERY, RANKED, VECTORS, N, ranked

ADDRESS = os.environ.get("PGEMBEDDING_TEST_CITUS")

pytestmark = [
    pytest.mark.pgvector,
    pytest.mark.skipif(ADDRESS is None, reason="PGEMBEDDING_TEST_CITUS names no Citus cluster"),
]

NAME = "leaf_embedding_hnsw"
TENANTS = 10


@pytest.fixture(scope="module")
def cluster(django_db_setup, django_db_blocker):
    """The database of a cluster, with the alias "citus" and N leaves of ten tenants in as many shards as it makes."""
    with django_db_blocker.unblock(), modify_settings(INSTALLED_APPS={"append": "tests.composite"}):
        connections.settings["citus"] = {**connections.settings["default"], **environ.Env.db_url_config(ADDRESS)}
        connection = connections["citus"]
        call_command("migrate", "pgembedding_django", database="citus", verbosity=0)
        state = ProjectState()
        state.add_model(ModelState.from_model(Leaf))
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS composite_leaf")
        with connection.schema_editor() as editor:
            editor.create_model(Leaf)
            DistributeTable("Leaf", column="tenant_id").database_forwards("composite", editor, state, state)
        rows = (Leaf(tenant_id=i % TENANTS, id=i, body=str(i), embedding=vector) for i, vector in enumerate(VECTORS))
        Leaf.objects.using("citus").bulk_load(rows, rebuild_indexes=True)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE composite_leaf")
        yield connection
        with connection.schema_editor() as editor:
            DistributeTable("Leaf", column="tenant_id").database_backwards("composite", editor, state, state)
            editor.delete_model(Leaf)
        connection.close()
        del connections["citus"]
        del connections.settings["citus"]


@pytest.fixture
def leaves(cluster, django_db_blocker):
    with django_db_blocker.unblock():
        yield Leaf.objects.using("citus")


def nearest(rows, query, k, **options):
    return rows.nearest(query, k, field="embedding", **options)


def ids(rows):
    return [row.id for row in rows]


def found(rows, expected):
    return len(set(ids(rows)) & set(expected)) / len(expected)


@pytest.mark.parametrize("k", [10, 300, 1500])
def test_nearest_of_all_shards_has_k_of_k_at_the_recall_of_one_server(leaves, k):
    rows = list(nearest(leaves, QUERY, k))
    assert len(rows) == k
    assert found(rows, RANKED[:k]) >= 0.99


def test_nearest_behind_another_column_is_complete(leaves):
    few = [str(i) for i in range(0, N, 100)]
    assert ids(nearest(leaves.filter(body__in=few), QUERY, 10)) == ranked(lambda i: i % 100 == 0)[:10]
    assert found(nearest(leaves.filter(id__gte=N // 2), QUERY, 10), ranked(lambda i: i >= N // 2)[:10]) == 1


def test_search_of_a_tenant_runs_on_its_shard_alone_through_its_index(leaves):
    rows = nearest(leaves.filter(tenant_id=3), QUERY, 10, exact=False)
    assert ids(rows) == ranked(lambda i: i % TENANTS == 3)[:10]
    assert "Task Count: 1" in rows.explain()
    assert rows.explain_nearest().startswith(f"Index scan on {NAME}")


def test_pages_distances_instances_and_aggregates(leaves):
    assert ids(nearest(leaves, QUERY, 20)[5:9]) == RANKED[5:9]
    limit = float(np.linalg.norm(VECTORS[RANKED[4]].astype(np.float64) - QUERY)) + 1e-6
    assert ids(nearest(leaves, QUERY, 50, max_distance=limit)) == RANKED[:5]
    row = leaves.get(pk=(RANKED[0] % TENANTS, RANKED[0]))
    assert RANKED[0] not in ids(nearest(leaves, row, 3))
    assert nearest(leaves, QUERY, 5).count() == 5
    assert len(diversify(nearest(leaves, QUERY, 20), QUERY, 5, field="embedding")) == 5
    mean = leaves.aggregate(mean=Centroid("embedding"))["mean"]
    assert np.allclose(mean, VECTORS.mean(axis=0), atol=1e-4)


def test_searches_inside_other_statements_are_right(leaves):
    inner = nearest(leaves, QUERY, 5, exact=False).values("id")
    assert set(ids(leaves.filter(id__in=inner))) == set(RANKED[:5])
    assert len(nearest(leaves, QUERY, 3).union(nearest(leaves, -QUERY, 3))) == 6
    first, second = leaves.nearest_each([QUERY, VECTORS[7]], 2, field="embedding")
    assert (ids(first), ids(second)[0]) == (RANKED[:2], 7)
    assert 17 in ids(leaves.hybrid("17", 5, fields=["body"], field="embedding").iterator(chunk_size=2))


def test_search_in_a_transaction_sees_its_writes_and_leaves_no_setting(leaves, cluster):
    with transaction.atomic("citus"):
        leaves.create(tenant_id=1, id=N, body="new", embedding=QUERY)
        assert ids(nearest(leaves, QUERY, 1)) == [N]
        with cluster.cursor() as cursor:
            cursor.execute("SELECT current_setting('hnsw.ef_search', true)")
            assert cursor.fetchone()[0] in (None, "", "40")
        transaction.set_rollback(True, "citus")


def test_index_is_listed_with_the_sum_of_its_shards(leaves, cluster):
    with cluster.cursor() as cursor:
        cursor.execute(
            "SELECT sum(result::bigint) FROM run_command_on_shards('composite_leaf', "
            "$$SELECT sum(pg_relation_size(indexrelid)) FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
            "WHERE indrelid = '%s'::regclass AND relname LIKE 'leaf_embedding%%'$$)"
        )
        (size,) = cursor.fetchone()
    (report,) = [report for report in list_indexes("citus") if report.name == NAME]
    assert (report.state, report.status.rows, report.status.size) == (State.HEALTHY, N, size)
    assert find_index(NAME, "citus").size == size


def test_rebuild_and_recall_are_of_every_shard(leaves):
    assert rebuild(NAME, using="citus").status == "succeeded"
    report = measure_recall(Leaf, using="citus", sample=20, field="embedding")
    assert report.default.recall >= 0.99
    assert report.reads_index


def test_two_workers_embed_each_row_once(leaves, background):
    leaves.bulk_create(Leaf(tenant_id=90 + i % 6, id=i, body=f"text {i}") for i in range(60))
    both = threading.Barrier(2)

    def work():
        both.wait()
        return leaves.filter(tenant_id__gte=90).embed(batch_size=7, field="embedding").embedded

    first, second = background(work), background(work)
    assert first.result() + second.result() == 60
    assert not leaves.filter(tenant_id__gte=90).stale(field="embedding").exists()
    leaves.filter(tenant_id__gte=90).delete()


def test_one_row_is_embedded_by_itself(leaves):
    leaves.create(tenant_id=80, id=1, body="a text")
    field = Leaf._meta.get_field("embedding")
    assert embed_one(field, (80, 1), "citus") is not None
    assert embed_one(field, (80, 1), "citus") is None
    leaves.filter(tenant_id=80).delete()
