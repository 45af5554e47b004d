"""What nearest(), embed() and indexes do on a server that can less than Postgres, and on one with shards."""

import threading

import pytest
from django.db import OperationalError, connection, models
from django.db.models import Q

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.embedding.single import embed_one
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.explained import expected_rows, plan_nodes, tasks_of
from pgembedding_django.engines.extension import Known, place
from pgembedding_django.engines.scan import Scan, fitting_ef_search
from pgembedding_django.engines.servers import CITUS, PLAIN, YUGABYTE, Estimate, Parts, server_with
from pgembedding_django.maintenance import find_index, list_indexes, rebuild
from pgembedding_django.maintenance.indexes.diagnosis import State
from tests.models import Article
from tests.support.capabilities import BareServer, ShardedServer
from tests.support.many import QUERY, RANKED, VECTORS, N, ids, ranked

pytestmark = [pytest.mark.django_db, pytest.mark.pgvector]

NAME = "article_embedding_hnsw"
TABLE = '"tests_article"'


def setting(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s, true)", [name])
        return cursor.fetchone()[0]


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


# nearest() on a server that lacks what may be lacking


def test_nearest_without_settings_in_statements_is_complete(serve, many):
    serve(BareServer())
    assert ids(Article.objects.nearest(QUERY, 300)) == RANKED[:300]


def test_nearest_without_plans_counts_the_rows_of_a_filter(serve, many):
    serve(BareServer())
    rows = Article.objects.filter(published=True).nearest(QUERY, 10)
    assert ids(rows) == ranked(lambda i: i % 2 == 0)[:10]
    assert "2,000 of 4,000 rows" in rows.explain_nearest()


def test_explanation_without_plans_takes_the_index_to_be_read(serve, many):
    serve(BareServer())
    assert Article.objects.nearest(QUERY).explain_nearest().startswith(f"Index scan on {NAME}")


def test_nearest_each_without_lateral_joins_answers_one_by_one(serve, many):
    serve(BareServer())
    first, second = Article.objects.nearest_each([QUERY, VECTORS[7]], 3)
    assert ids(first) == RANKED[:3]
    assert ids(second)[0] == 7


def test_hybrid_without_materialized_answers_the_same(serve, many):
    expected = ids(Article.objects.hybrid("17", 5, fields=["title"]))
    serve(BareServer())
    assert ids(Article.objects.hybrid("17", 5, fields=["title"])) == expected


@pytest.mark.django_db(transaction=True)
def test_settings_of_a_search_end_with_its_short_transaction(serve):
    serve(BareServer())
    Article.objects.create(title="0", embedding=[1, 2, 3])
    assert ids(Article.objects.nearest(QUERY, 1)) == [0]
    assert setting("hnsw.ef_search") == "40"


def test_settings_of_a_search_end_with_it_in_a_transaction_too(serve, many):
    serve(BareServer())
    execute("SET LOCAL hnsw.ef_search = 77")
    assert ids(Article.objects.nearest(QUERY, 10)) == RANKED[:10]
    assert setting("hnsw.ef_search") == "77"


def test_setting_that_was_unknown_before_has_its_default_again(serve, many):
    with BareServer().setting(connection, {"shop.mode": "it's"}):
        assert setting("shop.mode") == "it's"
    assert not setting("shop.mode")


@pytest.mark.parametrize("settings", [frozenset(), frozenset({"hnsw.ef_search"})])
def test_nearest_makes_only_settings_that_the_server_knows(many, settings):
    engine = get_engine(connection)
    before = engine._known[place(connection)]
    engine._known[place(connection)] = Known(before.version, PLAIN, settings)
    try:
        rows = Article.objects.nearest(QUERY, 10)
        assert "iterative_scan" not in str(rows.query)
        assert ids(rows) == RANKED[:10]
    finally:
        engine._known[place(connection)] = before


# Indexes


def create(index):
    class Note(models.Model):
        kind = models.IntegerField()
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [index]

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    return Note


def test_index_without_partial_ones_holds_every_row(serve, isolated):
    serve(BareServer())
    create(HnswIndex(fields=["embedding"], name="note_hnsw", condition=Q(kind=1)))
    ((definition,),) = execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'note_hnsw'")
    assert "WHERE" not in definition


def test_index_without_concurrent_builds_is_built_and_removed_in_a_transaction(serve, isolated):
    serve(BareServer())
    index = HnswIndex(fields=["embedding"], name="note_hnsw")
    note = create(HnswIndex(fields=["embedding"], name="note_other"))
    with connection.schema_editor() as editor:
        editor.add_index(note, index, concurrently=True)
        editor.remove_index(note, index, concurrently=True)
    assert not execute("SELECT FROM pg_indexes WHERE indexname = 'note_hnsw'")


@pytest.mark.django_db(transaction=True)
def test_rebuild_without_concurrent_builds_locks_the_table(serve):
    serve(BareServer())
    Article.objects.create(title="0", embedding=[1, 2, 3])
    assert rebuild(NAME).status == "succeeded"
    assert ids(Article.objects.nearest(QUERY, 1)) == [0]


# Rows that cannot be locked


@pytest.mark.django_db(transaction=True)
def test_two_workers_without_row_locks_embed_each_row_once(serve, background):
    serve(BareServer())
    Article.objects.bulk_create([Article(title=f"row {number}") for number in range(40)])
    both = threading.Barrier(2)

    def work():
        both.wait()
        return Article.objects.embed(batch_size=5).embedded

    first, second = background(work), background(work)
    assert first.result() + second.result() == 40
    assert not Article.objects.stale().exists()


def test_one_row_is_embedded_where_an_update_may_not_compute_digests(serve):
    serve(BareServer())
    article = Article.objects.create(title="a text")
    field = Article._meta.get_field("embedding")
    assert embed_one(field, article.pk, "default") is not None
    assert embed_one(field, article.pk, "default") is None
    assert not Article.objects.stale().exists()


# A table in shards


def test_estimate_of_a_table_in_shards_is_the_sum(serve, many):
    server = serve(ShardedServer())
    kept = ("SELECT 1 FROM tests_article WHERE published", ())
    estimate = server.estimate(connection, kept, ("SELECT 1 FROM tests_article", ()))
    assert estimate.held == 2 * N
    assert estimate.parts == 2


def test_estimate_behind_a_tenant_is_of_its_shard(serve, many):
    server = serve(ShardedServer(shards=1))
    kept = ("SELECT 1 FROM tests_article WHERE published", ())
    assert server.estimate(connection, kept, ("SELECT 1 FROM tests_article", ())).parts == 1


def test_estimate_of_a_table_without_shards_is_its_own(many):
    kept, held = (f"SELECT 1 FROM tests_article{where}" for where in (" WHERE false", ""))
    assert CITUS.estimate(connection, (kept, ()), (held, ())) == Estimate(0, N)


def test_each_shard_keeps_half_of_what_its_rows_need_or_its_share_twice(serve, many):
    serve(ShardedServer())
    engine, part = get_engine(connection), fitting_ef_search(N)
    assert engine.fitted_ef_search(connection, TABLE, Scan(index=NAME, ef_search=20, fits_table=True)) == (
        fitting_ef_search(2 * N)
    )
    assert engine.fitted_ef_search(connection, TABLE, Scan(index=NAME, ef_search=400, parts=8)) == max(part // 2, 100)
    assert engine.fitted_ef_search(connection, TABLE, Scan(index=NAME, ef_search=800, parts=8)) == 200
    assert engine.fitted_ef_search(connection, TABLE, Scan(index=NAME, ef_search=400, parts=8, is_fixed=True)) == 400


def test_shards_of_a_table_are_asked_for_once(serve, many):
    server = serve(ShardedServer())
    assert server.parts(connection, TABLE) == Parts(2, N)
    execute("DELETE FROM tests_article; ANALYZE tests_article")
    assert server.parts(connection, TABLE) == Parts(2, N)


def test_search_of_one_shard_sends_its_settings_in_the_statement(serve, many):
    serve(ShardedServer(shards=1))
    rows = Article.objects.filter(published=True).nearest(QUERY, 10)
    assert ids(rows) == ranked(lambda i: i % 2 == 0)[:10]


def test_search_of_all_shards_is_complete(serve, many):
    serve(ShardedServer())
    assert ids(Article.objects.nearest(QUERY, 100)) == RANKED[:100]
    assert ids(Article.objects.filter(published=True).nearest(QUERY, 10)) == ranked(lambda i: i % 2 == 0)[:10]


def test_subquery_of_a_search_that_needs_settings_is_exact(serve, many):
    serve(BareServer())
    inner = Article.objects.nearest(QUERY, 5, exact=False).values("pk")
    assert NAME not in Article.objects.filter(pk__in=inner).explain()


@pytest.mark.parametrize(
    ("extensions", "version", "server"),
    [
        (["plpgsql", "vector"], "0.8.5", PLAIN),
        (["vector", "citus"], "0.8.5", CITUS),
        (["vector"], "0.8.0-yb-1.0", YUGABYTE),
    ],
)
def test_server_is_known_by_its_extensions(extensions, version, server):
    assert server_with(extensions, version) is server


def test_index_of_a_shard_is_known_by_the_name_that_citus_gives_it(many):
    execute(
        "CREATE TEMP TABLE pg_dist_shard AS SELECT 'tests_article'::regclass AS logicalrelid, 102008::bigint AS shardid"
    )
    execute(
        "CREATE FUNCTION shard_name(regclass, bigint) RETURNS text LANGUAGE sql AS "
        "$$SELECT 'public.' || $1::text || '_' || $2$$"
    )
    assert CITUS.names_of_parts(connection, TABLE, NAME) == [f"{NAME}_102008"]


# What the servers of a table know of its index

#: What stands for Citus: each table has two shards, of which each is the table itself, under the name that it asks by.
SHARDS = """
CREATE TABLE pg_dist_partition (logicalrelid regclass);
INSERT INTO pg_dist_partition VALUES ('tests_article');
CREATE FUNCTION run_command_on_shards(t oid, command text)
    RETURNS TABLE (shardid bigint, success boolean, result text) LANGUAGE plpgsql AS $$
DECLARE
    shard bigint;
BEGIN
    success := true;
    FOR shard IN 101..102 LOOP
        shardid := shard;
        EXECUTE replace(command, '%s', t::regclass::text) INTO result;
        result := replace(result, '_hnsw"', '_hnsw_' || shardid || '"');
        RETURN NEXT;
    END LOOP;
END $$;
"""


@pytest.fixture
def sharded(serve, many):
    execute(SHARDS)
    return serve(ShardedServer())


def test_index_in_shards_is_listed_with_its_sum(sharded):
    ((size,),) = execute(f"SELECT pg_relation_size('{NAME}')")
    (report,) = [report for report in list_indexes() if report.name == NAME]
    assert (report.status.size, report.status.rows) == (2 * size, 2 * N)
    assert find_index(NAME).size == 2 * size


def test_index_that_is_invalid_on_one_shard_is_invalid(sharded):
    execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}'::regclass")
    (report,) = [report for report in list_indexes() if report.name == NAME]
    assert (report.state, report.repairable) == (State.INVALID, True)


def test_shard_that_cannot_be_read_is_named(sharded):
    execute(
        "CREATE OR REPLACE FUNCTION run_command_on_shards(t oid, command text) "
        "RETURNS TABLE (shardid bigint, success boolean, result text) LANGUAGE sql AS "
        "$$SELECT 101, false, 'connection refused'$$"
    )
    with pytest.raises(OperationalError, match=r"^Shard 101 of tests_article cannot be read: connection refused$"):
        list_indexes()


def test_nodes_of_a_plan_are_those_of_other_servers_and_of_subplans_too():
    def scan(name):
        return {"Node Type": "Seq Scan", "Relation Name": name, "Plan Rows": 1}

    plan = {
        "Node Type": "Custom Scan",
        "Distributed Query": {
            "Subplans": [{"PlannedStmt": [{"Plan": scan("asked_first")}]}],
            "Job": {"Tasks": [{"Remote Plan": [[{"Plan": scan("note_102008")}]]}]},
        },
    }
    assert [node.get("Relation Name") for node in plan_nodes(plan)] == [None, "note_102008", "asked_first"]


def test_task_of_a_server_that_does_not_answer_counts_without_rows():
    silent = {"Node": "host=away", "Error": "Could not get remote plan."}
    told = {"Remote Plan": [[{"Plan": {"Plan Rows": 7, "Relation Name": "note_102008"}}]]}
    plan = {"Plan Rows": 100_000, "Distributed Query": {"Job": {"Tasks": [told, silent]}}}
    assert tasks_of(plan) == [(7, ("note_102008",)), (0, ())]
    assert expected_rows(plan) == 7
