"""Tables that are partitioned by a migration, and indexes that come onto all of their partitions."""

import pytest
from django.core.management import call_command
from django.db import NotSupportedError, ProgrammingError, models
from django.db.migrations.state import ProjectState

from pgembedding_django import AddPartition, EmbeddingField, PartitionTable
from pgembedding_django.partitioning import check_unique_keys
from tests.support.maintenance import BUILDING
from tests.support.waiting import wait_for

pytestmark = pytest.mark.pgvector

CREATE = """migrations.CreateModel("Note", [
    ("pk", models.CompositePrimaryKey("tenant", "id")),
    ("tenant", models.IntegerField()),
    ("id", models.BigIntegerField()),
    ("text", models.TextField(default="", db_comment="what it says")),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
], options={INDEX})"""
WITH_INDEX = CREATE.replace("{INDEX}", '{"indexes": [HnswIndex(fields=["embedding"], name="note_hnsw")]}')
PLAIN = CREATE.replace("{INDEX}", "{}")
TAGGED = """migrations.CreateModel("Tag", [("id", models.BigAutoField(primary_key=True))]),
migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("tags", models.ManyToManyField("Tag")),
])"""
COMMENT = """migrations.CreateModel("Comment", [
    ("id", models.BigAutoField(primary_key=True)),
    ("note", models.ForeignKey("Note", models.CASCADE)),
])"""
BY_LIST = 'PartitionTable("Note", "list", fields=["tenant"])'
BY_RANGE = 'PartitionTable("Note", "range", fields=["tenant", "id"])'
BY_HASH = 'PartitionTable("Note", "hash", fields=["tenant"], partitions=3)'
ONE = 'AddPartition("Note", "note_1", values=[1, 2])'
REST = 'AddPartition("Note", "note_rest")'
ADD = 'AddIndexConcurrently("Note", HnswIndex(fields=["embedding"], name="note_hnsw", m=8, precision="half"))'
USING = "USING hnsw ((embedding::halfvec(3)) halfvec_l2_ops) WITH (m = 8)"
REMOVE = 'RemoveIndexConcurrently("Note", "note_hnsw")'


def partitions(database):
    """Return name: bounds of each partition of tests_note, and how the table is partitioned."""
    return dict(
        database.execute(
            "SELECT relname, coalesce(pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid)) FROM pg_class "
            "WHERE oid IN (SELECT relid FROM pg_partition_tree('tests_note'))"
        )
    )


def table_comment(database):
    return database.execute("SELECT col_description('tests_note'::regclass, 3)")


# The operations


def test_table_by_list_has_its_partitions_and_an_index_on_each(fresh_database, write_migrations):
    write_migrations(", ".join([WITH_INDEX, BY_LIST, ONE, REST]))
    fresh_database.migrate("tests")
    assert partitions(fresh_database) == {
        "tests_note": "LIST (tenant)",
        "note_1": "FOR VALUES IN (1, 2)",
        "note_rest": "DEFAULT",
    }
    assert set(fresh_database.indexes()) == {"note_hnsw", "note_1_embedding_idx", "note_rest_embedding_idx"}
    assert table_comment(fresh_database) == [("what it says",)]


def test_table_by_range_has_the_bounds_that_were_said(fresh_database, write_migrations):
    first = 'AddPartition("Note", "low", start=[None, None], end=[10, 0])'
    last = 'AddPartition("Note", "high", start=[10, 0], end=[None, None])'
    write_migrations(", ".join([PLAIN, BY_RANGE]), f"{first}, {last}")
    fresh_database.migrate("tests")
    assert partitions(fresh_database) == {
        "tests_note": "RANGE (tenant, id)",
        "low": "FOR VALUES FROM (MINVALUE, MINVALUE) TO (10, '0')",
        "high": "FOR VALUES FROM (10, '0') TO (MAXVALUE, MAXVALUE)",
    }


def test_table_by_hash_comes_with_its_partitions(fresh_database, write_migrations):
    write_migrations(f"{WITH_INDEX}, {BY_HASH}")
    fresh_database.migrate("tests")
    assert partitions(fresh_database) == {
        "tests_note": "HASH (tenant)",
        **{f"tests_note_{part}": f"FOR VALUES WITH (modulus 3, remainder {part})" for part in range(3)},
    }
    assert len(fresh_database.indexes()) == 4


def test_partitioning_goes_back_and_forth_twice(fresh_database, write_migrations):
    write_migrations(WITH_INDEX, BY_LIST, f"{ONE}, {REST}")
    for _ in range(2):
        fresh_database.migrate("tests")
        assert len(fresh_database.indexes()) == 3
        fresh_database.migrate("tests", "0001")
        assert partitions(fresh_database) == {}
        assert fresh_database.indexes() == {"note_hnsw": True}
    fresh_database.migrate("tests", "zero")
    assert "tests_note" not in fresh_database.tables()


def test_table_that_others_refer_to_keeps_what_refers_to_it(fresh_database, write_migrations):
    """Of a key of one column: what the end of the migration adds elsewhere, and tables between models, stay."""
    write_migrations(f'{TAGGED}, {COMMENT}, PartitionTable("Note", "hash", fields=["id"], partitions=2)')
    fresh_database.migrate("tests")
    found = fresh_database.execute(
        "SELECT conrelid::regclass::text FROM pg_constraint "
        "WHERE confrelid = 'tests_note'::regclass AND conparentid = 0 ORDER BY 1"
    )
    assert [name for (name,) in found] == ["tests_comment", "tests_note_tags"]


def test_table_with_rows_or_references_is_not_made_anew(fresh_database, write_migrations):
    write_migrations(PLAIN, BY_LIST)
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("INSERT INTO tests_note (tenant, id, text) VALUES (1, 1, '')")
    with pytest.raises(NotSupportedError) as caught:
        fresh_database.migrate("tests")
    assert str(caught.value) == (
        "The table of Note is made anew where it is partitioned or no longer so, and has rows: put PartitionTable "
        "behind CreateModel in the same migration, or move the rows away first."
    )
    fresh_database.execute("DELETE FROM tests_note")
    fresh_database.execute("CREATE TABLE other (tenant int, id bigint, FOREIGN KEY (tenant, id) REFERENCES tests_note)")
    with pytest.raises(NotSupportedError, match="and is referred to by other: put"):
        fresh_database.migrate("tests")


def test_key_without_the_field_is_refused(fresh_database, write_migrations):
    write_migrations(f'{PLAIN}, PartitionTable("Note", "list", fields=["text"])')
    with pytest.raises(NotSupportedError) as caught:
        fresh_database.migrate("tests")
    assert str(caught.value) == (
        "The primary key of Note must hold text, by which its table is partitioned: declare "
        'pk = models.CompositePrimaryKey("text", "tenant", "id").'
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {
                "constraints": [
                    models.CheckConstraint(condition=models.Q(id__gt=0), name="note_id"),
                    models.UniqueConstraint(fields=["name"], name="note_name"),
                ]
            },
            "The constraint note_name of Named must hold tenant, by which its table is partitioned: declare "
            'UniqueConstraint(fields=["tenant", "name"]).',
        ),
        (
            {"unique_together": [("name", "id")]},
            "The unique_together of Named must hold tenant, by which its table is partitioned: declare "
            'unique_together = [("tenant", "name", "id")].',
        ),
    ],
)
def test_unique_constraint_without_the_field_is_refused(isolated, options, sentence):
    class Named(models.Model):
        pk = models.CompositePrimaryKey("tenant", "id")
        tenant = models.IntegerField()
        id = models.IntegerField()
        name = models.CharField(max_length=10)
        Meta = type("Meta", (), {"app_label": "tests", **options})

    with pytest.raises(NotSupportedError) as caught:
        check_unique_keys(Named, [Named._meta.pk_fields[0]], "partitioned")
    assert str(caught.value) == sentence


def test_operations_are_printed_as_sql(fresh_database, write_migrations, capsys):
    write_migrations(", ".join([WITH_INDEX, BY_LIST, ONE]))
    call_command("sqlmigrate", "tests", "0001", database="fresh")
    out = capsys.readouterr().out
    assert '"tests_note" ("tenant" integer NOT NULL' in out
    assert 'PRIMARY KEY ("tenant", "id")) PARTITION BY LIST ("tenant");' in out
    assert 'CREATE TABLE "note_1" PARTITION OF "tests_note" FOR VALUES IN (1, 2);' in out


def test_operations_leave_other_vendors_alone(sqlite, isolated):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3)

        class Meta:
            app_label = "tests"

    state = ProjectState.from_apps(isolated)
    with sqlite.schema_editor() as editor:
        for operation in (PartitionTable("Note", "list", fields=["id"]), AddPartition("Note", "part")):
            operation.database_forwards("tests", editor, state, state)
            operation.database_backwards("tests", editor, state, state)
    assert sqlite.introspection.table_names() == []


def test_operations_describe_themselves():
    table, part = PartitionTable("Note", "hash", fields=["tenant"], partitions=2), AddPartition("Note", "Part")
    assert table.describe() == "Partitions the table of Note by hash of tenant"
    assert part.describe() == "Adds the partition Part to the table of Note"
    assert (table.migration_name_fragment, part.migration_name_fragment) == ("partition_note", "add_partition_part")
    assert table.references_model("note", "tests")
    assert not table.references_model("other", "tests")
    assert table.deconstruct() == ("PartitionTable", ("Note", "hash"), {"fields": ["tenant"], "partitions": 2})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PartitionTable("N", "key", fields=["t"]), r'by must be "list", "range" or "hash", got \'key\''),
        (lambda: PartitionTable("N", "hash", fields=["t"]), r'got None by "hash"'),
        (lambda: PartitionTable("N", "hash", fields=["t"], partitions=0), r'got 0 by "hash"'),
        (lambda: PartitionTable("N", "list", fields=["t"], partitions=2), r'got 2 by "list"'),
        (lambda: PartitionTable("N", "list", fields=["t", "u"]), r'must name one field by "list", got'),
        (lambda: PartitionTable("N", "range", fields="t"), r"must be a list of the names of fields, got 't'"),
        (lambda: AddPartition("N", "p", values=[1], start=1), "values, or start and end, or neither"),
        (lambda: AddPartition("N", "p", values="ab"), "values must be a list of values, got 'ab'"),
    ],
)
def test_argument_that_makes_no_partition_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Indexes onto partitions, while others write


@pytest.fixture
def notes(fresh_database, write_migrations):
    """A table with rows in three partitions, of which one has its own; 0002 adds an index, 0003 removes it."""
    write_migrations(", ".join([PLAIN, BY_LIST, ONE, REST]), ADD, REMOVE, atomic=False)
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("CREATE TABLE deep (LIKE tests_note INCLUDING ALL) PARTITION BY HASH (id)")
    for part in range(2):
        fresh_database.execute(
            f"CREATE TABLE deep_{part} PARTITION OF deep FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
        )
    fresh_database.execute("ALTER TABLE tests_note ATTACH PARTITION deep FOR VALUES IN (5)")
    fresh_database.execute(
        "INSERT INTO tests_note (tenant, id, text, embedding) "
        "SELECT g % 6, g, '', ARRAY[g, 1, 2]::vector FROM generate_series(1, 600) g"
    )
    return fresh_database


PARTS = [
    "deep_0_note_hnsw",
    "deep_1_note_hnsw",
    "deep_note_hnsw",
    "note_1_note_hnsw",
    "note_hnsw",
    "note_rest_note_hnsw",
]


def test_index_is_added_and_removed_concurrently_twice(notes):
    for _ in range(2):
        notes.migrate("tests", "0002")
        assert notes.indexes() == dict.fromkeys(PARTS, True)
        [(definition,)] = notes.execute("SELECT pg_get_indexdef('deep_0_note_hnsw'::regclass)")
        assert "halfvec(3)) halfvec_l2_ops) WITH (m='8')" in definition
        notes.migrate("tests", "0003")
        assert notes.indexes() == {}
        notes.migrate("tests", "0001")


def test_index_is_added_to_a_partitioned_table_without_partitions(fresh_database, write_migrations):
    write_migrations(f"{PLAIN}, {BY_LIST}", ADD, atomic=False)
    fresh_database.migrate("tests")
    assert fresh_database.indexes() == {"note_hnsw": True}


def test_index_goes_on_where_its_build_was_interrupted(notes):
    """What is whole stays, what an interrupted build left is built anew, and what was attached by hand is taken."""
    notes.execute(f"CREATE INDEX note_hnsw ON ONLY tests_note {USING}")
    for name in ("note_1", "note_rest"):
        notes.execute(f"CREATE INDEX {name}_mine ON {name} {USING}")
    notes.execute("ALTER INDEX note_hnsw ATTACH PARTITION note_1_mine")
    notes.execute(f"CREATE INDEX broken ON deep_0 {USING}")
    notes.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass", superuser=True)
    notes.migrate("tests", "0002")
    parts = {*PARTS} - {"note_1_note_hnsw", "note_rest_note_hnsw"} | {"note_1_mine", "note_rest_mine"}
    assert notes.indexes() == dict.fromkeys(parts, True)


def test_index_that_is_whole_already_is_an_error_as_for_any_table(notes):
    notes.execute(f"CREATE INDEX note_hnsw ON tests_note {USING}")
    with pytest.raises(ProgrammingError, match='relation "note_hnsw" already exists'):
        notes.migrate("tests", "0002")


def test_names_of_parts_are_as_long_as_the_server_keeps(notes):
    notes.execute(f"ALTER TABLE note_1 RENAME TO {'ä' * 31}")
    notes.migrate("tests", "0002")
    assert all(notes.indexes().values())
    assert len(notes.indexes()) == len(PARTS)


def test_writes_go_on_while_an_index_is_added(notes, background):
    """A transaction that has written to one partition holds up the build there, and no write of any."""
    holder = notes.open()
    holder.set_autocommit(False)
    with holder.cursor() as cursor:
        cursor.execute("UPDATE note_1 SET text = 'held' WHERE id = 1")
        building = background(notes.migrate, "tests", "0002")
        wait_for(notes, BUILDING)
        notes.execute("SET lock_timeout = '10s'")
        for tenant in (1, 5, 9):
            notes.execute("INSERT INTO tests_note VALUES (%s, 1000, 'new', '[1,2,3]')", [tenant])
    holder.commit()
    holder.close()
    building.result()
    assert notes.indexes() == dict.fromkeys(PARTS, True)
