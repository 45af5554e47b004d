"""nearest(): what it finds, what it composes with, and what it refuses."""

import asyncio
import json
from decimal import Decimal

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Count, F, Prefetch, Q
from django.test.utils import isolate_apps

from pgembedding_django import CosineDistance, HnswIndex
from pgembedding_django.embedders import get_embedder
from tests.models import Article, Pair, Required, Section

pytestmark = pytest.mark.django_db

RANDOM = np.random.default_rng(7).standard_normal((500, 3)).astype(np.float32)
QUERY = np.array([0.3, -0.2, 0.5], dtype=np.float32)


def order_by_hand(vectors, query):
    return np.argsort(np.linalg.norm(vectors.astype(np.float64) - query, axis=1)).tolist()


@pytest.fixture
def articles(empty_index):
    return Article.objects.bulk_create(
        Article(title=str(i), published=i % 2 == 0, embedding=vector) for i, vector in enumerate(RANDOM)
    )


def titles(rows):
    return [int(row.title) for row in rows]


def test_nearest_equals_brute_force(articles):
    assert titles(Article.objects.nearest(QUERY, 10)) == order_by_hand(RANDOM, QUERY)[:10]


def test_nearest_through_index_equals_brute_force(articles, force_index):
    rows = Article.objects.nearest(QUERY, 10)
    assert "article_embedding_hnsw" in rows.explain()
    assert titles(rows) == order_by_hand(RANDOM, QUERY)[:10]


def test_nearest_annotates_the_distance(articles):
    for row in Article.objects.nearest(QUERY, 5):
        assert row.distance == pytest.approx(float(np.linalg.norm(row.embedding - QUERY)), abs=1e-5)


def test_nearest_exact_uses_no_index(articles, force_index):
    rows = Article.objects.nearest(QUERY, 10, exact=True)
    assert "article_embedding_hnsw" not in rows.explain()
    assert titles(rows) == order_by_hand(RANDOM, QUERY)[:10]


@pytest.mark.parametrize(("field", "index"), [("one", "pair_one_cosine"), ("two", "pair_two_l1")])
def test_nearest_uses_the_distance_and_index_of_the_field(field, index, force_index):
    Pair.objects.bulk_create(Pair(one=vector[:2], two=vector[:2]) for vector in RANDOM)
    assert index in Pair.objects.nearest([1, 2], field=field).explain()


@pytest.mark.pgvector
def test_nearest_by_inner_product_uses_its_index(force_index, monkeypatch):
    index = HnswIndex(fields=["embedding"], name="required_ip", distance="inner_product")
    monkeypatch.setattr(Required._meta, "indexes", [index])
    Required.objects.bulk_create(Required(embedding=vector) for vector in RANDOM)
    with connection.schema_editor() as editor:
        editor.add_index(Required, index)
    rows = Required.objects.nearest(QUERY, 3)
    assert "required_ip" in rows.explain()
    assert rows[0].distance == pytest.approx(-float((RANDOM @ QUERY).max()), abs=1e-5)


def test_nearest_without_index_uses_l2():
    Required.objects.bulk_create([Required(embedding=[3, 4, 0]), Required(embedding=[0, 0, 9])])
    assert [row.distance for row in Required.objects.nearest([0, 0, 0])] == pytest.approx([5, 9])


@pytest.mark.parametrize("distance", ["cosine", CosineDistance])
def test_nearest_with_another_distance_orders_by_it(distance):
    Required.objects.bulk_create([Required(embedding=[9, 0, 0]), Required(embedding=[0.1, 0.1, 0])])
    rows = Required.objects.nearest([1, 1, 0], distance=distance)
    assert [row.distance for row in rows] == pytest.approx([0, 1 - 0.5**0.5], abs=1e-6)


def test_nearest_k_beyond_ef_search_returns_k(articles, force_index):
    assert len(Article.objects.nearest(QUERY, 100)) == 100


def test_nearest_k_beyond_rows_returns_all(articles):
    assert len(Article.objects.nearest(QUERY, 10**6)) == 500


@pytest.mark.parametrize("exact", [True, None])
def test_nearest_leaves_out_rows_without_vector(exact):
    Article.objects.bulk_create([Article(title="1", embedding=[1, 1, 1]), Article(title="2")])
    assert titles(Article.objects.nearest(QUERY, exact=exact)) == [1]


def test_nearest_after_filter_returns_k_of_the_filtered(articles, force_index):
    expected = [i for i in order_by_hand(RANDOM, QUERY) if i % 2 == 0][:10]
    assert titles(Article.objects.filter(published=True).nearest(QUERY, 10)) == expected


def test_nearest_after_exclude_leaves_the_excluded_out(articles):
    expected = [i for i in order_by_hand(RANDOM, QUERY) if i % 2][:10]
    assert titles(Article.objects.exclude(published=True).nearest(QUERY, 10)) == expected


def test_nearest_to_instance_leaves_it_out(articles):
    expected = [i for i in order_by_hand(RANDOM, RANDOM[7]) if i != 7][:3]
    assert titles(Article.objects.nearest(articles[7], 3)) == expected


@pytest.mark.parametrize("exact", [True, False, None])
def test_nearest_takes_the_largest_k(articles, exact):
    assert len(Article.objects.nearest(QUERY, 2**31 - 1, exact=exact)) == 500


class Replicas:
    """The database "fresh" is a replica of the default one."""

    def allow_relation(self, one, other, **hints):
        return {one._state.db, other._state.db} == {"default", "fresh"} or None


@pytest.mark.parametrize(("routers", "found"), [([], 2), ([Replicas()], 1)], ids=["another", "replica"])
def test_nearest_to_instance_of_another_database_leaves_it_out_of_a_replica_alone(
    migrated_database, settings, routers, found
):
    settings.DATABASE_ROUTERS = routers
    there = Article.objects.using("fresh")
    rows = there.bulk_create(Article(title=title, embedding=QUERY) for title in ("one", "two"))
    here = Article(pk=rows[0].pk, embedding=QUERY)
    here._state.db = "default"
    assert len(there.nearest(here, 3)) == found
    assert len(there.nearest(rows[0], 3)) == 1


def test_nearest_to_text_embeds_it(articles):
    vector = get_embedder().embed_query("a cat")
    assert titles(Article.objects.nearest("a cat", 3)) == order_by_hand(RANDOM, vector)[:3]


def test_nearest_with_max_distance_leaves_out_the_farther(articles):
    count = int((np.linalg.norm(RANDOM - QUERY, axis=1) <= 0.5).sum())
    assert 0 < count < 500
    assert len(Article.objects.nearest(QUERY, 500, max_distance=0.5)) == count


def test_nearest_annotates_under_the_alias(articles):
    assert Article.objects.nearest(QUERY, 1, alias="far")[0].far == pytest.approx(
        float(np.linalg.norm(RANDOM - QUERY, axis=1).min()), abs=1e-5
    )


def test_nearest_slices_are_pages_of_one_ranking(articles):
    ranked = Article.objects.nearest(QUERY, 30, exact=True)
    assert titles(ranked[:10]) + titles(ranked[10:30]) == order_by_hand(RANDOM, QUERY)[:30]


def test_nearest_count_exists_first_agree_with_its_rows(articles):
    rows = Article.objects.nearest(QUERY, 10)
    assert rows.count() == 10
    assert rows.exists()
    assert int(rows[0].title) == order_by_hand(RANDOM, QUERY)[0]


def test_nearest_values_and_values_list(articles):
    first = order_by_hand(RANDOM, QUERY)[0]
    assert Article.objects.nearest(QUERY, 1).values("title").get() == {"title": str(first)}
    assert Article.objects.nearest(QUERY, 1).values_list("title", flat=True).get() == str(first)


def test_nearest_of_values_list_stays_one(articles):
    first = order_by_hand(RANDOM, QUERY)[0]
    assert list(Article.objects.values_list("title", flat=True).nearest(QUERY, 1)) == [str(first)]
    assert Article.objects.values_list("title", named=True).nearest(QUERY, 1)[0].title == str(first)


def test_nearest_of_none_is_empty(articles):
    assert list(Article.objects.none().nearest(QUERY)) == []
    assert list(Article.objects.filter(pk__in=[]).nearest(QUERY)) == []


def test_nearest_in_a_sliced_prefetch_is_ranked_for_each_parent(articles):
    one, other = Section.objects.create(name="1"), Section.objects.create(name="2")
    Article.objects.filter(published=True).update(section=one)
    Article.objects.filter(published=False).update(section=other)
    prefetch = Prefetch("article_set", Article.objects.nearest(QUERY, 3), to_attr="near")
    near = [titles(section.near) for section in Section.objects.order_by("name").prefetch_related(prefetch)]
    ranking = order_by_hand(RANDOM, QUERY)
    assert near == [[i for i in ranking if i % 2 == 0][:3], [i for i in ranking if i % 2][:3]]


def test_nearest_union_is_ordered_by_its_distance(articles):
    rows = Article.objects.nearest(QUERY, 2).union(Article.objects.nearest(-QUERY, 2)).order_by("distance")
    distances = [row.distance for row in rows]
    assert len(distances) == 4
    assert distances == sorted(distances)


def test_nearest_for_update_locks_what_it_returns(articles):
    rows = Article.objects.filter(published=True).nearest(QUERY, 5, exact=False).select_for_update()
    reason = "Exact scan: select_for_update() locks what an index scan reads beyond the answer."
    assert rows.explain_nearest() == reason
    assert titles(rows) == [i for i in order_by_hand(RANDOM, QUERY) if i % 2 == 0][:5]
    assert Article.objects.nearest(QUERY, 5, max_distance=1).select_for_update().explain_nearest() == reason


@pytest.mark.pgvector
def test_nearest_page_for_update_locks_through_the_index(articles, force_index):
    rows = Article.objects.nearest(QUERY, 10)[5:].select_for_update()
    assert rows.explain_nearest().startswith("Index scan")
    assert titles(rows) == order_by_hand(RANDOM, QUERY)[5:10]


def test_nearest_keeps_the_vector_it_was_given(articles):
    query = QUERY.copy()
    rows = Article.objects.nearest(query, 3)
    query[:] = 9
    assert titles(rows) == order_by_hand(RANDOM, QUERY)[:3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": np.int64(3)},
        {"k": 3, "ef_search": np.int64(50)},
        {"k": 3, "max_distance": np.float32(9)},
        {"k": 3, "max_distance": Decimal(9)},
        {"k": 3, "max_distance": 10**400},
    ],
)
def test_nearest_takes_numbers_of_numpy_and_decimal(articles, arguments):
    assert titles(Article.objects.nearest(QUERY, **arguments)) == order_by_hand(RANDOM, QUERY)[:3]


@isolate_apps("tests")
def test_nearest_of_a_proxy_uses_the_index_and_distance_of_its_table(force_index):
    class Twin(Pair):
        class Meta:
            app_label = "tests"
            proxy = True

    Pair.objects.bulk_create(Pair(one=vector[:2]) for vector in RANDOM)
    rows = Twin.objects.nearest([1, 2], 3, field="one")
    assert "pair_one_cosine" in rows.explain()
    assert [row.distance for row in rows] == [row.distance for row in Pair.objects.nearest([1, 2], 3, field="one")]


def test_nearest_as_subquery_selects_the_same_rows(articles):
    inner = Article.objects.nearest(QUERY, 5).values("pk")
    assert {int(a.title) for a in Article.objects.filter(pk__in=inner)} == set(order_by_hand(RANDOM, QUERY)[:5])


def test_nearest_union_keeps_both_answers(articles):
    one, other = Article.objects.nearest(QUERY, 2).values("title"), Article.objects.nearest(-QUERY, 2).values("title")
    expected = order_by_hand(RANDOM, QUERY)[:2] + order_by_hand(RANDOM, -QUERY)[:2]
    assert sorted(int(row["title"]) for row in one.union(other)) == sorted(expected)


def test_nearest_only_and_defer_load_less(articles, django_assert_num_queries):
    with django_assert_num_queries(1):
        row = Article.objects.only("title").nearest(QUERY, 1, exact=True)[0]
    assert row.get_deferred_fields() == {"published", "section_id", "embedding", "embedding_digest"}
    assert Article.objects.defer("embedding").nearest(QUERY, 1)[0].get_deferred_fields() == {"embedding"}


def test_nearest_select_related_joins(articles, django_assert_num_queries):
    Article.objects.update(section=Section.objects.create(name="s"))
    with django_assert_num_queries(1):
        row = Article.objects.select_related("section").nearest(QUERY, 1, exact=True)[0]
        assert row.section.name == "s"


def test_nearest_prefetch_related_keeps_the_order(articles):
    Article.objects.update(section=Section.objects.create(name="s"))
    assert titles(Article.objects.prefetch_related("section").nearest(QUERY, 5)) == order_by_hand(RANDOM, QUERY)[:5]


def test_nearest_keeps_other_annotations(articles):
    row = Article.objects.annotate(n=Count("section")).nearest(QUERY, 1).annotate(t=F("title"))[0]
    assert (row.n, row.t) == (0, str(order_by_hand(RANDOM, QUERY)[0]))


def test_nearest_replaces_an_earlier_order(articles):
    assert titles(Article.objects.order_by("-pk").nearest(QUERY, 5)) == order_by_hand(RANDOM, QUERY)[:5]


def test_nearest_through_related_manager(articles):
    section = Section.objects.create(name="s")
    Article.objects.filter(title__in=["3", "4"]).update(section=section)
    expected = [i for i in order_by_hand(RANDOM, QUERY) if i in (3, 4)]
    assert titles(section.article_set.nearest(QUERY)) == expected


def test_nearest_using_names_the_database(articles):
    assert titles(Article.objects.using("default").nearest(QUERY, 1)) == order_by_hand(RANDOM, QUERY)[:1]


@pytest.mark.django_db(transaction=True)
def test_nearest_async_iteration(articles):
    async def collect():
        found = [int(row.title) async for row in Article.objects.nearest(QUERY, 5)]
        await sync_to_async(lambda: connection.close())()
        return found

    assert asyncio.run(collect()) == order_by_hand(RANDOM, QUERY)[:5]


DISTANCES = np.linalg.norm(RANDOM.astype(np.float64) - QUERY, axis=1)[order_by_hand(RANDOM, QUERY)]


@pytest.mark.parametrize(
    "limits", [{"distance__lt": 0.5}, {"distance__lte": 0.5}, {"distance__lt": 9, "distance__lte": 0.5}]
)
def test_nearest_filtered_by_its_distance_keeps_the_rows_within(articles, limits):
    within = int((DISTANCES < 0.5).sum())
    assert 1 < within < 100
    assert titles(Article.objects.nearest(QUERY, 100).filter(**limits)) == order_by_hand(RANDOM, QUERY)[:within]


def test_nearest_filtered_by_less_than_leaves_the_limit_itself_out():
    Required.objects.bulk_create([Required(embedding=[3, 4, 0]), Required(embedding=[0, 0, 9])])
    rows = Required.objects.nearest([0, 0, 0])
    assert [row.distance for row in rows.filter(distance__lt=9)] == [5]
    assert [row.distance for row in rows.filter(distance__lte=9)] == [5, 9]


def test_nearest_filtered_by_its_distance_is_of_the_k_nearest(articles):
    assert titles(Article.objects.nearest(QUERY, 3).filter(distance__lt=9)) == order_by_hand(RANDOM, QUERY)[:3]


def test_nearest_filtered_by_its_distance_keeps_the_index(articles, force_index):
    rows = Article.objects.nearest(QUERY, 100).filter(distance__lt=0.5)
    assert "article_embedding_hnsw" in rows.explain()
    assert rows.explain_nearest().startswith("Index scan")


def test_nearest_page_filtered_by_its_distance_is_the_rest_of_the_page(articles):
    within = int((DISTANCES < 0.5).sum())
    page = Article.objects.nearest(QUERY, 100)[1:100]
    assert titles(page.filter(distance__lt=0.5)) == order_by_hand(RANDOM, QUERY)[1:within]


def test_nearest_filtered_by_its_distance_counts_and_selects_alike(articles):
    rows = Article.objects.nearest(QUERY, 100, alias="far").filter(far__lt=0.5)
    within = int((DISTANCES < 0.5).sum())
    assert rows.count() == len(rows.values_list("title", flat=True)) == len(rows.values("far")) == within
    assert Article.objects.filter(pk__in=rows.values("pk")).count() == within


@pytest.mark.parametrize("limits", [(0.5, 0.9), (0.9, 0.5)])
def test_nearest_filtered_twice_keeps_the_nearer_limit(articles, limits):
    rows = Article.objects.nearest(QUERY, 100, max_distance=limits[0]).filter(distance__lte=limits[1])
    assert len(rows) == int((DISTANCES <= 0.5).sum())


@pytest.mark.django_db(transaction=True)
def test_nearest_filtered_by_its_distance_async(articles):
    async def collect():
        found = [row.distance async for row in Article.objects.nearest(QUERY, 100).filter(distance__lt=0.5)]
        await sync_to_async(lambda: connection.close())()
        return found

    assert asyncio.run(collect()) == pytest.approx(DISTANCES[DISTANCES < 0.5].tolist(), abs=1e-5)


def test_nearest_filtered_by_nothing_is_itself(articles):
    assert titles(Article.objects.nearest(QUERY, 3).filter()) == order_by_hand(RANDOM, QUERY)[:3]


@pytest.mark.parametrize(
    ("args", "kwargs", "got"),
    [
        ((), {"published": True}, "published"),
        ((), {"distance__gt": 1}, "distance__gt"),
        ((Q(distance__lt=1),), {}, "Q"),
    ],
)
def test_nearest_filtered_afterwards_by_anything_else_is_refused(args, kwargs, got):
    with pytest.raises(TypeError) as caught:
        Article.objects.nearest(QUERY, 5).filter(*args, **kwargs)
    assert str(caught.value) == (
        "A queryset that nearest() returned can be filtered by distance__lt and distance__lte only, "
        f"got {got}. Filter before nearest()."
    )


def test_nearest_excluded_from_afterwards_is_refused(articles):
    rows = Article.objects.nearest(QUERY, 5)
    with pytest.raises(TypeError) as caught:
        rows.exclude(published=True)
    assert str(caught.value) == "exclude() cannot stand behind nearest(), which returns a slice. Put it before."
    assert titles(rows.exclude()) == titles(rows)


def test_nearest_contains_what_it_found(articles):
    ranking = order_by_hand(RANDOM, QUERY)
    rows = Article.objects.nearest(QUERY, 3)
    assert rows.contains(articles[ranking[2]])
    assert not rows.contains(articles[ranking[3]])
    assert Article.objects.all().contains(articles[ranking[3]])


def test_nearest_in_a_prefetch_without_to_attr_is_refused(articles):
    Article.objects.update(section=Section.objects.create(name="s"))
    sections = Section.objects.prefetch_related(Prefetch("article_set", Article.objects.nearest(QUERY, 3)))
    with pytest.raises(TypeError) as caught:
        list(sections)
    assert str(caught.value) == 'A Prefetch of what nearest() returned needs a to_attr: Prefetch(..., to_attr="near").'


@pytest.mark.parametrize("rows", [Article.objects.all()[:3], Article.objects.nearest(QUERY, 3, exact=True)])
def test_embed_and_stale_behind_a_slice_are_refused(rows):
    got = "must stand before any slice, got Article rows that are sliced or ranked already."
    with pytest.raises(TypeError) as caught:
        rows.embed()
    assert str(caught.value) == f"embed() {got} Say limit=, or filter(pk__in=[...])."
    with pytest.raises(TypeError) as caught:
        rows.stale()
    assert str(caught.value) == f"stale() {got} Slice what it returns."


@pytest.mark.django_db(transaction=True)
def test_abulk_load_loads():
    async def load():
        loaded = await Required.objects.abulk_load([Required(embedding=QUERY)] * 3, batch_size=2)
        await sync_to_async(lambda: connection.close())()
        return loaded

    assert asyncio.run(load()) == Required.objects.count() == 3


def test_nearest_within_less_than_every_float_is_empty(articles):
    assert not Article.objects.nearest(QUERY, 3, max_distance=-(10**400))


@pytest.mark.parametrize("limit", ["1", None, float("nan"), Decimal("sNaN"), Decimal("NaN"), F("pk")])
def test_nearest_filtered_by_no_number_is_refused(limit):
    with pytest.raises(ValueError) as caught:
        Article.objects.nearest(QUERY, 5).filter(distance__lt=limit)
    assert str(caught.value) == f"distance__lt must be a number, got {limit!r}."


def test_nearest_sends_the_vector_once():
    sql = str(Article.objects.nearest(QUERY, 5).query)
    assert sql.count("0.3,-0.2,0.5") == 1


def test_nearest_text_with_sql_in_it_is_only_text(articles):
    assert len(Article.objects.nearest("'; DROP TABLE tests_article; --", 3)) == 3


@pytest.mark.pgvector
def test_nearest_ef_search_travels_in_the_statement(articles, django_assert_num_queries):
    with django_assert_num_queries(1) as captured:
        list(Article.objects.nearest(QUERY, 5, ef_search=77))
    assert "set_config('hnsw.ef_search', '77', true)" in captured[0]["sql"]


@pytest.mark.pgvector
def test_nearest_ef_search_of_the_index_is_used(force_index):
    assert "with ef_search=50:" in Pair.objects.nearest([1, 2], field="two").explain_nearest()


@pytest.mark.pgvector
@pytest.mark.django_db(transaction=True)
def test_nearest_settings_end_with_the_statement(articles):
    list(Article.objects.nearest(QUERY, 5, ef_search=77))
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('hnsw.ef_search', true), current_setting('hnsw.iterative_scan', true)")
        assert cursor.fetchone() == ("40", "off")


# Bulk writes name the bad row


def test_bulk_create_names_the_bad_row_and_writes_nothing():
    rows = [Required(embedding=[1, 2, 3]) for _ in range(1000)]
    rows[777].embedding = [1, 2]
    with pytest.raises(ValidationError) as caught:
        Required.objects.bulk_create(rows)
    assert caught.value.messages == ["Row 777 (pk None): Required.embedding must have 3 dimensions, got 2."]
    assert Required.objects.count() == 0


def test_bulk_update_names_the_bad_row_and_writes_nothing(articles):
    for row in articles:
        row.embedding = [0, 0, 0]
    articles[3].embedding = [0, float("nan"), 0]
    with pytest.raises(ValidationError) as caught:
        Article.objects.bulk_update(articles, ["embedding"])
    assert caught.value.messages == [
        f"Row 3 (pk {articles[3].pk}): Article.embedding must be finite, got nan at position 1."
    ]
    assert not Article.objects.filter(embedding=np.zeros(3)).exists()


def test_bulk_update_of_other_fields_leaves_vectors_alone(articles):
    articles[0].embedding = "garbage"
    assert Article.objects.bulk_update(articles[:1], ["title"]) == 1


def test_bulk_create_takes_expressions_and_none():
    from django.db.models import Value

    field = Article._meta.get_field("embedding")
    Article.objects.bulk_create(
        [Article(title="1"), Article(title="2", embedding=Value([1, 2, 3], output_field=field))]
    )
    assert Article.objects.filter(embedding=[1, 2, 3]).get().title == "2"


def test_answers_serialise_to_json(articles):
    rows = Article.objects.nearest(QUERY, 2).values("title", "distance")
    assert len(json.loads(json.dumps(list(rows)))) == 2
