"""Keeps a collection in step with files: what is new or changed is split, embedded and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.template.defaultfilters import pluralize

from pgembedding_django.documents.contents import embed_missing, reuse_vectors
from pgembedding_django.documents.files import FoundFiles, source_of
from pgembedding_django.documents.loaders import UnreadableFile, extract, read_bytes
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.embedders import EmbeddingError, TextRejected, get_embedder

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

__all__ = ["Ingest", "IngestReport"]

#: Texts that are embedded and stored together: enough to fill a request, and little to do again after an interruption.
BATCH = 256

#: Of a document that stands for a file without text, which is remembered by it.
TEXTLESS = ExpressionWrapper(Q(content=""), output_field=BooleanField())

#: Of a piece without a vector, since the embedder did not take it.
REJECTED = ExpressionWrapper(Q(metadata__has_key="rejected"), output_field=BooleanField())


@dataclass
class IngestReport:
    """
    How many files were new, changed, unchanged and removed, and how many documents were stored.

    unread: names and reasons of what could not be read, or embedded as a whole, which counts as nothing else. textless:
        names of files that could be read and have no text, which count as nothing else either.
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
    """
    Documents to store for a file.

    outdated: the documents that they replace. is_new: whether the file had none.
    """

    source: str
    documents: list[Document]
    outdated: QuerySet[Document]
    is_new: bool = False


class Ingest:
    """
    Brings files into a collection.

    chunk_size, chunk_overlap: characters, as langchain-text-splitters takes them.
    Each document's metadata has the file as "source", its number in it as "chunk", the first character as "start", the
    "page" of a PDF, and the "fingerprint" of the file and of how it was split and embedded. A piece that the embedder
    rejects has no vector, and the reason as "rejected"; it is tried again at each run. One document without content
    stands for a file without text. Other documents of the collection are left alone.
    A collection that is not saved yet is saved with the first documents.
    """

    collection: Collection
    chunk_size: int
    chunk_overlap: int

    def __init__(self, collection: Collection, *, chunk_size: int = 1000, chunk_overlap: int = 200) -> None:
        self.collection = collection
        self.chunk_size, self.chunk_overlap = chunk_size, chunk_overlap
        self.report: IngestReport = IngestReport()
        self._identity = get_embedder(collection.embedder).identity
        self._splitters = {suffix: self._splitter(suffix) for suffix in ("", ".md")}

    def run(self, files: Iterable[Path]) -> None:
        """
        Read files and replace the documents of each that is new or has changed, batch by batch.

        What cannot be read or embedded is noted in the report. A file keeps its documents if it cannot be read, or if
        none of its pieces can be embedded. Raises EmbeddingError if the embedder fails: what was stored until then
        stays, and is skipped the next time.
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

    def prune(self, files: FoundFiles) -> None:
        """Delete the documents of files that lay below the paths looked through, and are not there any more."""
        here = set(map(source_of, files.files))
        sources = self._ingested().order_by().values_list("metadata__source", flat=True).distinct()
        for source in sources:
            if source not in here and files.covers(source):
                self._ingested(source).delete()
                self.report.removed += 1

    def _read(self, path: Path) -> Change | None:
        """Return what is to be stored of a file, or None where nothing has changed."""
        source, data = source_of(path), read_bytes(path)
        split = f"{self.chunk_size}:{self.chunk_overlap}:{self._identity}:".encode()
        fingerprint = hashlib.sha256(split + data).hexdigest()[:32]
        stored = self._ingested(source)
        states = set(stored.values_list("metadata__fingerprint", TEXTLESS, REJECTED).distinct())
        if states == {(fingerprint, True, False)}:
            self.report.textless.append(source)
            return None
        if states == {(fingerprint, False, False)}:
            self.report.unchanged += 1
            return None
        if {of_piece for of_piece, *_ in states} == {fingerprint}:
            return Change(source, list(stored.filter(REJECTED).order_by("pk")), stored.none())
        documents = self._split(path.suffix.lower(), data, {"source": source, "fingerprint": fingerprint})
        outdated = stored.exclude(key__in=[document.key for document in documents])
        # A piece with the same text may have another number now.
        reuse_vectors(self.collection, documents, stored if states else stored.none())
        return Change(source, documents, outdated, is_new=not states)

    def _split(self, suffix: str, data: bytes, metadata: dict[str, Any]) -> list[Document]:
        pages = extract(suffix, data)
        splitter = self._splitters[".md" if suffix in (".md", ".markdown") else ""]
        chunks = splitter.create_documents(
            [page.text for page in pages], [{} if page.number is None else {"page": page.number} for page in pages]
        )
        prefix = hashlib.sha256(metadata["source"].encode()).hexdigest()[:32]
        return [
            Document(
                key=f"{prefix}:{number}",
                content=chunk.page_content,
                metadata={**metadata, "chunk": number, "start": chunk.metadata.pop("start_index"), **chunk.metadata},
            )
            for number, chunk in enumerate(chunks)
        ] or [Document(key=f"{prefix}:0", metadata=metadata)]

    def _store(self, changes: Sequence[Change]) -> None:
        """Store what the embedder has answered, and only then raise what is no fault of a text."""
        documents = [document for change in changes for document in change.documents if document.content]
        failures = embed_missing(self.collection, documents)
        broken = {key: error for key, error in failures.items() if not isinstance(error, TextRejected)}
        answered = [change for change in changes if not any(document.key in broken for document in change.documents)]
        self._replace([change for change in answered if self._settle(change, failures)])
        for error in broken.values():
            raise error

    def _settle(self, change: Change, failures: Mapping[str, EmbeddingError]) -> bool:
        """Report what becomes of a file, and tell whether any of it is to be stored."""
        rejected = []
        for document in change.documents:
            document.metadata.pop("rejected", None)
            if document.key in failures:
                document.metadata["rejected"] = str(failures[document.key])
                rejected.append(document.metadata)
        if rejected:
            self.report.unread.append((change.source, _tell(rejected)))
        elif not change.documents[0].content:
            self.report.textless.append(change.source)
        elif change.is_new:
            self.report.new += 1
        else:
            self.report.changed += 1
        return len(rejected) < len(change.documents)

    def _replace(self, changes: Sequence[Change]) -> None:
        documents = [document for change in changes for document in change.documents]
        if not documents:
            return
        with transaction.atomic(using=self.collection.alias):
            self._save_collection()
            for change in changes:
                change.outdated.delete()
            self.collection.store(documents)
        self.report.documents += sum(bool(document.content) for document in documents)

    def _save_collection(self) -> None:
        if self.collection.pk is not None:
            return
        options = {name: getattr(self.collection, name) for name in ("embedder", "distance", "metadata")}
        stored, _ = Collection.objects.using(self.collection.alias).get_or_create(
            name=self.collection.name, defaults=options
        )
        if stored.embedder != self.collection.embedder:
            raise ValidationError(
                f'Collection "{stored.name}" was made meanwhile, for the embedder "{stored.embedder}".'
            )
        self.collection = stored

    def _ingested(self, source: str | None = None) -> QuerySet[Document]:
        """Return the documents that came from files, or from one file."""
        if self.collection.pk is None:
            return Document.objects.none()
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


def _tell(rejected: Sequence[Mapping[str, Any]]) -> str:
    """Return the reason why a file lacks the vectors of some pieces, by their metadata."""
    number, first = len(rejected), rejected[0]
    pieces = f"{number:,} piece{pluralize(number)} that cannot be embedded"
    return f"has {pieces}, chunk {first['chunk']} first: {first['rejected']}"
