"""Canary of compat.literals: Django's operations of PostgreSQL still write parameters into a statement."""

import pytest
from django.db import connection

from pgembedding_django.compat.literals import with_literals


@pytest.mark.django_db
def test_with_literals_writes_what_the_server_reads_back():
    values = ["é'\\%s", 7, None]
    with connection.cursor() as cursor:
        cursor.execute(with_literals("SELECT %s, %s, %s, '%%'", values, connection).replace("%", "%%"), [])
        assert list(cursor.fetchone()) == [*values, "%"]
