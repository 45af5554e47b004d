"""What is measured, compared, built and checked of a model with a composite primary key."""

import io
import json

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import modify_settings

from pgembedding_django.admin.panels import panels
from pgembedding_django.admin.search import rankable
from pgembedding_django.checks import check_databases, check_indexes, check_models, check_sources
from pgembedding_django.maintenance import list_indexes, measure_recall, measure_relevance, read_questions, rebuild
from pgembedding_django.maintenance.recall.comparison import compare
from pgembedding_django.maintenance.recall.drawing import shuffle
from pgembedding_django.maintenance.recall.tuning import tune
from tests.composite.models import Leaf

N = 300
NAME = "leaf_embedding_hnsw"
VECTORS = np.random.default_rng(4).standard_normal((N, 3)).astype(np.float32)


@pytest.fixture
def leaves(migrated_database):
    """The rows of the database "fresh": N leaves of three tenants, whose ids begin anew with each."""
    with modify_settings(INSTALLED_APPS={"append": "tests.composite"}):
        with connections["fresh"].schema_editor() as editor:
            editor.create_model(Leaf)
        rows = Leaf.objects.using("fresh")
        rows.bulk_load(
            Leaf(tenant_id=i % 3, id=i // 3, body=f"leaf {i}", embedding=vector, other=-vector)
            for i, vector in enumerate(VECTORS)
        )
        migrated_database.execute("ANALYZE composite_leaf")
        yield rows


def call(*args):
    output = io.StringIO()
    call_command(*args, database="fresh", stdout=output)
    return output.getvalue()


def test_recall_of_every_row_behind_an_exact_search_is_whole(leaves):
    report = measure_recall(Leaf, "embedding", k=5, sample=20, using="fresh")
    assert report.default.recall == 1.0
    assert report.size == N
    assert set(report.queries) <= {(i % 3, i // 3) for i in range(N)}


@pytest.mark.pgvector  # pg_embedding fixes ef_search in the index.
def test_recall_through_the_index_leaves_out_the_row_that_asks(leaves):
    report = measure_recall(Leaf, "embedding", k=1, sample=20, ef_search=[1000], using="fresh")
    # A row that counted as its own answer would leave none for the one row that is wanted.
    assert report.rows[0].recall == 1.0


def test_recall_of_one_tenant_is_that_of_its_rows(leaves):
    report = measure_recall(Leaf, "embedding", k=5, sample=10, filters={"tenant_id": 1}, using="fresh")
    assert report.size == N // 3
    assert {tenant for tenant, _ in report.queries} == {1}


def test_rows_are_drawn_in_another_order_with_another_seed(leaves):
    orders = [
        list(shuffle(leaves, Leaf._meta.get_field("embedding"), seed=seed).values_list("pk", flat=True))
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted((i % 3, i // 3) for i in range(N))


def test_tuning_copies_each_row_once(leaves):
    report = tune(Leaf, "embedding", recall=0.5, k=3, sample_rows=100, using="fresh")
    assert (report.rows, report.queries, report.total) == (100, 30, N)
    assert report.reached


def test_comparison_counts_the_rows_that_both_find(leaves):
    # Turned round, every vector is as far from the others as before.
    found = compare(Leaf, "embedding", "other", sample=10, k=3, using="fresh")
    assert (found.mean, found.candidates, len(found.overlaps)) == (1.0, N, 10)


def test_rebuild_and_catalogue_know_the_index(leaves):
    assert rebuild(NAME, using="fresh").status == "succeeded"
    report = next(report for report in list_indexes("fresh") if report.name == NAME)
    assert (report.model, report.field.name, report.state.value) == (Leaf, "embedding", "healthy")


@pytest.mark.pgvector  # Of pg_embedding itself a check says what it is.
def test_checks_find_nothing_wrong(leaves):
    assert check_models() == check_sources() == []
    assert check_databases(databases=["fresh"]) == check_indexes(databases=["fresh"]) == []


def test_commands_measure_tune_and_compare(leaves):
    found = json.loads(call("measure_recall", "composite.Leaf.embedding", "--json", "--sample=10"))
    assert (found["rows"], found["measured"][-1]["ef_search"]) == (N, None)
    assert "HnswIndex(" in call("tune_hnsw", "composite.Leaf.embedding", "--recall=0.5", "--noinput")
    assert "  pk (" in call("compare_embeddings", "composite.Leaf", "embedding", "other", "--sample=5")


def test_relevance_reads_keys_of_two_parts(leaves, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "leaf 4", "answers": [[1, 1]]}')
    questions = read_questions(path, Leaf, using="fresh")
    ways = {"near": lambda rows, text, k: rows.nearest(VECTORS[4], k, field="embedding")}
    assert measure_relevance(Leaf, questions, ways, k=1, using="fresh").ways[0].ndcg == 1
    path.write_text('{"question": "leaf 4", "answers": [1]}')
    with pytest.raises(ValueError, match=r"line 1: 1 is no pk of Leaf\.$"):
        read_questions(path, Leaf, using="fresh")


# The admin of Django takes no model with a composite key; its parts do, for an admin that does.


def test_similar_rows_leave_out_the_row_itself(leaves):
    row = leaves.get(pk=(1, 0))
    distances = np.linalg.norm(VECTORS.astype(np.float64) - VECTORS[1], axis=1)
    nearest = [(int(i) % 3, int(i) // 3) for i in np.argsort(distances)[1:9]]
    panel = panels(row, leaves)[0]
    assert [neighbour.row.pk for neighbour in panel.similar] == nearest
    assert panel.freshness.value == "fresh"


def test_rows_behind_a_filter_are_ranked(leaves):
    ranked = rankable(leaves.filter(tenant_id=2)).nearest(VECTORS[2], 3, field="embedding")
    assert ranked[0].pk == (2, 0)
    assert {row.tenant_id for row in ranked} == {2}
