"""Files as text, and files that have none."""

import io
import os
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pypdf import PdfReader, PdfWriter

from pgembedding_django.documents import loaders
from pgembedding_django.documents.files import find_files, source_of
from pgembedding_django.documents.loaders import Page, UnreadableFile, extract, read_bytes


def make_pdf(*texts):
    """Write a PDF by hand: a page for each text, in Helvetica."""
    pages = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(texts)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{pages}]/Count {len(texts)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for i, text in enumerate(texts):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            f"/Contents {5 + 2 * i} 0 R>>"
        )
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, written in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{written}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\n"
    return (body + head + f"startxref\n{len(body)}\n%%EOF").encode()


def encrypt(data, password):
    writer, out = PdfWriter(clone_from=PdfReader(io.BytesIO(data))), io.BytesIO()
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("utf-8-sig"), "Grüße"),
        ("Grüße".encode("utf-16"), "Grüße"),
        ("Grüße – “so”".encode("windows-1252"), "Grüße – “so”"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "windows-1252"],
)
def test_text_is_read_in_its_encoding(data, text):
    assert extract(".txt", data) == [Page(text)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x7fELF\x00\x01", "is binary"),
        (b"\x81\x8d\xff", "is no text in UTF-8 or Windows-1252"),
        (b"\xff\xfea", "is no text in utf-16"),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".md"])
def test_text_that_is_none_is_unreadable(suffix, data, reason):
    with pytest.raises(UnreadableFile, match=reason):
        extract(suffix, data)


def test_blank_text_has_no_page():
    assert extract(".txt", b" \n\t") == []


def test_html_is_read_without_tags_scripts_and_styles():
    page = b"""<html><head><title>Title</title><style>p {color: red}</style></head><body><h1>Head</h1>
    <p>One <b>two</b>&nbsp;three<br>four</p><p>five</p><script>alert(1)</script><!-- no --></body></html>"""
    (found,) = extract(".html", page)
    assert [line for line in found.text.splitlines() if line] == ["Title", "Head", "One two three", "four", "five"]


@pytest.mark.parametrize(
    "data",
    [b'<?xml version="1.0"?><html><p>text</p></html>', b"text", '<meta charset="utf-16"><p>text'.encode("utf-16")],
    ids=["xhtml", "no tag", "utf-16"],
)
def test_html_of_another_kind_is_read(data):
    assert [page.text for page in extract(".htm", data)] == ["text"]


def test_html_without_end_tags_is_read_in_a_pass():
    (found,) = extract(".html", b"<p>a" * 30_000)
    assert found.text == "\n".join("a" * 30_000)


def test_html_that_is_binary_is_unreadable():
    with pytest.raises(UnreadableFile, match="is binary"):
        extract(".html", b"\x89PNG\x00")


def test_pdf_is_read_page_by_page():
    pages = extract(".pdf", make_pdf("The first page", "", "The third"))
    assert pages == [Page("The first page", 1), Page("The third", 3)]


def test_pdf_encrypted_by_an_empty_password_is_read():
    assert extract(".pdf", encrypt(make_pdf("Text"), "")) == [Page("Text", 1)]


def test_pdf_encrypted_by_a_password_is_unreadable():
    with pytest.raises(UnreadableFile, match="is encrypted"):
        extract(".pdf", encrypt(make_pdf("Text"), "secret"))


@pytest.mark.parametrize("data", [b"", b"no pdf", make_pdf("Text")[:200]])
def test_pdf_that_is_damaged_is_unreadable(data):
    with pytest.raises(UnreadableFile, match="cannot be read as PDF"):
        extract(".pdf", data)


def test_pdf_with_small_faults_is_read_without_a_word(caplog):
    faulty = make_pdf("Text").replace(b"startxref\n", b"startxref\n9")
    assert extract(".pdf", faulty) == [Page("Text", 1)]
    assert caplog.records == []


@pytest.mark.parametrize(("suffix", "module"), [(".pdf", "pypdf"), (".html", "bs4")])
def test_missing_package_is_named(monkeypatch, suffix, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "pgembedding-django\[documents\]"'):
        extract(suffix, b"")


def test_what_postgres_cannot_store_is_replaced(monkeypatch):
    monkeypatch.setitem(loaders.LOADERS, ".pdf", lambda data: [Page("a\0b\ud800c", 1)])
    assert extract(".pdf", b"") == [Page("ab?c", 1)]


# From the disk


def test_read_bytes_reads_a_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a.txt") == b"abc"


def test_read_bytes_of_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UnreadableFile, match="is no file"):
        read_bytes(tmp_path / "a.txt")


def test_read_bytes_of_a_link_to_itself_is_an_error(tmp_path):
    (tmp_path / "a.txt").symlink_to("a.txt")
    with pytest.raises(UnreadableFile):
        read_bytes(tmp_path / "a.txt")


def test_read_bytes_of_a_huge_file_is_an_error(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(loaders.MAX_BYTES + 1)
    with pytest.raises(UnreadableFile, match="has 104,857,601 bytes, more than 104,857,600"):
        read_bytes(tmp_path / "a.txt")


def test_read_bytes_of_what_cannot_be_read_is_an_error(tmp_path):
    if os.geteuid() == 0:
        path = "/proc/self/mem"  # A regular file, at whose beginning nothing is mapped.
    else:
        path = tmp_path / "a.txt"
        path.touch(mode=0)
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_bytes(Path(path))


def test_find_files_finds_what_can_be_read_in_order(tmp_path):
    for name in ("b.md", "a.txt", "sub/c.HTML", "sub/d.pdf", "no.png", ".hidden.txt", ".git/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_files([tmp_path, tmp_path / "a.txt", tmp_path / "sub"])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == [
        "a.txt",
        "b.md",
        "sub/c.HTML",
        "sub/d.pdf",
    ]
    assert found.unread == []


def test_find_files_follows_no_link_to_a_folder(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "linked.txt").symlink_to("a.txt")
    assert find_files([tmp_path]).files == [(tmp_path / "a.txt").resolve()]


@pytest.fixture
def outside(tmp_path):
    """A file beside a folder with a link to it; returns the folder."""
    (tmp_path / "secret.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "folder"


def test_find_files_refuses_a_link_out_of_the_folder(outside):
    found = find_files([outside])
    target = outside.parent / "secret.txt"
    assert found.files == []
    assert found.unread == [
        (str(outside / "link.txt"), f"is a link to {target}, which is outside of the folder (--follow-links reads it)")
    ]


def test_find_files_follows_a_link_out_of_the_folder_where_told_to(outside):
    found = find_files([outside], follow_links=True)
    assert (found.files, found.unread) == ([outside.parent / "secret.txt"], [])


def test_find_files_follows_a_link_into_another_folder_that_is_named(outside):
    found = find_files([outside, outside.parent])
    assert (found.files, found.unread) == ([outside.parent / "secret.txt"], [])


def test_find_files_takes_a_link_that_is_named_itself(outside):
    assert find_files([outside / "link.txt"]).files == [outside.parent / "secret.txt"]


@pytest.mark.parametrize("hidden", [".env.txt", ".git/config.txt"])
def test_find_files_refuses_a_link_to_a_hidden_file(tmp_path, hidden):
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).touch()
    (tmp_path / "link.txt").symlink_to(hidden)
    assert find_files([tmp_path]).unread == [
        (str(tmp_path / "link.txt"), f"is a link to {tmp_path / hidden}, which is hidden (--follow-links reads it)")
    ]


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("name", ["README", "a.png"])
def test_find_files_reports_a_link_to_a_file_of_another_kind(tmp_path, name, follow_links):
    (tmp_path / name).touch()
    (tmp_path / "link.txt").symlink_to(name)
    found = find_files([tmp_path], follow_links=follow_links)
    kinds = ".txt, .md, .markdown, .html, .htm, .pdf"
    assert found.files == []
    assert found.unread == [(str(tmp_path / "link.txt"), f"is a link to {tmp_path / name}, which is none of {kinds}")]


def test_find_files_reports_what_is_not_there_or_of_another_kind(tmp_path):
    (tmp_path / "a.png").touch()
    found = find_files([tmp_path / "a.png", tmp_path / "gone.txt"])
    assert found.unread == [
        (str(tmp_path / "a.png"), "is none of .txt, .md, .markdown, .html, .htm, .pdf"),
        (str(tmp_path / "gone.txt"), "does not exist"),
    ]


def test_find_files_takes_an_empty_name_for_no_folder():
    found = find_files([""])
    assert (found.files, found.roots, found.unread) == ([], [], [('""', "names no file")])


def test_find_files_reports_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_files([tmp_path])
    assert found.unread == [(str(tmp_path / "sub"), "cannot be read: Permission denied")]
    assert found.covers(str(tmp_path / "a.txt"))
    assert not found.covers(str(tmp_path / "sub" / "a.txt"))


def test_source_of_a_name_that_is_no_unicode_is_escaped():
    assert source_of(Path(os.fsdecode(b"/a/\xff.txt"))) == "/a/\\xff.txt"
