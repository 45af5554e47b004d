"""What indexes would need at another number of rows, beside what they take."""

import io
import json

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models

from pgembedding_django import (
    BitField,
    EmbeddingField,
    EmbeddingManager,
    HnswIndex,
    IvfflatIndex,
    SparseVectorField,
)
from pgembedding_django.maintenance.sizing import plan_indexes
from tests.models import Article
from tests.support.maintenance import INDEX

ROWS = 2_000


def need_of(name, precision="single", rows=ROWS, using="default", **options):
    needs = plan_indexes(rows, using, **options)
    return next(each for each in needs if (each.index, each.precision) == (name, precision))


def plan(*words, **options):
    out = io.StringIO()
    call_command("hnsw_indexes", plan=list(words), stdout=out, **options)
    return out.getvalue()


@pytest.mark.django_db
@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("dimensions", "precision", "m"),
    [(8, None, 16), (128, None, 16), (384, "half", 16), (384, "binary", 16), (64, None, 48)],
)
def test_plan_of_an_index_is_at_most_5_percent_less_than_it_takes(isolated, monkeypatch, dimensions, precision, m):
    class Sized(models.Model):
        embedding = EmbeddingField(dimensions=dimensions)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [
                HnswIndex(fields=["embedding"], name="sized_hnsw", precision=precision, m=m, ef_construction=2 * m)
            ]

    with connection.schema_editor(atomic=False) as editor:
        editor.create_model(Sized)
    vectors = np.random.default_rng(3).standard_normal((ROWS, dimensions), dtype=np.float32)
    Sized.objects.bulk_load_arrays(vectors, rebuild_indexes=True)
    monkeypatch.setattr("django.apps.apps.get_models", lambda: [Sized])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('sized_hnsw'), pg_total_relation_size('tests_sized')")
        size, whole = cursor.fetchone()
    need = need_of("sized_hnsw", precision or "single")
    assert need.declared
    assert 0.95 * size <= need.size <= 1.01 * size
    assert need.table == pytest.approx(whole - size, rel=0.01)
    assert need.disk == need.table + 2 * need.size


@pytest.mark.django_db
@pytest.mark.pgvector
def test_plan_of_partitions_builds_one_at_a_time():
    whole, parts = need_of(INDEX, rows=160_000), need_of(INDEX, rows=160_000, partitions=16)
    assert parts.memory == whole.memory // 16
    assert parts.size == pytest.approx(whole.size, rel=0.01)
    assert parts.disk - parts.table == pytest.approx(parts.size * 17 / 16)


@pytest.mark.django_db
@pytest.mark.pgvector
def test_plan_tells_of_other_precisions_where_the_engine_has_them():
    found = [need for need in plan_indexes(1_000_000) if need.index == INDEX]
    assert [(need.precision, need.declared) for need in found] == [("single", True), ("half", False), ("binary", False)]
    assert found[0].memory > found[1].memory > 0


@pytest.mark.django_db
@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("options", "precisions"),
    [
        ({"dimensions": 3000, "storage": "half"}, ["half", "binary"]),
        ({"dimensions": 3000, "precision": "half"}, ["half", "binary"]),
        ({"dimensions": 3, "distance": "l1"}, ["single", "half", "binary"]),
        ({"dimensions": None}, []),
        ({"length": 64, "of": BitField, "distance": "hamming"}, ["bit"]),
        ({"dimensions": 64, "of": SparseVectorField}, ["sparse"]),
        ({"dimensions": 3, "kind": IvfflatIndex}, []),
    ],
)
def test_plan_leaves_out_what_no_index_can_hold(isolated, monkeypatch, options, precisions):
    kind, of = options.pop("kind", HnswIndex), options.pop("of", EmbeddingField)
    index = {name: options.pop(name) for name in ("precision", "distance") if name in options}

    class Wide(models.Model):
        embedding = of(**options)

        class Meta:
            app_label = "tests"
            indexes = [kind(fields=["embedding"], name="wide_hnsw", **index)]

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE tests_wide (id int)")
    monkeypatch.setattr("django.apps.apps.get_models", lambda: [Wide])
    assert [need.precision for need in plan_indexes(10)] == precisions


@pytest.mark.django_db
@pytest.mark.pgvector
def test_command_prints_the_plan(empty_index):
    lines = plan("rows=50000000", "partitions=16").splitlines()
    assert lines[0].split() == ["index", "precision", "size", "memory", "table", "disk"]
    first = next(line for line in lines if line.startswith(INDEX)).split("  ")
    assert [cell.strip() for cell in first if cell.strip()][:3] == [INDEX, "single *", "14.7 GB"]
    text = " ".join(lines)
    assert "For 50,000,000 rows with a vector; * is what the model declares." in text
    assert "size: of the index, which is up to 5% larger than said." in text
    assert "has too few rows to tell, so its vectors alone are counted." in text


@pytest.mark.django_db
@pytest.mark.pgvector
def test_command_that_knows_the_rows_of_each_table_guesses_none(many, monkeypatch):
    monkeypatch.setattr("django.apps.apps.get_models", lambda: [Article])
    assert "too few rows" not in plan("rows=1000")


@pytest.mark.django_db
@pytest.mark.pgvector
def test_command_prints_the_plan_as_json(many):
    entry = next(need for need in json.loads(plan("rows=1000", json=True)) if need["index"] == INDEX)
    assert (entry["model"], entry["rows"], entry["measured"]) == (Article._meta.label, 1000, True)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows=many"], "--plan takes rows=NUMBER and, where wanted, partitions=NUMBER, got rows=many."),
        (["rows=0"], "--plan takes rows=NUMBER and, where wanted, partitions=NUMBER, got rows=0."),
        (["m=5"], "--plan takes rows=NUMBER and, where wanted, partitions=NUMBER, got m=5."),
        (["partitions=2"], "--plan needs rows=NUMBER, such as rows=50000000."),
    ],
)
def test_plan_of_no_number_is_refused(words, message):
    with pytest.raises(CommandError) as caught:
        plan(*words)
    assert str(caught.value) == message


@pytest.mark.django_db
def test_plan_where_no_model_declares_an_index_says_so(monkeypatch):
    monkeypatch.setattr("django.apps.apps.get_models", list)
    assert plan("rows=5") == "No model declares an HnswIndex here.\n"
