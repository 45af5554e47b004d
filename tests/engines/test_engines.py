import gc
import struct
import weakref

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, NotSupportedError, connection, connections, transaction
from django.db.backends.dummy import base as dummy
from django.test.utils import CaptureQueriesContext

from pgembedding_django.engines import (
    DISTANCES,
    ENGINES,
    Engine,
    distance_of_opclass,
    get_engine,
    get_engine_for,
    guard,
)
from pgembedding_django.engines.extension import Known, parse_version, place
from pgembedding_django.engines.scan import Scan
from pgembedding_django.engines.servers import PLAIN
from pgembedding_django.functions import DISTANCE_CLASSES
from pgembedding_django.operations import create_extension
from tests.support.notes import make_note

PGVECTOR, PG_EMBEDDING = ENGINES["pgvector"], ENGINES["pg_embedding"]

#: What a float32 column must keep: the smallest normal number, large ones, no round numbers, both zeros.
FLOATS = np.array([0.1, -0.0, 0.0, 1.1754944e-38, 9e18, -3.4e-5, 16777217, 1 / 3, -9e18], np.float32)


def bits(vector):
    return vector.astype("<f4").tobytes()


# Which engine


@pytest.mark.parametrize("name", ["pgvector", "pg_embedding"])
def test_engine_of_every_database_is_the_one_in_the_setting(settings, name):
    settings.PGEMBEDDING = {"ENGINE": name}
    assert get_engine_for("default").name == get_engine_for("other").name == name


def test_engine_of_an_alias_comes_from_the_dict(settings):
    settings.PGEMBEDDING = {"ENGINE": {"old": "pg_embedding"}}
    assert (get_engine_for("old"), get_engine_for("default")) == (PG_EMBEDDING, PGVECTOR)


def test_engine_without_a_setting_is_pgvector(settings):
    del settings.PGEMBEDDING
    assert get_engine(connection) is PGVECTOR


def test_engine_that_does_not_exist_is_refused(settings):
    settings.PGEMBEDDING = {"ENGINE": "faiss"}
    with pytest.raises(ImproperlyConfigured) as caught:
        get_engine(connection)
    assert str(caught.value) == 'PGEMBEDDING["ENGINE"] must be "pgvector" or "pg_embedding", got "faiss".'


def test_engine_of_another_vendor_is_refused():
    with pytest.raises(NotSupportedError) as caught:
        get_engine(dummy.DatabaseWrapper({}, "other"))
    assert str(caught.value) == (
        'EmbeddingField needs PostgreSQL, or SQLite for tests and small tables, but database "other" is unknown. Keep '
        "its models off this database with a router."
    )


@pytest.mark.parametrize(
    ("opclass", "distance"),
    [("vector_ip_ops", "inner_product"), ("halfvec_l1_ops", "l1"), ("ann_cos_ops", "cosine"), ("gin_trgm_ops", None)],
)
def test_distance_of_an_operator_class_is_known_across_engines(opclass, distance):
    assert distance_of_opclass(opclass) == distance


def test_distances_have_the_names_of_their_classes():
    assert {name: cls.__name__ for name, cls in DISTANCE_CLASSES.items()} == DISTANCES


# Versions


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.8.5", (0, 8, 5)), ("0.10", (0, 10)), ("1.0-dev", (1,)), ("0.7.0.rc1", (0, 7, 0)), ("", ()), ("next", ())],
)
def test_parse_version_stops_at_the_first_part_that_is_no_number(text, version):
    assert parse_version(text) == version


@pytest.mark.django_db
def test_version_is_at_least_the_oldest_that_is_tested(engine):
    assert engine.version(connection) >= engine.minimum_version


def test_version_is_asked_once_a_connection(ready_database, engine):
    engine.version(ready_database.connection)
    with CaptureQueriesContext(ready_database.connection) as context:
        assert engine.version(ready_database.connection) == engine.version(ready_database.connection)
    assert len(context) == 0
    engine.forget_version(ready_database.connection)
    with CaptureQueriesContext(ready_database.connection) as context:
        assert engine.version(ready_database.connection) == engine.version(ready_database.connection)
    assert len(context) == 1 + bool(engine.prefixes)  # Its settings are asked for with it.


def test_version_of_a_missing_extension_is_asked_every_time(fresh_database, engine):
    assert engine.version(fresh_database.connection) == ()
    fresh_database.execute(f"CREATE EXTENSION {engine.extension}")
    assert engine.version(fresh_database.connection) >= engine.minimum_version


def test_version_forgotten_twice_is_asked_anew(ready_database, engine):
    engine.forget_version(ready_database.connection)
    engine.forget_version(ready_database.connection)
    assert engine.version(ready_database.connection)


def test_version_is_kept_no_longer_than_its_connection(ready_database, engine):
    extra = ready_database.open()
    assert engine.version(extra)
    extra.close()
    gone = weakref.ref(extra)
    del extra
    gc.collect()
    assert gone() is None


@pytest.mark.django_db
def test_version_through_the_proxy_is_that_of_its_connection(engine):
    engine.forget_version(connection)
    assert engine.version(connection) == engine.version(connections["default"])


def test_extension_on_the_search_path_hides_in_no_schema(ready_database, engine):
    assert engine.hidden_schema(ready_database.connection) is None


# Operators


@pytest.mark.parametrize("distance", DISTANCES)
def test_pgvector_has_an_operator_for_every_distance(distance):
    assert PGVECTOR.operator(distance) in {"<->", "<=>", "<+>", "<#>", "<~>", "<%%>"}


def test_distance_without_an_operator_names_the_others():
    with pytest.raises(NotSupportedError) as caught:
        PG_EMBEDDING.operator("inner_product")
    assert str(caught.value) == (
        "pg_embedding has no inner product distance. Use L2Distance, CosineDistance or L1Distance."
    )


@pytest.mark.django_db
def test_operators_measure_what_their_names_say(engine):
    # By hand, for (1, 0) and (0, 2).
    expected = {"l2": 5**0.5, "cosine": 1, "l1": 3, "inner_product": 0}
    one, two = (
        f"'{engine.encode(np.array(value, np.float32))}'::{engine.cast('single')}" for value in ([1, 0], [0, 2])
    )
    for distance in expected.keys() & engine.operators:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {one} {engine.operators[distance]} {two}")
            assert cursor.fetchone()[0] == pytest.approx(expected[distance], abs=1e-6)


@pytest.mark.django_db
@pytest.mark.parametrize("storage", ["single", "half"])
def test_operator_classes_exist_on_the_server(engine, storage):
    wanted = set(engine.opclasses.get(storage, {}).values())
    with connection.cursor() as cursor:
        cursor.execute("SELECT opcname FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod WHERE a.amname = 'hnsw'")
        assert wanted <= {name for (name,) in cursor.fetchall()}


# A vector's way to the server and back


def echo(engine, storage, vector, *, binary):
    """Send a vector as a parameter and read it back as the field does, or as raw SQL delivers it."""
    expression = f"%s::{engine.cast(storage)}"
    with connection.cursor() as cursor:
        sql = engine.sent(expression, storage) if binary else expression
        cursor.execute(f"SELECT {sql}", [engine.encode(vector)])
        return engine.converter(storage)(cursor.fetchone()[0], None, connection)


@pytest.mark.django_db
def test_vector_comes_back_bit_for_bit(engine):
    found = echo(engine, "single", FLOATS, binary=True)
    assert (found.dtype, found.shape) == (np.float32, FLOATS.shape)
    assert bits(found) == bits(FLOATS)


@pytest.mark.django_db
def test_vector_of_raw_sql_comes_back_equal(engine):
    found = echo(engine, "single", FLOATS, binary=False)
    assert (found.dtype, found.shape) == (np.float32, FLOATS.shape)
    np.testing.assert_array_equal(found, FLOATS)  # Equal, as text keeps no sign of a zero.


@pytest.mark.django_db
@pytest.mark.parametrize("size", [1, 2, 1536])
def test_vector_of_any_length_comes_back_bit_for_bit(engine, size):
    vector = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    assert bits(echo(engine, "single", vector, binary=True)) == bits(vector)


@pytest.mark.pgvector
@pytest.mark.django_db
@pytest.mark.parametrize("binary", [True, False])
def test_half_vector_comes_back_rounded_to_float16(binary):
    vector = np.array([0.1, -65504, 6e-8, 1 / 3], np.float32)
    found = echo(PGVECTOR, "half", vector, binary=binary)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.astype(np.float16), vector.astype(np.float16))


@pytest.mark.parametrize("converter_engine", ENGINES.values(), ids=list(ENGINES))
def test_null_comes_back_as_none(converter_engine):
    assert converter_engine.converter("single")(None, None, None) is None


@pytest.mark.django_db
def test_array_of_plain_postgres_comes_back_bit_for_bit():
    # real[] needs no extension, so pg_embedding's way is proven on every server.
    for binary in (True, False):
        assert bits(echo(PG_EMBEDDING, "single", FLOATS, binary=binary)) == bits(FLOATS)


def test_array_as_text_and_as_bytes_is_read_too():
    convert = PG_EMBEDDING.converter("single")
    assert convert("{0.5,2}", None, None).tolist() == [0.5, 2]
    assert convert([0.5, 2.0], None, None).tolist() == [0.5, 2]


def test_pg_embedding_stores_no_half_precision():
    with pytest.raises(NotSupportedError) as caught:
        PG_EMBEDDING.column_type(3, "half")
    assert str(caught.value) == 'pg_embedding cannot store half precision. Use storage="single".'


@pytest.mark.parametrize(
    ("type_engine", "dimensions", "storage", "column"),
    [
        (PGVECTOR, 3, "single", "vector(3)"),
        (PGVECTOR, None, "single", "vector"),
        (PGVECTOR, 3, "half", "halfvec(3)"),
        (PGVECTOR, None, "half", "halfvec"),
        (PG_EMBEDDING, 3, "single", "real[]"),
    ],
)
def test_column_type_holds_the_dimensions_where_the_server_knows_them(type_engine, dimensions, storage, column):
    assert type_engine.column_type(dimensions, storage) == column


# The CHECK of pg_embedding's column


def create_note(dimensions):
    with connection.schema_editor() as editor:
        editor.create_model(make_note(dimensions=dimensions))


def insert(array):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO tests_note (embedding) VALUES ({array})")


BAD_ARRAYS = [
    "'{1,NULL,3}'",
    "'{NaN,1,2}'",
    "'{1,Infinity,2}'",
    "'{1,2,-Infinity}'",
    "'{{1,2,3}}'",
    "'{{1},{2},{3}}'",
    "'{}'",
]


@pytest.mark.django_db
@pytest.mark.parametrize("array", [*BAD_ARRAYS, "'{1,2}'", "'{1,2,3,4}'"])
def test_column_check_refuses_in_raw_sql_what_no_vector_is(isolated, settings, array):
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    create_note(3)
    with pytest.raises(IntegrityError, match='violates check constraint "tests_note_embedding_check"'):
        insert(array)


@pytest.mark.django_db
@pytest.mark.parametrize("array", BAD_ARRAYS)
def test_column_check_without_dimensions_refuses_the_same_but_the_length(isolated, settings, array):
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    create_note(None)
    insert("'{1,2,3,4}'")
    with pytest.raises(IntegrityError, match='violates check constraint "tests_note_embedding_check"'):
        insert(array)


@pytest.mark.django_db
@pytest.mark.parametrize("array", ["'{1,2,3}'", "NULL", "'{-0,0,1e-30}'", "'[5:7]={1,2,3}'"])
def test_column_check_takes_vectors_and_null(isolated, settings, array):
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    create_note(3)
    insert(array)


def test_column_check_of_pgvector_is_none():
    assert PGVECTOR.column_check('"embedding"', 3) is None


# What an index's options become

OPTIONS = {"m": None, "ef_construction": None, "ef_search": None, "max_elements": 1000}


@pytest.mark.django_db
def test_max_elements_is_never_emitted_for_what_the_server_has(engine):
    assert not any("max" in entry for entry in engine.with_options(OPTIONS, 3, connection))


@pytest.mark.parametrize(
    ("version", "emitted"), [((), False), ((0, 1, 3), True), ((0, 2), True), ((0, 3), False), ((0, 3, 6), False)]
)
def test_max_elements_is_emitted_for_an_old_pg_embedding_only(fresh_database, version, emitted):
    PG_EMBEDDING._known[place(fresh_database.connection)] = Known(version, PLAIN, None)
    entries = PG_EMBEDDING.with_options(OPTIONS, 3, fresh_database.connection)
    assert ("maxelements = 1000" in entries) is emitted


def test_pgvector_says_nothing_of_options_that_are_not_given():
    assert PGVECTOR.with_options({**OPTIONS, "ef_search": 50}, 3, None) == []


# The gate of an index scan


@pytest.mark.pgvector
@pytest.mark.parametrize(
    ("tuples", "settings"),
    [(500, ("strict_order", "500")), (0, ("off", "20000")), (50 * 10**9, ("strict_order", "2147483647"))],
    ids=["goes on", "stops", "as far as may be"],
)
@pytest.mark.django_db
def test_pgvector_gate_sets_what_the_scan_needs(tuples, settings):
    sql, params = PGVECTOR.scan_gate(connection, '"tests_note"', Scan(ef_search=77, max_scan_tuples=tuples))
    names = ["hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples"]
    assert sql == f"(SELECT {' || '.join(['set_config(%s, %s, true)'] * 3)}) IS NOT NULL"
    assert params == [text for pair in zip(names, ["77", *settings], strict=True) for text in pair]


def test_pgvector_gate_before_iterative_scans_sets_ef_search_alone(fresh_database):
    PGVECTOR._known[place(fresh_database.connection)] = Known((0, 7, 4), PLAIN, None)
    sql, params = PGVECTOR.scan_gate(fresh_database.connection, '"tests_note"', Scan(ef_search=77))
    assert sql == "(SELECT set_config(%s, %s, true)) IS NOT NULL"
    assert params == ["hnsw.ef_search", "77"]


def test_pg_embedding_gate_asks_the_guard():
    sql, params = PG_EMBEDDING.scan_gate(None, '"tests_note"', Scan())
    assert (sql, params) == ("(SELECT pgembedding_enter(%s::regclass))", ['"tests_note"'])


@pytest.mark.parametrize(
    ("precision", "candidates"), [(None, (0, 40)), ("half", (20, 40)), ("binary", (320, 40))], ids=str
)
def test_candidates_are_more_where_the_order_of_the_index_is_not_exact(precision, candidates):
    assert (PGVECTOR.candidates(10, precision), PG_EMBEDDING.candidates(10, precision)) == candidates


@pytest.mark.parametrize("vector", [[0.1, -2, 3e30], [0.0, -0.0, 1.0]], ids=str)
def test_pg_embedding_packs_an_array_as_the_server_does(vector):
    floats = b"".join(struct.pack(">if", 4, value) for value in np.float32(vector))
    expected = struct.pack(">iiiii", 1, 0, 700, 3, 1) + floats
    assert PG_EMBEDDING.binary_encoder("single")(np.float32(vector)) == expected


def test_pgvector_packs_half_precision_as_the_server_does():
    expected = struct.pack(">hheee", 3, 0, 0.5, -2.0, 3.0)
    assert PGVECTOR.binary_encoder("half")(np.float32([0.5, -2, 3])) == expected


MATRIX = np.float32([[0.5, -2, 1e-45], [1, 2, -0.0]])


@pytest.mark.parametrize(
    ("engine", "storage"),
    [(PGVECTOR, "single"), (PGVECTOR, "half"), (PG_EMBEDDING, "single")],
    ids=["pgvector", "pgvector half", "pg_embedding"],
)
def test_matrix_is_written_and_read_as_its_rows_are(engine, storage):
    form, pack = engine.binary_form(storage), engine.binary_encoder(storage)
    records = np.empty(2, form.dtype(3))
    form.write(records, MATRIX)
    assert records.tobytes() == b"".join(map(pack, MATRIX))
    rows = [engine.converter(storage)(pack(row), None, None).tolist() for row in MATRIX]
    assert form.read(records).tolist() == rows


def test_pg_embedding_has_no_index_of_reduced_precision():
    with pytest.raises(NotSupportedError) as caught:
        PG_EMBEDDING.indexed_expression("single", "l2", "half", 3)
    assert str(caught.value) == "pg_embedding has no index of half precision. Leave precision out."


def test_distance_outside_a_gate_never_reads_the_index_of_pg_embedding():
    assert PGVECTOR.ungated("a <-> b") == "(a <-> b)"
    assert PG_EMBEDDING.ungated("a <-> b") == PG_EMBEDDING.exact("a <-> b") == "((a <-> b) + 0)"


def test_engine_base_leaves_the_index_and_its_options_alone():
    bare = Engine()
    assert bare.before_create_index(None, None) is None
    assert bare.after_remove_index(None, None) is None
    assert bare.check_options({}) is None
    assert bare.scan_obstacle(None) == ""
    assert bare.unguarded_tables(None, {1}) == set()
    assert bare.guard_table(None, "") is None
    assert bare.candidates(10, None) == 0


def test_create_extension_twice_leaves_the_version_known(ready_database, engine):
    create_extension(ready_database.connection)
    assert engine.version(ready_database.connection)


@pytest.fixture
def guarded(db):
    """The oid of a table that carries the guard of pg_embedding, which is plain SQL."""
    with connection.cursor() as cursor:
        for statement in guard.create('"tests_required"', "'tests_required'"):
            cursor.execute(statement)
        cursor.execute("SELECT 'tests_required'::regclass::oid::bigint")
        return cursor.fetchone()[0]


def test_unsound_tables_on_pg_embedding_are_those_that_lost_their_mark(guarded):
    assert PG_EMBEDDING.unsound_tables(connection, [guarded]) == set()
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {guard.MARKS}")
    assert PG_EMBEDDING.unsound_tables(connection, [guarded]) == {guarded}
    PG_EMBEDDING.mark_sound(connection, guarded)
    assert PG_EMBEDDING.unsound_tables(connection, [guarded]) == set()


@pytest.mark.django_db
def test_unsound_tables_where_nothing_is_marked_are_none(ready_database):
    assert PG_EMBEDDING.unsound_tables(ready_database.connection, [1]) == set()
    PG_EMBEDDING.mark_sound(ready_database.connection, 1)
    assert PG_EMBEDDING.unsound_tables(ready_database.connection, [1]) == set()


def test_index_size_on_pg_embedding_is_a_page_for_each_so_many_rows():
    # An element of 4 * (2 * 16 + 1) + 4 * 384 + 8 = 1,676 bytes: four in a page of 8,192 bytes.
    assert PG_EMBEDDING.index_size("ann_l2_ops", 1000, 384, {"m": "16"}) == 250 * 8192


def test_graph_size_on_pg_embedding_is_nothing_since_it_builds_on_disk():
    assert PG_EMBEDDING.graph_size("ann_l2_ops", 1000, 384, {}) == 0
