"""Canary of compat.schemas: Django still writes CREATE TABLE by the template that its schema editor has."""

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from pgembedding_django.compat.schemas import create_table


@pytest.mark.django_db
@isolate_apps("tests")
def test_table_is_created_with_a_clause_behind_its_columns():
    class Filled(models.Model):
        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        create_table(editor, Filled, "WITH (fillfactor = 70)")
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'tests_filled'")
        assert cursor.fetchone() == (["fillfactor=70"],)
