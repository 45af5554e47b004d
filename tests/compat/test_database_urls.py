"""URLs of databases, as libpq reads them."""

import pytest

from pgembedding_django.compat.database_urls import entry_of

ENTRY = {"NAME": "db", "USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "OPTIONS": {}}


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("postgresql:///db", {}),
        ("postgres://host/db", {"HOST": "host"}),
        (
            "postgresql+psycopg2://me:p%40ss%2F@host:99/db",
            {"USER": "me", "PASSWORD": "p@ss/", "HOST": "host", "PORT": "99"},
        ),
        ("postgresql+asyncpg://me@/db?host=/Tmp/x&port=5", {"USER": "me", "HOST": "/Tmp/x", "PORT": "5"}),
        ("postgresql://me@%2FTmp%2Fx/db", {"USER": "me", "HOST": "/Tmp/x"}),
        ("postgresql://[::1]/db?sslmode=require", {"HOST": "::1", "OPTIONS": {"sslmode": "require"}}),
    ],
)
def test_connection_string_becomes_an_entry(url, entry):
    made = entry_of(url)
    assert made["ENGINE"] == "django.db.backends.postgresql"
    assert {key: made[key] for key in ENTRY} == {**ENTRY, **entry}


@pytest.mark.parametrize(
    "url", ["", "db", "mysql://me:secret@host/db", "postgresql://me:secret@host", "postgresql://me:sec ret@host/db?x=1"]
)
def test_wrong_connection_string_is_told_without_its_password(url):
    with pytest.raises(ValueError) as caught:
        entry_of(url)
    assert str(caught.value) == (
        "connection_string must be a URL such as postgresql://user:password@host:5432/database."
    )
