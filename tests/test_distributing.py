"""Tables that Citus spreads over several servers: what the operations say to it, and that others are left alone."""

import pytest
from django.db import NotSupportedError, connection, models
from django.db.migrations.state import ProjectState

from pgembedding_django import DistributeTable, EmbeddingField, ReferenceTable
from pgembedding_django.engines.servers import CITUS

pytestmark = [pytest.mark.django_db, pytest.mark.pgvector]

#: What stands for Citus: it notes what it is asked for. Its catalogue lists each table that was distributed.
FAKE = """
CREATE TABLE pg_dist_partition (logicalrelid regclass);
CREATE TABLE asked (what text);
CREATE FUNCTION create_distributed_table(t regclass, c text, colocate_with text DEFAULT 'default') RETURNS void
    LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES (t);
    INSERT INTO asked VALUES ('distribute ' || t::text || ' by ' || c || ' beside ' || colocate_with) $$;
CREATE FUNCTION create_reference_table(t regclass) RETURNS void
    LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES (t); INSERT INTO asked VALUES ('copy ' || t::text) $$;
CREATE FUNCTION undistribute_table(t regclass) RETURNS void
    LANGUAGE sql AS $$ INSERT INTO asked VALUES ('gather ' || t::text) $$;
"""


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [row for (row,) in cursor.fetchall()] if cursor.description else []


@pytest.fixture
def on_citus(monkeypatch):
    """Let the operations find Citus, which is functions of the same names here."""
    execute(FAKE)
    monkeypatch.setattr("pgembedding_django.distributing.find_server", lambda connection: CITUS)


@pytest.fixture
def state():
    """Two models of one tenant's rows, and a small one that all share; their tables are there."""

    class Note(models.Model):
        pk = models.CompositePrimaryKey("tenant", "id")
        tenant = models.IntegerField(db_column="tenant_id")
        id = models.BigIntegerField()
        embedding = EmbeddingField(dimensions=3, null=True)

        class Meta:
            app_label = "shards"

    class Page(models.Model):
        slug = models.SlugField(unique=True)

        class Meta:
            app_label = "shards"

    from django.db.migrations.state import ModelState

    state = ProjectState()
    for model in (Note, Page):
        state.add_model(ModelState.from_model(model))
    with connection.schema_editor() as editor:
        for name in ("note", "page"):
            editor.create_model(state.apps.get_model("shards", name))
    return state


def run(operation, state, direction="forwards"):
    with connection.schema_editor() as editor:
        getattr(operation, f"database_{direction}")("shards", editor, state, state)


@pytest.fixture(autouse=True)
def _own_registry(isolated):
    """Let no model of these tests be one of the project."""


def test_table_is_distributed_by_its_column_and_gathered_again(on_citus, state):
    operation = DistributeTable("Note", column="tenant")
    run(operation, state)
    run(operation, state, "backwards")
    assert execute("SELECT what FROM asked") == [
        "distribute shards_note by tenant_id beside default",
        "gather shards_note",
    ]


def test_table_is_distributed_beside_another(on_citus, state):
    run(DistributeTable("Note", column="tenant_id", colocate_with="Page"), state)
    assert execute("SELECT what FROM asked") == ['distribute shards_note by tenant_id beside "shards_page"']


def test_table_is_copied_everywhere_and_gathered_again(on_citus, state):
    operation = ReferenceTable("Page")
    run(operation, state)
    run(operation, state, "backwards")
    assert execute("SELECT what FROM asked") == ["copy shards_page", "gather shards_page"]


@pytest.mark.parametrize("operation", [DistributeTable("Note", column="tenant"), ReferenceTable("Page")])
def test_operation_without_citus_changes_nothing(state, operation, django_assert_num_queries):
    with django_assert_num_queries(1), connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("shards", editor, state, state)
    run(operation, state)
    run(operation, state, "backwards")


def test_operation_on_sqlite_does_nothing(sqlite, state):
    for operation in (DistributeTable("Note", column="tenant"), ReferenceTable("Page")):
        with sqlite.schema_editor() as editor:
            operation.database_forwards("shards", editor, state, state)
            operation.database_backwards("shards", editor, state, state)


def test_key_without_the_column_is_refused(on_citus, state):
    with pytest.raises(NotSupportedError) as caught:
        run(DistributeTable("Page", column="slug"), state)
    assert str(caught.value) == (
        "The primary key of Page must hold slug, by which its table is distributed: declare "
        'pk = models.CompositePrimaryKey("slug", "id").'
    )


def test_unique_field_without_the_column_is_refused(on_citus, state):
    with pytest.raises(NotSupportedError) as caught:
        run(DistributeTable("Page", column="id"), state)
    assert str(caught.value) == (
        "The unique field slug of Page must hold id, by which its table is distributed: declare "
        'UniqueConstraint(fields=["id", "slug"]).'
    )


def test_unknown_column_is_refused(state):
    with pytest.raises(ValueError) as caught:
        run(DistributeTable("Page", column="tenant"), state)
    assert str(caught.value) == "DistributeTable.column must name a field of Page (id, slug), got tenant."


def test_operations_say_what_they_do():
    distribute, reference = DistributeTable("Note", column="tenant"), ReferenceTable("Page")
    assert distribute.describe() == "Distributes the table of Note by tenant"
    assert distribute.migration_name_fragment == "distribute_note"
    assert reference.describe() == "Keeps the table of Page on every worker"
    assert reference.migration_name_fragment == "reference_page"
    assert distribute.references_model("note", "shards")
