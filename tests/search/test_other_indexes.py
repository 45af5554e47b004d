"""nearest() over bits, sparse vectors and IVFFlat: k of k, exact where an index is short, explained."""

import numpy as np
import pytest
from django.db import NotSupportedError, connection, models

from pgembedding_django import (
    BitField,
    EmbeddingField,
    EmbeddingManager,
    HnswIndex,
    IvfflatIndex,
    SparseVector,
    SparseVectorField,
)
from pgembedding_django.engines import ENGINES
from pgembedding_django.engines.extension import Known
from pgembedding_django.engines.places import place
from pgembedding_django.engines.servers import PLAIN
from pgembedding_django.indexes import declared_hnsw_index, declared_index
from tests.support.other_columns import BITS, VECTORS, WORDS, N

pytestmark = pytest.mark.pgvector

K = 10


@pytest.fixture
def Page(isolated, db):
    class Page(models.Model):
        title = models.IntegerField()
        bits = BitField(length=32)
        words = SparseVectorField(dimensions=20)
        embedding = EmbeddingField(dimensions=8)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [
                HnswIndex(fields=["bits"], name="page_bits"),
                HnswIndex(fields=["words"], name="page_words"),
                IvfflatIndex(fields=["embedding"], name="page_lists", lists=10),
            ]

    with connection.schema_editor() as editor:
        editor.create_model(Page)
        for index in Page._meta.indexes:
            editor.remove_index(Page, index)
    rows = zip(BITS, WORDS, VECTORS, strict=True)
    Page.objects.bulk_load(
        Page(title=title, bits=bits, words=words, embedding=vector) for title, (bits, words, vector) in enumerate(rows)
    )
    connection.check_constraints()
    with connection.schema_editor() as editor:
        for index in Page._meta.indexes:
            editor.add_index(Page, index)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_page")
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    return Page


CASES = {
    "bits": (BITS[7], (BITS ^ BITS[7]).sum(axis=1), "page_bits"),
    "words": (SparseVector(WORDS[7]), np.linalg.norm(WORDS - WORDS[7], axis=1), "page_words"),
    "embedding": (VECTORS[7], np.linalg.norm(VECTORS - VECTORS[7], axis=1), "page_lists"),
}


@pytest.fixture(params=CASES)
def case(request):
    return request.param, *CASES[request.param]


def test_nearest_finds_k_rows_and_the_first_is_the_row_itself(Page, case):
    field, query, expected, _index = case
    found = list(Page.objects.nearest(query, K, field=field))
    assert (len(found), found[0].title, found[0].distance) == (K, 7, 0)
    assert [row.distance for row in found] == pytest.approx(expected[[row.title for row in found]], abs=1e-5)


def test_exact_ranking_is_that_of_numpy(Page, case):
    field, query, expected, _index = case
    found = [row.distance for row in Page.objects.nearest(query, K, field=field, exact=True)]
    assert found == pytest.approx(np.sort(expected)[:K], abs=1e-5)


def test_index_serves_the_search_and_says_so(Page, case):
    field, query, _expected, index = case
    rows = Page.objects.nearest(query, K, field=field)
    assert f"Index Scan using {index}" in rows.explain()
    assert rows.explain_nearest().startswith(
        f"Index scan on {index} with {'probes=3' if field == 'embedding' else 'ef'}"
    )


def test_more_rows_than_the_index_gives_are_completed_exactly(Page, case):
    field, query, expected, _index = case
    found = list(Page.objects.nearest(query, N, field=field, exact=False))
    assert len({row.pk for row in found}) == N
    assert [row.distance for row in found] == pytest.approx(np.sort(expected), abs=1e-5)


def test_filter_leaves_k_rows_where_k_match(Page, case):
    field, query, expected, _index = case
    kept = np.arange(N) % 20 == 0
    for exact in (None, False):
        found = list(Page.objects.filter(title__in=np.flatnonzero(kept)).nearest(query, K, field=field, exact=exact))
        assert len(found) == K
        assert found[0].distance == pytest.approx(expected[kept].min(), abs=1e-5)


def test_instance_is_not_near_itself(Page, case):
    field, _query, _expected, _index = case
    row = Page.objects.get(title=7)
    assert 7 not in [each.title for each in Page.objects.nearest(row, K, field=field)]


def test_text_of_the_server_is_a_query(Page):
    assert Page.objects.nearest(str(SparseVector(WORDS[3])), 1, field="words")[0].title == 3
    assert Page.objects.nearest("".join("01"[int(bit)] for bit in BITS[3]), 1, field="bits")[0].title == 3


def test_index_of_bits_takes_the_field_s_distance(Page):
    index = Page._meta.indexes[0]
    assert (index.distance, index.opclasses) == ("hamming", ["bit_hamming_ops"])
    assert index.deconstruct()[2]["opclasses"] == ["bit_hamming_ops"]


def test_query_of_another_length_is_refused(Page):
    with pytest.raises(ValueError) as caught:
        Page.objects.nearest("101", field="bits")
    assert str(caught.value) == "Page.bits must have 32 bits, got 3."


# IVFFlat


def test_probes_are_those_of_the_caller_then_of_the_index(Page, monkeypatch):
    def said(**options):
        return Page.objects.nearest(VECTORS[7], K, field="embedding", **options).explain_nearest()

    assert " with probes=3:" in said()
    monkeypatch.setattr(Page._meta.indexes[2], "probes", 5)
    assert " with probes=5:" in said()
    assert " with probes=10:" in said(probes=10)


def test_all_lists_give_the_exact_answer(Page):
    found = Page.objects.nearest(VECTORS[7], K, field="embedding", probes=10)
    expected = np.sort(np.linalg.norm(VECTORS - VECTORS[7], axis=1))[:K]
    assert [row.distance for row in found] == pytest.approx(expected, abs=1e-5)


def test_filter_reads_more_lists(Page):
    rows = Page.objects.filter(title__gte=N // 2).nearest(VECTORS[7], 1, field="embedding")
    said = rows.explain_nearest()
    assert "Exact scan" in said or " with probes=" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": 0}, "probes must be an integer from 1 to 32768, got 0."),
        ({"ef_search": 40}, "ef_search is nothing of page_lists, which is a IvfflatIndex. Give probes."),
        (
            {"field": "words", "probes": 3, "query": WORDS[7]},
            "probes is nothing of page_words, which is a HnswIndex. Give ef_search.",
        ),
    ],
)
def test_argument_of_another_kind_of_index_is_refused(Page, options, message):
    with pytest.raises(ValueError) as caught:
        Page.objects.nearest(**{"query": VECTORS[7], "field": "embedding", **options})
    assert str(caught.value) == message


def test_index_is_built_with_its_lists_alone(Page):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef('page_lists'::regclass)")
        assert cursor.fetchone()[0].endswith("USING ivfflat (embedding) WITH (lists='10')")


def test_index_deconstructs_to_what_makes_it_again():
    index = IvfflatIndex(fields=["e"], name="i", distance="cosine", lists=50, probes=4)
    path, args, kwargs = index.deconstruct()
    assert path == "pgembedding_django.IvfflatIndex"
    assert kwargs == {"fields": ["e"], "name": "i", "distance": "cosine", "lists": 50, "probes": 4}
    assert IvfflatIndex(*args, **kwargs) == index


def test_other_probes_leave_the_index_as_it_is():
    def index(**options):
        return IvfflatIndex(fields=["e"], name="i", **options)

    assert index(probes=4) == index()
    assert index(lists=4) != index()
    assert index() != HnswIndex(fields=["e"], name="i")


@pytest.mark.parametrize(
    ("storage", "distance", "message"),
    [
        (
            "single",
            "l1",
            'An IvfflatIndex of vector has no distance "l1". Use l2 or cosine or inner_product, or an HnswIndex.',
        ),
        ("bit", "jaccard", 'An IvfflatIndex of bit has no distance "jaccard". Use hamming, or an HnswIndex.'),
        ("sparse", "l2", 'An IvfflatIndex of sparsevec has no distance "l2". Use an HnswIndex.'),
    ],
)
def test_index_that_the_server_lacks_is_refused(storage, distance, message):
    with pytest.raises(NotSupportedError) as caught:
        ENGINES["pgvector"].check_method("ivfflat", storage, distance)
    assert str(caught.value) == message


def test_engine_without_lists_says_so():
    with pytest.raises(NotSupportedError) as caught:
        ENGINES["pg_embedding"].check_method("ivfflat", "single", "l2")
    assert str(caught.value) == "pg_embedding has no IvfflatIndex. Use an HnswIndex."


def test_index_of_a_distance_that_the_type_lacks_is_refused(isolated, db):
    class Sign(models.Model):
        bits = BitField(length=8)

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["bits"], name="sign_l2", distance="l2")]

    with pytest.raises(NotSupportedError) as caught, connection.schema_editor() as editor:
        editor.create_model(Sign)
    assert str(caught.value) == 'An index of bit has no distance "l2". Use "hamming" or "jaccard".'


def test_field_with_both_kinds_is_searched_by_hnsw(isolated):
    class Both(models.Model):
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [
                IvfflatIndex(fields=["embedding"], name="both_lists"),
                HnswIndex(fields=["embedding"], name="both_graph"),
            ]

    field = Both._meta.get_field("embedding")
    assert (declared_index(field).name, declared_hnsw_index(field).name) == ("both_graph", "both_graph")


def test_half_precision_by_lists_is_ranked_again(Page):
    index = IvfflatIndex(fields=["embedding"], name="page_half", lists=10, precision="half")
    with connection.schema_editor() as editor:
        editor.remove_index(Page, Page._meta.indexes[2])
        editor.add_index(Page, index)
    Page._meta.indexes[2] = index
    rows = Page.objects.nearest(VECTORS[7], K, field="embedding", probes=10)
    assert "page_half" in rows.explain()
    assert "20 candidates ranked again" in rows.explain_nearest()
    expected = np.sort(np.linalg.norm(VECTORS - VECTORS[7], axis=1))[:K]
    assert [row.distance for row in rows] == pytest.approx(expected, abs=1e-5)


def test_server_without_iterative_scans_is_told_of_probes_alone(fresh_database):
    from pgembedding_django.engines.scan import Scan

    engine = ENGINES["pgvector"]
    engine._known[place(fresh_database.connection)] = Known((0, 7, 4), PLAIN, None)
    _sql, params = engine.scan_gate(fresh_database.connection, '"t"', Scan(index="i", probes=3))
    assert params == ["ivfflat.probes", "3"]


def test_index_that_names_l2_keeps_it_where_the_field_says_otherwise(isolated):
    class Named(models.Model):
        embedding = EmbeddingField(dimensions=3, distance="cosine")

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="%(class)s_l2", distance="l2")]

    assert Named._meta.indexes[0].distance == "l2"


def test_bits_have_no_index_of_another_precision():
    with pytest.raises(NotSupportedError) as caught:
        ENGINES["pgvector"].indexed_expression("bit", "hamming", "half", 8)
    assert str(caught.value) == "pgvector has no index of half precision. Leave precision out."


def test_several_examples_of_bits_rank_by_the_best_match(Page):
    found = Page.objects.nearest([BITS[3], BITS[9]], 5, field="bits", match="best", exact=True)
    best = np.minimum((BITS ^ BITS[3]).sum(axis=1), (BITS ^ BITS[9]).sum(axis=1))
    assert [row.distance for row in found] == sorted(best)[:5]


def test_several_examples_of_bits_have_no_mean(Page):
    with pytest.raises(ValueError, match=r'^Page\.bits is a BitField, which has no mean\. Say match="best"\.$'):
        Page.objects.nearest([BITS[3], BITS[9]], 5, field="bits")
