"""Passages follow the texts that they are pieces of."""

import re
import sys

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from langchain_text_splitters import CharacterTextSplitter

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.admin import PassageInline
from pgembedding_django.checks.passages import _check_model, check_passages
from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError, TextRejected
from pgembedding_django.passages import Passage, PassageReport, Splits
from pgembedding_django.passages.changes import read_changes
from pgembedding_django.passages.parents import parents_of
from pgembedding_django.passages.run import SplitRun
from pgembedding_django.passages.sync import watch
from pgembedding_django.passages.tasks import split_rows
from tests.admin import serve, staff
from tests.models import Guide, GuidePassage, Letter, LetterPassage, paragraphs

pytestmark = pytest.mark.django_db

TEXT = "one\n\ntwo\n\nthree"


def stored(guide=None):
    """What stands in the table: place, text, and the first number of the vector, which is the length of the text."""
    rows = GuidePassage.objects.order_by("guide", "position")
    rows = rows if guide is None else rows.filter(guide=guide)
    return [(row.position, row.start, row.end, row.text, row.embedding and row.embedding[0]) for row in rows]


@pytest.fixture
def guide(scripted):
    return Guide.objects.create(title="Title", body=TEXT)


def test_embed_splits_a_text_and_embeds_its_passages(guide, scripted):
    report = GuidePassage.objects.embed()
    assert stored() == [(0, 0, 3, "one", 3), (1, 5, 8, "two", 3), (2, 10, 15, "three", 5)]
    assert (report.parents, report.embedded, report.kept, report.deleted) == (1, 3, 0, 0)
    assert set(GuidePassage.objects.values_list("guide", flat=True)) == {guide.pk}
    assert not GuidePassage.objects.stale().exists()


def test_texts_that_changed_are_looked_for_once_where_they_fill_no_page(guide, scripted):
    with CaptureQueriesContext(connection) as queries:
        GuidePassage.objects.embed()
    assert sum("NOT EXISTS" in each["sql"].replace("NOT (EXISTS", "NOT EXISTS") for each in queries) == 1


@pytest.mark.parametrize("name", ["batch_size", "concurrency", "limit"])
def test_sizes_that_are_none_are_refused(guide, scripted, name):
    with pytest.raises(ValueError, match=f"^{name} must be a positive integer, got -1.$"):
        GuidePassage.objects.embed(**{name: -1})


def test_embed_does_nothing_where_nothing_changed(guide, scripted):
    GuidePassage.objects.embed()
    scripted.paid.clear()
    Guide.objects.update(views=7, title="Another")
    assert not GuidePassage.objects.stale_parents().exists()
    report = GuidePassage.objects.embed()
    assert (report.rows, report.parents, scripted.paid) == (0, 0, {})


#: A new text: what stands then, the report, and what was paid for.
EDITS = {
    "changed": ("one\n\nTWO!\n\nthree", ["one", "TWO!", "three"], (1, 2, 1), ["TWO!"]),
    "inserted": ("zero\n\n" + TEXT, ["zero", "one", "two", "three"], (1, 3, 0), ["zero"]),
    "removed": ("one\n\nthree", ["one", "three"], (0, 2, 1), []),
    "moved": ("three\n\none\n\ntwo", ["three", "one", "two"], (0, 3, 0), []),
    "doubled": ("one\n\none\n\ntwo", ["one", "one", "two"], (1, 2, 1), ["one"]),
    "emptied": ("", [], (0, 0, 3), []),
    "blank": ("\n \n\n ", [], (0, 0, 3), []),
    "missing": (None, [], (0, 0, 3), []),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_pays_for_what_changed_and_keeps_the_rest(guide, scripted, name):
    GuidePassage.objects.embed()
    keys = dict(GuidePassage.objects.values_list("text", "pk"))
    scripted.paid.clear()
    body, texts, counts, paid = EDITS[name]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_guide SET body = %s", [body])
    report = GuidePassage.objects.embed()
    assert [text for _, _, _, text, _ in stored()] == texts
    assert [(body or "")[start:end] for _, start, end, _, _ in stored()] == texts
    assert (report.embedded, report.kept, report.deleted) == counts
    assert list(scripted.paid) == paid
    now = dict(GuidePassage.objects.order_by("-position").values_list("text", "pk"))
    assert {text: now[text] for text in keys if text in now} == {text: keys[text] for text in keys if text in now}
    assert not GuidePassage.objects.stale_parents().exists()


def test_a_passage_that_stays_where_it_is_is_not_written(guide, scripted):
    GuidePassage.objects.embed()
    place = RawSQL("tests_guidepassage.ctid::text", ())
    before = dict(GuidePassage.objects.annotate(place_=place).values_list("text", "place_"))
    Guide.objects.update(body=TEXT + "\n\nfour")
    GuidePassage.objects.embed()
    after = dict(GuidePassage.objects.annotate(place_=place).values_list("text", "place_"))
    assert {text for text in before if before[text] == after[text]} == {"two", "three"}


def test_another_way_to_split_splits_again(guide, scripted, monkeypatch):
    GuidePassage.objects.embed()
    scripted.paid.clear()
    monkeypatch.setattr(GuidePassage, "splits", Splits("body", size=9, overlap=0, context="title"))
    assert list(GuidePassage.objects.stale_parents()) == [guide]
    GuidePassage.objects.embed()
    assert [row[:4] for row in stored()] == [(0, 0, 8, "Title\n\none\n\ntwo"), (1, 10, 15, "Title\n\nthree")]
    assert [row.excerpt for row in GuidePassage.objects.order_by("position")] == ["one\n\ntwo", "three"]
    Guide.objects.update(title="  ")
    GuidePassage.objects.embed()
    assert [row[3] for row in stored()] == ["one\n\ntwo", "three"]


def test_a_rejected_text_is_reported_and_tried_again(guide, scripted):
    Guide.objects.update(body="one\n\nbad\n\nthree")
    report = GuidePassage.objects.embed()
    assert stored()[1] == (1, 5, 8, "bad", None)
    # Once where the text is split, and once as a stale passage.
    assert (report.embedded, report.failed) == (2, 2)
    assert [reason for _, reason in report.failures] == ["it is bad", "it is bad"]
    assert [row.text for row in GuidePassage.objects.stale()] == ["bad"]


def test_what_must_have_a_vector_keeps_its_old_passages_where_one_is_rejected(scripted):
    Letter.objects.create(body="good")
    Letter.objects.update(body="bad")
    report = LetterPassage.objects.embed()
    assert [(row.text, row.embedding[0]) for row in LetterPassage.objects.all()] == [("good", 4)]
    assert (report.failed, report.failures) == (1, [(Letter.objects.get().pk, "it is bad")])
    assert LetterPassage.objects.stale_parents().exists()


def test_an_embedder_that_fails_leaves_what_was_answered_and_a_run_goes_on(scripted):
    Guide.objects.bulk_create(Guide(body=f"text {i}") for i in range(4))
    calls = []

    def fail_third(texts):
        calls.append(texts)
        if len(calls) == 3:
            raise EmbedderUnavailable("away")

    scripted.before = fail_third
    with pytest.raises(EmbedderUnavailable, match="away"):
        GuidePassage.objects.embed(batch_size=1, concurrency=1)
    assert [text for *_, text, _ in stored()] == ["text 0", "text 1"]
    assert GuidePassage.objects.embed(batch_size=1).embedded == 2
    assert sorted(scripted.paid.values()) == [1, 1, 1, 1]


def test_an_outcome_that_is_no_fault_of_a_text_is_raised_when_the_rest_is_written(scripted, monkeypatch):
    Guide.objects.bulk_create(Guide(body=text) for text in ("one", "two"))
    vectors = {"one": [1, 2, 3], "two": [1, 2]}
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [vectors[text] for text in texts])
    with pytest.raises(EmbeddingError, match="must have 3 dimensions, got 2"):
        GuidePassage.objects.embed()
    assert [text for *_, text, _ in stored()] == ["one"]


@pytest.mark.parametrize("edit", ["text", "passages"])
def test_a_row_that_is_edited_meanwhile_is_left_as_it_is(guide, scripted, edit):
    run = SplitRun(parents_of(GuidePassage), Guide.objects.all())
    changes = list(read_changes(run.parents, "default", [guide.pk], len))
    if edit == "text":
        Guide.objects.update(body="edited")
    else:
        GuidePassage.objects.embed()
    before = stored()
    run._write(changes, {"one": np.zeros(3, np.float32)})
    assert (run.report.changed, run.report.parents, stored()) == (1, 0, before)


@pytest.fixture
def guides(scripted):
    return Guide.objects.bulk_create(Guide(title=str(i), body=f"text {i}\n\nmore {i}") for i in range(3))


def test_a_related_manager_splits_its_own_row_and_a_filter_those_of_its_passages(guides):
    guides[0].passages.embed()
    assert set(GuidePassage.objects.values_list("guide", flat=True)) == {guides[0].pk}
    Guide.objects.update(body="new")
    GuidePassage.objects.filter(text="text 0").embed()
    assert list(GuidePassage.objects.values_list("guide", "text")) == [(guides[0].pk, "new")]


def test_parents_names_the_rows_that_are_split(guides):
    report = GuidePassage.objects.embed(parents=Guide.objects.filter(title="1"))
    assert (report.parents, report.embedded) == (1, 2)
    assert set(GuidePassage.objects.values_list("guide", flat=True)) == {guides[1].pk}


def test_limit_ends_with_the_text_that_reaches_it(guides):
    assert GuidePassage.objects.embed(limit=1, batch_size=1, concurrency=1).embedded == 2
    assert GuidePassage.objects.embed().embedded == 4


def test_progress_is_told_of_the_passages_done(guides):
    done = []
    GuidePassage.objects.embed(progress=done.append, batch_size=2, concurrency=1)
    assert done == [2, 4, 6]


def test_a_run_that_is_stopped_ends_after_what_is_under_way(guides):
    run, _ = GuidePassage.objects.embed_runs(batch_size=1, concurrency=1)
    run.progress = lambda done: run.stop()
    assert run.run().parents == 1


def test_all_embeds_passages_again(guides, scripted):
    GuidePassage.objects.embed()
    scripted.paid.clear()
    assert GuidePassage.objects.embed(all=True).embedded == 6
    assert sum(scripted.paid.values()) == 6


def test_passages_go_with_their_row(guides):
    GuidePassage.objects.embed()
    guides[0].delete()
    assert GuidePassage.objects.count() == 4
    assert str(GuidePassage.objects.order_by("guide", "position")[0]) == "text 1"


def test_guides_are_found_by_their_passages(guides):
    GuidePassage.objects.embed()
    near = Guide.objects.nearest("more 1", 2, field="passages__embedding")
    assert [(row.title, row.distance) for row in near] == [("0", 0), ("1", 0)]


# Splitting


def test_a_text_is_split_by_size_with_overlap():
    pieces = Splits("body", size=11, overlap=4).split("one two three four five", len)
    assert [(piece.start, piece.end, piece.text) for piece in pieces] == [
        (0, 7, "one two"),
        (4, 13, "two three"),
        (14, 23, "four five"),
    ]


def test_a_text_is_split_by_tokens():
    splits = Splits("body", size=2, overlap=0, unit="tokens")
    pieces = splits.split("one two three four", lambda text: len(text.split()))
    assert [piece.text for piece in pieces] == ["one two", "three four"]


def test_a_splitter_of_langchain_splits_and_another_size_is_another_splitter():
    splits = [Splits("body", splitter=CharacterTextSplitter("|", chunk_size=n, chunk_overlap=0)) for n in (3, 4)]
    assert [piece.text for piece in splits[0].split("one|two", len)] == ["one", "two"]
    assert len({each.identity for each in splits}) == 2
    assert Splits("body", splitter=paragraphs).identity == "tests.models.paragraphs::"


def test_a_piece_that_the_splitter_changed_has_no_place():
    pieces = Splits("body", splitter=lambda text: [text.upper(), "b"]).split("a b", len)
    assert pieces == [(None, None, "A B"), (2, 3, "b")]
    assert GuidePassage(text="A B").excerpt == "A B"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "Splits.size must be a positive integer, got 0."),
        ({"overlap": 1000}, "Splits.overlap must be an integer from 0 to less than size = 1000, got 1000."),
        ({"unit": "words"}, 'Splits.unit must be "characters" or "tokens", got \'words\'.'),
    ],
)
def test_wrong_splits_are_refused(options, sentence):
    with pytest.raises(ValueError) as raised:
        Splits("body", **options)
    assert str(raised.value) == sentence


def test_without_langchain_s_splitters_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_text_splitters", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "pgembedding-django\[documents\]"'):
        Splits("body").split("text", len)


# save()


def test_save_brings_passages_in_step(scripted):
    letter = Letter.objects.create(body="text")
    assert [(row.text, row.embedding[0]) for row in letter.passages.all()] == [("text", 4)]
    letter.body = "another"
    letter.save(update_fields=["body"])
    assert [row.text for row in letter.passages.all()] == ["another"]
    scripted.paid.clear()
    letter.save()
    letter.save(update_fields=[])
    assert scripted.paid == {}


def test_save_raises_what_the_embedder_rejects(scripted):
    with pytest.raises(TextRejected, match="A passage of Letter could not be embedded: it is bad"):
        Letter.objects.create(body="bad")


# The command


def test_the_command_counts_and_splits(guides, capsys):
    call_command("embed", "tests.GuidePassage", "--dry-run")
    out = capsys.readouterr().out
    assert "tests.GuidePassage.embedding: 3 Guide texts to split and embed by" in out
    assert "0 rows to embed" in out
    assert not GuidePassage.objects.exists()
    call_command("embed", "tests.GuidePassage")
    out = capsys.readouterr().out
    assert "embedding the stale Guide texts by" in out
    assert "3 texts split: 0 passages kept, 0 deleted." in out
    assert GuidePassage.objects.count() == 6


def test_the_command_names_a_wrong_declaration(monkeypatch):
    monkeypatch.setattr(GuidePassage, "splits", "boody")
    with pytest.raises(CommandError, match=r"GuidePassage.splits must name a CharField or TextField"):
        call_command("embed", "tests.GuidePassage", "--noinput")


def test_reports_add_up():
    report = PassageReport(embedded=1, kept=2, failures=[(1, "a")])
    report.add(PassageReport(embedded=3, deleted=4, failures=[(2, "b")]))
    assert (report.embedded, report.kept, report.deleted, report.failures) == (4, 2, 4, [(1, "a"), (2, "b")])


# Background work


def test_enqueue_hands_texts_and_stale_passages_to_tasks(guides):
    guides[0].passages.create(position=7, text="by hand")
    report = GuidePassage.objects.embed(enqueue=True)
    assert (report.parents, report.enqueued, report.embedded) == (3, 1, 0)
    assert [text for *_, text, _ in stored(guides[1])] == ["text 1", "more 1"]
    assert not GuidePassage.objects.stale_parents().exists()


def test_enqueue_takes_no_sizes(guides):
    with pytest.raises(ValueError, match="got batch_size"):
        GuidePassage.objects.embed(enqueue=True, batch_size=3)


def test_a_task_fails_with_what_the_embedder_rejects(scripted):
    guide = Guide.objects.create(body="bad")
    with pytest.raises(TextRejected, match=rf"A passage of Guide {guide.pk} could not be embedded: it is bad"):
        split_rows.call("tests.GuidePassage", [str(guide.pk)], "default")


def test_the_command_hands_texts_to_workers(guides, capsys):
    call_command("embed", "tests.GuidePassage", "--enqueue", "--noinput")
    assert "3 stale Guide texts handed to the workers" in capsys.readouterr().out
    assert GuidePassage.objects.count() == 6


@pytest.fixture
def by_task(monkeypatch):
    monkeypatch.setattr(GuidePassage._meta.get_field("embedding"), "sync", "task")
    watch(GuidePassage)
    yield
    post_save.disconnect(sender=Guide, dispatch_uid="pgembedding_django.tests.GuidePassage")


def test_save_hands_the_text_to_a_task(by_task, scripted, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        guide = Guide.objects.create(body="one")
        assert not GuidePassage.objects.exists()
    assert stored(guide) == [(0, 0, 3, "one", 3)]


def test_a_fixture_that_is_loaded_splits_nothing(scripted):
    Letter(pk=1, body="text").save_base(raw=True)
    assert not LetterPassage.objects.exists()


def test_a_wrong_declaration_is_not_followed(monkeypatch):
    monkeypatch.setattr(LetterPassage, "splits", "boody")
    watch(LetterPassage)
    assert post_save.has_listeners(Letter)


# What a run will take


def test_estimate_counts_characters_and_tokens_with_what_overlaps(guides, scripted, monkeypatch):
    scripted.configure(price=1_000_000)
    monkeypatch.setattr(GuidePassage, "splits", Splits("body", size=10, overlap=5))
    (run, _) = GuidePassage.objects.embed_runs()
    found = run.estimate()
    assert (found.rows, found.characters) == (3, 42)
    assert found.price == found.tokens
    assert found.tokens == 2 * sum(run.embedder.estimate_tokens(guide.body) for guide in guides)


def test_estimate_of_nothing_is_nothing(scripted):
    assert GuidePassage.objects.embed_runs()[0].estimate().tokens == 0


# Declarations

NO_TEXT = "GuidePassage.splits must name a CharField or TextField of the model that a foreign key refers to"
WRONG = {
    "nothing": (None, "GuidePassage.splits must name the text that is split, or be a Splits, got None."),
    "unknown": (
        "boody",
        f"{NO_TEXT}, got 'boody': no foreign key leads to one.",
    ),
    "number": (
        "views",
        f"{NO_TEXT}, got 'views': no foreign key leads to one.",
    ),
    "context": (
        Splits("body", context="subtitle"),
        "GuidePassage.splits must name text columns of Guide in context, got subtitle.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_is_found_by_a_check(name, monkeypatch):
    splits, sentence = WRONG[name]
    monkeypatch.setattr(GuidePassage, "splits", splits)
    (error,) = check_passages()
    assert (error.id, error.msg) == ("pgembedding.E044", sentence)


def test_right_declarations_are_found_right():
    assert check_passages() == []
    assert parents_of(GuidePassage).columns == ("body",)


def test_what_would_never_be_embedded_is_found_by_a_check(isolated):
    class Note(models.Model):
        body = models.TextField()
        other = models.TextField()

        class Meta:
            app_label = "tests"

    class NotePassage(Passage):
        note = models.ForeignKey(Note, models.CASCADE, related_name="+")
        twin = models.ForeignKey(Note, models.CASCADE, related_name="+")
        heading = models.TextField()
        embedding = EmbeddingField(dimensions=3, source="heading", null=True)
        objects = EmbeddingManager()
        splits = "note__body"

        class Meta:
            app_label = "tests"

    assert [error.id for error in _check_model(NotePassage)] == ["pgembedding.E045", "pgembedding.E046"]
    NotePassage.splits = "body"
    (error,) = _check_model(NotePassage)
    assert error.msg.endswith("got 'body': 2 foreign keys lead to one.")


def test_passages_are_split_on_sqlite_too(sqlite, scripted):
    with sqlite.schema_editor() as editor:
        editor.create_model(Guide)
        editor.create_model(GuidePassage)
    Guide.objects.using("lite").create(body=TEXT)
    assert GuidePassage.objects.using("lite").embed().embedded == 3
    Guide.objects.using("lite").update(body="one\n\nmore")
    report = GuidePassage.objects.using("lite").embed()
    assert (report.embedded, report.kept, report.deleted) == (1, 1, 2)


# The admin


def test_the_admin_shows_passages_in_their_order(guide, settings):
    class Passages(PassageInline):
        model = GuidePassage

    GuidePassage.objects.embed()
    guide.passages.filter(text="two").update(embedding=None, embedding_digest=None)
    serve(settings, Guide, mixin=False, indexes=False, inlines=[Passages])
    client = staff("view_guide", "change_guide", "view_guidepassage")
    with CaptureQueriesContext(connection) as captured:
        page = client.get(f"/admin/tests/guide/{guide.pk}/change/").content.decode()
    assert re.findall(r'field-excerpt">\s*<p>(.*?)</p>', page) == ["one", "two", "three"]
    assert re.findall(r"icon-(yes|no)", page) == ["yes", "no", "yes"]
    assert "vector_send" not in "".join(each["sql"] for each in captured)
    assert "passages-0-DELETE" not in page
