"""SQLite, where a project's tests run without a Postgres: every promise of nearest(), by reading every row."""

import subprocess
import sys

import numpy as np
import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import NotSupportedError, models
from django.db.models import F, Value
from django.test.utils import CaptureQueriesContext, isolate_apps

from pgembedding_django import (
    CosineDistance,
    EmbeddingField,
    EmbeddingManager,
    HnswIndex,
    L1Distance,
    L2Distance,
    MaxInnerProduct,
    Vector,
)
from pgembedding_django.admin import HnswIndexAdmin
from pgembedding_django.embedders import get_embedder
from pgembedding_django.embedding import sync
from pgembedding_django.engines import ENGINES, get_engine
from pgembedding_django.models import HnswIndexStatus

VECTORS = np.random.default_rng(7).normal(size=(60, 3)).astype(np.float32)


with isolate_apps("tests"):

    class Leaf(models.Model):
        name = models.CharField(max_length=20, unique=True)
        text = models.TextField(blank=True)
        seen = models.DateTimeField(auto_now=True)
        embedding = EmbeddingField(dimensions=3, source=["name", "text"], null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="leaf_hnsw")]

    class Bud(models.Model):
        text = models.TextField()
        embedding = EmbeddingField(dimensions=3, source="text", null=True, sync="save", storage="half")

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    class Twig(models.Model):
        embedding = EmbeddingField()

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"


sync.watch(Bud)


@pytest.fixture
def leaves(sqlite):
    """The queryset of a table on SQLite."""
    with sqlite.schema_editor() as editor:
        editor.create_model(Leaf)
    return Leaf.objects.using("lite")


@pytest.fixture
def many(leaves):
    leaves.bulk_load(Leaf(name=f"n{x}", text=f"text {x}", embedding=vector) for x, vector in enumerate(VECTORS))
    return leaves


def brute_force(measure, keep=range(60)):
    """Return (name, distance) of rows, the nearest to the first vector of all first."""
    found = [(f"n{x}", float(measure(VECTORS[x].astype(np.float64), VECTORS[0].astype(np.float64)))) for x in keep]
    return sorted(found, key=lambda row: row[1])


MEASURES = {
    L2Distance: lambda a, b: np.linalg.norm(a - b),
    CosineDistance: lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    L1Distance: lambda a, b: np.abs(a - b).sum(),
    MaxInnerProduct: lambda a, b: -(a @ b),
}


@pytest.mark.parametrize("distance", MEASURES)
def test_nearest_ranks_as_brute_force_does(many, distance):
    rows = list(many.nearest(VECTORS[0], 8, distance=distance))
    wanted = brute_force(MEASURES[distance])[:8]
    assert [row.name for row in rows] == [name for name, _ in wanted]
    np.testing.assert_allclose([row.distance for row in rows], [value for _, value in wanted], atol=1e-6)


def test_nearest_behind_a_filter_finds_k_rows(many):
    rows = list(many.filter(name__endswith="1").nearest(VECTORS[0], 10))
    assert [row.name for row in rows] == [n for n, _ in brute_force(MEASURES[L2Distance], range(1, 60, 10))]


def test_nearest_to_an_instance_leaves_it_out(many):
    (row,) = many.nearest(many.get(name="n0"), 1)
    assert row.name == brute_force(MEASURES[L2Distance])[1][0]


def test_nearest_to_a_text_embeds_it(many):
    asked = np.asarray(get_embedder().embed_query("text"))
    wanted = np.argsort(np.linalg.norm(VECTORS - asked, axis=1))[:3]
    assert [row.name for row in many.nearest("text", 3)] == [f"n{x}" for x in wanted]


def test_nearest_keeps_max_distance_and_pages(many):
    limit = brute_force(MEASURES[L2Distance])[4][1]
    assert len(many.nearest(VECTORS[0], 20, max_distance=limit + 1e-6)) == 5
    ranked = many.nearest(VECTORS[0], 20)
    assert [*ranked[:10], *ranked[10:]] == list(ranked)


def test_nearest_leaves_out_rows_without_a_vector(leaves):
    leaves.bulk_create([Leaf(name="none"), Leaf(name="one", embedding=[1, 2, 3])])
    assert [row.name for row in leaves.nearest([0, 0, 0], 5)] == ["one"]


def test_nearest_of_another_distance_than_the_index_warns_of_nothing(many):
    assert many.nearest(VECTORS[0], 1, distance="cosine")[0].name == "n0"


def test_explain_says_that_there_is_no_index(many):
    assert many.nearest(VECTORS[0], 1).explain_nearest().startswith("Exact scan: sqlite has no index.")


def test_distance_between_columns_and_to_none(many):
    row = many.annotate(zero=L2Distance("embedding", F("embedding")), none=L2Distance("embedding", None))[0]
    assert (row.zero, row.none) == (0, None)


def test_distance_of_a_vector_of_zeros_by_cosine_is_none(leaves):
    leaves.create(name="zero", embedding=[0, 0, 0])
    assert leaves.annotate(d=CosineDistance("embedding", [1, 0, 0])).get().d is None


def test_nearest_by_cosine_leaves_out_vectors_of_zeros(leaves):
    leaves.bulk_create([Leaf(name="zero", embedding=[0, 0, 0]), Leaf(name="one", embedding=[1, 2, 3])])
    assert [row.name for row in leaves.nearest([1, 0, 0], 5, distance="cosine")] == ["one"]


def test_nearest_among_vectors_of_any_length_ranks_those_of_the_query(sqlite):
    with sqlite.schema_editor() as editor:
        editor.create_model(Twig)
    rows = Twig.objects.using("lite")
    rows.bulk_create([Twig(embedding=vector) for vector in ([1], [1, 2], [5, 5], [1, 2, 3])])
    assert [list(row.embedding) for row in rows.nearest([0, 0], 5)] == [[1, 2], [5, 5]]


def test_value_comes_back_as_it_went(leaves):
    leaves.create(name="one", embedding=[0.1, -2, 3e-7])
    value = leaves.get().embedding
    assert type(value) is Vector
    assert value == np.float32([0.1, -2, 3e-7])
    assert leaves.filter(embedding=[0.1, -2, 3e-7]).exists()
    assert leaves.values_list("embedding", flat=True)[0] == value


def test_stale_and_embed_know_what_changed(many):
    assert many.stale().count() == 0
    many.filter(name="n3").update(text="other")
    many.filter(name="n4").update(text="  \n ", name="  ")
    assert set(many.stale().values_list("name", flat=True)) == {"n3", "  "}
    report = many.embed()
    assert (report.embedded, report.skipped) == (1, 1)
    assert many.get(name="n3").embedding == get_embedder().embed_query("n3\n\nother")
    assert many.stale().count() == 0


def test_embed_of_many_rows_updates_each(many):
    many.update(embedding=None)
    assert many.embed().embedded == 60
    assert many.get(name="n3").embedding == get_embedder().embed_query("n3\n\ntext 3")


def test_column_takes_as_many_dimensions_as_that_of_pgvector(sqlite):
    assert get_engine(sqlite).max_dimensions("single") == ENGINES["pgvector"].max_dimensions("single")


def test_save_embeds_in_step(sqlite):
    with sqlite.schema_editor() as editor:
        editor.create_model(Bud)
    bud = Bud.objects.using("lite").create(text="a text")
    bud.text = "another"
    bud.save()
    assert Bud.objects.using("lite").get().embedding == get_embedder().embed_query("another")


def test_digest_is_that_of_postgres(leaves):
    leaves.create(name=" a\t", text="b", embedding=[1, 2, 3])
    row = leaves.get()
    assert row.embedding_digest == Leaf._meta.get_field("embedding").text_source.digest("a\n\nb")


def test_bulk_load_updates_on_conflict(many):
    again = [Leaf(name="n0", text="new", embedding=[9, 9, 9]), Leaf(name="new", embedding=[8, 8, 8])]
    counted = []
    assert many.bulk_load(again, update_conflicts=True, unique_fields=["name"], batch_size=1, progress=counted.append)
    assert counted == [1, 2]
    assert (many.get(name="n0").text, many.get(name="n0").embedding, many.count()) == ("new", [9, 9, 9], 61)


def test_bulk_load_updates_the_columns_named(many):
    row = Leaf(name="n0", text="new", embedding=[9, 9, 9])
    many.bulk_load([row], update_conflicts=True, unique_fields=["name"], update_fields=["embedding"])
    assert (many.get(name="n0").text, many.get(name="n0").embedding) == ("text 0", [9, 9, 9])


def test_arrays_come_back_as_they_went(leaves):
    assert leaves.bulk_load_arrays(VECTORS, name=[f"n{x}" for x in range(60)], text=["a"] * 60) == 60
    keys, matrix = leaves.vectors()
    assert (keys, matrix.tobytes()) == (sorted(keys), VECTORS.tobytes())
    assert [len(page) for page, _ in leaves.iter_vectors(25)] == [25, 25, 10]
    assert not leaves.stale().exists()


def test_bulk_load_of_raw_rows_is_refused(leaves):
    with pytest.raises(NotSupportedError, match="raw=True"):
        leaves.bulk_load([Leaf(name="x")], raw=True)


def test_hybrid_is_refused(leaves):
    with pytest.raises(NotSupportedError) as caught:
        leaves.hybrid("text", fields=["text"])
    assert str(caught.value) == "sqlite has no search by words, which hybrid() needs. Use nearest()."


def test_index_is_a_comment_in_the_migration_and_goes_again(sqlite):
    with CaptureQueriesContext(sqlite) as context:
        with sqlite.schema_editor() as editor:
            editor.create_model(Leaf)
        with sqlite.schema_editor() as editor:
            editor.remove_index(Leaf, Leaf._meta.indexes[0])
            editor.add_index(Leaf, Leaf._meta.indexes[0])
    said = [query["sql"] for query in context if query["sql"].startswith("--")]
    assert said == [
        "-- sqlite has no index leaf_hnsw: a search reads every row",
        "-- There is no index leaf_hnsw to remove",
        "-- sqlite has no index leaf_hnsw: a search reads every row",
    ]


def test_migrations_of_the_app_run(sqlite):
    call_command("migrate", "pgembedding_django", database="lite", verbosity=0)
    call_command("migrate", "pgembedding_django", "zero", database="lite", verbosity=0)


def test_expression_and_null_are_written_as_they_are(leaves):
    leaves.create(name="one", embedding=[1, 2, 3])
    leaves.update(embedding=Value(None))
    assert leaves.get().embedding is None


@pytest.mark.parametrize("match", ["mean", "best"])
def test_nearest_to_several_instances_is_that_of_brute_force(many, match):
    like = [VECTORS[3].astype(np.float64), VECTORS[8].astype(np.float64)]
    each = [np.linalg.norm(VECTORS - vector, axis=1) for vector in like]
    measured = np.minimum(*each) if match == "best" else np.linalg.norm(VECTORS - np.mean(like, axis=0), axis=1)
    found = many.nearest([many.get(name="n3"), many.get(name="n8")], 9, match=match)
    assert [row.name for row in found] == [f"n{i}" for i in np.argsort(measured) if i not in (3, 8)][:9]


def test_similarity_is_the_cosine(many):
    found = list(many.nearest(VECTORS[0], 60, distance="cosine", similarity="like", min_similarity=0.5))
    assert [row.like for row in found] == pytest.approx([1 - row.distance for row in found])
    cosines = VECTORS @ VECTORS[0] / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(VECTORS[0])
    assert len(found) == (cosines >= 0.5).sum()


def test_near_duplicates_are_those_of_brute_force(many):
    apart = np.linalg.norm(VECTORS[:, None].astype(np.float64) - VECTORS, axis=2)
    pairs = {(f"n{i}", f"n{j}") for i, j in np.argwhere(apart <= 0.5) if i < j}
    assert {(pair.one.name, pair.other.name) for pair in many.near_duplicates(0.5, batch_size=25)} == pairs


@pytest.mark.parametrize(
    "command", [["hnsw_indexes"], ["rebuild_hnsw_indexes", "--noinput"], ["measure_recall", "tests.Article"]]
)
def test_commands_for_indexes_say_what_they_need(sqlite, command):
    with pytest.raises(CommandError) as caught:
        call_command(*command, "--database=lite")
    assert str(caught.value) == (
        'Database "lite" is SQLite, which has no index of vectors and reads every row, so this command has nothing to '
        "do there. It needs PostgreSQL."
    )


class ToSqlite:
    def db_for_write(self, model, **hints):
        return "lite" if model is HnswIndexStatus else None


def test_pages_of_indexes_are_not_offered(sqlite, settings, rf):
    settings.DATABASE_ROUTERS = [ToSqlite()]
    request = rf.get("/")
    request.user = User(is_superuser=True)
    page = HnswIndexAdmin(HnswIndexStatus, admin.site)
    offers = [page.has_view_permission(request), page.has_rebuild_permission(request)]
    assert [*offers, page.has_repair_permission(request)] == [False] * 3


PROJECT = """
import sys
for driver in ("psycopg", "psycopg2"):
    sys.modules[driver] = None  # As where none is installed.

from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["pgembedding_django", "notes"],
    MIGRATION_MODULES={"notes": None},
)
import django
django.setup()

from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
call_command("check", databases=["default"])
from notes.models import Note
Note.objects.bulk_create(Note(embedding=[x, 0, 1]) for x in range(9))
print([note.embedding.tolist() for note in Note.objects.nearest([3, 0, 1], 2)])
"""
MODELS = """
from django.db import models
from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Note(models.Model):
    embedding = EmbeddingField(dimensions=3)
    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="note_hnsw")]
"""


def test_project_without_a_driver_of_postgres_runs(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "__init__.py").touch()
    (tmp_path / "notes" / "models.py").write_text(MODELS)
    command = [sys.executable, "-W", "error", "-c", PROJECT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines()[-1] in ("[[3.0, 0.0, 1.0], [2.0, 0.0, 1.0]]", "[[3.0, 0.0, 1.0], [4.0, 0.0, 1.0]]")


def test_facets_count_what_is_found(many):
    assert many.nearest(VECTORS[0], 7).facets("text")["text"] == {
        f"text {name[1:]}": 1 for name, _ in sorted(brute_force(MEASURES[L2Distance])[:7])
    }
