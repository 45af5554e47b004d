"""Keeps a collection in step with files: what is new or changed is split, embedded and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from pgembedding_django.documents.contents import embed_missing
from pgembedding_django.documents.files import FoundFiles, source_of
from pgembedding_django.documents.loaders import UnreadableFile, extract, read_bytes
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.embedders import TextRejected, get_embedder

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

__all__ = ["Ingest", "IngestReport"]

#: Texts that are embedded and stored together: enough to fill a request, and little to do again after an interruption.
BATCH = 256


@dataclass
class IngestReport:
    """
    How many files were new, changed, unchanged and removed, and how many documents were stored.

    unread: names and reasons of what could not be read or embedded. textless: names of files that could be read and
        have no text, which count as nothing else.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    documents: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)
    textless: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """A file whose documents are to be replaced; is_new: whether it has none yet."""

    source: str
    documents: list[Document]
    is_new: bool


class Ingest:
    """
    Brings files into a collection.

    chunk_size, chunk_overlap: characters, as langchain-text-splitters takes them.
    Each document's metadata has the file as "source", its number in it as "chunk", the first character as "start", the
    "page" of a PDF, and the "fingerprint" of the file and of how it was split and embedded. Other documents of the
    collection are left alone.
    """

    def __init__(self, collection: Collection, *, chunk_size: int = 1000, chunk_overlap: int = 200) -> None:
        self.collection = collection
        self.chunk_size, self.chunk_overlap = chunk_size, chunk_overlap
        self.report = IngestReport()
        self._identity = get_embedder(collection.embedder).identity
        self._splitters = {suffix: self._splitter(suffix) for suffix in ("", ".md")}

    def run(self, files: Iterable[Path]) -> None:
        """
        Read files and replace the documents of each that is new or has changed, batch by batch.

        A file that cannot be read, or has a piece that the embedder rejects, is noted in the report and keeps its
        documents. Raises EmbeddingError if the embedder fails: what was stored until then stays, and is skipped the
        next time.
        """
        pending: list[Change] = []
        for path in files:
            try:
                change = self._read(path)
            except UnreadableFile as error:
                self.report.unread.append((source_of(path), str(error)))
                continue
            pending += [change] if change else []
            if sum(len(change.documents) for change in pending) >= BATCH:
                self._store(pending)
                pending = []
        self._store(pending)

    def prune(self, found: FoundFiles) -> None:
        """Delete the documents of files that lay below the paths looked through, and are not there any more."""
        here = set(map(source_of, found.files))
        sources = self._ingested().order_by().values_list("metadata__source", flat=True).distinct()
        for source in sources:
            if source not in here and found.covers(source):
                self._ingested(source).delete()
                self.report.removed += 1

    def _read(self, path: Path) -> Change | None:
        """Return what a file is to be replaced with, or None where nothing has changed."""
        source, data = source_of(path), read_bytes(path)
        split = f"{self.chunk_size}:{self.chunk_overlap}:{self._identity}:".encode()
        fingerprint = hashlib.sha256(split + data).hexdigest()[:32]
        stored = set(self._ingested(source).values_list("metadata__fingerprint", flat=True))
        if stored == {fingerprint}:
            self.report.unchanged += 1
            return None
        documents = self._split(path.suffix.lower(), data, {"source": source, "fingerprint": fingerprint})
        if not documents:
            self.report.textless.append(source)
        return Change(source, documents, is_new=not stored)

    def _split(self, suffix: str, data: bytes, metadata: dict[str, Any]) -> list[Document]:
        pages = extract(suffix, data)
        splitter = self._splitters[".md" if suffix in (".md", ".markdown") else ""]
        chunks = splitter.create_documents(
            [page.text for page in pages], [{} if page.number is None else {"page": page.number} for page in pages]
        )
        prefix = hashlib.sha256(metadata["source"].encode()).hexdigest()[:32]
        return [
            Document(
                collection=self.collection,
                key=f"{prefix}:{number}",
                content=chunk.page_content,
                metadata={**metadata, "chunk": number, "start": chunk.metadata.pop("start_index"), **chunk.metadata},
            )
            for number, chunk in enumerate(chunks)
        ]

    def _store(self, changes: Sequence[Change]) -> None:
        """Store the files whose pieces all have vectors, and only then raise what is no fault of a text."""
        failures = embed_missing(self.collection, [document for change in changes for document in change.documents])
        whole = []
        for change in changes:
            errors = [failures[document.key] for document in change.documents if document.key in failures]
            rejected = next((error for error in errors if isinstance(error, TextRejected)), None)
            whole += [] if errors else [change]
            if rejected is not None:
                self.report.unread.append((change.source, f"cannot be embedded: {rejected}"))
        self._replace(whole)
        for error in failures.values():
            if not isinstance(error, TextRejected):
                raise error

    def _replace(self, changes: Sequence[Change]) -> None:
        documents = [document for change in changes for document in change.documents]
        with transaction.atomic(using=self.collection.alias):
            for change in changes:
                kept = [document.key for document in change.documents]
                self._ingested(change.source).exclude(key__in=kept).delete()
            self.report.documents += self.collection.store(documents)
        counted = [change for change in changes if change.documents]
        self.report.new += sum(change.is_new for change in counted)
        self.report.changed += sum(not change.is_new for change in counted)

    def _ingested(self, source: str | None = None) -> Any:
        """Return the documents that came from files, or from one file."""
        ingested = self.collection.documents.filter(metadata__has_key="fingerprint")
        return ingested if source is None else ingested.filter(metadata__contains={"source": source})

    def _splitter(self, suffix: str) -> TextSplitter:
        try:
            from langchain_text_splitters import Language, RecursiveCharacterTextSplitter
        except ImportError as error:
            raise ImproperlyConfigured(
                'Splitting files needs langchain-text-splitters: pip install "pgembedding-django[documents]"'
            ) from error
        options: dict[str, Any] = {
            "chunk_size": self.chunk_size,
            "chunk_overlap": self.chunk_overlap,
            "add_start_index": True,
        }
        if suffix == ".md":
            return RecursiveCharacterTextSplitter.from_language(Language.MARKDOWN, **options)
        return RecursiveCharacterTextSplitter(**options)
