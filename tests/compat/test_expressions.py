"""Each private API of Django's expressions that is used: a canary that sings where a release of Django changes it."""

from django.db.models import F, IntegerField, Value

from pgembedding_django.compat.expressions import output_field_of
from tests.models import Article


def test_output_field_is_that_of_the_column():
    column = F("embedding").resolve_expression(Article.objects.all().query)
    assert output_field_of(column) is Article._meta.get_field("embedding")


def test_output_field_of_a_value_without_one_is_none():
    assert output_field_of(Value(object())) is None
    assert output_field_of(Value(1, output_field=IntegerField())).get_internal_type() == "IntegerField"


def test_output_field_of_a_name_is_none():
    assert output_field_of(F("embedding")) is None
