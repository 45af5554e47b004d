"""The commands over IVFFlat indexes, and over HNSW indexes of bits and of sparse vectors."""

import io
import json

import pytest
from django.apps import apps
from django.contrib.admin.utils import quote
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, models

from pgembedding_django import (
    BitField,
    EmbeddingField,
    EmbeddingManager,
    HnswIndex,
    IvfflatIndex,
    SparseVector,
    SparseVectorField,
)
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.maintenance.recall.recall import measure_recall, record
from pgembedding_django.maintenance.recall.tuning import tune
from pgembedding_django.models import RecallMeasurement
from tests.admin import INDEXES, serve
from tests.support.other_columns import BITS, VECTORS, WORDS, N

pytestmark = [pytest.mark.pgvector, pytest.mark.django_db(transaction=True)]

FIELDS = {"bits": "sheet_bits", "words": "sheet_words", "embedding": "sheet_lists"}


@pytest.fixture
def Sheet():
    """A model of the project, for as long as the test runs, with rows and indexes."""

    class Sheet(models.Model):
        bits = BitField(length=32)
        words = SparseVectorField(dimensions=20)
        embedding = EmbeddingField(dimensions=8)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [
                HnswIndex(fields=["bits"], name="sheet_bits"),
                HnswIndex(fields=["words"], name="sheet_words"),
                IvfflatIndex(fields=["embedding"], name="sheet_lists", lists=9),
            ]

    with connection.schema_editor() as editor:
        editor.create_model(Sheet)
    rows = zip(BITS, WORDS, VECTORS, strict=True)
    Sheet.objects.bulk_load(
        (Sheet(bits=bits, words=words, embedding=vector) for bits, words, vector in rows), rebuild_indexes=True
    )
    yield Sheet
    with connection.schema_editor() as editor:
        editor.delete_model(Sheet)
    del apps.all_models["tests"]["sheet"]
    apps.clear_cache()


@pytest.fixture(params=FIELDS.items(), ids=FIELDS)
def case(request):
    return request.param


def run(command, *args):
    out = io.StringIO()
    call_command(command, *args, stdout=out, stderr=out)
    return out.getvalue()


def reports():
    return {report.name: report for report in list_indexes() if report.table == "tests_sheet"}


def test_each_is_listed_with_its_field_and_distance(Sheet, case):
    field, name = case
    report = reports()[name]
    assert (report.model, report.field.name, report.declared.name) == (Sheet, field, name)
    assert (report.state, report.distance) == ("healthy", "hamming" if field == "bits" else "l2")
    assert report.status.method == ("ivfflat" if field == "embedding" else "hnsw")


def test_list_says_which_are_ivfflat(Sheet):
    assert "sheet_lists (ivfflat)  " in run("hnsw_indexes")
    entries = {entry["index"]: entry["method"] for entry in json.loads(run("hnsw_indexes", "--json"))}
    assert (entries["sheet_lists"], entries["sheet_bits"]) == ("ivfflat", "hnsw")


def test_each_is_rebuilt(Sheet, case):
    _field, name = case
    assert f"Rebuilt {name} in" in run("rebuild_hnsw_indexes", name, "--noinput")
    assert reports()[name].last_rebuild.status == "succeeded"


def test_field_s_index_is_rebuilt_by_the_name_of_the_field(Sheet, case):
    field, name = case
    assert f"Rebuilt {name} in" in run("rebuild_hnsw_indexes", f"tests.Sheet.{field}", "--noinput")


def test_missing_one_is_created_again(Sheet, case):
    _field, name = case
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {name}")
    assert reports()[name].state == "missing"
    assert f"Created {name} in" in run("rebuild_hnsw_indexes", "--repair", "--noinput", "tests.Sheet")
    assert reports()[name].state == "healthy"


def test_check_compares_lists_with_the_declaration(Sheet):
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX sheet_lists")
        cursor.execute("CREATE INDEX sheet_lists ON tests_sheet USING ivfflat (embedding vector_l2_ops)")
    found = [message.msg for message in run_checks(databases=["default"]) if message.id == "pgembedding.W029"]
    assert found == [
        'Index public.sheet_lists of table tests_sheet in database "default" was built with lists=100, and the model '
        "declares lists=9."
    ]


def test_recall_of_each_is_measured(Sheet, case):
    field, name = case
    report = measure_recall(Sheet, field, k=5, sample=20)
    assert (report.index.name, report.size, len(report.queries)) == (name, N, 20)
    # Every list, and more candidates than rows matter: nothing is lost.
    assert report.rows[-1].recall == 1
    assert record(report)
    assert RecallMeasurement.objects.filter(index=name).count() == 1 + len(report.rows)


def test_recall_of_lists_is_that_of_the_rows_in_them(Sheet):
    report = measure_recall(Sheet, "embedding", k=5, sample=20, probes=[1, 9])
    assert report.index.graph == {"lists": 9}
    one, all_of_them = report.rows
    assert (one.ef_search, all_of_them.ef_search, all_of_them.recall) == (1, 9, 1)
    assert one.recall < 1


def test_command_tells_of_probes(Sheet):
    out = run("measure_recall", "tests.Sheet.embedding", "--k=5", "--sample=20", "--probes=1,9")
    assert "index public.sheet_lists (lists=9)" in out
    assert "probes    recall@5" in out
    assert "probes=9 is the smallest measured that reaches a recall of 0.95." in out


def test_too_few_probes_get_advice(Sheet):
    out = run("measure_recall", "tests.Sheet.embedding", "--k=5", "--sample=20", "--probes=1")
    assert "No probes measured reaches a recall of 0.95" in out
    assert "Recall still rises with probes: measure up to 4." in out
    assert "lists are those of the rows that were there when it was built: manage.py rebuild_hnsw_indexes" in out


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ("embedding", {"ef_search": [40]}, "ef_search is nothing of sheet_lists. Give probes."),
        ("bits", {"probes": [4]}, "probes is nothing of sheet_bits. Give ef_search."),
        ("embedding", {"probes": [0]}, "probes must be an integer from 1 to 32,768, got 0."),
    ],
)
def test_what_an_index_does_not_know_is_refused(Sheet, field, options, message):
    with pytest.raises(ValueError) as caught:
        measure_recall(Sheet, field, k=5, sample=20, **options)
    assert str(caught.value) == message


def test_questions_given_are_bits_or_sparse_vectors(Sheet):
    bits = measure_recall(Sheet, "bits", k=5, queries=["01" * 16, "0011" * 8])
    words = measure_recall(Sheet, "words", k=5, queries=[SparseVector({3: 1.0}, 20), WORDS[0]])
    assert (bits.rows[-1].recall, words.rows[-1].recall) == (1, 1)


@pytest.mark.parametrize(
    ("field", "opclass"), [("bits", "bit_hamming_ops"), ("words", "sparsevec_l2_ops"), ("embedding", "")]
)
def test_tuning_finds_a_graph_for_each(Sheet, field, opclass):
    report = tune(Sheet, field, recall=0.9, k=5)
    assert report.reached
    assert report.line.startswith("HnswIndex(")
    assert opclass in report.line


def test_texts_cannot_ask_bits(Sheet, tmp_path):
    (tmp_path / "questions.txt").write_text("one\ntwo")
    with pytest.raises(CommandError) as caught:
        run("measure_recall", "tests.Sheet.bits", "--queries", str(tmp_path / "questions.txt"))
    assert str(caught.value) == (
        "Sheet.bits is a BitField, which no embedder makes: give --queries a .npy, or leave it out."
    )


def test_page_of_an_ivfflat_index_says_so(Sheet, settings, admin_client):
    record(measure_recall(Sheet, "embedding", k=5, sample=20, probes=[1, 9]))
    serve(settings, Sheet)
    page = admin_client.get(f"{INDEXES}{quote('public.sheet_lists')}/change/").content.decode()
    assert "<h1>IVFFlat index</h1>" in page
    assert '<div class="pgembedding-option">IVFFlat</div><div class="pgembedding-option">l2</div>' in page
    assert "Lists read (probes)" in page
