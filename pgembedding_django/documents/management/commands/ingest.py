"""manage.py ingest: files into a collection."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.documents.files import FoundFiles, find_files
from pgembedding_django.documents.ingest import Ingest, IngestReport
from pgembedding_django.documents.management.targets import RESUME, RIGHTS, find_collection, printable
from pgembedding_django.documents.models import Collection
from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Brings text, Markdown, HTML and PDF files into a collection of documents: splits them, embeds the pieces and "
        "stores them. Unchanged files are skipped, changed ones replaced."
    )

    rights = RIGHTS
    after_interrupt = RESUME

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder with all below it")
        parser.add_argument("--collection", required=True, metavar="NAME", help="made where there is none of this name")
        parser.add_argument("--chunk-size", type=int, default=1000, metavar="N", help="characters (default: 1000)")
        parser.add_argument("--chunk-overlap", type=int, default=200, metavar="N", help="characters (default: 200)")
        parser.add_argument(
            "--follow-links",
            action="store_true",
            help="read what links to files lead to outside of the folders, or hidden in them",
        )
        parser.add_argument("--prune", action="store_true", help="delete the documents of files that are gone")
        parser.add_argument("--embedder", metavar="ALIAS", help='of PGEMBEDDING["EMBEDDERS"], for a new collection')

    def handle(self, *args: Any, **options: Any) -> None:
        _check_sizes(options["chunk_size"], options["chunk_overlap"])
        sources = find_files(options["paths"], follow_links=options["follow_links"])
        collection = find_collection(options["collection"], options["database"], embedder=options["embedder"])
        try:
            report = self._ingest(collection, sources, options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        except EmbeddingError as error:
            raise CommandError(f"{error} {RESUME}") from error
        except ValidationError as error:
            raise CommandError(f"{error.messages[0]} {RESUME}") from error
        self._tell(collection, report)

    def _ingest(self, collection: Collection, sources: FoundFiles, options: dict[str, Any]) -> IngestReport:
        ingest = Ingest(collection, chunk_size=options["chunk_size"], chunk_overlap=options["chunk_overlap"])
        ingest.report.unread += sources.unread
        # Shown on a terminal only, and gone when it is done.
        with tqdm(sources.files, desc="  reading", unit=" files", leave=False, disable=None) as files:
            ingest.run(files)
        if options["prune"]:
            ingest.prune(sources)
        return ingest.report

    def _tell(self, collection: Collection, report: IngestReport) -> None:
        self.stdout.write(
            f'Collection "{collection.name}": {report.new:,} file{pluralize(report.new)} new, '
            f"{report.changed:,} changed, {report.unchanged:,} unchanged, {report.removed:,} removed, "
            f"{len(report.textless):,} without text; {report.documents:,} document{pluralize(report.documents)} stored."
        )
        for name in report.textless:
            self.stderr.write(f"  {printable(name)} has no text")
        for name, reason in report.unread:
            self.stderr.write(f"  {printable(f'{name} {reason}')}")
        if report.unread:
            raise CommandError(f"{len(report.unread):,} could not be read or embedded.")


def _check_sizes(size: int, overlap: int) -> None:
    if size < 1:
        raise CommandError(f"--chunk-size must be at least 1, got {size}.")
    if not 0 <= overlap < size:
        raise CommandError(f"--chunk-overlap must be from 0 to less than --chunk-size = {size}, got {overlap}.")
