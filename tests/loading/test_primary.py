"""What is said where a database only reads."""

import pytest
from django.db import InternalError

from pgembedding_django.loading.primary import on_primary
from tests.models import Article


def test_other_errors_of_the_server_stay_as_they_are():
    with pytest.raises(InternalError, match=r"^another$"), on_primary("bulk_load()", "default"):
        raise InternalError("another")


def test_load_by_a_role_that_may_only_read_says_so(migrated_database):
    migrated_database.become(OPTIONS={"options": "-c default_transaction_read_only=on"})
    with pytest.raises(
        InternalError, match=r'^bulk_load\(\) of Article writes, and database "fresh" is read-only here: '
    ):
        Article.objects.using("fresh").bulk_load([Article(title="a")])
