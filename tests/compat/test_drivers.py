"""Canaries of what is asked of either driver: parameters of a class, arrays of a type, notices."""

import pytest
from django.db import connection

from pgembedding_django import Vector
from pgembedding_django.compat.adapters import send_as_text
from pgembedding_django.compat.arrays import register_array
from pgembedding_django.compat.notices import hear_notices

pytestmark = pytest.mark.django_db


def test_value_of_a_class_is_sent_as_its_text():
    send_as_text(Vector)  # As when the app is ready: psycopg 3 takes it from the next connection on.
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text", [Vector([1, 2])])
        assert cursor.fetchone() == ("[1.0,2.0]",)


def test_array_of_an_unknown_type_is_read_as_a_list():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TYPE mood AS ENUM ('calm', 'glad')")
        cursor.execute("SELECT oid, typarray FROM pg_type WHERE typname = 'mood'")
        register_array(connection, "mood", *cursor.fetchone())
    with connection.cursor() as cursor:
        cursor.execute("SELECT ARRAY['glad', 'calm']::mood[]")
        assert cursor.fetchone() == (["glad", "calm"],)


def test_listener_hears_a_notice_once():
    heard = []
    for _ in range(2):
        hear_notices(connection, heard.append)
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'nearly done'; END $$")
    assert [("nearly done" in text) for text in heard] == [True]
