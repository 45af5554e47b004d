"""manage.py move_embeddings: what it moves, in which order, and what it says."""

import datetime
import io
from decimal import Decimal

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import IntegerRangeField
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, models

from pgembedding_django import EmbeddingField
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.loading import transfer
from pgembedding_django.loading.moving import Move, plan_move
from tests.models import Article, Everything, Required, Section, Tag

pytestmark = pytest.mark.django_db

ROWS = 5000
VECTORS = np.random.default_rng(5).standard_normal((ROWS, 3)).astype(np.float32)
HNSW = {"m": 8, "ef_construction": 16, "ef_search": 20, "max_elements": None, "precision": None}
OLD = datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


def move(*labels, **options):
    """Run the command from the tests' database to "fresh", and return what it printed."""
    out = io.StringIO()
    call_command("move_embeddings", *labels, "--from=default", "--to=fresh", stdout=out, no_color=True, **options)
    return out.getvalue()


def contents(model, using):
    """Return every column of every row, as the server writes it."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT t::text FROM {model._meta.db_table} t ORDER BY t.id")
        return [row for (row,) in cursor.fetchall()]


def move_models(*classes):
    """Create the tables of models that no app has in both databases, and return what a move of the last one copies."""
    plan = plan_move([classes[-1]], "default", "fresh")
    with connections["fresh"].schema_editor() as editor:
        for model in classes:
            editor.create_model(model)
    return {table.model.__name__: table.copied for table in Move(plan, "default", "fresh").run()}


def create_tables(*classes):
    with connection.schema_editor() as editor:
        for model in classes:
            editor.create_model(model)


def make_everything(count=ROWS):
    section = Section.objects.create(name="s")
    Everything.objects.bulk_load(
        (
            Everything(
                text=f"naïve\t\\N\n{i}",
                small=i % 100,
                number=i / 7,
                price=Decimal(i) / 8,
                data={"a": [i, None, "é"]},
                day=datetime.date(2000, 1, 1) + datetime.timedelta(days=i),
                moment=OLD,
                span=datetime.timedelta(days=i, microseconds=i),
                raw=bytes([i % 256]),
                address="10.0.0.1",
                numbers=[i, None],
                words=["a", "é,}"],
                section=section if i % 2 else None,
                embedding=VECTORS[i] if i % 3 else None,
                created=OLD,
                updated=OLD,
            )
            for i in range(count)
        ),
        raw=True,
    )


def test_move_keeps_every_column_of_every_row(migrated_database):
    make_everything()
    printed = move("tests.Everything")
    assert contents(Everything, "fresh") == contents(Everything, "default")
    assert contents(Section, "fresh") == contents(Section, "default")
    assert "tests.Section, to which others refer: 1 row in" in printed
    assert (
        'tests.Everything: 5,000 moved, 0 were there already; now 5,000 rows in "default", 5,000 in "fresh".' in printed
    )


@pytest.fixture
def old_engine(settings):
    """Let the articles of the tests' database be as pg_embedding stores them."""
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": {"default": "pg_embedding", "fresh": "pgvector"}}
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX article_embedding_hnsw")
        cursor.execute("ALTER TABLE tests_article ALTER embedding TYPE real[] USING embedding::real[]")


@pytest.mark.pgvector
def test_move_from_real_arrays_keeps_vectors_bit_for_bit(migrated_database, old_engine):
    Article.objects.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(VECTORS))
    move("tests.Article")
    moved = list(Article.objects.using("fresh").order_by("pk").values_list("embedding", flat=True))
    assert np.stack(moved).tobytes() == VECTORS.tobytes()
    assert Article.objects.using("fresh").nearest(VECTORS[7], 1).get().title == "7"
    assert migrated_database.indexes()["article_embedding_hnsw"]


@pytest.mark.pgvector
def test_move_to_real_arrays_keeps_vectors_bit_for_bit(migrated_database, settings):
    migrated_database.execute("ALTER TABLE tests_required ALTER embedding TYPE real[] USING embedding::real[]")
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": {"default": "pgvector", "fresh": "pg_embedding"}}
    Required.objects.bulk_load(Required(embedding=vector) for vector in VECTORS[:50])
    move("tests.Required")
    moved = list(Required.objects.using("fresh").order_by("pk").values_list("embedding", flat=True))
    assert np.stack(moved).tobytes() == VECTORS[:50].tobytes()


def test_move_continues_where_it_was_interrupted(migrated_database, monkeypatch):
    monkeypatch.setattr(transfer, "PAGE", 10)
    Required.objects.bulk_load(Required(embedding=vector) for vector in VECTORS[:35])
    first = Required.objects.order_by("pk")[:17]
    Required.objects.using("fresh").bulk_load(list(first), raw=True)
    assert "tests.Required: 18 moved, 17 were there already;" in move("tests.Required")
    assert contents(Required, "fresh") == contents(Required, "default")


def test_move_of_as_many_rows_as_a_page_ends(migrated_database, monkeypatch):
    monkeypatch.setattr(transfer, "PAGE", 10)
    Required.objects.bulk_load(Required(embedding=vector) for vector in VECTORS[:20])
    assert "tests.Required: 20 moved, 0 were there already;" in move("tests.Required")


def test_move_names_rows_that_differ_and_leaves_them(migrated_database):
    Required.objects.bulk_load(Required(pk=i, embedding=[i, 1, 1]) for i in range(1, 9))
    Required.objects.using("fresh").bulk_load([Required(pk=i, embedding=[i, 2, 2]) for i in range(1, 7)])
    with pytest.raises(CommandError) as caught:
        move("tests.Required")
    assert str(caught.value) == (
        'tests.Required: 6 rows of "fresh" hold something else than in "default", and stayed so (pk 1, 2, 3, 4, 5, '
        "...). Delete there what the old rows shall replace, and run the same command again."
    )
    assert Required.objects.using("fresh").get(pk=1).embedding.tolist() == [1, 2, 2]
    assert Required.objects.using("fresh").count() == 8


def test_move_sets_the_sequence(migrated_database):
    Required.objects.bulk_load([Required(pk=700, embedding=[1, 2, 3])])
    move("tests.Required")
    assert Required.objects.using("fresh").create(embedding=[1, 2, 3]).pk == 701


def test_move_leaves_the_planner_with_statistics(migrated_database):
    Required.objects.bulk_load(Required(embedding=vector) for vector in VECTORS[:20])
    move("tests.Required")
    assert migrated_database.execute("SELECT reltuples FROM pg_class WHERE relname = 'tests_required'") == [(20,)]


def test_move_into_a_larger_table_keeps_its_index(migrated_database):
    def of_index():
        return migrated_database.execute("SELECT 'article_embedding_hnsw'::regclass::oid")

    before = of_index()
    Article.objects.using("fresh").bulk_load([Article(pk=i, title="", embedding=[1, 2, i]) for i in range(1, 9)])
    Article.objects.bulk_load([Article(pk=9, title="", embedding=[1, 2, 9])])
    move("tests.Article")
    assert of_index() == before


def test_move_without_names_moves_the_models_with_vectors_and_what_they_refer_to(migrated_database):
    Article.objects.create(title="a", section=Section.objects.create(name="s"), embedding=[1, 2, 3])
    Tag.objects.create(name="no vector")
    move()
    assert Article.objects.using("fresh").get().section.name == "s"
    assert not Tag.objects.using("fresh").exists()


def test_move_dry_run_moves_nothing_and_says_what_it_would(migrated_database):
    Article.objects.create(title="a")
    printed = move("tests.Section", dry_run=True)
    assert printed.splitlines() == [
        'tests.Section: 0 rows in "default", 0 in "fresh".',
        "Not moved: tests.Article, which refers to tests.Section.",
        "Not moved: tests.Everything, which refers to tests.Section.",
        "No other table is moved.",
    ]
    assert not Article.objects.using("fresh").exists()


def test_move_takes_collections_with_their_indexes(migrated_database):
    collection = Collection.objects.create(name="c", dimensions=3)
    collection.documents.bulk_load(Document(key=str(i), embedding=vector) for i, vector in enumerate(VECTORS[:50]))
    Collection.objects.filter(pk=collection.pk).update(created=OLD, hnsw=HNSW)
    Document.objects.update(created=OLD, updated=OLD)
    Collection.objects.create(name="without index")
    printed = move("pgembedding_documents.Document")
    assert 'Built the index of collection "c".' in printed
    assert contents(Document, "fresh") == contents(Document, "default")
    assert migrated_database.indexes()[f"pgembedding_documents_{collection.pk}_hnsw"]
    assert Collection.objects.using("fresh").get(name="c").documents.nearest(VECTORS[7], 1).get().key == "7"
    assert "Built" not in move("pgembedding_documents.Document")


def test_move_keeps_what_many_to_many_relations_hold(migrated_database, isolated):
    class Label(models.Model):
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "tests"

    class Post(models.Model):
        tags = models.ManyToManyField(Label)
        embedding = EmbeddingField(dimensions=3, null=True)

        class Meta:
            app_label = "tests"

    create_tables(Label, Post)
    Post.objects.create(pk=3).tags.add(Label.objects.create(name="a"))
    assert move_models(Label, Post) == {"Label": 1, "Post": 1, "Post_tags": 1}
    assert Post.objects.using("fresh").get().tags.get().name == "a"


def test_move_of_a_model_with_a_parents_table_takes_both(migrated_database, isolated):
    class Child(Article):
        note = models.CharField(max_length=9)

        class Meta:
            app_label = "tests"

    create_tables(Child)
    Child.objects.create(title="a", note="b", embedding=[1, 2, 3])
    assert move_models(Child) == {"Section": 0, "Article": 1, "Child": 1}
    assert Child.objects.using("fresh").values_list("title", "note").get() == ("a", "b")


def test_move_of_rows_that_refer_to_later_ones_takes_them_in_one_transaction(migrated_database, isolated, monkeypatch):
    class Node(models.Model):
        parent = models.ForeignKey("self", models.CASCADE, null=True)

        class Meta:
            app_label = "tests"

    monkeypatch.setattr(transfer, "PAGE", 1)
    create_tables(Node)
    Node.objects.bulk_create([Node(pk=1, parent_id=2), Node(pk=2)])
    assert move_models(Node) == {"Node": 2}
    assert Node.objects.using("fresh").get(pk=1).parent_id == 2


def test_move_of_tables_that_refer_to_each_other_takes_them_in_one_transaction(migrated_database, isolated):
    class Team(models.Model):
        lead = models.ForeignKey("tests.Person", models.CASCADE, null=True)

        class Meta:
            app_label = "tests"

    class Person(models.Model):
        team = models.ForeignKey(Team, models.CASCADE)

        class Meta:
            app_label = "tests"

    create_tables(Team, Person)
    Person.objects.create(pk=5, team=Team.objects.create(pk=6))
    Team.objects.update(lead=5)
    assert move_models(Team, Person) == {"Person": 1, "Team": 1}
    assert Team.objects.using("fresh").get().lead_id == 5


def test_move_by_a_composite_primary_key(migrated_database, isolated, monkeypatch):
    class Item(models.Model):
        pk = models.CompositePrimaryKey("tenant", "number")
        tenant = models.CharField(max_length=9)
        number = models.IntegerField()
        embedding = EmbeddingField(dimensions=3, null=True)

        class Meta:
            app_label = "tests"

    monkeypatch.setattr(transfer, "PAGE", 2)
    create_tables(Item)
    keys = [("a", 1), ("a", 2), ("a", 10), ("b", 1), ("é'\\%", 2)]
    Item.objects.bulk_create(Item(tenant=tenant, number=number, embedding=[1, 2, 3]) for tenant, number in keys)
    assert move_models(Item) == {"Item": 5}
    assert set(Item.objects.using("fresh").values_list("pk", flat=True)) == set(keys)


def test_move_takes_types_that_bulk_load_does_not_write(migrated_database, isolated):
    class Ranged(models.Model):
        span = IntegerRangeField()
        exact = models.GeneratedField(
            expression=models.F("id") * 2, output_field=models.IntegerField(), db_persist=True
        )

        class Meta:
            app_label = "tests"

    create_tables(Ranged)
    Ranged.objects.create(span=(1, 5))
    move_models(Ranged)
    assert contents(Ranged, "fresh") == contents(Ranged, "default")


def test_move_of_a_row_that_another_one_stands_for_is_refused(migrated_database, isolated):
    class Referring(models.Model):
        kind = models.ForeignKey(ContentType, models.CASCADE)

        class Meta:
            app_label = "tests"

    create_tables(Referring)
    kind = ContentType.objects.order_by("pk").first()
    Referring.objects.create(kind=kind)
    ContentType.objects.using("fresh").all().delete()
    ContentType.objects.using("fresh").create(pk=kind.pk, app_label=kind.app_label, model="other")
    with pytest.raises(IntegrityError) as caught:
        move_models(Referring)
    assert str(caught.value) == (
        f'contenttypes.ContentType {kind.pk} is {kind.natural_key()} in database "default" and '
        f"('{kind.app_label}', 'other') in database \"fresh\", so rows that refer to it would refer to another. Delete "
        'the rows of contenttypes.ContentType in "fresh" first.'
    )


def test_move_takes_a_row_that_was_edited_for_the_same(migrated_database, isolated):
    class Referring(models.Model):
        user = models.ForeignKey(User, models.CASCADE)

        class Meta:
            app_label = "tests"

    create_tables(Referring)
    user = User.objects.create(username="ada")
    Referring.objects.create(user=user)
    User.objects.using("fresh").create(pk=user.pk, username="ada", first_name="Ada")
    assert move_models(Referring) == {"User": 0, "Referring": 1}
    assert User.objects.using("fresh").get().first_name == "Ada"


def test_move_of_a_row_whose_unique_value_is_taken_names_the_table_and_the_page(migrated_database):
    Tag.objects.create(name="a")
    Tag.objects.using("fresh").create(name="a")
    with pytest.raises(CommandError, match=r"tests\.Tag, rows: duplicate key .* DETAIL: +Key \(name\)=\(a\) already"):
        move("tests.Tag")


def test_move_between_integers_of_other_types_and_out_of_their_bounds(migrated_database, monkeypatch):
    monkeypatch.setattr(transfer, "PAGE", 1)
    migrated_database.execute("ALTER TABLE tests_everything ALTER big TYPE integer")
    Everything.objects.bulk_load([Everything(pk=1, big=5), Everything(pk=2, big=2**40)])
    with pytest.raises(CommandError, match=r"tests\.Everything, rows after pk 1: integer out of range"):
        move("tests.Everything")
    assert Everything.objects.using("fresh").get().big == 5


def test_move_between_columns_of_other_types_is_refused(migrated_database):
    migrated_database.execute("ALTER TABLE tests_everything ALTER price TYPE text")
    with pytest.raises(CommandError) as caught:
        move("tests.Everything")
    assert str(caught.value) == (
        'tests.Everything.price is of type numeric in database "default" and of type text in database "fresh". '
        "Migrate both to the same state."
    )


def test_move_to_a_table_without_a_column_is_refused(migrated_database):
    migrated_database.execute("ALTER TABLE tests_everything DROP price")
    with pytest.raises(CommandError) as caught:
        move("tests.Everything", dry_run=True)
    assert str(caught.value) == (
        'tests.Everything.price has no column in database "fresh". Run: manage.py migrate --database fresh'
    )


def test_move_from_a_database_without_the_tables_names_it(ready_database):
    with pytest.raises(
        CommandError, match=r"tests_section\" does not exist\. Run: manage\.py migrate --database fresh$"
    ):
        call_command("move_embeddings", "tests.Section", "--from=fresh", "--to=default", stdout=io.StringIO())


def test_move_says_that_rows_came_meanwhile(migrated_database, monkeypatch):
    counts = iter([0, 0, 0, 0, 3, 0])
    monkeypatch.setattr(transfer.Transfer, "count", lambda self, using: next(counts))
    with pytest.raises(CommandError) as caught:
        move("tests.Tag")
    assert str(caught.value) == (
        'tests.Tag: 3 rows came to "default" meanwhile. Stop what writes there, and run the same command again.'
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from=default", "--to=default"], '--from and --to must be two databases, got "default" twice.'),
        (
            ["nothing", "--from=default", "--to=lite"],
            '"nothing" names no model. Write app.Model or app.Model.field, such',
        ),
    ],
)
def test_move_with_a_wrong_argument_is_refused(sqlite, arguments, message):
    with pytest.raises(CommandError) as caught:
        call_command("move_embeddings", *arguments)
    assert str(caught.value).startswith(message)
