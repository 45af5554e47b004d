"""django-tenants: the app shared, in each tenant and both: each schema has its index, found and listed there."""

import json
import subprocess
import sys

import pytest

from tests.neighbours.settings import ROOT
from tests.support.databases import throwaway

pytestmark = pytest.mark.django_db


@pytest.fixture
def fresh_database(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), throwaway("fresh") as database:
        yield database


@pytest.mark.parametrize(
    ("place", "schemas"),
    [("shared", ["public", "acme"]), ("tenant", ["acme", "bolt"]), ("both", ["public", "acme", "bolt"])],
)
def test_each_schema_is_searched_and_listed(fresh_database, place, schemas):
    settings = {"DJANGO_SETTINGS_MODULE": "tests.neighbours.tenants.settings", "TENANTS_SHOP": place}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.neighbours.tenants.journey"],
        cwd=ROOT,
        env=fresh_database.environment(**settings),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert list(found) == schemas
    for schema in schemas:
        owner = "public" if place == "shared" else schema
        assert found[schema]["nearest"] == [f"{owner} 0", f"{owner} 1"]
        assert found[schema]["stale"] == 0
        listed = {index["schema"] for index in json.loads(found[schema]["listed"])}
        assert listed == ({"public"} if place == "shared" else set(schemas))
