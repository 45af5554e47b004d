"""A role that may do nothing but connect."""

import pytest
from django.db import connections

from tests.support.databases import as_superuser


@pytest.fixture
def role(fresh_database):
    """The name of a role without any right; the alias "fresh" connects as it."""
    name = f"role_{fresh_database.name}"
    as_superuser(f"CREATE ROLE {name} LOGIN")
    user = connections["default"].settings_dict["USER"]
    fresh_database.become(USER=name)
    yield name
    fresh_database.become(USER=user)
    fresh_database.execute(f"DROP OWNED BY {name} CASCADE")
    as_superuser(f"DROP ROLE {name}")
