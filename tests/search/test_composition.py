"""nearest() composed with the rest of Django's querysets, each pair compared with brute force."""

import pickle

import numpy as np
import pytest
from django.db import connection
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Subquery, Window
from django.db.models.functions import RowNumber

from tests.models import Article, Section

pytestmark = pytest.mark.django_db

N, K = 200, 20
RNG = np.random.default_rng(3)
#: Some vectors stand twice, and some rows have none.
VECTORS = RNG.standard_normal((N, 3)).astype(np.float32)[RNG.integers(0, N // 2, N)]
MISSING = set(range(0, N, 7))
QUERY = np.array([0.2, -0.1, 0.4], dtype=np.float32)
DISTANCES = np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)
OPPOSITE = [i for i in np.argsort(np.linalg.norm(VECTORS + QUERY, axis=1), kind="stable") if i not in MISSING]

#: What stands before nearest(), and which rows it keeps.
BEFORE = {
    "nothing": (lambda rows: rows, lambda i: True),
    "equal": (lambda rows: rows.filter(published=True), lambda i: i % 2 == 0),
    "few": (lambda rows: rows.filter(pk__in=[1, 2, 3, 5]), lambda i: i in (1, 2, 3, 5)),
    "none": (lambda rows: rows.none(), lambda i: False),
    "or": (lambda rows: rows.filter(Q(pk__lt=20) | ~Q(published=True)), lambda i: i < 20 or i % 2),
    "exclude": (lambda rows: rows.exclude(pk__gte=150), lambda i: i < 150),
    "join": (lambda rows: rows.filter(section__name__in="12"), lambda i: i % 5 in (1, 2)),
    "exists": (
        lambda rows: rows.filter(Exists(Section.objects.filter(pk=OuterRef("section"), name="3"))),
        lambda i: i % 5 == 3,
    ),
    "in nearest": (
        lambda rows: rows.filter(pk__in=Article.objects.nearest(-QUERY, 50, exact=True)),
        lambda i: i in OPPOSITE[:50],
    ),
    "annotation": (lambda rows: rows.annotate(twice=F("pk") * 2).filter(twice__gte=100), lambda i: i >= 50),
    "aggregate": (lambda rows: rows.annotate(n=Count("section")).filter(n=1), lambda i: True),
    "window": (lambda rows: rows.annotate(n=Window(RowNumber(), order_by="pk")), lambda i: True),
    "subquery": (
        lambda rows: rows.annotate(of=Subquery(Section.objects.filter(pk=OuterRef("section")).values("name"))),
        lambda i: True,
    ),
    "reverse": (lambda rows: rows.order_by("title").reverse(), lambda i: True),
    "distinct": (lambda rows: rows.distinct(), lambda i: True),
    "related": (lambda rows: Section.objects.get(name="4").article_set.all(), lambda i: i % 5 == 4),
    "loading": (lambda rows: rows.defer("embedding").select_related("section"), lambda i: True),
}


def pairs(rows):
    return [(row.pk, row.distance) for row in rows]


def pages(rows):
    return [pair for start in range(0, K, 7) for pair in pairs(rows[start : start + 7])]


#: What reads the rows and distances that nearest() found.
AFTER = {
    "list": pairs,
    "iterator": lambda rows: pairs(rows.iterator(chunk_size=4)),
    "pages": pages,
    "values": lambda rows: [(row["pk"], row["distance"]) for row in rows.values("distance", "pk")],
    "values_list": lambda rows: list(rows.values_list("pk", "distance")),
    "only": lambda rows: pairs(rows.select_related(None).only("title")),
    "annotate": lambda rows: pairs(rows.annotate(more=F("pk") + 1)),
    "pickle": lambda rows: pairs(pickle.loads(pickle.dumps(rows))),
    "within": lambda rows: pairs(rows.filter(distance__lt=9)),
    "union": lambda rows: sorted(pairs(rows.union(rows.all())), key=lambda pair: pair[1]),
}


@pytest.fixture
def articles(empty_index):
    sections = Section.objects.bulk_create(Section(name=str(i)) for i in range(5))
    Article.objects.bulk_create(
        Article(
            pk=i,
            title=str(i),
            published=i % 2 == 0,
            section=sections[i % 5],
            embedding=None if i in MISSING else vector,
        )
        for i, vector in enumerate(VECTORS)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article, tests_section")


def nearest_by_hand(keep):
    kept = [i for i in range(N) if i not in MISSING and keep(i)]
    return sorted(DISTANCES[kept])[:K]


@pytest.mark.parametrize("before", BEFORE)
def test_nearest_composes(articles, force_index, before):
    compose, keep = BEFORE[before]
    expected = nearest_by_hand(keep)
    for exact in (None, True, False):
        ranked = compose(Article.objects.all()).nearest(QUERY, K, exact=exact)
        for after, read in AFTER.items():
            found = read(ranked)
            assert len({pk for pk, _ in found}) == len(found), (exact, after)
            assert all(keep(pk) and abs(distance - DISTANCES[pk]) < 1e-5 for pk, distance in found), (exact, after)
            assert [distance for _, distance in found] == pytest.approx(expected, abs=1e-5), (exact, after)
        assert ranked.count() == Article.objects.filter(pk__in=ranked.values("pk")).count() == len(expected)
        assert ranked.exists() == bool(expected)
        assert ranked.aggregate(farthest=Max("distance"))["farthest"] == pytest.approx(
            expected[-1] if expected else None
        )
