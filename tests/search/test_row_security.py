"""Row level security: nearest() finds the k nearest of the rows that a role may see, and shows no other."""

import pytest
from django.db import transaction

from pgembedding_django.querysets import EmbeddingQuerySet
from tests.models import Article
from tests.support.many import QUERY, VECTORS, N, ids, ranked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.pgvector]

POLICY = "CREATE POLICY own ON tests_article USING (title::int %% {modulus} = current_setting('tests.tenant')::int)"


@pytest.fixture
def tenants(migrated_database, request):
    """Rows of which a role sees one in so many, and that role."""
    rows = EmbeddingQuerySet(Article, using="fresh")
    rows.bulk_load((Article(title=str(i), embedding=VECTORS[i]) for i in range(N)), rebuild_indexes=True)
    role = f"tenant_{migrated_database.name}"
    for sql in (
        f"CREATE ROLE {role}",
        f"GRANT SELECT ON tests_article TO {role}",
        "ALTER TABLE tests_article ENABLE ROW LEVEL SECURITY",
        POLICY.format(modulus=request.param).replace("%%", "%"),
    ):
        migrated_database.execute(sql)
    yield rows, role
    migrated_database.execute(f"DROP OWNED BY {role} CASCADE")
    migrated_database.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("tenants", [2, 50, 400], indirect=True)
@pytest.mark.parametrize("k", [5, 100])
def test_nearest_finds_the_rows_of_the_tenant(tenants, k, migrated_database, request):
    rows, role = tenants
    modulus = request.node.callspec.params["tenants"]
    with transaction.atomic(using="fresh"), migrated_database.connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {role}")
        cursor.execute("SET LOCAL tests.tenant = '1'")
        found = ids(rows.nearest(QUERY, k))
    wanted = ranked(lambda i: i % modulus == 1)[:k]
    assert all(i % modulus == 1 for i in found)
    assert len(found) == len(wanted)
    assert len(set(found) & set(wanted)) >= 0.9 * len(wanted)
