"""manage.py ingest and search_documents: from files to answers."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection

from pgembedding_django.documents import ingest
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.embedders import EmbedderUnavailable, TextRejected
from pgembedding_django.embedders.dummy import DummyEmbedder
from tests.documents.test_documents_loaders import encrypt, make_pdf

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path):
    """Three files of one piece each."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("apples are red")
    (tmp_path / "b.md").write_text("# Bananas\n\nare yellow")
    (tmp_path / "sub" / "c.html").write_text("<h1>Cherries</h1><p>are small</p>")
    return tmp_path


@pytest.fixture
def two_embedders(settings):
    """The default embedder under the alias "other" too."""
    default = settings.PGEMBEDDING["EMBEDDERS"]["default"]
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": default, "other": default}}


def run(*paths, **options):
    """Return what the command printed for people, and what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("ingest", *map(str, paths), collection="fruit", stdout=out, stderr=err, **options)
    except CommandError as error:
        err.write(f"CommandError: {error}")
    return out.getvalue(), err.getvalue()


def stored():
    """Return file name: contents in their order."""
    found = {}
    for document in Document.objects.order_by("metadata__source", "metadata__chunk"):
        found.setdefault(Path(document.metadata["source"]).name, []).append(document.content)
    return found


def test_ingest_stores_the_text_of_each_file(folder):
    out, err = run(folder)
    assert stored() == {
        "a.txt": ["apples are red"],
        "b.md": ["# Bananas\n\nare yellow"],
        "c.html": ["Cherries\n\nare small"],
    }
    assert (
        out
        == 'Collection "fruit": 3 files new, 0 changed, 0 unchanged, 0 removed, 0 without text; 3 documents stored.\n'
    )
    assert err == ""


def test_ingest_remembers_where_a_piece_came_from(folder):
    text = "one two three four five six"
    (folder / "a.txt").write_text(text)
    run(folder / "a.txt", chunk_size=10, chunk_overlap=0)
    rows = list(Document.objects.order_by("metadata__chunk"))
    assert [row.metadata["chunk"] for row in rows] == list(range(len(rows)))
    for row in rows:
        start = row.metadata["start"]
        assert text[start : start + len(row.content)] == row.content
        assert row.metadata["source"] == str(folder / "a.txt")


def test_ingest_numbers_the_pages_of_a_pdf(folder):
    (folder / "d.pdf").write_bytes(make_pdf("First page", "Second page"))
    run(folder / "d.pdf")
    assert [row.metadata["page"] for row in Document.objects.order_by("metadata__chunk")] == [1, 2]


def test_ingest_again_skips_what_is_unchanged(folder, embedded):
    run(folder)
    embedded.clear()
    out, _ = run(folder)
    assert "0 files new, 0 changed, 3 unchanged, 0 removed, 0 without text; 0 documents stored" in out
    assert embedded == []


def test_ingest_replaces_what_has_changed(folder, embedded):
    (folder / "a.txt").write_text("one two three four")
    run(folder, chunk_size=10, chunk_overlap=0)
    embedded.clear()
    (folder / "a.txt").write_text("one two")
    out, _ = run(folder, chunk_size=10, chunk_overlap=0)
    assert "1 changed, 2 unchanged" in out
    assert stored()["a.txt"] == ["one two"]
    assert embedded == []  # The first piece is as it was.


def test_ingest_with_another_chunk_size_splits_anew(folder):
    run(folder)
    out, _ = run(folder, chunk_size=8, chunk_overlap=0)
    assert "3 changed" in out
    assert stored()["a.txt"] == ["apples", "are red"]


def test_ingest_of_a_file_with_a_new_beginning_embeds_that_alone(folder, embedded):
    (folder / "a.txt").write_text("one two\n\nthree 4")
    run(folder, chunk_size=10, chunk_overlap=0)
    embedded.clear()
    (folder / "a.txt").write_text("zero\n\none two\n\nthree 4")
    run(folder, chunk_size=10, chunk_overlap=0)
    assert stored()["a.txt"] == ["zero", "one two", "three 4"]
    assert embedded == ["zero"]


def test_ingest_embeds_a_text_that_comes_twice_once(folder, embedded):
    (folder / "z.txt").write_text("apples are red")
    run(folder)
    assert embedded.count("apples are red") == 1
    assert stored()["z.txt"] == ["apples are red"]


def test_ingest_of_a_file_that_was_emptied_leaves_nothing_to_find(folder):
    run(folder)
    (folder / "a.txt").write_text(" ")
    assert "0 changed, 2 unchanged, 0 removed, 1 without text; 0 documents stored." in run(folder)[0]
    assert stored()["a.txt"] == [""]
    assert "a.txt" not in ask("apples are red")


def test_ingest_names_files_without_text_each_time_and_counts_them_as_nothing_else(folder):
    (folder / "a.txt").write_text(" ")
    out, err = run(folder)
    assert "2 files new, 0 changed, 0 unchanged, 0 removed, 1 without text" in out
    assert err == f"  {folder / 'a.txt'} has no text\n"
    assert "0 files new, 0 changed, 2 unchanged, 0 removed, 1 without text; 0 documents stored" in run(folder)[0]


def test_ingest_again_reads_no_file_without_text(folder, monkeypatch):
    (folder / "scan.pdf").write_bytes(make_pdf(""))
    assert "1 without text" in run(folder)[0]
    monkeypatch.setattr(ingest, "extract", None)
    assert "3 unchanged, 0 removed, 1 without text" in run(folder)[0]


def test_ingest_of_a_file_that_got_its_text_stores_it(folder):
    (folder / "a.txt").write_text(" ")
    run(folder)
    (folder / "a.txt").write_text("apples")
    assert "1 changed, 2 unchanged, 0 removed, 0 without text" in run(folder)[0]
    assert stored()["a.txt"] == ["apples"]


def test_ingest_with_prune_forgets_a_file_without_text(folder):
    (folder / "a.txt").write_text(" ")
    run(folder)
    (folder / "a.txt").unlink()
    assert "1 removed, 0 without text" in run(folder, prune=True)[0]
    assert list(stored()) == ["b.md", "c.html"]


def test_ingest_counts_one_as_one(folder):
    out, _ = run(folder / "a.txt")
    assert "1 file new" in out
    assert "1 document stored." in out


def test_ingest_without_prune_keeps_what_is_gone(folder):
    run(folder)
    (folder / "a.txt").unlink()
    run(folder)
    assert "a.txt" in stored()


def test_ingest_with_prune_deletes_what_is_gone(folder):
    run(folder)
    (folder / "a.txt").unlink()
    out, _ = run(folder, prune=True)
    assert "2 unchanged, 1 removed" in out
    assert list(stored()) == ["b.md", "c.html"]


def test_prune_keeps_what_lies_elsewhere(folder):
    run(folder)
    (folder / "a.txt").unlink()
    run(folder / "sub", prune=True)
    assert "a.txt" in stored()


def test_prune_keeps_what_did_not_come_from_files(folder):
    run(folder)
    collection = Collection.objects.get()
    collection.add([Document(key="mine", metadata={"source": str(folder / "z.txt")}, embedding=[1, 2, 3])])
    run(folder, prune=True)
    assert collection.documents.filter(key="mine").exists()


def test_prune_of_a_folder_that_is_not_there_deletes_nothing(folder):
    run(folder)
    moved = folder.rename(folder.with_name("moved"))
    _, err = run(folder, prune=True)
    moved.rename(folder)
    assert "does not exist" in err
    assert len(stored()) == 3


def test_ingest_reports_what_cannot_be_read_and_goes_on(folder):
    (folder / "binary.txt").write_bytes(b"\0\1\2")
    (folder / "locked.pdf").write_bytes(encrypt(make_pdf("Text"), "secret"))
    (folder / "broken.txt").symlink_to("nowhere")
    _, err = run(folder)
    assert len(stored()) == 3
    assert f"  {folder / 'binary.txt'} is binary, not text\n" in err
    assert f"  {folder / 'locked.pdf'} is encrypted\n" in err
    assert f"  {folder / 'nowhere'}" in err
    assert err.endswith("CommandError: 3 could not be read or embedded.")


def test_ingest_names_a_link_that_it_does_not_follow_and_goes_on(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret.txt"
    secret.write_text("secret")
    (folder / "README").write_text("no known suffix")
    (folder / "link.txt").symlink_to(secret)
    (folder / "other.txt").symlink_to("README")
    _, err = run(folder)
    assert set(stored()) == {"a.txt", "b.md", "c.html"}
    assert f"  {folder / 'link.txt'} is a link to {secret}, which is outside of the folder" in err
    assert f"  {folder / 'other.txt'} is a link to {folder / 'README'}, which is none of .txt" in err
    assert err.endswith("CommandError: 2 could not be read or embedded.")


def test_ingest_follows_links_where_told_to(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret.txt"
    secret.write_text("secret")
    (folder / "link.txt").symlink_to(secret)
    assert run(folder, follow_links=True)[1] == ""
    assert stored()["secret.txt"] == ["secret"]


def test_ingest_keeps_the_documents_of_a_file_that_cannot_be_read_any_more(folder):
    run(folder)
    (folder / "a.txt").write_bytes(b"\0")
    run(folder, prune=True)
    assert stored()["a.txt"] == ["apples are red"]


def test_ingest_prints_no_control_characters(folder):
    (folder / "x\x1b[2J.txt").write_bytes(b"\0")
    _, err = run(folder)
    assert "x\N{REPLACEMENT CHARACTER}[2J.txt is binary" in err


def test_ingest_takes_a_name_that_is_no_unicode(folder):
    with open(os.fsencode(folder) + b"/\xff.txt", "w") as file:
        file.write("text")
    run(folder)
    assert stored()["\\xff.txt"] == ["text"]


def test_ingest_in_batches_stores_everything(folder, monkeypatch):
    monkeypatch.setattr(ingest, "BATCH", 2)
    run(folder)
    assert len(stored()) == 3


def test_ingest_after_a_failure_goes_on_where_it_stopped(folder, monkeypatch, embedded):
    monkeypatch.setattr(ingest, "BATCH", 1)
    compute = DummyEmbedder.compute

    def fail(self, texts):
        if "apples are red" not in texts:
            raise EmbedderUnavailable("No bananas.")
        return compute(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(DummyEmbedder, "compute", fail)
        _, err = run(folder)
    assert err == ("CommandError: No bananas. What was stored stays; run the command again to go on.")
    assert list(stored()) == ["a.txt"]
    out, _ = run(folder)
    assert "2 files new, 0 changed, 1 unchanged" in out


@pytest.fixture
def refuse(monkeypatch):
    """Let the embedder answer some texts, those with a word, by an error."""
    compute = DummyEmbedder.compute

    def patch(word, error):
        def answer(self, texts):
            vectors = compute(self, texts)
            return [error if word in text else vector for text, vector in zip(texts, vectors, strict=True)]

        monkeypatch.setattr(DummyEmbedder, "compute", answer)

    return patch


def test_ingest_of_a_text_that_is_rejected_names_the_file_and_stores_the_others(folder, refuse):
    refuse("Bananas", TextRejected("no bananas."))
    out, err = run(folder)
    assert list(stored()) == ["a.txt", "c.html"]
    assert "2 files new" in out
    reason = "1 piece that cannot be embedded, chunk 0 first: DummyEmbedder cannot embed text 1: no bananas."
    assert f"  {folder / 'b.md'} has {reason}\n" in err
    assert err.endswith("CommandError: 1 could not be read or embedded.")


def test_ingest_of_a_changed_file_whose_text_is_rejected_leaves_it_as_it_was(folder, refuse):
    run(folder)
    refuse("worms", TextRejected("no worms."))
    (folder / "a.txt").write_text("worms")
    out, _ = run(folder)
    assert stored()["a.txt"] == ["apples are red"]
    assert "0 files new, 0 changed, 2 unchanged" in out


@pytest.fixture
def half_rejected(folder, embedded, refuse):
    """A file of three pieces, of which the embedder rejected one."""
    refuse("worms", TextRejected("no worms."))
    (folder / "a.txt").write_text("one two\n\nworms\n\nthree 4")
    return run(folder / "a.txt", chunk_size=10, chunk_overlap=0)


def test_ingest_of_a_rejected_piece_stores_the_others_and_names_it(half_rejected):
    out, err = half_rejected
    assert "0 files new, 0 changed, 0 unchanged, 0 removed, 0 without text; 3 documents stored." in out
    assert "a.txt has 1 piece that cannot be embedded, chunk 1 first: DummyEmbedder cannot embed text 1: no " in err
    assert err.endswith("CommandError: 1 could not be read or embedded.")


def test_search_finds_a_rejected_piece_by_its_words_alone(half_rejected):
    documents = Collection.objects.get().documents
    assert {row.content for row in documents.nearest([1, 2, 3])} == {"one two", "three 4"}
    by_words = [row.metadata["rejected"] for row in documents.hybrid("worm") if row.content == "worms"]
    assert by_words == ["DummyEmbedder cannot embed text 1: no worms."]


def test_ingest_again_sends_the_rejected_piece_alone_and_names_it_again(half_rejected, folder, embedded):
    embedded.clear()
    out, err = run(folder / "a.txt", chunk_size=10, chunk_overlap=0)
    assert "0 files new, 0 changed, 0 unchanged, 0 removed, 0 without text; 0 documents stored." in out
    assert "a.txt has 1 piece that cannot be embedded, chunk 1 first" in err
    assert embedded == ["worms"]


def test_ingest_again_completes_what_the_embedder_takes_now(half_rejected, folder, refuse):
    refuse("nothing", None)
    out, err = run(folder / "a.txt", chunk_size=10, chunk_overlap=0)
    assert "1 changed, 0 unchanged, 0 removed, 0 without text; 1 document stored." in out
    assert err == ""
    assert not Document.objects.filter(metadata__has_key="rejected").exists()
    assert len(Collection.objects.get().documents.nearest([1, 2, 3])) == 3


def test_ingest_with_an_embedder_that_fails_midway_stores_what_is_whole(folder, refuse):
    refuse("Bananas", EmbedderUnavailable("Away."))
    _, err = run(folder)
    assert list(stored()) == ["a.txt", "c.html"]
    assert err == "CommandError: Away. What was stored stays; run the command again to go on."


def test_ingest_interrupted_says_how_to_go_on(folder, monkeypatch):
    def interrupt(self, texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(DummyEmbedder, "compute", interrupt)
    _, err = run(folder)
    assert err == "CommandError: Interrupted. What was stored stays; run the command again to go on."


def test_ingest_into_a_collection_of_other_dimensions_is_an_error(folder):
    Collection.objects.create(name="fruit", dimensions=4)
    _, err = run(folder)
    assert 'of collection "fruit" must have 4 dimensions, got 3' in err
    assert not Document.objects.exists()


def test_ingest_with_another_embedder_is_an_error(folder, two_embedders):
    run(folder)
    _, err = run(folder, embedder="other")
    assert 'Collection "fruit" has the embedder "default"' in err


def test_ingest_makes_a_collection_with_an_embedder(folder, two_embedders):
    run(folder, embedder="other")
    assert Collection.objects.get().embedder == "other"


def test_ingest_with_an_unknown_embedder_makes_no_collection(folder):
    _, err = run(folder, embedder="unknown")
    assert err == 'CommandError: PGEMBEDDING["EMBEDDERS"]["unknown"] is not set.'
    assert not Collection.objects.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, "--chunk-size must be at least 1, got 0."),
        ({"chunk_overlap": -1}, "--chunk-overlap must be from 0 to less than --chunk-size = 1000, got -1."),
        ({"chunk_size": 5, "chunk_overlap": 5}, "--chunk-overlap must be from 0 to less than --chunk-size = 5, got 5."),
    ],
)
def test_ingest_with_bad_sizes_is_an_error(folder, options, message):
    assert run(folder, **options)[1] == f"CommandError: {message}"


def test_ingest_without_the_splitters_names_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_text_splitters", None)
    assert 'pip install "pgembedding-django[documents]"' in run(folder)[1]


@pytest.mark.parametrize("name", ["", " ", "x" * 256])
def test_ingest_into_a_collection_that_cannot_be_is_an_error(folder, name):
    with pytest.raises(CommandError, match=r"Collection\.name must have from 1 to 255 characters"):
        call_command("ingest", str(folder), collection=name)
    assert not Collection.objects.exists()


def test_ingest_of_a_name_that_is_too_long_says_that_it_does_not_exist(folder):
    assert f"{'x' * 300} does not exist" in run(folder / ("x" * 300))[1]


def test_ingest_that_stores_nothing_leaves_no_collection(folder, monkeypatch):
    run(folder / "missing.txt")
    monkeypatch.setattr(DummyEmbedder, "compute", lambda self, texts: [])
    run(folder)
    assert not Collection.objects.exists()


def test_ingest_makes_the_collection_with_its_first_documents(folder, monkeypatch):
    compute, seen = DummyEmbedder.compute, []

    def look(self, texts):
        seen.append(Collection.objects.exists())
        return compute(self, texts)

    monkeypatch.setattr(DummyEmbedder, "compute", look)
    run(folder)
    assert seen == [False]
    assert Collection.objects.get().documents.count() == 3


def test_ingest_into_a_collection_that_another_process_makes_meanwhile_shares_it(folder, two_embedders):
    loading, refused = (ingest.Ingest(Collection(name="fruit", embedder=name)) for name in ("default", "other"))
    Collection.objects.create(name="fruit")
    loading.run([folder / "a.txt"])
    assert stored() == {"a.txt": ["apples are red"]}
    with pytest.raises(ValidationError, match='Collection "fruit" was made meanwhile, for the embedder "default"'):
        refused.run([folder / "b.md"])


def test_ingest_that_stores_nothing_keeps_the_collection_that_was_there(folder):
    Collection.objects.create(name="fruit")
    run(folder / "missing.txt")
    assert Collection.objects.exists()


@pytest.mark.parametrize("command", [["ingest", "x", "--collection", "fruit"], ["search_documents", "fruit", "x"]])
def test_command_with_an_unknown_database_is_an_error(command):
    with pytest.raises(CommandError, match="argument --database: invalid choice: 'nope'"):
        call_command(*command, "--database", "nope")


# Asking


def ask(question, *args, **options):
    out = io.StringIO()
    call_command("search_documents", "fruit", question, *args, stdout=out, **options)
    return out.getvalue()


def test_search_prints_a_table_of_the_nearest(folder):
    run(folder)
    head, first, *rest = ask("apples are red", k=2).splitlines()
    assert head.split() == ["distance", "source", "text"]
    assert first.split()[0] == "0.0000"
    assert first.endswith("a.txt  apples are red")
    assert len(rest) == 1


def test_search_shows_the_page_and_one_clean_line(folder):
    (folder / "d.pdf").write_bytes(make_pdf("Dates"))
    run(folder / "d.pdf")
    Collection.objects.get().add_texts(["a\x1b[31m\nb"], [{"source": "short.txt"}])
    table = ask("Dates")
    assert "d.pdf, page 1" in table
    assert "short.txt                         a\N{REPLACEMENT CHARACTER}[31m b" in table


def test_search_prints_json(folder):
    run(folder)
    (found,) = json.loads(ask("apples are red", "--json", "-k", "1"))
    assert found["content"] == "apples are red"
    assert found["distance"] == pytest.approx(0, abs=1e-6)
    assert found["metadata"]["source"] == str(folder / "a.txt")
    assert found["key"] == Document.objects.get(content="apples are red").key


def test_search_of_documents_without_a_source_shows_their_keys():
    Collection.objects.create(name="fruit").add([Document(key="k1", metadata=[1], embedding=[1, 2, 3])])
    assert "k1" in ask("text")


def test_search_in_an_empty_collection_says_so():
    Collection.objects.create(name="fruit")
    assert "The collection has no documents." in ask("text")


def test_search_in_an_unknown_collection_names_those_that_are():
    with pytest.raises(CommandError, match=r'There is no collection "fruit"\. There are: none\.'):
        ask("text")
    Collection.objects.create(name="nuts")
    with pytest.raises(CommandError, match=r"There are: nuts\."):
        ask("text")


@pytest.mark.parametrize(("question", "k", "message"), [(" ", 5, "blank"), ("text", 0, "k must be an integer")])
def test_search_with_a_bad_question_is_an_error(question, k, message):
    Collection.objects.create(name="fruit")
    with pytest.raises(CommandError, match=message):
        ask(question, k=k)


@pytest.mark.parametrize("command", [["ingest", "x", "--collection", "fruit"], ["search_documents", "fruit", "x"]])
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE {} RENAME TO elsewhere", "Run: manage.py migrate --database default"),
        (
            "CREATE ROLE stranger; SET LOCAL ROLE stranger",
            "on pgembedding_documents_collection and pgembedding_documents_document: let",
        ),
    ],
)
def test_command_without_tables_or_rights_says_so(command, statement, message):
    with connection.cursor() as cursor:
        cursor.execute(statement.format(Collection._meta.db_table))
    with pytest.raises(CommandError, match=message):
        call_command(*command)


def test_command_without_a_column_says_so():
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {Collection._meta.db_table} RENAME name TO label")
    with pytest.raises(CommandError, match=r"name does not exist\. Run: manage\.py migrate --database default"):
        ask("text")
