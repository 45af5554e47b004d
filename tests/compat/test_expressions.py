"""Each private API of Django's expressions that is used: a canary that sings where a release of Django changes it."""

import pytest
from django.db.models import F, IntegerField, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull

from pgembedding_django.compat.expressions import add_condition, add_resolved, output_field_of, replaced, resolved
from tests.models import Article


def test_output_field_is_that_of_the_column():
    column = F("embedding").resolve_expression(Article.objects.all().query)
    assert output_field_of(column) is Article._meta.get_field("embedding")


def test_output_field_of_a_value_without_one_is_none():
    assert output_field_of(Value(object())) is None
    assert output_field_of(Value(1, output_field=IntegerField())).get_internal_type() == "IntegerField"


def test_output_field_of_a_name_is_none():
    assert output_field_of(F("embedding")) is None


def test_condition_and_annotation_in_place_are_what_filter_and_annotate_do():
    column = F("section_id")
    slow = Article.objects.filter(IsNull(F("section"), False)).annotate(far=column).query
    fast = Article.objects.all().query
    add_condition(fast, IsNull(resolved(F("section"), fast), False))
    add_resolved(fast, resolved(column, fast), "far")
    assert str(fast) == str(slow)


@pytest.mark.parametrize("name", ["title", "section__name", "twice"])
def test_resolved_is_what_django_resolves(name):
    rows = Article.objects.annotate(twice=F("pk") * 2)
    fast, slow = rows.query.clone(), rows.query.clone()
    assert resolved(F(name), fast) == F(name).resolve_expression(slow)
    assert fast.alias_map.keys() == slow.alias_map.keys()


def test_annotation_in_place_is_selected_beside_values():
    query = Article.objects.values("title").query
    add_resolved(query, resolved(F("published"), query), "seen")
    assert str(query) == str(Article.objects.values("title").annotate(seen=F("published")).query)


def test_names_are_replaced_wherever_they_stand():
    total, views = replaced(Coalesce(1 + F("score"), F("views")), {"score": Value(3)}).get_source_expressions()
    assert (total.lhs, total.rhs, views) == (Value(1), Value(3), F("views"))
