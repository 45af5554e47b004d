"""stale() and embed(): which rows are embedded, what is paid for, and what others do meanwhile."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, models, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError
from pgembedding_django.embedding import EmbedRun, claims, estimate, get_field, rows
from pgembedding_django.embedding import settlement as settlements
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.models import EmbedClaim
from tests.models import Article, Memo, Required, Saved, Strict
from tests.support.databases import as_superuser
from tests.support.scripted import AWAY, REFUSED, vector_of
from tests.support.waiting import ADVISORY_LOCKS, wait_until

pytestmark = pytest.mark.django_db

#: For what other connections do meanwhile.
committed = pytest.mark.django_db(transaction=True)


def add(*titles):
    return Article.objects.bulk_create([Article(title=title) for title in titles])


def vectors():
    return {row.title: None if row.embedding is None else row.embedding.tolist() for row in Article.objects.all()}


def claimed():
    return sum(len(claim.keys) for claim in EmbedClaim.objects.all())


def in_thread(function):
    """Run a function on a connection of its own and return what it returns."""

    def run():
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


# stale()


def test_stale_is_what_has_no_vector_of_its_text(scripted):
    add("a", "b", "")
    assert [row.title for row in Article.objects.stale().order_by("pk")] == ["a", "b"]
    Article.objects.embed()
    assert not Article.objects.stale().exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda row: Article.objects.filter(pk=row.pk).update(title="new"),
        lambda row: connection.cursor().execute("UPDATE tests_article SET title = 'new' WHERE id = %s", [row.pk]),
        lambda row: Article.objects.bulk_update([Article(pk=row.pk, title="new")], ["title"]),
        lambda row: Article(pk=row.pk, title="new", embedding=row.embedding).save(update_fields=["title"]),
        lambda row: Article.objects.filter(pk=row.pk).update(embedding=None),
        lambda row: Article.objects.filter(pk=row.pk).update(title=" "),
    ],
    ids=["update", "raw SQL", "bulk_update", "save", "vector gone", "text gone"],
)
def test_stale_after_an_edit_of_the_text_by_any_path_is_that_row(scripted, edit):
    add("a", "b")
    Article.objects.embed()
    row = Article.objects.get(title="a")
    edit(row)
    assert [stale.pk for stale in Article.objects.stale()] == [row.pk]


def test_stale_after_an_edit_of_something_else_is_nothing(scripted):
    add("a")
    Article.objects.embed()
    Article.objects.update(published=False)
    Article.objects.get().save()
    assert not Article.objects.stale().exists()


@pytest.mark.parametrize(("options", "count"), [({"model": "b"}, 1), ({"price": 5}, 0)])
def test_stale_after_a_change_of_the_model_is_every_row(scripted, options, count):
    add("a")
    Article.objects.embed()
    scripted.configure(**options)
    assert Article.objects.stale().count() == count


def test_stale_of_columns_is_one_query_and_fetches_no_row(scripted, django_assert_num_queries):
    add("a", "b")
    with django_assert_num_queries(1):
        assert Article.objects.filter(title="b").stale().filter(Q(published=True)).count() == 1


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_stale_of_a_method_reads_the_rows_in_pages(scripted, monkeypatch, page):
    monkeypatch.setattr(rows, "PAGE", page)
    Memo.objects.bulk_create([Memo(title=title) for title in ("a", "", "b")])
    Memo.objects.filter(title="b").embed(field="loud")
    assert [memo.title for memo in Memo.objects.stale(field="loud")] == ["a"]
    Memo.objects.update(title="c")
    assert Memo.objects.stale(field="loud").count() == 3


def test_astale_and_aembed_do_the_same(scripted):
    add("a")

    async def use():
        return await (await Article.objects.astale()).acount(), await Article.objects.aembed(batch_size=1)

    count, report = async_to_sync(use)()
    assert (count, report.embedded) == (1, 1)


def test_field_to_embed_is_the_only_one_with_a_source():
    assert get_field(Article, None).name == "embedding"
    assert get_field(Memo, "loud").name == "loud"


@pytest.mark.parametrize(
    ("model", "name", "error", "message"),
    [
        (Required, None, TypeError, "Required has no EmbeddingField with a source. Name the text in source=."),
        (Memo, None, ValueError, "Memo has 2 fields to embed (embedding, loud). Name one."),
        (
            Memo,
            "title",
            ValueError,
            "field must name an EmbeddingField of Memo that has a source (embedding, loud), got 'title'.",
        ),
    ],
)
def test_field_to_embed_that_is_not_clear_is_refused(model, name, error, message):
    with pytest.raises(error) as raised:
        model.objects.stale(field=name)
    assert str(raised.value) == message


# embed()


def test_embed_gives_every_row_the_vector_of_its_text(scripted):
    add("a", "bb", "ccc")
    report = Article.objects.embed()
    assert vectors() == {title: vector_of(title) for title in ("a", "bb", "ccc")}
    assert (report.embedded, report.texts, report.requests, report.rows) == (3, 3, 1, 3)
    assert report.tokens > 0
    assert report.seconds > 0


def test_embed_of_several_columns_and_of_a_method_sends_their_text(scripted):
    Memo.objects.create(title="a", body="b")
    Memo.objects.embed(field="embedding")
    Memo.objects.embed(field="loud")
    assert scripted.paid == {"a\n\nb": 1, "A": 1}


def test_embed_again_pays_for_nothing(scripted):
    add("a", "b")
    Article.objects.embed()
    assert Article.objects.embed().embedded == 0
    assert scripted.paid == {"a": 1, "b": 1}


def test_embed_of_a_queryset_leaves_other_rows_alone(scripted):
    add("a", "b")
    Article.objects.filter(title="a").embed()
    assert vectors() == {"a": vector_of("a"), "b": None}


def test_embed_of_a_queryset_with_joined_repeated_rows_embeds_each_once(scripted):
    add("a")
    report = Article.objects.filter(Q(section__isnull=True) | Q(section__name="x")).distinct().embed()
    assert report.embedded == 1


def test_embed_with_all_embeds_what_is_not_stale_too(scripted):
    add("a", "")
    Article.objects.embed()
    assert Article.objects.embed(all=True).embedded == 1
    assert scripted.paid == {"a": 2}


def test_embed_with_a_limit_stops_there(scripted):
    add(*"abcde")
    assert [Article.objects.embed(limit=2, batch_size=size).embedded for size in (1, 2, 3)] == [2, 2, 1]


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_embed_in_batches_sends_so_many_texts_at_once(scripted, monkeypatch, page):
    monkeypatch.setattr(rows, "PAGE", page)
    add(*"abcdefg")
    Article.objects.embed(batch_size=3)
    assert sorted(scripted.sizes) == [1, 3, 3]


@pytest.mark.parametrize("name", ["batch_size", "concurrency", "limit"])
@pytest.mark.parametrize("value", [0, -1, True, "5", 1.5])
def test_embed_with_a_wrong_number_is_refused(scripted, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a positive integer, got {value!r}.$"):
        Article.objects.embed(**{name: value})


def test_embed_tells_its_progress(scripted):
    add("a", "b", "bad")
    told = []
    Article.objects.embed(batch_size=1, concurrency=1, progress=told.append)
    assert told[-1] == 3
    assert told == sorted(told)


def test_embed_keeps_so_many_calls_under_way(scripted):
    together = threading.Barrier(3, timeout=30)
    scripted.before = lambda texts: together.wait()
    add(*"abcdef")
    assert Article.objects.embed(batch_size=1, concurrency=3).embedded == 6


def test_embed_logs_counts_and_no_text(scripted, caplog):
    caplog.set_level(logging.DEBUG, "pgembedding_django")
    add("cheese")
    Article.objects.embed()
    assert "Article.embedding: 1 rows embedded, 0 skipped, 0 changed, 0 failed; 1 texts" in caplog.text
    assert "cheese" not in caplog.text


@pytest.mark.parametrize("kind", ["integer", "smallint", "numeric"])
def test_embed_of_a_table_whose_key_has_another_type_than_its_field_writes_it(scripted, kind):
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE tests_article ALTER id DROP IDENTITY; ALTER TABLE tests_article ALTER id TYPE {kind}"
        )
    Article.objects.bulk_create([Article(pk=1, title="a"), Article(pk=2, title="b")])
    assert Article.objects.embed().embedded == 2
    assert vectors() == {"a": vector_of("a"), "b": vector_of("b")}


@pytest.mark.parametrize("kind", ["text", "char(9)"])
def test_embed_of_a_table_whose_key_is_another_kind_of_text_writes_it(scripted, isolated, kind):
    class Item(models.Model):
        key = models.CharField(max_length=9, primary_key=True)
        text = models.TextField()
        embedding = EmbeddingField(dimensions=3, source="text", null=True)
        objects = EmbeddingManager()

    vector = Item._meta.get_field("embedding").db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE tests_item (key {kind} PRIMARY KEY, text text, embedding {vector}, embedding_digest text)"
        )
    Item.objects.create(key="k", text="a")
    assert Item.objects.embed().embedded == 1
    assert Item.objects.get().embedding.tolist() == vector_of("a")


@pytest.fixture
def statements():
    """Return a function that runs another one and returns the statements that it sent."""

    def run(function):
        with CaptureQueriesContext(connection) as captured:
            function()
        return [query["sql"] for query in captured]

    return run


def test_embed_makes_one_temporary_table_a_run_and_leaves_none(scripted, statements):
    add(*(f"text {number}" for number in range(40)))
    sent = statements(lambda: Article.objects.embed(batch_size=10, concurrency=1))
    assert len({sql for sql in sent if sql.startswith("CREATE TEMPORARY TABLE IF NOT EXISTS ")}) == 1
    assert len([sql for sql in sent if sql.startswith("DROP TABLE")]) == 1
    assert sum(sql.startswith("UPDATE") and " FROM pgembedding_embed" in sql for sql in sent) == 4
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'pgembedding_embed\\_%' AND relpersistence = 't'"
        )
        assert cursor.fetchone() == (0,)


def test_embed_of_few_rows_makes_no_table(scripted, statements):
    add("a", "b")
    sent = statements(lambda: Article.objects.embed())
    assert not [sql for sql in sent if "TABLE" in sql]


def test_embed_writes_a_row_once(scripted, statements):
    """Each UPDATE of a row writes it into the index again."""
    add(*(f"text {number}" for number in range(20)))
    sent = statements(lambda: Article.objects.embed())
    assert len([sql for sql in sent if sql.startswith('UPDATE "tests_article"')]) == 1


def test_embed_reads_no_page_after_one_that_was_not_full(scripted, statements):
    add("a", "b")
    sent = statements(lambda: Article.objects.embed())
    assert len([sql for sql in sent if "LIMIT" in sql]) == 1


@committed
@pytest.mark.parametrize("count", [3, 40])
def test_embed_without_the_right_to_make_a_temporary_table_works(scripted, migrated_database, role, count):
    migrated_database.execute(f"REVOKE TEMP ON DATABASE {migrated_database.name} FROM PUBLIC", superuser=True)
    migrated_database.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON tests_article, pgembedding_django_embedclaim TO {role}",
        superuser=True,
    )
    migrated_database.execute(
        "INSERT INTO tests_article (title, published) SELECT 'text ' || n, true FROM generate_series(1, %s) n",
        [count],
        superuser=True,
    )
    articles = Article.objects.using("fresh")
    assert articles.embed(batch_size=20).embedded == count
    assert all(row.embedding.tolist() == vector_of(row.title) for row in articles.all())


# What is paid for once


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_embed_of_identical_texts_pays_for_each_once(scripted, batch_size):
    add(*(["a", "b", " a "] * 20))
    report = Article.objects.embed(batch_size=batch_size)
    assert scripted.paid == {"a": 1, "b": 1}
    assert (report.embedded, report.texts) == (60, 2)
    assert Article.objects.filter(embedding=vector_of("a")).count() == 40


@committed
def test_embed_of_identical_texts_whose_first_row_changed_pays_again(scripted):
    first, *_ = add("a", "b", "a")

    def edit(texts):
        if texts == ["b"]:
            in_thread(lambda: Article.objects.filter(pk=first.pk).update(embedding_digest="x"))

    scripted.before = edit
    Article.objects.embed(batch_size=1, concurrency=1)
    assert Article.objects.exclude(embedding=None).count() == 3


@committed
def test_embed_of_identical_texts_claims_no_more_than_it_holds(scripted):
    add(*(["a"] * 50))
    seen = []

    def look(texts):
        wait_until(lambda: in_thread(claimed) >= 4)
        time.sleep(0.2)  # It would go on claiming.
        seen.append(in_thread(claimed))

    scripted.before = look
    Article.objects.embed(batch_size=2, concurrency=1)
    assert seen == [4]


def test_embed_remembers_the_last_texts_only(scripted, monkeypatch):
    monkeypatch.setattr(settlements, "MAX_KNOWN", 1)
    add(*"abcdefgha")
    Article.objects.embed(batch_size=1, concurrency=1)
    assert scripted.paid["a"] == 2


# Texts that cannot be embedded


def test_embed_of_blank_text_takes_the_vector_away(scripted):
    article = Article.objects.create(title="a", embedding=[1, 2, 3])
    Article.objects.update(title=" \u3000")
    report = Article.objects.embed()
    article.refresh_from_db()
    assert (article.embedding, article.embedding_digest, report.skipped) == (None, None, 1)
    assert not scripted.paid


def test_embed_of_blank_text_where_null_is_refused_reports_the_row(scripted):
    Strict.objects.create(text="a", embedding=[1, 2, 3])
    Strict.objects.update(text="")
    assert Strict.objects.embed().skipped == 1
    assert Strict.objects.get().embedding.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    ["a\0b", "\u05d2\u05d1\u05d9\u05e0\u05d4", "\U0001f9c0" * 100, "x" * 1_000_000],
    ids=["NUL", "RTL", "emoji", "1 MB"],
)
def test_embed_of_unusual_text_gives_it_a_vector(monkeypatch, text):
    monkeypatch.setattr(Memo, "shout", lambda self: text)
    Memo.objects.create()
    assert Memo.objects.embed(field="loud").embedded == 1
    assert not Memo.objects.stale(field="loud").exists()


def test_embed_of_a_lone_surrogate_reports_the_row(monkeypatch):
    monkeypatch.setattr(Memo, "shout", lambda self: "a\ud800")
    memo = Memo.objects.create()
    ((pk, reason),) = Memo.objects.embed(field="loud").failures
    assert pk == memo.pk
    assert "has a lone surrogate at character 1." in reason


def test_embed_of_a_rejected_text_embeds_the_others(scripted):
    bad = add("a", "bad", "b")[1]
    report = Article.objects.embed()
    assert (report.embedded, report.failed, report.failures) == (2, 1, [(bad.pk, "it is bad")])
    assert [row.pk for row in Article.objects.stale()] == [bad.pk]
    assert claimed() == 0


def test_embed_names_the_first_failures_only(scripted, monkeypatch):
    monkeypatch.setattr(settlements, "MAX_FAILURES", 2)
    add("bad 1", "bad 2", "bad 3")
    report = Article.objects.embed()
    assert (report.failed, len(report.failures)) == (3, 2)


def test_embed_of_a_vector_that_the_field_refuses_is_a_failure_of_the_row(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [[float("nan"), 1, 2] for _ in texts])
    add("a")
    ((_, reason),) = Article.objects.embed().failures
    assert reason == "Article.embedding must be finite, got nan at position 0."


# When the embedder fails


def test_embed_with_an_embedder_out_of_reach_keeps_what_it_answered(scripted):
    add(*"abcd")
    scripted.before = lambda texts: scripted.failures.append(AWAY) if texts == ["b"] else None
    with pytest.raises(EmbedderUnavailable):
        Article.objects.embed(batch_size=1, concurrency=1)
    assert vectors()["a"] == vector_of("a")
    assert claimed() == 0
    Article.objects.embed()
    assert scripted.paid == dict.fromkeys("abcd", 1)
    assert not Article.objects.stale().exists()


def test_embed_with_a_refused_key_stops_at_once(scripted):
    add(*"abcdefgh")
    scripted.failures = [REFUSED] * 8
    with pytest.raises(EmbeddingError, match="The key is wrong"):
        Article.objects.embed(batch_size=1, concurrency=2)
    assert len(scripted.sizes) <= 4


@pytest.mark.parametrize("every", [False, True])
def test_embed_that_breaks_off_leaves_the_digests_as_they_were(scripted, every):
    """Else a wrong setting, corrected after the first error, would cost a new vector for each row under way."""
    add("a", "b")
    Article.objects.embed()
    scripted.configure(model="wrong")
    scripted.failures = [REFUSED]
    with pytest.raises(EmbeddingError):
        Article.objects.embed(all=every)
    scripted.configure()
    assert not Article.objects.stale().exists()


def test_embed_writes_what_was_paid_for_before_it_raises(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [vector_of("a"), AWAY, AWAY])
    add(*"abc")
    with pytest.raises(EmbedderUnavailable):
        Article.objects.embed()
    assert vectors() == {"a": vector_of("a"), "b": None, "c": None}


def test_embed_that_breaks_off_writes_what_is_under_way(scripted):
    """One call fails while another is on its way: the other's vectors are paid for."""
    add("a", "b")
    begun, failed = threading.Event(), threading.Event()

    def before(texts):
        if texts == ["a"]:
            begun.wait(30)
            failed.set()
            raise REFUSED
        begun.set()
        failed.wait(30)
        time.sleep(0.1)

    scripted.before = before
    with pytest.raises(EmbeddingError):
        Article.objects.embed(batch_size=1, concurrency=2)
    assert vectors() == {"a": None, "b": vector_of("b")}


def test_embed_that_breaks_off_logs_the_further_errors(scripted, caplog):
    add("a", "b")
    together = threading.Barrier(2, timeout=60)

    def before(texts):
        together.wait()
        raise AWAY if texts == ["b"] else REFUSED

    scripted.before = before
    with pytest.raises(EmbeddingError) as caught:
        Article.objects.embed(batch_size=1, concurrency=2)
    further = AWAY if caught.value is REFUSED else REFUSED  # whichever came last
    assert f"Article.embedding: {further}" in caplog.text
    assert claimed() == 0


def test_embed_that_fails_in_every_thread_says_so_once(scripted, caplog):
    add("a", "b", "c")
    together = threading.Barrier(3, timeout=60)

    def before(texts):
        together.wait()
        raise REFUSED

    scripted.before = before
    with pytest.raises(EmbeddingError):
        Article.objects.embed(batch_size=1, concurrency=3)
    assert str(REFUSED) not in caplog.text


def test_embed_with_vectors_of_another_length_is_refused_before_any_call(scripted):
    scripted.configure(dimensions=4)
    add("a")
    with pytest.raises(ImproperlyConfigured) as error:
        Article.objects.embed()
    assert str(error.value) == (
        'Article.embedding has 3 dimensions, but its embedder "default" makes 4. Give both the same number.'
    )
    assert scripted.sizes == []


def test_embed_with_vectors_of_a_length_nobody_announced_stops(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "dimensions", None)
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [[1.0, 2.0]] * len(texts))
    add("a")
    with pytest.raises(EmbeddingError, match=r"^Article.embedding must have 3 dimensions, got 2.$"):
        Article.objects.embed()


def test_embed_with_another_count_of_answers_than_texts_writes_none_of_them(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [vector_of("a")])
    add("a", "b")
    with pytest.raises(EmbeddingError, match=r"^ScriptedEmbedder answered 1 outcomes for 2 texts.$"):
        Article.objects.embed()
    assert vectors() == {"a": None, "b": None}


@committed
def test_embed_with_a_method_that_fails_keeps_what_is_under_way(scripted, monkeypatch):
    monkeypatch.setattr(rows, "PAGE", 1)
    begun = threading.Event()

    def shout(self):
        return 5 if self.title == "b" and begun.wait(30) else self.title

    monkeypatch.setattr(Memo, "shout", shout)
    scripted.before = lambda texts: begun.set()
    Memo.objects.bulk_create([Memo(title="a"), Memo(title="b")])
    with pytest.raises(TypeError, match=r"^Memo.shout, the source of Memo.loud, must be text, got int.$"):
        Memo.objects.embed(field="loud", batch_size=1, concurrency=1)
    assert Memo.objects.get(title="a").loud.tolist() == vector_of("a")


# What others do meanwhile


@committed
def test_embed_leaves_a_row_that_was_edited_meanwhile_stale(scripted):
    add("a", "b")
    scripted.before = lambda texts: in_thread(lambda: Article.objects.filter(title="a").update(title="new"))
    report = Article.objects.embed()
    assert (report.embedded, report.changed) == (1, 1)
    assert vectors() == {"new": None, "b": vector_of("b")}
    assert [row.title for row in Article.objects.stale()] == ["new"]


@committed
def test_embed_of_a_method_leaves_a_row_that_was_edited_meanwhile_stale(scripted):
    Memo.objects.create(title="a")
    scripted.before = lambda texts: in_thread(lambda: Memo.objects.update(title="new"))
    assert Memo.objects.embed(field="loud").changed == 1
    assert Memo.objects.get().loud is None


@committed
def test_embed_leaves_a_vector_that_was_given_meanwhile(scripted):
    add("a")

    def give():
        article = Article.objects.get()
        article.embedding = [7, 8, 9]
        article.save()

    scripted.before = lambda texts: in_thread(give)
    assert Article.objects.embed().changed == 1
    assert vectors() == {"a": [7, 8, 9]}


@committed
def test_embed_of_a_row_that_was_deleted_meanwhile_goes_on(scripted):
    add("a", "b")
    scripted.before = lambda texts: in_thread(lambda: Article.objects.filter(title="a").delete())
    report = Article.objects.embed()
    assert (report.embedded, report.changed) == (1, 1)


@committed
def test_embed_has_no_transaction_open_while_it_waits(scripted):
    add("a")
    states = []

    def look():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )
            states.extend(state for (state,) in cursor.fetchall())

    scripted.before = lambda texts: in_thread(look)
    Article.objects.embed()
    assert set(states) == {"idle"}


@committed
def test_embed_by_two_workers_shares_the_rows_and_pays_for_each_once(scripted):
    add(*(f"text {number}" for number in range(60)))
    begun, counts = threading.Barrier(2, timeout=30), {}
    scripted.latency = 0.01

    def work(name):
        begun.wait()
        counts[name] = Article.objects.embed(batch_size=2, concurrency=2).embedded
        connections.close_all()

    threads = [threading.Thread(target=work, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(scripted.paid.values()) == {1}
    assert sum(counts.values()) == len(scripted.paid) == 60
    assert min(counts.values()) > 0
    assert not Article.objects.stale().exists()


@committed
def test_embed_by_two_workers_sends_full_batches(scripted):
    add(*(f"text {number}" for number in range(200)))
    begun = threading.Barrier(2, timeout=30)
    scripted.latency = 0.02

    def work():
        begun.wait()
        Article.objects.embed(batch_size=10, concurrency=2)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(scripted.paid.values()) == {1}
    # The last claim of each worker may be short.
    assert len(scripted.paid) == 200
    assert len(scripted.sizes) <= 22


@committed
def test_embed_skips_rows_that_another_worker_has_claimed(scripted):
    add("a", "b")
    seen = []
    scripted.before = lambda texts: seen or seen.append(in_thread(Article.objects.embed))
    assert Article.objects.embed().embedded == 2
    assert seen[0].rows == 0


@committed
@pytest.mark.pgvector  # the guard of pg_embedding makes the writers of a table take turns
def test_embed_skips_rows_that_another_transaction_writes(scripted):
    add("a", "b")
    with transaction.atomic():
        Article.objects.filter(title="a").update(published=False)
        assert in_thread(Article.objects.embed).embedded == 1
    assert vectors() == {"a": None, "b": vector_of("b")}


def claim_all(**changes):
    """Let somebody else claim every article, and return the claim."""
    values = {"field": "tests_article.embedding", "pid": backend_pid(), "until": timezone.now() + timedelta(minutes=5)}
    keys = [f"[{pk}]" for pk in Article.objects.values_list("pk", flat=True)]
    return EmbedClaim.objects.create(**{**values, "keys": keys, **changes})


def backend_pid():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@committed
def test_embed_takes_rows_that_another_transaction_refers_to(scripted):
    """As by a foreign key to them."""
    add("a")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM tests_article FOR KEY SHARE")
        assert in_thread(Article.objects.embed).embedded == 1


def test_claim_of_a_living_session_is_respected(scripted):
    add("a")
    claim_all()
    assert Article.objects.stale().count() == 1
    assert Article.objects.embed().rows == 0


@pytest.mark.parametrize(
    "changes",
    [{"pid": 2**31 - 1}, {"until": timezone.now()}, {"field": "tests_memo.embedding"}],
    ids=["session gone", "lease over", "another field"],
)
def test_claim_that_is_over_or_of_another_field_is_none(scripted, changes):
    add("a")
    claim_all(**changes)
    assert Article.objects.embed().embedded == 1


def test_claim_that_is_over_is_cleared_away(scripted):
    add("a")
    claim_all(until=timezone.now() - timedelta(seconds=1))
    Article.objects.embed()
    assert not EmbedClaim.objects.exists()


@committed
def test_claim_is_renewed_while_the_embedder_is_slow(scripted, monkeypatch):
    monkeypatch.setattr("pgembedding_django.embedding.run.BEAT", 0.01)
    monkeypatch.setattr(claims, "BEAT", 0.01)
    add("a")
    seen = []

    def look():
        until = EmbedClaim.objects.get().until
        while EmbedClaim.objects.get().until == until:
            time.sleep(0.01)
        seen.append(until)

    scripted.before = lambda texts: in_thread(look)
    assert Article.objects.embed().embedded == 1
    assert len(seen) == 1


@committed
def test_claim_that_somebody_cleared_away_is_made_again(scripted):
    add("a", "b")
    scripted.before = lambda texts: in_thread(lambda: EmbedClaim.objects.all().delete())
    assert Article.objects.embed(batch_size=1, concurrency=1).embedded == 2
    assert not EmbedClaim.objects.exists()


@committed
def test_claim_inside_a_transaction_sees_workers_that_began_after_it(scripted):
    """Postgres remembers pg_stat_activity as a transaction saw it first."""
    first, _ = add("a", "b")
    taken, looked = threading.Event(), threading.Event()

    def hold():
        with Claims(get_field(Article, None), "default") as theirs:
            theirs.take([first.pk], fresh_too=False)
            taken.set()
            looked.wait(30)

    with transaction.atomic(), Claims(get_field(Article, None), "default") as mine:
        assert mine.free(Article.objects.all()).count() == 2
        thread = threading.Thread(target=in_thread, args=[hold])
        thread.start()
        taken.wait(30)
        rows, _ = mine.take(list(Article.objects.values_list("pk", flat=True)), fresh_too=False)
        looked.set()
        thread.join()
    assert [row.text for row in rows] == ["b"]


@committed
def test_embed_inside_a_transaction_happens_in_it(scripted):
    add("a")
    with pytest.raises(RuntimeError), transaction.atomic():
        assert Article.objects.embed().embedded == 1
        raise RuntimeError
    assert vectors() == {"a": None}


@committed
def test_embed_inside_a_transaction_that_is_broken_raises_its_error(scripted):
    add("a")
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        Article.objects.embed()
    assert claimed() == 0


@committed
def test_embed_whose_connection_is_cut_raises_the_server_s_error(scripted):
    add("a", "b")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]

    def cut():
        while not Article.objects.exclude(embedding=None).exists():
            time.sleep(0.01)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

    scripted.before = lambda texts: in_thread(cut) if texts == ["b"] else None
    with pytest.raises(OperationalError):
        Article.objects.embed(batch_size=1, concurrency=1)
    connection.close()
    assert vectors() == {"a": vector_of("a"), "b": None}
    scripted.before = None
    assert Article.objects.embed().embedded == 1


def test_run_that_is_stopped_writes_what_is_under_way_and_begins_nothing(scripted):
    add(*"abcdefgh")
    run = EmbedRun(Article.objects.all(), get_field(Article, None), batch_size=1, concurrency=1)
    scripted.before = lambda texts: run.stop()
    assert 1 <= run.run().embedded <= 3
    assert run.stopped
    assert claimed() == 0


def test_run_that_is_stopped_before_it_begins_does_nothing(scripted):
    add("a")
    run = EmbedRun(Article.objects.all(), get_field(Article, None))
    run.stop()
    assert run.run().rows == 0


@pytest.mark.pgvector  # A write of pg_embedding holds its guard's locks until the transaction of the test ends.
def test_embed_ends_without_locks(scripted):
    add("a")
    Article.objects.embed()
    with connection.cursor() as cursor:
        cursor.execute(ADVISORY_LOCKS)
        assert cursor.fetchall() == []
    assert not EmbedClaim.objects.exists()


# estimate()


def test_estimate_counts_texts_and_sends_none(scripted):
    scripted.configure(price=0.5)
    add("abc", "", "abcdef")
    found = estimate(Article.objects.all(), get_field(Article, None))
    assert (found.rows, found.characters, found.tokens) == (2, 9, 3)
    assert found.price == pytest.approx(3 * 0.5 / 1e6)
    assert scripted.sizes == []


def test_estimate_without_a_price_has_none(scripted):
    add("abc", "abc", "")
    assert estimate(Article.objects.all(), get_field(Article, None), limit=1).price is None
    Article.objects.embed()
    assert estimate(Article.objects.all(), get_field(Article, None)).rows == 0
    assert estimate(Article.objects.all(), get_field(Article, None), fresh_too=True).rows == 2


def test_estimate_of_columns_reads_one_page_of_texts_and_counts_the_rest(scripted, statements, monkeypatch):
    monkeypatch.setattr(import_module("pgembedding_django.embedding.estimate"), "PAGE", 4)
    add(*["abcdef"] * 10, "")
    found = []
    sent = statements(lambda: found.append(estimate(Article.objects.all(), get_field(Article, None))))
    assert (found[0].rows, found[0].characters, found[0].tokens) == (10, 60, 20)
    assert len(sent) == 3


def test_estimate_of_a_method_counts_what_it_says(scripted, monkeypatch):
    monkeypatch.setattr(import_module("pgembedding_django.embedding.estimate"), "PAGE", 1)
    Memo.objects.bulk_create([Memo(title="abc"), Memo(title=""), Memo(title="abcdef")])
    found = estimate(Memo.objects.all(), get_field(Memo, "loud"))
    assert (found.rows, found.characters, found.tokens) == (2, 9, 3)


def test_estimate_of_joined_rows_counts_each_once(scripted):
    add("abc")
    rows = Article.objects.filter(Q(section__isnull=True) | Q(section__name="x"))
    assert estimate(rows.distinct(), get_field(Article, None)).rows == 1


def test_estimate_of_nothing_is_nothing(scripted):
    found = estimate(Article.objects.all(), get_field(Article, None))
    assert (found.rows, found.characters, found.tokens) == (0, 0, 0)


def test_embed_of_another_database_embeds_there(scripted, ready_database):
    ready_database.migrate()
    Saved.objects.using("fresh").bulk_create([Saved(text="a")])
    assert Saved.objects.using("fresh").embed().embedded == 1
    assert Saved.objects.using("fresh").get().embedding.tolist() == vector_of("a")


def test_embed_whose_database_is_gone_raises_the_server_s_error(scripted, ready_database):
    ready_database.migrate()
    Saved.objects.using("fresh").bulk_create([Saved(text="a")])

    def vanish():
        as_superuser(f"ALTER DATABASE {ready_database.name} ALLOW_CONNECTIONS false")
        as_superuser(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{ready_database.name}'")

    scripted.before = lambda texts: in_thread(vanish)
    with pytest.raises(OperationalError):
        Saved.objects.using("fresh").embed()
    as_superuser(f"ALTER DATABASE {ready_database.name} ALLOW_CONNECTIONS true")
    scripted.before = None
    assert Saved.objects.using("fresh").embed().embedded == 1


def test_claim_says_what_it_holds():
    assert str(EmbedClaim(field="tests_article.embedding", keys=["[1]", "[2]"])) == "2 rows of tests_article.embedding"
