"""BitField, SparseVectorField and HalfVectorField: columns, values, forms, migrations."""

import pytest
from django import forms
from django.core import serializers
from django.core.exceptions import FieldError, ValidationError
from django.db import NotSupportedError, connection, models
from django.db.models import F

from pgembedding_django import (
    BitField,
    CosineDistance,
    EmbeddingField,
    EmbeddingManager,
    HalfVectorField,
    HammingDistance,
    HnswIndex,
    JaccardDistance,
    L1Distance,
    L2Distance,
    MaxInnerProduct,
    SparseVector,
    SparseVectorField,
)
from pgembedding_django.engines import ENGINES
from pgembedding_django.engines.sqlite import SqliteEngine
from pgembedding_django.fields import MeasuredField

pytestmark = pytest.mark.pgvector


@pytest.fixture
def Page(isolated, db):
    class Page(models.Model):
        bits = BitField(length=3, null=True, blank=True)
        words = SparseVectorField(dimensions=4, null=True, blank=True)
        half = HalfVectorField(dimensions=3, null=True, blank=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["words"], name="page_words")]

    with connection.schema_editor() as editor:
        editor.create_model(Page)
    return Page


ROWS = {"bits": ["000", "101", "111"], "words": [[1, 1, 1, 0], [2, 2, 2, 0], [1, 1, 2, 0]], "half": [[1, 1, 1]] * 3}


@pytest.fixture
def pages(Page):
    for row in zip(*ROWS.values(), strict=True):
        Page.objects.create(**dict(zip(ROWS, row, strict=True)))
    return Page.objects.order_by("pk")


def test_values_are_of_the_field_s_own_type_from_assignment_on(Page):
    page = Page(bits=[True, False, True], words=[1, 0, 0, 2.5], half=[1, 2, 3])
    assert (page.bits, page.words) == ("101", SparseVector({0: 1, 3: 2.5}, 4))
    page.save()
    again = Page.objects.get()
    assert (again.bits, again.words) == (page.bits, page.words)
    assert isinstance(again.words, SparseVector)
    assert again.half == [1, 2, 3]


def test_values_that_are_missing_are_none(Page):
    Page.objects.create()
    again = Page.objects.get()
    assert (again.bits, again.words, again.half) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": "1010"}, "Page.bits must have 3 bits, got 4."),
        ({"bits": 7}, 'Page.bits must be bits, as "101", booleans or bytes, got int.'),
        ({"words": [1, 2]}, "Page.words must have 4 dimensions, got 2."),
        ({"words": {7: 1}}, "Page.words must have places from 0 to 3, got 7 to 7."),
        (
            {"half": [1, 2, 70_000]},
            "Page.half must be below 65520 in size for half precision, got 70000.0 at position 2.",
        ),
    ],
)
def test_value_that_the_column_cannot_hold_is_refused_before_sql(Page, values, message, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        Page(**values).save()
    assert caught.value.messages == [message]


def test_sparse_vector_that_no_index_holds_is_refused_where_there_is_one(isolated):
    class Long(models.Model):
        plain = SparseVectorField(dimensions=2000)
        words = SparseVectorField(dimensions=2000)

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["words"], name="long_words")]

    most, more = (SparseVector(dict.fromkeys(range(count), 1), 2000) for count in (1000, 1001))
    Long(plain=more, words=most).full_clean()
    with pytest.raises(ValidationError) as caught:
        Long(plain=more, words=more).full_clean()
    assert caught.value.messages == [
        "Long.words must have at most 1000 numbers that are not zero, as it has an index, got 1001."
    ]


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (HammingDistance("bits", "101"), [2, 0, 1]),
        (HammingDistance("bits", [True, False, True]), [2, 0, 1]),
        (JaccardDistance("bits", "101"), [1, 0, pytest.approx(1 / 3)]),
        (L2Distance("words", [1, 1, 1, 0]), [0, pytest.approx(3**0.5), 1]),
        (L2Distance("words", "{1:1,2:1,3:1}/4"), [0, pytest.approx(3**0.5), 1]),
        (L1Distance("words", SparseVector([1, 1, 1, 0])), [0, 3, 1]),
        (MaxInnerProduct("words", [1, 1, 1, 0]), [-3, -6, -4]),
        (CosineDistance("words", [2, 2, 2, 0]), [0, 0, pytest.approx(0.0571910)]),
        (L2Distance("half", [1, 1, 2]), [1, 1, 1]),
        (HammingDistance("bits", F("bits")), [0, 0, 0]),
        (JaccardDistance("bits", F("bits")), [0, 0, 0]),
        (L2Distance("words", None), [None, None, None]),
        (HammingDistance("bits", None), [None, None, None]),
    ],
)
def test_distances_are_those_computed_by_hand(pages, distance, expected):
    found = list(pages.annotate(found=distance).values_list("found", flat=True))
    # Two equal rows of no bits at all have nothing in common either.
    assert found[1:] == expected[1:]
    assert found[0] in (expected[0], 1)


def test_distance_that_a_field_does_not_have_names_those_that_it_has(pages):
    with pytest.raises(FieldError) as caught:
        pages.annotate(found=L2Distance("bits", [1, 0, 1]))
    assert (
        str(caught.value) == "L2Distance cannot measure Page.bits, a BitField. Use HammingDistance or JaccardDistance."
    )
    with pytest.raises(FieldError) as caught:
        pages.annotate(found=HammingDistance("half", [1, 2, 3]))
    assert str(caught.value) == (
        "HammingDistance cannot measure Page.half, a HalfVectorField. "
        "Use L2Distance or CosineDistance or L1Distance or MaxInnerProduct."
    )


@pytest.mark.parametrize(("name", "value"), [("bits", "101"), ("words", [2, 2, 2, 0]), ("half", [1, 1, 1])])
def test_filter_by_a_value_finds_its_rows(pages, name, value):
    expected = [row.pk for row, given in zip(pages, ROWS[name], strict=True) if given == value]
    assert [row.pk for row in pages.filter(**{name: value})] == expected


def test_filter_by_several_values_finds_their_rows(pages):
    assert pages.filter(bits__in=["101", "111"]).count() == 2
    assert pages.filter(words__in=[SparseVector([2, 2, 2, 0])]).count() == 1


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_serialized_rows_read_back(pages, Page, kind, monkeypatch):
    text = serializers.serialize(kind, pages)
    expected = list(pages.values_list("bits", "words"))
    monkeypatch.setattr("django.core.serializers.python.apps.get_model", lambda label: Page)
    monkeypatch.setattr("django.core.serializers.xml_serializer.apps.get_model", lambda *label: Page)
    assert [(each.object.bits, each.object.words) for each in serializers.deserialize(kind, text)] == expected


def test_bulk_load_copies_every_kind(Page):
    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    assert Page.objects.bulk_load(Page(**row) for row in [*rows, {}]) == 4
    found = list(Page.objects.order_by("pk").values_list("bits", "words"))
    assert found == [(row["bits"], SparseVector(row["words"])) for row in rows] + [(None, None)]


def test_bulk_load_names_the_row_that_is_wrong(Page):
    with pytest.raises(ValidationError) as caught:
        Page.objects.bulk_load([Page(bits="101"), Page(bits="10")])
    assert caught.value.messages == ["Row 1 (pk None): Page.bits must have 3 bits, got 2."]


def test_form_takes_text_and_shows_it_again(pages, Page):
    Form = forms.modelform_factory(Page, fields=["bits", "words"])
    assert 'value="101"' in Form(instance=pages[1]).as_p()
    assert 'value="{1:2.0,2:2.0,3:2.0}/4"' in Form(instance=pages[1]).as_p()
    form = Form({"bits": "010", "words": "{1:4}/4"}, instance=pages[1])
    assert form.has_changed()
    saved = form.save()
    assert (saved.bits, saved.words) == ("010", SparseVector({0: 4}, 4))
    emptied = Form({"bits": "", "words": ""}, instance=pages[1]).save()
    assert (emptied.bits, emptied.words) == (None, None)


def test_form_of_unchanged_values_has_not_changed(pages, Page):
    Form = forms.modelform_factory(Page, fields=["bits", "words"])
    assert not Form({"bits": "101", "words": "{1:2.0,2:2.0,3:2.0}/4"}, instance=pages[1]).has_changed()


def test_form_names_what_is_wrong(Page):
    form = forms.modelform_factory(Page, fields=["bits", "words"])({"bits": "10", "words": "many"})
    assert form.errors["bits"] == ["Page.bits must have 3 bits, got 2."]
    assert form.errors["words"][0].startswith("Page.words must be")


@pytest.mark.parametrize(
    ("field", "path", "kwargs"),
    [
        (BitField(length=3), "pgembedding_django.BitField", {"length": 3}),
        (BitField("the bits"), "pgembedding_django.BitField", {"verbose_name": "the bits"}),
        (SparseVectorField(dimensions=4), "pgembedding_django.SparseVectorField", {"dimensions": 4}),
        (SparseVectorField(), "pgembedding_django.SparseVectorField", {}),
        (HalfVectorField(dimensions=3), "pgembedding_django.EmbeddingField", {"dimensions": 3, "storage": "half"}),
    ],
)
def test_field_deconstructs_to_what_makes_it_again(field, path, kwargs):
    _name, *found = field.deconstruct()
    assert found == [path, [], kwargs]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BitField(length=0), "BitField.length must be a positive integer, got 0."),
        (
            lambda: SparseVectorField(dimensions="3"),
            "SparseVectorField.dimensions must be a positive integer, got '3'.",
        ),
    ],
)
def test_field_of_a_size_that_is_none_is_refused(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_columns_have_the_server_s_types(Page):
    types = [Page._meta.get_field(name).db_type(connection) for name in ROWS]
    assert types == ["bit(3)", "sparsevec(4)", "halfvec(3)"]
    assert BitField().db_type(connection) == "bit"


@pytest.mark.parametrize("engine", [ENGINES["pg_embedding"], SqliteEngine()], ids=["pg_embedding", "sqlite"])
@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sparse", "cannot store sparse vectors. Use an EmbeddingField."),
        ("bit", "cannot store bits to measure distances of. Use an EmbeddingField."),
    ],
)
def test_engine_without_such_a_type_says_so(engine, storage, message):
    with pytest.raises(NotSupportedError) as caught:
        engine.column_type(3, storage)
    assert str(caught.value) == f"{engine.name} {message}"


def test_column_leaves_to_each_kind_what_a_value_is():
    with pytest.raises(NotImplementedError):
        MeasuredField().to_query([1, 2, 3])


def test_model_without_its_own_embedding_is_ranked_by_the_field_named(isolated):
    class Both(models.Model):
        embedding = EmbeddingField(dimensions=3)
        bits = BitField(length=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    assert Both.objects.all().get_measured_field(None).name == "embedding"
    assert Both.objects.all().get_measured_field("bits").name == "bits"
    with pytest.raises(ValueError) as caught:
        Both.objects.vectors(field="bits")
    assert str(caught.value) == "Both.bits is a BitField, which only nearest() knows."


def test_bits_without_a_length_are_ranked_by_nothing(isolated):
    class Short(models.Model):
        words = SparseVectorField()
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with pytest.raises(ValueError) as caught:
        Short.objects.nearest([1, 2, 3])
    assert str(caught.value) == "Short.words has no length, so its rows cannot be compared. Give the field one."
