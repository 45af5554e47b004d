"""The names of pgvector's Django module: what a project writes and what its migrations hold stay as they are."""

import numpy as np
import pgvector.django
import pytest
from django.contrib.postgres.indexes import OpClass
from django.db import connection, migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.functions import Cast
from django.db.models.indexes import IndexExpression
from django.forms import modelform_factory

from pgembedding_django import EmbeddingField, EmbeddingManager, HalfVectorField
from pgembedding_django.contrib import pgvector as ours

pytestmark = pytest.mark.pgvector


def model_of(module, name="Item"):
    """Return a model written by the names of a module, as pgvector's documentation writes it."""
    HnswIndex, half = module.HnswIndex, module.HalfVectorField(dimensions=3)

    class Meta:
        app_label = "tests"
        indexes = [
            module.IvfflatIndex(name="lists", fields=["embedding"], lists=100, opclasses=["vector_l2_ops"]),
            HnswIndex(name="graph", fields=["embedding"], m=16, ef_construction=64, opclasses=["vector_cosine_ops"]),
            HnswIndex(OpClass(Cast("embedding", half), name="halfvec_l2_ops"), name="half", m=16, ef_construction=64),
            HnswIndex(name="bits", fields=["bits"], opclasses=["bit_jaccard_ops"]),
            HnswIndex(name="words", fields=["words"], opclasses=["sparsevec_l2_ops"]),
            HnswIndex(name="rounded", fields=["rounded"], opclasses=["halfvec_l2_ops"]),
        ]

    fields = {
        "embedding": module.VectorField("the vector", dimensions=3, null=True, blank=True),
        "rounded": module.HalfVectorField(dimensions=3, null=True, blank=True),
        "bits": module.BitField(length=3, null=True, blank=True),
        "words": module.SparseVectorField(dimensions=3, null=True, blank=True),
    }
    return type(name, (models.Model,), {"__module__": __name__, "Meta": Meta, **fields, "objects": EmbeddingManager()})


def state_of(model):
    state = ProjectState()
    state.add_model(ModelState.from_model(model))
    return state


@pytest.fixture
def operator_classes(monkeypatch):
    """Let pgvector name the operator class of an expression, as "django.contrib.postgres" does when it starts."""
    monkeypatch.setattr(IndexExpression, "wrapper_classes", (*IndexExpression.wrapper_classes, OpClass))


@pytest.fixture
def Item(isolated, db):
    Item = model_of(ours)
    with connection.schema_editor() as editor:
        editor.create_model(Item)
    return Item


def test_moving_over_alters_fields_alone_and_nothing_in_the_database(isolated, db, operator_classes):
    before = state_of(model_of(pgvector.django))
    with connection.schema_editor() as editor:
        editor.create_model(before.apps.get_model("tests", "Item"))
    isolated.all_models["tests"].pop("item")
    after = state_of(model_of(ours))
    changes = MigrationAutodetector(before, after)._detect_changes()
    operations = changes["tests"][0].operations
    assert {type(operation) for operation in operations} == {migrations.AlterField}
    migration = migrations.Migration("moved", "tests")
    migration.operations = operations
    with connection.schema_editor(collect_sql=True) as editor:
        migration.apply(before.clone(), editor)
    assert [line for line in editor.collected_sql if not line.startswith("--")] == []


def test_indexes_are_built_as_pgvector_builds_them(isolated, db, operator_classes):
    def definitions(module):
        model = model_of(module)
        with connection.schema_editor() as editor, connection.cursor() as cursor:
            editor.create_model(model)
            for statement in editor.deferred_sql:
                editor.execute(statement)
            editor.deferred_sql.clear()
            cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tests_item' ORDER BY 1")
            found = cursor.fetchall()
            editor.delete_model(model)
        isolated.all_models["tests"].pop("item")
        return found

    assert definitions(ours) == definitions(pgvector.django)


def test_index_of_a_cast_is_one_of_half_precision(Item):
    index = Item._meta.indexes[2]
    assert (index.fields, index.precision, index.distance) == (["embedding"], "half", "l2")
    assert index.deconstruct()[2] == {
        "fields": ["embedding"],
        "name": "half",
        "precision": "half",
        "m": 16,
        "ef_construction": 64,
    }


@pytest.mark.parametrize(
    ("expressions", "kwargs"),
    [(["embedding"], {}), ([OpClass("embedding", name="vector_cosine_ops")], {"distance": "cosine"})],
)
def test_index_of_a_bare_field_is_as_well_an_expression(expressions, kwargs):
    index = ours.HnswIndex(*map(as_expression, expressions), name="i")
    assert index.deconstruct()[2] == {"fields": ["embedding"], "name": "i", **kwargs}


def as_expression(expression):
    return models.F(expression) if isinstance(expression, str) else expression


@pytest.mark.parametrize(
    "expressions", [[models.functions.Lower("e")], [models.F("a"), models.F("b")], [Cast("e", models.TextField())]]
)
def test_index_of_another_expression_is_refused(expressions):
    with pytest.raises(ValueError) as caught:
        ours.HnswIndex(*expressions, name="i")
    assert str(caught.value).startswith(
        "HnswIndex must be of a field, or of its Cast to a HalfVectorField in an OpClass, got "
    )


def test_index_of_pgvector_that_has_no_counterpart_is_another_one():
    index = ours.HnswIndex(fields=["e"], name="i")
    assert index != pgvector.django.HnswIndex(models.functions.Lower("e"), name="i")
    assert index != pgvector.django.HnswIndex(fields=["e"], name="i", include=["id"], opclasses=["vector_l2_ops"])
    assert index != models.Index(fields=["e"], name="i")


def test_field_is_an_embedding_field_in_a_migration():
    for field in (ours.VectorField(dimensions=3), EmbeddingField(dimensions=3)):
        assert field.deconstruct()[1:] == ("pgembedding_django.EmbeddingField", [], {"dimensions": 3})
    assert ours.HalfVectorField(dimensions=3).deconstruct()[3] == {"dimensions": 3, "storage": "half"}


@pytest.mark.parametrize("field", [ours.VectorField(), ours.HalfVectorField(), HalfVectorField()])
def test_field_of_another_name_is_looked_up_as_an_embedding_field(field):
    assert field.get_internal_type() == "EmbeddingField"


def test_form_shows_a_vector_as_text_and_takes_another(Item):
    Form = modelform_factory(Item, fields=["embedding", "rounded"])
    item = Item.objects.create(embedding=[1, 2, 0.1], rounded=[1, 2, 3])
    page = Form(instance=Item.objects.get()).as_div()
    assert 'value="[1.0, 2.0, 0.1]"' in page
    assert 'value="[1.0, 2.0, 3.0]"' in page
    form = Form({"embedding": "[4, 5, 6]", "rounded": ""}, instance=item)
    assert 'value="[4, 5, 6]"' in form.as_div()
    saved = form.save()
    assert (saved.embedding, saved.rounded) == ([4, 5, 6], None)


def test_form_of_an_unchanged_vector_has_not_changed(Item):
    item = Item.objects.create(embedding=[1, 2, 0.1])
    form = modelform_factory(Item, fields=["embedding"])({"embedding": "[1.0, 2.0, 0.1]"}, instance=item)
    assert not form.has_changed()


def test_values_of_pgvector_are_values_here(Item):
    item = Item(
        embedding=pgvector.Vector([1, 2, 3]),
        rounded=pgvector.HalfVector([1, 2, 3]),
        words=pgvector.SparseVector([1, 0, 3]),
        bits=pgvector.Bit("101"),
    )
    item.save()
    again = Item.objects.get()
    assert (again.embedding, again.rounded) == ([1, 2, 3], [1, 2, 3])
    assert again.words == pgvector.SparseVector([1, 0, 3])
    assert again.bits == "101"


def test_distances_of_pgvector_still_measure(Item):
    Item.objects.create(embedding=[1, 2, 3], words=[1, 0, 3], bits="101")
    item = Item.objects.annotate(
        one=pgvector.django.L2Distance("embedding", [1, 2, 4]),
        two=pgvector.django.L2Distance("words", pgvector.SparseVector([1, 0, 5])),
        three=pgvector.django.HammingDistance("bits", "110"),
    ).get()
    assert (item.one, item.two, item.three) == (1, 2, 2)


def test_averages_and_sums_are_vectors(Item):
    Item.objects.create(embedding=[1, 2, 3], rounded=[1, 2, 3])
    Item.objects.create(embedding=[4, 5, 6], rounded=[4, 5, 6])
    found = Item.objects.aggregate(
        a=models.Avg("embedding"), b=models.Sum("embedding"), c=models.Avg("rounded"), d=models.Sum("rounded")
    )
    assert [found[name] == expected for name, expected in zip("abcd", [[2.5, 3.5, 4.5], [5, 7, 9]] * 2, strict=True)]
    assert np.array_equal(found["a"], [2.5, 3.5, 4.5])


@pytest.mark.parametrize("kind", [ours.VectorField, ours.HalfVectorField, HalfVectorField])
def test_field_may_be_subscripted_as_a_project_with_type_checks_does(kind):
    field = kind[list[float], kind](dimensions=3)
    assert (type(field), field.dimensions) == (kind, 3)
    assert field.deconstruct()[1] == "pgembedding_django.EmbeddingField"


@pytest.mark.parametrize(
    ("field", "distance", "value"),
    [
        ("embedding", ours.L2Distance, pgvector.Vector([1, 2, 3])),
        ("rounded", ours.CosineDistance, pgvector.HalfVector([1, 2, 3])),
        ("words", ours.L1Distance, pgvector.SparseVector([1, 2, 3])),
        ("bits", ours.HammingDistance, pgvector.Bit("101")),
    ],
)
def test_rows_are_ordered_by_a_distance_to_a_value_of_pgvector_s(isolated, db, field, distance, value):
    Item = model_of(ours)
    with connection.schema_editor() as editor:
        editor.create_model(Item)
    Item.objects.create(embedding=[1, 2, 3], rounded=[1, 2, 3], words=[1, 2, 3], bits="101")
    (row,) = Item.objects.annotate(d=distance(field, value)).order_by(distance(field, value))
    assert row.d == pytest.approx(0, abs=1e-6)
