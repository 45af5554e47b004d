"""The form field and its widget, in plain forms and through the views of the admin."""

import numpy as np
import pytest
from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.db import models
from django.urls import path
from django.utils.translation import override

from pgembedding_django import Vector
from pgembedding_django.forms import EMPTY_VALUES, EmbeddingFormField, EmbeddingWidget, describe
from tests.models import Article, Required

VECTOR = Vector([1.5, -2.0, 0.25])
SHOWN = "3 dimensions · norm 2.5125 · [1.5000, -2.0000, 0.2500]"


class ShownForm(forms.Form):
    title = forms.CharField(required=False)
    embedding = EmbeddingFormField(dimensions=3, required=False)


class WrittenForm(forms.Form):
    embedding = EmbeddingFormField(dimensions=3, required=False, widget=forms.Textarea)


# The widget


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        ([1.5, -2.0, 0.25], SHOWN),
        ([1.0], "1 dimension · norm 1.0000 · [1.0000]"),
        ([3.0, 4.0, 0, 0], "4 dimensions · norm 5.0000 · [3.0000, 4.0000, 0.0000, 0.0000]"),
        (np.full(1536, 0.02551), "1,536 dimensions · norm 0.9998 · [0.0255, 0.0255, 0.0255, 0.0255, …]"),
        ([0.999996], "1 dimension · norm 1.0000 · [1.0000]"),
        ([np.nan, 1], "2 dimensions · norm nan · [nan, 1.0000]"),
        ([np.inf], "1 dimension · norm inf · [inf]"),
    ],
)
def test_describe_tells_length_norm_and_first_values(vector, text):
    assert describe(np.array(vector, np.float32)) == text


def test_describe_great_numbers_do_not_overflow():
    assert describe(np.full(2, 3e38, np.float32)).startswith("2 dimensions · norm 4")


def test_describe_other_language_has_its_own_decimal_point():
    with override("de"):
        assert "[1,5000, -2,0000, 0,2500]" in describe(VECTOR)


def test_widget_shows_one_line():
    assert str(ShownForm(initial={"embedding": VECTOR})["embedding"]) == (
        f'<span class="embedding readonly">{SHOWN}</span>'
    )


@pytest.mark.parametrize("initial", [None, "", []])
def test_widget_without_vector_says_so(initial):
    assert str(ShownForm(initial={"embedding": initial})["embedding"]) == (
        '<span class="embedding readonly">No vector yet</span>'
    )


@pytest.mark.parametrize("initial", [[1.5, -2, 0.25], (1.5, -2, 0.25), "[1.5, -2, 0.25]", VECTOR.astype(float)])
def test_widget_initial_of_any_kind_is_described(initial):
    assert SHOWN in str(ShownForm(initial={"embedding": initial})["embedding"])


@pytest.mark.parametrize("size", [3072, 3])
def test_widget_never_shows_more_than_a_line(size):
    for value in (np.ones(size), np.ones((size, 2)), str([1.0] * size), [1.0] * size, "x" * 9 * size):
        assert len(str(ShownForm(initial={"embedding": value})["embedding"])) < 160


def test_widget_hostile_text_is_escaped():
    form = ShownForm({}, initial={"embedding": "<script>alert(1)</script>"})
    assert not form.is_valid()
    assert "<script>" not in form.as_p()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in str(form["embedding"])


def test_widget_hostile_label_is_escaped():
    form = ShownForm({}, initial={"embedding": "[1]"})
    form.fields["embedding"].label = "<script>%s</script>"
    assert not form.is_valid()
    assert "<script>" not in form.as_p()
    assert form.errors["embedding"] == ["<script>%s</script> must have 3 dimensions, got 1."]


def test_widget_has_no_input_to_label():
    assert ShownForm()["embedding"].id_for_label == ""


def test_widget_of_a_required_vector_that_is_missing_is_an_input():
    form = ShownForm()
    form.fields["embedding"].required = True
    assert form["embedding"].id_for_label == "id_embedding"
    assert str(form["embedding"]) == (
        '<textarea name="embedding" cols="40" rows="2" required id="id_embedding">\n</textarea>'
    )


def test_widget_of_a_required_vector_that_is_there_is_a_line():
    form = ShownForm(initial={"embedding": VECTOR})
    form.fields["embedding"].required = True
    assert "<textarea" not in str(form["embedding"])


@pytest.mark.parametrize("sent", ["[1, 2]", "[0.0,3.0,4.0]"])
def test_widget_shows_what_was_sent_to_be_sent_again(sent):
    form = ShownForm({"embedding": sent}, initial={"embedding": VECTOR})
    assert f">\n{sent}</textarea>" in str(form["embedding"])


# The field


@pytest.mark.parametrize("value", [None, "", [], (), {}])
def test_field_empty_value_cleans_to_none(value):
    assert EmbeddingFormField(required=False).clean(value) is None


@pytest.mark.parametrize("value", ["[1.5,-2,0.25]", [1.5, -2, 0.25], VECTOR])
def test_field_vector_cleans_to_float32(value):
    cleaned = EmbeddingFormField(dimensions=3).clean(value)
    assert cleaned.dtype == np.float32
    assert cleaned.tolist() == [1.5, -2.0, 0.25]


@pytest.mark.parametrize(
    ("value", "code", "sentence"),
    [
        ("[1, 2]", "dimensions", "The vector must have 3 dimensions, got 2."),
        ("[1, NaN, 3]", "text", None),
        ("[1, null, 3]", "element", "The vector must hold numbers only, got NoneType at position 1."),
        ("[1, 2, 65520]", "element", None),
        ('{"a": 1}', "text", None),
        ("1", "text", "The vector must be a list of numbers such as [0.1, 0.2], got JSON of type int."),
        ("\x00", "text", None),
    ],
)
def test_field_refused_text_has_a_code_and_a_sentence(value, code, sentence):
    with pytest.raises(ValidationError) as caught:
        EmbeddingFormField(dimensions=3, half=True).clean(value)
    assert caught.value.code == code
    assert sentence in (None, *caught.value.messages)


def test_field_required_says_how_to_make_the_vector():
    with pytest.raises(ValidationError) as caught:
        EmbeddingFormField().clean("")
    assert caught.value.messages == [
        "This vector is required. Enter it as a list of numbers, or let the field be null until it is embedded."
    ]


@pytest.mark.parametrize(
    ("initial", "data", "changed"),
    [
        (VECTOR, VECTOR.copy(), False),
        (VECTOR, "[1.5, -2.0, 0.25]", False),
        (VECTOR, "[1.5, -2.0, 0.5]", True),
        (VECTOR, "", True),
        (VECTOR, "x", True),
        (VECTOR, "[1]", True),
        (None, VECTOR, True),
        (None, "", False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_field_has_changed_compares_the_numbers(initial, data, changed):
    assert EmbeddingFormField(dimensions=3).has_changed(initial, data) is changed


def test_form_omitted_data_counts_as_the_initial_vector():
    form = ShownForm({"title": "b"}, initial={"embedding": VECTOR})
    assert form.is_valid()
    assert form.cleaned_data["embedding"] is VECTOR
    assert form.changed_data == ["title"]


def test_form_keeps_the_vector_where_nothing_is_sent_for_it():
    form = ShownForm({"embedding": ""}, initial={"embedding": VECTOR})
    assert form.is_valid()
    assert form.cleaned_data["embedding"] is VECTOR
    assert form.changed_data == []


@pytest.mark.parametrize("sent", ["[0, 3, 4]", [0, 3, 4], np.array([0, 3, 4])])
@pytest.mark.parametrize("initial", [None, VECTOR])
def test_form_takes_the_vector_that_is_sent(sent, initial):
    form = ShownForm({"embedding": sent}, initial={"embedding": initial})
    assert form.is_valid()
    assert form.cleaned_data["embedding"] == [0, 3, 4]
    assert form.changed_data == ["embedding"]


@pytest.mark.parametrize("sent", ["x", "[1, 2]", [1, 2]])
def test_form_refuses_what_is_sent_and_is_no_vector(sent):
    form = ShownForm({"embedding": sent}, initial={"embedding": VECTOR})
    assert not form.is_valid()
    assert form.errors.keys() == {"embedding"}


@pytest.mark.django_db
@pytest.mark.parametrize("model", [Article, Required])
def test_model_form_saves_the_vector_that_is_sent(model):
    form_class = forms.modelform_factory(model, fields="__all__")
    form = form_class({"title": "a", "embedding": "[1,2,3]"})
    assert form.is_valid()
    assert form.save().embedding == [1, 2, 3]
    assert not form_class({"title": "a", "embedding": "[1,2]"}).is_valid()


def test_form_prefix_is_respected():
    form = WrittenForm({"x-embedding": "[0, 3, 4]"}, initial={"embedding": VECTOR}, prefix="x")
    assert form.is_valid()
    assert form.cleaned_data["embedding"].tolist() == [0.0, 3.0, 4.0]


def test_form_disabled_field_keeps_the_initial_vector():
    form = WrittenForm({"embedding": "[0, 3, 4]"}, initial={"embedding": VECTOR})
    form.fields["embedding"].disabled = True
    assert form.is_valid()
    assert form.cleaned_data["embedding"] is VECTOR
    assert form.changed_data == []


@pytest.mark.parametrize("initial", [VECTOR, VECTOR.tolist(), tuple(VECTOR.tolist())])
def test_textarea_shows_json_that_reads_back(initial):
    form = WrittenForm(initial={"embedding": initial})
    assert form["embedding"].value() == "[1.5,-2.0,0.25]"
    again = WrittenForm({"embedding": form["embedding"].value()}, initial={"embedding": initial})
    assert again.is_valid()
    assert again.changed_data == []


@pytest.mark.parametrize(("initial", "text"), [(None, None), ("", ""), ("x", "x"), ([1, None], [1, None])])
def test_textarea_shows_what_is_no_vector_as_it_is(initial, text):
    assert WrittenForm(initial={"embedding": initial})["embedding"].value() == text


def test_textarea_refused_text_is_shown_again():
    form = WrittenForm({"embedding": "[1, </textarea><script>"}, initial={"embedding": VECTOR})
    assert not form.is_valid()
    assert "[1, &lt;/textarea&gt;&lt;script&gt;" in str(form["embedding"])


def test_textarea_omitted_data_clears_the_vector():
    form = WrittenForm({}, initial={"embedding": VECTOR})
    assert form.is_valid()
    assert form.cleaned_data["embedding"] is None


def test_formset_untouched_extra_forms_are_left_out():
    formset_class = forms.formset_factory(ShownForm, extra=2)
    formset = formset_class({"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "0", "form-0-title": "a"})
    assert formset.is_valid()
    assert [form.has_changed() for form in formset] == [True, False]


@pytest.mark.parametrize(("value", "empty"), [(None, True), ("", True), ([], True), ((), True), ({}, True)])
def test_empty_values_hold_django_s(value, empty):
    assert (value in EMPTY_VALUES) is empty


@pytest.mark.parametrize("value", [np.zeros(1), np.zeros(3), np.array([]), "x", [0], 0, False])
def test_empty_values_hold_nothing_else(value):
    assert value not in EMPTY_VALUES


# Through the admin


class ArticleAdmin(admin.ModelAdmin):
    list_display = ["title"]


class WrittenArticleAdmin(admin.ModelAdmin):
    formfield_overrides = {models.Field: {"widget": forms.Textarea}}
    fields = ["title", "embedding"]


shown_site = admin.AdminSite(name="shown")
shown_site.register(Article, ArticleAdmin)
shown_site.register(Required)
written_site = admin.AdminSite(name="written")
written_site.register(Article, WrittenArticleAdmin)
urlpatterns = [path("shown/", shown_site.urls), path("written/", written_site.urls)]

in_admin = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def article():
    return Article.objects.create(title="a", embedding=[0.1, -0.0, 1.2e-38])


def change(admin_client, site, pk, **data):
    return admin_client.post(f"/{site}/tests/article/{pk}/change/", data)


class TestAdmin:
    pytestmark = in_admin

    def test_add_without_vector_logs_an_addition(self, admin_client):
        assert admin_client.post("/shown/tests/article/add/", {"title": "a"}).status_code == 302
        assert Article.objects.get().embedding is None
        assert LogEntry.objects.get().get_change_message() == "Added."

    def test_change_page_shows_one_line(self, admin_client, article):
        page = admin_client.get(f"/shown/tests/article/{article.pk}/change/").content.decode()
        assert "3 dimensions · norm 0.1000 · [0.1000, -0.0000, 0.0000]" in page
        assert 'name="embedding"' not in page

    def test_unchanged_save_changes_no_bit_and_logs_no_change(self, admin_client, article):
        for site in ("shown", "written"):
            page = admin_client.get(f"/{site}/tests/article/{article.pk}/change/")
            form = page.context["adminform"].form
            data = {name: form[name].value() for name in form.fields if 'name="' in str(form[name])}
            sent = {name: value for name, value in data.items() if value not in (None, False)}
            assert change(admin_client, site, article.pk, **sent).status_code == 302
            assert Article.objects.get().embedding.tobytes() == article.embedding.tobytes()
            assert LogEntry.objects.latest("pk").get_change_message() == "No fields changed."

    def test_change_of_another_field_keeps_the_vector(self, admin_client, article):
        change(admin_client, "shown", article.pk, title="b", published="on")
        assert Article.objects.get(title="b").embedding.tobytes() == article.embedding.tobytes()
        assert LogEntry.objects.get().get_change_message() == "Changed Title."

    def test_vector_that_is_only_shown_cannot_be_changed(self, admin_client, article):
        change(admin_client, "shown", article.pk, title="a", embedding="")
        assert Article.objects.get().embedding.tobytes() == article.embedding.tobytes()

    def test_change_of_the_vector_is_saved_and_logged(self, admin_client, article):
        change(admin_client, "written", article.pk, title="a", embedding="[0, 3, 4]")
        assert Article.objects.get().embedding.tolist() == [0.0, 3.0, 4.0]
        assert LogEntry.objects.get().get_change_message() == "Changed Embedding."

    @pytest.mark.parametrize(
        "text", ["x", "[1, 2]", "[1, null, 3]", "[1e39, 0, 0]", "{}", "[[1,2,3]]", "<b>", "\ufffd"]
    )
    def test_refused_text_is_a_field_error(self, admin_client, article, text):
        page = change(admin_client, "written", article.pk, title="a", embedding=text)
        assert page.status_code == 200
        [message] = page.context["adminform"].form.errors["embedding"]
        assert message.startswith("Embedding must ")
        assert Article.objects.get().embedding.tobytes() == article.embedding.tobytes()

    def test_required_vector_that_is_missing_is_a_field_error(self, admin_client):
        page = admin_client.post("/shown/tests/required/add/", {})
        assert page.status_code == 200
        [message] = page.context["adminform"].form.errors["embedding"]
        assert message.startswith("This vector is required.")

    def test_required_vector_is_added(self, admin_client):
        assert 'name="embedding"' in admin_client.get("/shown/tests/required/add/").content.decode()
        answer = admin_client.post("/shown/tests/required/add/", {"embedding": "[1, 2, 3]"})
        assert answer.status_code == 302
        assert Required.objects.get().embedding == [1, 2, 3]

    def test_required_vector_that_is_there_is_kept(self, admin_client):
        required = Required.objects.create(embedding=[1, 2, 3])
        assert admin_client.post(f"/shown/tests/required/{required.pk}/change/", {}).status_code == 302
        assert Required.objects.get().embedding == [1, 2, 3]

    def test_long_vector_has_a_short_page(self, admin_client):
        required = Required.objects.create(embedding=[1, 2, 3])
        page = admin_client.get(f"/shown/tests/required/{required.pk}/change/").content.decode()
        assert "3 dimensions · norm 3.7417" in page

    def test_delete_page_and_history_are_served(self, admin_client, article):
        for name in ("delete", "history"):
            assert admin_client.get(f"/shown/tests/article/{article.pk}/{name}/").status_code == 200


def test_widget_is_marked_read_only_for_the_admin():
    assert EmbeddingWidget.read_only is True
