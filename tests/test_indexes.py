import threading

import pytest
from django.core.checks import Error
from django.db import NotSupportedError, OperationalError, ProgrammingError, connection, connections, models
from django.db.migrations import AddIndex, RemoveIndex, RenameIndex
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Q
from django.db.utils import DatabaseError

from pgembedding_django import EmbeddingField, HnswIndex
from pgembedding_django.checks import check_models
from pgembedding_django.engines import ENGINES
from pgembedding_django.indexes import declared_index, is_option_value
from tests.support.maintenance import BUILDING
from tests.support.notes import make_note
from tests.support.waiting import wait_for

PGVECTOR, PG_EMBEDDING = ENGINES["pgvector"], ENGINES["pg_embedding"]

GUARD_TRIGGER = (
    'CREATE OR REPLACE TRIGGER pgembedding_guard BEFORE INSERT OR UPDATE ON "tests_note" '
    "FOR EACH STATEMENT EXECUTE FUNCTION pgembedding_guard();"
)
NO_INDEX = (
    "NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' AND i.indrelid = to_regclass('\"tests_note\"'))"
)
GUARD_MARK = (
    f"INSERT INTO pgembedding_sound SELECT to_regclass('\"tests_note\"') WHERE {NO_INDEX} ON CONFLICT DO NOTHING;"
)
DROP_GUARD = (
    f"DO $$ BEGIN IF {NO_INDEX} AND to_regclass('\"tests_note\"') IS NOT NULL THEN "
    'DROP TRIGGER IF EXISTS pgembedding_guard ON "tests_note"; '
    "DELETE FROM pgembedding_sound WHERE relid = to_regclass('\"tests_note\"'); END IF; END $$;"
)

#: Each of these dropped a table when Django put it into DDL as it is.
BAD_OPCLASS = "vector_l2_ops) ; drop table xt; --"
BAD_NAME = 'a" on xt(id); drop table xt; --'


def hnsw(**options):
    return HnswIndex(**{"fields": ["embedding"], "name": "note_hnsw", **options})


@pytest.fixture
def note(isolated):
    return make_note()


def sql_of(model, index, engine, settings):
    """Return the DDL that an engine emits for an index, collected and not run."""
    settings.PGEMBEDDING = {"ENGINE": engine.name}
    with connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(model, index)
    return editor.collected_sql


def catalogue(name, using="default"):
    """Return access method, operator class, options and condition of an index, or None without it."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT a.amname, o.opcname, c.reloptions, pg_get_expr(i.indpred, i.indrelid) FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE c.relname = %s",
            [name],
        )
        return cursor.fetchone()


# The declaration

DECLARATIONS = [
    ({}, {}),
    ({"distance": "l2"}, {}),
    ({"distance": "cosine"}, {"distance": "cosine"}),
    ({"m": 8, "ef_construction": 32}, {"m": 8, "ef_construction": 32}),
    ({"ef_search": 50, "max_elements": 1000}, {"ef_search": 50, "max_elements": 1000}),
    ({"condition": Q(kind=1)}, {"condition": Q(kind=1)}),
    ({"opclasses": ["vector_l1_ops"]}, {"opclasses": ["vector_l1_ops"]}),
    ({"opclasses": ("vector_ip_ops",), "distance": "inner_product"}, {"opclasses": ("vector_ip_ops",)}),
    ({"db_tablespace": "fast"}, {"db_tablespace": "fast"}),
]


@pytest.mark.parametrize(("given", "kept"), DECLARATIONS)
def test_index_deconstructed_gives_what_was_declared(given, kept):
    path, args, kwargs = hnsw(**given).deconstruct()
    assert (path, args) == ("pgembedding_django.HnswIndex", ())
    assert kwargs == {"fields": ["embedding"], "name": "note_hnsw", **kept}


@pytest.mark.parametrize(("given", "kept"), DECLARATIONS)
def test_index_cloned_is_equal(given, kept):
    index = hnsw(**given)
    assert index.clone() == index
    assert index.clone().options == index.options


@pytest.mark.parametrize("change", [{"m": 9}, {"distance": "l1"}, {"name": "other"}, {"condition": Q(kind=2)}])
def test_index_with_another_option_is_not_equal(change):
    assert hnsw(**change) != hnsw()


@pytest.mark.parametrize(
    ("given", "distance"),
    [
        ({}, "l2"),
        ({"distance": "l1"}, "l1"),
        ({"opclasses": ["vector_cosine_ops"]}, "cosine"),
        ({"opclasses": ["halfvec_ip_ops"]}, "inner_product"),
        ({"opclasses": ["ann_manhattan_ops"]}, "l1"),
        ({"opclasses": ["gin_trgm_ops"]}, "l2"),
    ],
)
def test_distance_comes_from_the_argument_or_the_operator_class(given, distance):
    assert hnsw(**given).distance == distance


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fields": ["a", "b"]}, "HnswIndex.fields must name one field, without a minus, got ['a', 'b']."),
        ({"fields": ["-embedding"]}, "HnswIndex.fields must name one field, without a minus, got ['-embedding']."),
        ({"fields": []}, "At least one field or expression is required to define an index."),
        ({"fields": "embedding"}, "Index.fields must be a list or tuple."),
        ({"fields": [3]}, "Index.fields must contain only strings with field names."),
        (
            {"distance": "euclid"},
            'HnswIndex.distance must be one of "l2", "cosine", "l1", "inner_product", "hamming", "jaccard", '
            "got 'euclid'.",
        ),
        (
            {"distance": "l1", "opclasses": ["vector_l2_ops"]},
            'HnswIndex.opclasses \'vector_l2_ops\' is for distance "l2", but distance is "l1". Give one of the two.',
        ),
        ({"opclasses": ["a", "b"]}, "Index.fields and Index.opclasses must have the same number of elements."),
        ({"name": None, "opclasses": ["vector_l2_ops"]}, "An index must be named to use opclasses."),
        ({"name": None, "condition": Q(kind=1)}, "An index must be named to use condition."),
    ],
)
def test_index_with_a_wrong_argument_says_what_is_wrong(given, sentence):
    with pytest.raises(ValueError) as caught:
        hnsw(**given)
    assert str(caught.value) == sentence


def test_index_without_a_name_gets_one_from_the_model(isolated):
    index = make_note(HnswIndex(fields=["embedding"]))._meta.indexes[0]
    assert index.name.startswith("tests_note_embeddi_")
    assert index.name.endswith("_hnsw")


@pytest.mark.parametrize(("value", "good"), [(2, True), (100, True), (1, False), (101, False), (True, False)])
def test_option_value_is_an_integer_within_bounds(value, good):
    assert is_option_value(value, PGVECTOR.index_options["m"]) is good


@pytest.mark.parametrize("value", [16.5, "16", None, 16.0])
def test_option_value_of_another_type_is_none(value):
    assert not is_option_value(value, PGVECTOR.index_options["m"])


def test_declared_index_takes_the_one_for_l2_first_and_then_the_order(isolated):
    cosine, l1, l2 = (hnsw(name=name, distance=name) for name in ("cosine", "l1", "l2"))
    other = models.Index(fields=["kind"], name="kind")
    model = make_note(other, cosine, l1, l2)
    field = model._meta.get_field("embedding")
    assert declared_index(field).name == "l2"
    assert declared_index(field, "l1").name == "l1"
    assert declared_index(field, "inner_product") is None


def test_declared_index_without_one_for_l2_takes_the_first(isolated):
    model = make_note(hnsw(name="cosine", distance="cosine"), hnsw(name="l1", distance="l1"))
    assert declared_index(model._meta.get_field("embedding")).name == "cosine"


# What each engine's DDL says, on any server

VECTOR_DDL = [
    ({}, '("embedding" vector_l2_ops)'),
    ({"distance": "cosine"}, '("embedding" vector_cosine_ops)'),
    ({"distance": "l1"}, '("embedding" vector_l1_ops)'),
    ({"distance": "inner_product"}, '("embedding" vector_ip_ops)'),
    ({"opclasses": ["vector_l2_ops"]}, '("embedding" vector_l2_ops)'),
    ({"opclasses": ["ann_cos_ops"]}, '("embedding" vector_cosine_ops)'),
    ({"m": 8}, '("embedding" vector_l2_ops) WITH (m = 8)'),
    ({"m": 8, "ef_construction": 32}, '("embedding" vector_l2_ops) WITH (m = 8, ef_construction = 32)'),
    ({"ef_search": 50, "max_elements": 9}, '("embedding" vector_l2_ops)'),
    ({"condition": Q(kind=1)}, '("embedding" vector_l2_ops) WHERE "kind" = 1'),
    (
        {"m": 8, "db_tablespace": "fast", "condition": Q(kind=1)},
        '("embedding" vector_l2_ops) WITH (m = 8) TABLESPACE "fast" WHERE "kind" = 1',
    ),
]
EMBEDDING_DDL = [
    ({}, "ann_l2_ops) WITH (dims = 3, m = 16, efconstruction = 64, efsearch = 64)"),
    ({"distance": "cosine"}, "ann_cos_ops) WITH (dims = 3, m = 16, efconstruction = 64, efsearch = 64)"),
    ({"distance": "l1"}, "ann_manhattan_ops) WITH (dims = 3, m = 16, efconstruction = 64, efsearch = 64)"),
    ({"opclasses": ["vector_l2_ops"]}, "ann_l2_ops) WITH (dims = 3, m = 16, efconstruction = 64, efsearch = 64)"),
    ({"max_elements": 1000}, "ann_l2_ops) WITH (dims = 3, m = 16, efconstruction = 64, efsearch = 64)"),
    (
        {"m": 8, "ef_construction": 32, "ef_search": 50, "condition": Q(kind=1)},
        'ann_l2_ops) WITH (dims = 3, m = 8, efconstruction = 32, efsearch = 50) WHERE "kind" = 1',
    ),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("given", "ddl"), VECTOR_DDL)
def test_pgvector_writes_one_statement(note, settings, given, ddl):
    assert sql_of(note, hnsw(**given), PGVECTOR, settings) == [
        f'CREATE INDEX "note_hnsw" ON "tests_note" USING hnsw {ddl};'
    ]


@pytest.mark.django_db
def test_pgvector_takes_the_operator_class_of_half_precision(isolated, settings):
    statements = sql_of(make_note(storage="half"), hnsw(distance="l1"), PGVECTOR, settings)
    assert statements == ['CREATE INDEX "note_hnsw" ON "tests_note" USING hnsw ("embedding" halfvec_l1_ops);']


@pytest.mark.django_db
@pytest.mark.parametrize(("given", "ddl"), EMBEDDING_DDL)
def test_pg_embedding_writes_the_guard_and_then_the_index(note, settings, given, ddl):
    made = sql_of(note, hnsw(**given), PG_EMBEDDING, settings)
    assert [statement.split("(")[0] for statement in made[:5]] == [
        "CREATE UNLOGGED TABLE IF NOT EXISTS pgembedding_sound ",
        "GRANT SELECT ON pgembedding_sound TO PUBLIC;",
        "CREATE OR REPLACE FUNCTION pgembedding_is_sound",
        "CREATE OR REPLACE FUNCTION pgembedding_enter",
        "CREATE OR REPLACE FUNCTION pgembedding_guard",
    ]
    assert made[5:] == [
        GUARD_TRIGGER,
        GUARD_MARK,
        f'CREATE INDEX "note_hnsw" ON "tests_note" USING hnsw ("embedding" {ddl};',
    ]


@pytest.mark.django_db
def test_pg_embedding_drops_the_guard_after_the_index(note, settings):
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    with connection.schema_editor(collect_sql=True) as editor:
        editor.remove_index(note, hnsw())
    assert editor.collected_sql == ['DROP INDEX IF EXISTS "note_hnsw";', DROP_GUARD]


@pytest.mark.django_db
def test_pgvector_drops_the_index_alone(note, settings):
    settings.PGEMBEDDING = {"ENGINE": "pgvector"}
    with connection.schema_editor(collect_sql=True) as editor:
        editor.remove_index(note, hnsw())
    assert editor.collected_sql == ['DROP INDEX IF EXISTS "note_hnsw";']


@pytest.mark.django_db
@pytest.mark.parametrize(("engine_", "opclass"), [(PGVECTOR, "vector_l2_ops)"), (PG_EMBEDDING, "ann_l2_ops) WITH")])
def test_concurrent_ddl_is_shown_without_asking_the_server(note, settings, engine_, opclass):
    settings.PGEMBEDDING = {"ENGINE": engine_.name}
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        editor.add_index(note, hnsw(), concurrently=True)
    start = 'CREATE INDEX CONCURRENTLY "note_hnsw" ON "tests_note" USING hnsw ("embedding" '
    assert editor.collected_sql[-1].startswith(start + opclass)


@pytest.mark.django_db
def test_pg_embedding_refuses_a_distance_that_it_lacks(note, settings):
    with pytest.raises(NotSupportedError) as caught:
        sql_of(note, hnsw(distance="inner_product"), PG_EMBEDDING, settings)
    assert str(caught.value) == (
        "pg_embedding has no inner product distance. Use L2Distance, CosineDistance or L1Distance."
    )


@pytest.mark.django_db
def test_pg_embedding_refuses_half_precision(isolated, settings):
    with pytest.raises(NotSupportedError) as caught:
        sql_of(make_note(storage="half"), hnsw(), PG_EMBEDDING, settings)
    assert str(caught.value) == 'pg_embedding cannot store half precision. Use storage="single".'


@pytest.mark.django_db
def test_field_without_dimensions_is_refused(isolated, settings):
    with pytest.raises(ValueError, match=r"^Note\.embedding must have dimensions to be indexed by note_hnsw\.$"):
        sql_of(make_note(dimensions=None), hnsw(), PGVECTOR, settings)


# I12, I13: what must not reach the DDL

BAD_OPTIONS = [
    (PGVECTOR, {"m": 1}, "HnswIndex.m must be an integer from 2 to 100, got 1."),
    (PGVECTOR, {"m": 101}, "HnswIndex.m must be an integer from 2 to 100, got 101."),
    (PGVECTOR, {"m": True}, "HnswIndex.m must be an integer from 2 to 100, got True."),
    (PGVECTOR, {"m": 16.5}, "HnswIndex.m must be an integer from 2 to 100, got 16.5."),
    (
        PGVECTOR,
        {"m": "16); drop table xt; --"},
        "HnswIndex.m must be an integer from 2 to 100, got '16); drop table xt; --'.",
    ),
    (PGVECTOR, {"ef_construction": 3}, "HnswIndex.ef_construction must be an integer from 4 to 1000, got 3."),
    (PGVECTOR, {"ef_search": 1001}, "HnswIndex.ef_search must be an integer from 1 to 1000, got 1001."),
    (PG_EMBEDDING, {"m": 1}, "HnswIndex.m must be an integer from 2 to 1000, got 1."),
    (PG_EMBEDDING, {"ef_search": 0}, "HnswIndex.ef_search must be an integer from 1 to 1000, got 0."),
    (
        PG_EMBEDDING,
        {"max_elements": 2**31},
        "HnswIndex.max_elements must be an integer from 1 to 2147483647, got 2147483648.",
    ),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("engine_", "given", "sentence"), BAD_OPTIONS)
def test_option_that_the_server_would_refuse_reaches_no_ddl(note, settings, engine_, given, sentence):
    with pytest.raises(ValueError) as caught:
        sql_of(note, hnsw(**given), engine_, settings)
    assert str(caught.value) == sentence


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"opclasses": [BAD_OPCLASS]},
            f"HnswIndex.opclasses must be an operator class of HNSW, got {BAD_OPCLASS!r}.",
        ),
        ({"name": BAD_NAME}, f"HnswIndex.name must not contain a double quote, got {BAD_NAME!r}."),
    ],
)
def test_sql_in_a_declaration_is_refused_and_drops_nothing(note, given, sentence):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE xt (id int)")
    with pytest.raises(ValueError) as caught, connection.schema_editor() as editor:
        editor.create_model(note)
        editor.add_index(note, hnsw(**given))
    assert str(caught.value) == sentence
    assert "xt" in connection.introspection.table_names()


@pytest.mark.django_db
def test_sql_in_a_name_is_refused_on_removal_too(note):
    with pytest.raises(ValueError, match=r"^HnswIndex\.name must not contain"), connection.schema_editor() as editor:
        editor.remove_index(note, hnsw(name=BAD_NAME))


@pytest.mark.parametrize(
    ("given", "code"), [({"opclasses": [BAD_OPCLASS]}, "pgembedding.E015"), ({"name": BAD_NAME}, "pgembedding.E016")]
)
def test_sql_in_a_declaration_is_found_by_the_check(isolated, given, code):
    make_note(hnsw(**given))
    found = check_models([isolated.get_app_config("tests")])
    assert [message.id for message in found if isinstance(message, Error)] == [code]


# On the server


def build(model, *indexes):
    with connection.schema_editor() as editor:
        editor.create_model(model)
        for index in indexes:
            editor.add_index(model, index)


@pytest.mark.django_db
@pytest.mark.parametrize("distance", ["l2", "cosine", "l1", "inner_product"])
def test_index_is_created_used_and_dropped(note, engine, distance):
    if distance not in engine.operators:
        pytest.skip(f"{engine.name} has no {distance} distance")
    index = hnsw(distance=distance)
    build(note, index)
    assert catalogue("note_hnsw")[:2] == ("hnsw", engine.opclasses["single"][distance])
    assert "note_hnsw" in plan(engine, distance)
    with connection.schema_editor() as editor:
        editor.remove_index(note, index)
    assert catalogue("note_hnsw") is None


def plan(engine, distance):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        vector = f"ARRAY[1, 2, 3]::real[]::{engine.cast('single')}"
        cursor.execute(
            f"EXPLAIN SELECT id FROM tests_note ORDER BY embedding {engine.operator(distance)} {vector} LIMIT 1"
        )
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.pgvector
@pytest.mark.django_db
@pytest.mark.parametrize("distance", ["l2", "cosine", "l1", "inner_product"])
def test_index_of_half_precision_is_created(isolated, distance):
    build(make_note(storage="half"), hnsw(distance=distance))
    assert catalogue("note_hnsw")[1] == PGVECTOR.opclasses["half"][distance]


@pytest.mark.pgvector
@pytest.mark.django_db
def test_options_reach_pgvector(note):
    build(note, hnsw(m=8, ef_construction=32, ef_search=50, max_elements=9))
    assert catalogue("note_hnsw")[2] == ["m=8", "ef_construction=32"]


@pytest.mark.pg_embedding
@pytest.mark.django_db
def test_options_reach_pg_embedding(note):
    build(note, hnsw(m=8, ef_construction=32, ef_search=50, max_elements=9))
    assert catalogue("note_hnsw")[2] == ["dims=3", "m=8", "efconstruction=32", "efsearch=50"]


@pytest.mark.pg_embedding
@pytest.mark.django_db
def test_largest_m_that_the_engine_allows_takes_a_row(isolated):
    largest = PG_EMBEDDING.max_indexed_dimensions("single", None, {"m": 100})
    model = make_note(dimensions=largest)
    build(model, hnsw(m=100))
    model.objects.create(embedding=[1.0] * largest)
    assert model.objects.count() == 1


@pytest.mark.django_db
def test_condition_reaches_the_server(note):
    build(note, hnsw(condition=Q(kind=1)))
    assert catalogue("note_hnsw")[3] == "(kind = 1)"


@pytest.mark.django_db
def test_index_in_meta_is_created_with_its_table(isolated):
    build(make_note(hnsw()))
    assert catalogue("note_hnsw")[0] == "hnsw"


@pytest.mark.django_db
def test_index_renamed_keeps_its_options(note):
    build(note, hnsw(m=8))
    before = catalogue("note_hnsw")
    with connection.schema_editor() as editor:
        editor.rename_index(note, hnsw(m=8), hnsw(m=8, name="note_other"))
    assert (catalogue("note_hnsw"), catalogue("note_other")) == (None, before)


# The guard of pg_embedding

CREATE_NOTE = """migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
])"""
ADD = 'migrations.AddIndex("Note", HnswIndex(fields=["embedding"], name="note_hnsw"))'
ADD_SECOND = 'migrations.AddIndex("Note", HnswIndex(fields=["embedding"], name="note_cosine", distance="cosine"))'
REMOVE = 'migrations.RemoveIndex("Note", "note_hnsw")'
REMOVE_SECOND = 'migrations.RemoveIndex("Note", "note_cosine")'


@pytest.mark.pg_embedding
@pytest.mark.parametrize(
    ("operations", "guarded"),
    [
        ([], []),
        ([ADD], ["tests_note"]),
        ([ADD, ADD_SECOND], ["tests_note"]),
        ([ADD, ADD_SECOND, REMOVE], ["tests_note"]),
        ([ADD, ADD_SECOND, REMOVE, REMOVE_SECOND], []),
        ([ADD, REMOVE, ADD], ["tests_note"]),
        ([ADD, 'migrations.RenameIndex("Note", new_name="other", old_name="note_hnsw")'], ["tests_note"]),
        ([ADD, 'migrations.RenameModel("Note", "Remark")'], ["tests_remark"]),
        ([ADD, 'migrations.AlterModelTable("Note", "Upper Case")'], ['"Upper Case"']),
        ([ADD, 'migrations.RemoveField("Note", "embedding")'], ["tests_note"]),
        ([ADD, 'migrations.DeleteModel("Note")'], []),
        ([ADD, REMOVE, 'migrations.DeleteModel("Note")'], []),
    ],
)
@pytest.mark.parametrize("separator", [", ", None], ids=["one migration", "one each"])
def test_guard_stands_as_long_as_an_index_does(fresh_database, write_migrations, operations, guarded, separator):
    operations = [CREATE_NOTE, *operations]
    write_migrations(*([separator.join(operations)] if separator else operations))
    fresh_database.migrate("tests")
    assert fresh_database.triggers() == guarded


@pytest.mark.pg_embedding
def test_guard_goes_when_the_migration_is_reversed(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD)
    fresh_database.migrate("tests")
    fresh_database.migrate("tests", "0001")
    assert fresh_database.triggers() == []


# Concurrently

ADD_CONCURRENTLY = ADD.replace("migrations.AddIndex", "AddIndexConcurrently")
REMOVE_CONCURRENTLY = REMOVE.replace("migrations.RemoveIndex", "RemoveIndexConcurrently")


def test_index_is_added_and_removed_concurrently(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, REMOVE_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests", "0002")
    assert fresh_database.indexes() == {"note_hnsw": True}
    fresh_database.migrate("tests", "0003")
    assert (fresh_database.indexes(), fresh_database.triggers()) == ({}, [])


def test_index_is_replaced_concurrently_by_one_of_another_name(fresh_database, write_migrations):
    replace = f"{ADD_CONCURRENTLY.replace('note_hnsw', 'note_hnsw_m8')}, {REMOVE_CONCURRENTLY}"
    write_migrations(f"{CREATE_NOTE}, {ADD}", replace, atomic=False)
    fresh_database.migrate("tests")
    assert fresh_database.indexes() == {"note_hnsw_m8": True}
    fresh_database.migrate("tests", "0001")
    assert fresh_database.indexes() == {"note_hnsw": True}


def test_concurrent_migrations_reversed_leave_the_opposite(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, REMOVE_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests")
    fresh_database.migrate("tests", "0002")
    assert fresh_database.indexes() == {"note_hnsw": True}
    fresh_database.migrate("tests", "0001")
    assert (fresh_database.indexes(), fresh_database.triggers()) == ({}, [])


@pytest.mark.parametrize(
    ("operation", "name"),
    [(ADD_CONCURRENTLY, "AddIndexConcurrently"), (REMOVE_CONCURRENTLY, "RemoveIndexConcurrently")],
)
def test_concurrent_operation_in_an_atomic_migration_names_the_remedy(
    fresh_database, write_migrations, operation, name
):
    write_migrations(f"{CREATE_NOTE}, {ADD}" if operation == REMOVE_CONCURRENTLY else CREATE_NOTE, operation)
    fresh_database.migrate("tests", "0001")
    with pytest.raises(NotSupportedError) as caught:
        fresh_database.migrate("tests")
    assert str(caught.value) == (
        f"The {name} operation cannot be executed inside a transaction (set atomic = False on the migration)."
    )


def hold_a_snapshot(database):
    """Open a transaction that every concurrent build waits for at its end, as long as it is not closed."""
    blocker = database.open()
    with blocker.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT 1 FROM tests_note")
    return blocker


def hold_a_row(database):
    """Open a transaction that has written, so that a concurrent build waits for it at its start."""
    blocker = database.open()
    with blocker.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO tests_note (embedding) VALUES (NULL)")
    return blocker


def interrupt(database, setting):
    """Let the migration fail at a limit of the server's."""
    database.execute(f"SET {setting} = '400ms'")
    with pytest.raises(OperationalError, match=rf"due to {setting.replace('_', ' ').replace('timeout', '')}.*timeout"):
        database.migrate("tests")
    database.execute(f"RESET {setting}")


@pytest.mark.parametrize(
    ("hold", "setting"),
    [
        (hold_a_snapshot, "statement_timeout"),
        (hold_a_snapshot, "lock_timeout"),
        pytest.param(hold_a_row, "lock_timeout", marks=pytest.mark.pgvector),
        pytest.param(hold_a_row, "statement_timeout", marks=pytest.mark.pgvector),
    ],
)
def test_interrupted_concurrent_build_is_repaired_by_running_it_again(fresh_database, write_migrations, hold, setting):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests", "0001")
    blocker = hold(fresh_database)
    interrupt(fresh_database, setting)
    assert fresh_database.indexes() == {"note_hnsw": False}
    blocker.close()
    fresh_database.migrate("tests")
    assert fresh_database.indexes() == {"note_hnsw": True}


@pytest.mark.pg_embedding
def test_repaired_concurrent_build_keeps_the_guard(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests", "0001")
    blocker = hold_a_snapshot(fresh_database)
    interrupt(fresh_database, "statement_timeout")
    blocker.close()
    fresh_database.migrate("tests")
    assert fresh_database.triggers() == ["tests_note"]


def test_invalid_index_of_another_table_stays(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("CREATE TABLE other (id int)")
    fresh_database.execute("CREATE INDEX note_hnsw ON other (id)")
    fresh_database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'note_hnsw'::regclass")
    with pytest.raises(ProgrammingError, match='relation "note_hnsw" already exists'):
        fresh_database.migrate("tests")


def test_valid_index_of_that_name_stays(fresh_database, write_migrations):
    write_migrations(f"{CREATE_NOTE}, {ADD}", ADD_CONCURRENTLY.replace("l2", "l1"), atomic=False)
    fresh_database.migrate("tests", "0001")
    with pytest.raises(ProgrammingError, match='relation "note_hnsw" already exists'):
        fresh_database.migrate("tests")
    assert fresh_database.indexes() == {"note_hnsw": True}


def test_index_that_another_process_is_building_stays(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, ADD_CONCURRENTLY, atomic=False)
    fresh_database.migrate("tests", "0001")
    blocker = hold_a_snapshot(fresh_database)
    first = threading.Thread(target=migrate_in_thread, args=(fresh_database, failures := []))
    first.start()
    wait_for(fresh_database, BUILDING)
    interrupt(fresh_database, "lock_timeout")  # A second build waits for the first one's lock on the table.
    assert fresh_database.indexes() == {"note_hnsw": False}
    blocker.close()
    first.join()
    assert (failures, fresh_database.indexes()) == ([], {"note_hnsw": True})


def migrate_in_thread(database, failures):
    try:
        database.migrate("tests")
    except DatabaseError as error:
        failures.append(error)
    finally:
        connections["fresh"].close()


# What makemigrations writes


def changes(before, after):
    """Return the operations that lead from one index to another."""
    states = ProjectState(), ProjectState()
    for state, index in zip(states, (before, after), strict=True):
        fields = [("id", models.BigAutoField(primary_key=True)), ("embedding", EmbeddingField(dimensions=3))]
        state.add_model(ModelState("tests", "Note", fields, {"indexes": [index]}))
    found = MigrationAutodetector(*states)._detect_changes()
    return [operation for migration in found.get("tests", []) for operation in migration.operations]


def test_changed_option_makes_a_migration():
    operations = changes(hnsw(), hnsw(m=8))
    assert [type(operation) for operation in operations] == [RemoveIndex, AddIndex]
    assert operations[1].index == hnsw(m=8)


@pytest.mark.parametrize(
    ("engines", "change", "kinds"),
    [
        ("pgvector", {"ef_search": 80}, []),
        ("pgvector", {"max_elements": 1000}, []),
        ("pgvector", {"ef_search": 80, "m": 9}, [RemoveIndex, AddIndex]),
        ("pg_embedding", {"ef_search": 80}, [RemoveIndex, AddIndex]),
        ({"default": "pg_embedding"}, {"ef_search": 80}, [RemoveIndex, AddIndex]),
        ({"no database of this project": "pg_embedding"}, {"ef_search": 80}, []),
    ],
)
def test_changed_option_of_queries_makes_a_migration_only_where_an_index_holds_it(settings, engines, change, kinds):
    settings.PGEMBEDDING = {"ENGINE": engines}
    before, after = hnsw(ef_search=40), hnsw(**{"ef_search": 40, **change})
    assert [type(operation) for operation in changes(before, after)] == kinds
    assert [type(operation) for operation in changes(after, before)] == kinds


def test_changed_name_makes_a_renaming():
    assert [type(operation) for operation in changes(hnsw(), hnsw(name="note_other"))] == [RenameIndex]


def test_same_declaration_makes_no_migration():
    assert changes(hnsw(m=8), hnsw(m=8, distance="l2")) == []


def test_index_of_a_field_that_wraps_another_says_what_to_do(isolated, db):
    class Wrapped(models.Field):
        def db_type(self, connection):
            return "text"

    class Item(models.Model):
        embedding = Wrapped()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="item_hnsw")]

    with pytest.raises(TypeError) as caught, connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(Item, Item._meta.indexes[0])
    assert str(caught.value) == (
        "item_hnsw must index an EmbeddingField, but Item.embedding is a Wrapped. Let that class inherit from "
        "EmbeddingField."
    )
