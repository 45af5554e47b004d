"""nearest() across a relation: k rows by the nearest of theirs, compared with brute force."""

import pickle

import numpy as np
import pytest
from django.contrib.contenttypes.fields import GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import Count, F, FilteredRelation, Q, Window
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from tests.models import Article, Section

pytestmark = pytest.mark.django_db

FIELD = "article__embedding"
N, SECTIONS = 400, 40
RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((N, 3)).astype(np.float32)
#: The first section has half of the rows, the next ones ever fewer, and the last ones none.
OWNER = np.minimum(RNG.geometric(0.12, N) - 1, SECTIONS - 4)
OWNER[: N // 2] = 0
QUERY = np.array([0.2, -0.1, 0.4], dtype=np.float32)
DISTANCES = np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)


def load(using="default"):
    sections = [Section(pk=i + 1, name=str(i)) for i in range(SECTIONS)]
    Section.objects.using(using).bulk_create(sections)
    Article.objects.using(using).bulk_load(
        Article(id=i + 1, title=f"title {i}", published=i % 2 == 0, section_id=OWNER[i] + 1, embedding=VECTORS[i])
        for i in range(N)
    )


@pytest.fixture
def sections(empty_index):
    Section.objects.all().delete()
    load()


def brute_force(k, keep=lambda i: True, section=lambda s: True, distances=DISTANCES):
    """The k nearest sections, each with the key and the distance of its nearest article."""
    best = {}
    for i in np.argsort(distances, kind="stable"):
        if keep(i) and section(OWNER[i]):
            best.setdefault(str(OWNER[i]), (i + 1, distances[i]))
    return [(name, key, pytest.approx(distance, rel=1e-5)) for name, (key, distance) in best.items()][:k]


def found(rows):
    return [(row.name, row.nearest_pk, row.distance) for row in rows]


def odd(i):
    return i % 2 == 1


#: What stands before nearest(), and which articles and sections count.
FILTERS = {
    "nothing": (lambda rows: rows, {}),
    "parents": (lambda rows: rows.filter(name__startswith="1"), {"section": lambda s: str(s).startswith("1")}),
    "children": (lambda rows: rows.filter(article__published=False), {"keep": odd}),
    "both": (lambda rows: rows.filter(article__published=False).exclude(name="0"), {"keep": odd, "section": bool}),
    "few": (lambda rows: rows.filter(article__pk__in=[300, 310]), {"keep": lambda i: i + 1 in (300, 310)}),
    "none": (lambda rows: rows.filter(article__pk=0), {"keep": lambda i: False}),
    "excluded": (lambda rows: rows.exclude(article__pk=1), {"section": bool}),
    "distinct": (lambda rows: rows.filter(article__pk__gte=100).distinct(), {"keep": lambda i: i >= 99}),
    "relation": (
        lambda rows: rows.annotate(hidden=FilteredRelation("article", condition=Q(article__published=False))),
        {"keep": odd},
    ),
    "manager": (lambda rows: rows.filter(pk__in=Section.objects.filter(name="3")), {"section": lambda s: s == 3}),
    "annotated": (lambda rows: rows.annotate(more=F("pk") + 1).filter(more__gt=10), {"section": lambda s: s > 8}),
}


@pytest.mark.parametrize("exact", [None, True, False])
@pytest.mark.parametrize("name", FILTERS)
def test_nearest_across_a_relation_returns_each_row_once_by_its_nearest(sections, name, exact):
    before, counts = FILTERS[name]
    field = "hidden__embedding" if name == "relation" else FIELD
    rows = before(Section.objects.all()).nearest(QUERY, 10, field=field, exact=exact)
    assert found(rows) == brute_force(10, **counts)


@pytest.mark.parametrize("seed", range(6))
def test_nearest_across_a_relation_agrees_with_brute_force_for_any_question(sections, seed):
    rng = np.random.default_rng(seed)
    query, k, least = rng.standard_normal(3).astype(np.float32), int(rng.integers(1, 50)), int(rng.integers(0, N))
    distances = np.linalg.norm(VECTORS.astype(np.float64) - query, axis=1)
    rows = Section.objects.filter(article__pk__gt=least).nearest(query, k, field=FIELD, exact=seed % 2 == 0 or None)
    assert found(rows) == brute_force(k, lambda i: i >= least, distances=distances)


def test_a_row_whose_children_fill_the_first_candidates_stands_once(empty_index, force_index):
    full, near, far = Section.objects.bulk_create(Section(name=name) for name in ("full", "near", "far"))
    places = [(full, [i / 10_000, 0, 0]) for i in range(1100)] + [(near, [1, 0, 0]), (far, [2, 0, 0])]
    Article.objects.bulk_load(Article(title="", section=section, embedding=vector) for section, vector in places)
    rows = Section.objects.nearest([0, 0, 0], 3, field=FIELD, exact=False)
    assert [(row, row.distance) for row in rows] == [(full, 0), (near, 1), (far, 2)]


def test_an_index_that_finds_enough_is_asked_once(sections, force_index):
    rows = Section.objects.nearest(QUERY, 3, field=FIELD, exact=False)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert found(rows) == brute_force(3)
    assert len(captured) == 1
    assert rows.explain_nearest().startswith("Index scan on article_embedding_hnsw")


@pytest.mark.parametrize("exact", [True, False])
def test_max_distance_leaves_out_what_is_farther(sections, exact):
    expected = brute_force(len({OWNER[i] for i in range(N) if DISTANCES[i] < 0.9}))
    assert found(Section.objects.nearest(QUERY, SECTIONS, field=FIELD, max_distance=0.9, exact=exact)) == expected
    assert (
        found(Section.objects.nearest(QUERY, SECTIONS, field=FIELD, exact=exact).filter(distance__lt=0.9)) == expected
    )


AFTER = {
    "iterator": lambda rows: found(rows.iterator(chunk_size=4)),
    "pages": lambda rows: [row for start in range(0, 10, 4) for row in found(rows[start : start + 4])],
    "values": lambda rows: [(r["name"], r["nearest_pk"], r["distance"]) for r in rows.values()],
    "values_list": lambda rows: list(rows.values_list("name", "nearest_pk", "distance")),
    "pickle": lambda rows: found(pickle.loads(pickle.dumps(rows))),
    "annotate": lambda rows: found(rows.annotate(more=F("pk") + 1)),
    "prefetch": lambda rows: found(rows.prefetch_related("article_set")),
    "union": lambda rows: sorted(found(rows.union(rows.all())), key=lambda row: row[2]),
    "only": lambda rows: found(rows.only("name")),
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("exact", [None, False])
def test_what_reads_rows_reads_them_across_a_relation(sections, name, exact):
    rows = Section.objects.filter(article__published=False).nearest(QUERY, 10, field=FIELD, exact=exact)
    assert AFTER[name](rows) == brute_force(10, odd)


def test_count_and_contains_count_each_row_once(sections):
    rows = Section.objects.filter(article__published=False).nearest(QUERY, 10, field=FIELD)
    assert (rows.count(), rows.exists(), len(rows)) == (10, True, 10)
    assert rows.contains(rows[3])
    assert not rows.contains(Section.objects.get(name="39"))


def test_rows_can_be_locked(sections):
    with transaction.atomic():
        rows = Section.objects.select_for_update(of=("self",)).nearest(QUERY, 3, field=FIELD, exact=False)
        assert found(rows) == brute_force(3)


def test_a_row_of_the_relation_that_is_asked_for_does_not_count(sections):
    asked = Article.objects.get(pk=300)
    distances = np.linalg.norm(VECTORS.astype(np.float64) - VECTORS[299], axis=1)
    rows = Section.objects.nearest(asked, 5, field=FIELD)
    assert found(rows) == brute_force(5, lambda i: i != 299, distances=distances)


def test_nearest_each_answers_across_a_relation(sections):
    (one, other) = Section.objects.nearest_each([QUERY, -QUERY], 5, field=FIELD)
    opposite = np.linalg.norm(VECTORS.astype(np.float64) + QUERY, axis=1)
    assert (found(one), found(other)) == (brute_force(5), brute_force(5, distances=opposite))


def test_explain_nearest_tells_of_an_exact_scan(sections):
    rows = Section.objects.nearest(QUERY, 3, field=FIELD, exact=True)
    assert rows.explain_nearest() == "Exact scan: exact=True asks for it."
    assert "tests_article" in rows.explain()


def test_hybrid_joins_the_words_of_a_row_with_the_meaning_of_its_own(sections, engine):
    rows = Section.objects.filter(article__published=False)
    (asked,) = [str(brute_force(1, odd)[0][0])]
    first = rows.hybrid(asked, 5, fields=["name"], field=FIELD)
    assert len({row.pk for row in first}) == 5
    assert asked in [row.name for row in first]


def test_hybrid_ranks_by_the_nearest_and_by_the_words(sections, scripted):
    rows = Section.objects.all()
    meaning = [row.name for row in rows.nearest("7", 25, field=FIELD)]
    scores = {name: 1 / (61 + place) for place, name in enumerate(meaning)}
    scores["7"] = scores.get("7", 0) + 1 / 61
    expected = sorted(scores, key=lambda name: (-scores[name], int(name)))[:5]
    assert [row.name for row in rows.hybrid("7", 5, fields=["name"], field=FIELD)] == expected


REFUSED = {
    "unknown": (
        lambda: Section.objects.nearest(QUERY, field="article__vector"),
        ValueError,
        "field must lead from Section to an EmbeddingField, got 'article__vector'.",
    ),
    "another": (
        lambda: Section.objects.nearest(QUERY, field="article__title"),
        ValueError,
        "field must lead from Section to an EmbeddingField, got 'article__title'.",
    ),
    "transform": (
        lambda: Section.objects.nearest(QUERY, field="article__title__length"),
        ValueError,
        "field must lead from Section to an EmbeddingField, got 'article__title__length'.",
    ),
    "aggregate": (
        lambda: Section.objects.annotate(n=Count("article")).nearest(QUERY, field=FIELD),
        TypeError,
        "nearest() across a relation cannot stand behind an aggregate or a window",
    ),
    "window": (
        lambda: Section.objects.annotate(n=Window(RowNumber(), order_by="pk")).nearest(QUERY, field=FIELD),
        TypeError,
        "nearest() across a relation cannot stand behind an aggregate or a window",
    ),
    "distinct": (
        lambda: Section.objects.distinct("name").nearest(QUERY, field=FIELD),
        TypeError,
        "nearest() across a relation returns each row once, and takes no distinct() of fields.",
    ),
    "later": (
        lambda: Section.objects.nearest(QUERY, field=FIELD).annotate(n=Count("article")),
        TypeError,
        "annotate() with an aggregate or a window cannot stand behind nearest() across a relation",
    ),
    "instance": (
        lambda: Section.objects.nearest(Section(name="x"), field=FIELD),
        ValueError,
        "query must be an instance of Article, got Section.",
    ),
    "length": (
        lambda: Section.objects.nearest([1, 2], field=FIELD),
        ValueError,
        "Article.embedding must have 3 dimensions, got 2.",
    ),
    "name": (
        lambda: Section.objects.annotate(nearest_pk=F("pk")).nearest(QUERY, field=FIELD),
        ValueError,
        "alias 'nearest_pk' is an annotation of this queryset already.",
    ),
    "no field": (lambda: Section.objects.nearest(QUERY), TypeError, "Section has no EmbeddingField"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_ranked_across_a_relation_is_refused_in_one_sentence(name, db):
    ask, error, sentence = REFUSED[name]
    with pytest.raises(error) as raised:
        ask()
    assert str(raised.value).startswith(sentence)


def test_sqlite_ranks_across_a_relation_exactly(sqlite):
    with sqlite.schema_editor() as editor:
        editor.create_model(Section)
        editor.create_model(Article)
    sections = [Section(pk=i + 1, name=str(i)) for i in range(SECTIONS)]
    Section.objects.using("lite").bulk_create(sections)
    Article.objects.using("lite").bulk_create(
        Article(id=i + 1, title=str(i), published=i % 2 == 0, section_id=OWNER[i] + 1, embedding=VECTORS[i])
        for i in range(N)
    )
    rows = Section.objects.using("lite").filter(article__published=False).nearest(QUERY, 10, field=FIELD)
    assert found(rows) == brute_force(10, odd)


# Other relations than a nullable foreign key


@pytest.fixture
def library(isolated, empty_index):
    """Authors of books, by a foreign key, and readers of them, by a table between."""

    class Reader(models.Model):
        name = models.CharField(max_length=9)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    class Remark(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.BigIntegerField()
        embedding = EmbeddingField(dimensions=3)

        class Meta:
            app_label = "tests"

    class Author(models.Model):
        name = models.CharField(max_length=9)
        remarks = GenericRelation(Remark)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    class Book(models.Model):
        author = models.ForeignKey(Author, models.CASCADE, related_name="books")
        readers = models.ManyToManyField(Reader, related_name="books")
        embedding = EmbeddingField(dimensions=3, null=True)
        any = EmbeddingField(null=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="book_hnsw", distance="cosine")]

    class Chapter(models.Model):
        pk = models.CompositePrimaryKey("book", "number")
        book = models.ForeignKey(Book, models.CASCADE, related_name="chapters")
        number = models.IntegerField()
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        for model in (Reader, Author, Book, Chapter, Remark):
            editor.create_model(model)
    return Reader, Author, Book, Chapter


def test_cosine_leaves_zeros_out(library):
    _, Author, Book, _ = library
    one, other, _ = Author.objects.bulk_create(Author(name=name) for name in ("one", "other", "none"))
    vectors = [(one, [0, 0, 0]), (one, [1, 1, 0]), (other, [0, 0, 0]), (other, None)]
    Book.objects.bulk_create(Book(author=author, embedding=vector) for author, vector in vectors)
    for exact in (True, False):
        rows = Author.objects.nearest([1, 0, 0], 5, field="books__embedding", exact=exact)
        assert [(row.name, row.distance) for row in rows] == [("one", pytest.approx(1 - 0.5**0.5))]


def test_a_foreign_key_that_is_never_null_needs_no_estimate(library, force_index):
    _, Author, Book, _ = library
    authors = Author.objects.bulk_create(Author(name=str(i)) for i in range(5))
    Book.objects.bulk_create(Book(author=authors[i % 5], embedding=[1, i, 0]) for i in range(20))
    with CaptureQueriesContext(connection) as captured:
        rows = list(Author.objects.nearest([1, 0, 0], 5, field="books__embedding"))
    assert [(row.name, len(captured)) for row in rows] == [(str(i), 1) for i in range(5)]


def test_a_relation_through_a_table_gives_each_row_its_own_nearest(library):
    Reader, Author, Book, _ = library
    author = Author.objects.create(name="a")
    near, far = Book.objects.bulk_create(Book(author=author, embedding=vector) for vector in ([1, 0, 0], [1, 1, 0]))
    one, other = Reader.objects.bulk_create(Reader(name=name) for name in ("one", "other"))
    one.books.set([near, far])
    other.books.set([far])
    rows = Reader.objects.nearest([1, 0, 0], 5, field="books__embedding")
    assert [(row.name, row.nearest_pk) for row in rows] == [("one", near.pk), ("other", far.pk)]
    # Joined twice, and each once in the answer.
    rows = Author.objects.filter(books__readers__name__in=["one", "other"]).nearest([1, 0, 0], field="books__embedding")
    assert [(row.name, row.nearest_pk) for row in rows] == [("a", near.pk)]
    with pytest.raises(
        TypeError, match=r"hybrid\(\) across a relation can stand behind a filter on that relation alone"
    ):
        Author.objects.filter(books__readers__name="one").hybrid("x", fields=["name"], field="books__embedding")


def test_a_path_may_lead_to_one_row_and_be_longer(library):
    _, Author, Book, Chapter = library
    one, other = Author.objects.bulk_create(Author(name=name) for name in ("one", "other"))
    books = Book.objects.bulk_create(
        Book(author=author, embedding=[1, i, 0]) for i, author in enumerate((one, other, one))
    )
    Chapter.objects.bulk_create(
        Chapter(book=book, number=i, embedding=[book.pk, i, 0]) for book in books for i in (1, 2)
    )
    rows = Chapter.objects.nearest([1, 0, 0], 3, field="book__embedding")
    assert [(row.pk, row.nearest_pk) for row in rows] == [
        ((books[i].pk, n), books[i].pk) for i, n in ((0, 1), (0, 2), (1, 1))
    ]
    rows = Author.objects.nearest([books[1].pk, 0, 0], 3, field="books__chapters__embedding")
    assert [(row.name, row.nearest_pk) for row in rows] == [("other", (books[1].pk, 1)), ("one", (books[0].pk, 1))]
    rows = Author.objects.nearest(Chapter.objects.get(book=books[1], number=1), field="books__chapters__embedding")
    assert {row.name: row.nearest_pk for row in rows} == {"one": (books[0].pk, 1), "other": (books[1].pk, 2)}


def test_a_field_of_any_length_is_ranked_by_the_vectors_of_the_question_s(library):
    _, Author, Book, _ = library
    one, other = Author.objects.bulk_create(Author(name=name) for name in ("one", "other"))
    Book.objects.bulk_create(
        [Book(author=one, any=[1, 2]), Book(author=one, any=[1, 2, 3]), Book(author=other, any=[1])]
    )
    rows = Author.objects.nearest([1, 2], 5, field="books__any")
    assert [(row.name, row.distance) for row in rows] == [("one", 0)]


def test_a_generic_relation_ranks_rows_by_what_is_said_of_them(library):
    _, Author, *_ = library
    one, other = Author.objects.bulk_create(Author(name=name) for name in ("one", "other"))
    Remark, kind = Author._meta.get_field("remarks").related_model, ContentType.objects.get_for_model(Section)
    one.remarks.create(embedding=[0, 2, 0])
    other.remarks.create(embedding=[0, 1, 0])
    Remark.objects.create(content_type=kind, object_id=one.pk, embedding=[0, 0, 0])
    rows = Author.objects.nearest([0, 0, 0], 5, field="remarks__embedding")
    assert [(row.name, row.distance) for row in rows] == [("other", 1), ("one", 2)]


@pytest.mark.parametrize("match", ["mean", "best"])
def test_several_examples_rank_across_a_relation(sections, match):
    asked, other = Article.objects.filter(pk__in=[300, 310]).order_by("pk")
    rows = Section.objects.nearest([asked, QUERY], 5, field=FIELD, match=match, away_from=[other])
    wide = VECTORS.astype(np.float64)
    to_asked, to_other = (np.linalg.norm(wide - wide[i], axis=1) for i in (299, 309))
    nearest = np.minimum(to_asked, DISTANCES)
    middle = np.linalg.norm(wide - ((wide[299] + QUERY) - wide[309]), axis=1)
    keep = {"mean": lambda i: i not in (299, 309), "best": lambda i: i not in (299, 309) and nearest[i] <= to_other[i]}
    assert found(rows) == brute_force(5, keep[match], distances=middle if match == "mean" else nearest)
