"""manage.py import_langchain: the documents of LangChain's own vector stores into collections."""

from __future__ import annotations

import json
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.documents.importing import ImportReport, ImportRun, Source, SourceError, StoreTable
from pgembedding_django.documents.management.targets import RESUME, RIGHTS, find_collection, printable
from pgembedding_django.documents.models import Collection
from pgembedding_django.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Copies the documents of LangChain's PGEmbedding, PGVector and PGVectorStore into collections, with their ids, "
        "metadata and vectors. May be stopped and run again at any time; the source is only read."
    )
    rights = RIGHTS
    after_interrupt = RESUME

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--from", required=True, dest="source", metavar="DATABASE_URL", help="where LangChain's tables are"
        )
        parser.add_argument(
            "--collection",
            action="append",
            default=[],
            metavar="NAME",
            help="a collection, or the table of a PGVectorStore; all that are there unless given",
        )
        parser.add_argument("--embedder", metavar="ALIAS", help='of PGEMBEDDING["EMBEDDERS"], for new collections')
        parser.add_argument(
            "--distance",
            choices=Collection.Distance.values,
            help="of new collections; l2 for PGEmbedding and cosine for the others unless given, as these classes rank",
        )

    def handle(self, *, source: str, collection: list[str], **options: Any) -> None:
        try:
            with Source(source) as opened:
                reports = [self._copy(opened, table, options) for table in opened.find(collection)]
        except (SourceError, ValueError) as error:
            raise CommandError(f"{error} {RESUME}") from error
        lost = sum(report.failed + report.is_short for report in reports)
        if lost:
            raise CommandError(f"{lost:,} document{pluralize(lost)} could not be stored.")

    def _copy(self, source: Source, table: StoreTable, options: dict[str, Any]) -> ImportReport:
        collection = self._collection(source, table, options)
        run = ImportRun(source, table, collection)
        # Shown on a terminal only, and gone when it is done.
        with tqdm(total=run.report.there, desc=f"  {printable(table.name)}", leave=False, disable=None) as bar:
            report = run.run(bar.update)
        self.stdout.write(
            f'Collection "{printable(table.name)}": {report.there:,} document{pluralize(report.there)} there, '
            f"{report.here:,} here; {report.new:,} new, {report.changed:,} changed, {report.unchanged:,} unchanged."
        )
        for key, reason in report.failures:
            self.stderr.write(f"  {printable(f'{key}: {reason}')}")
        if report.failed > len(report.failures):
            self.stderr.write(f"  and {report.failed - len(report.failures):,} more")
        return report

    def _collection(self, source: Source, table: StoreTable, options: dict[str, Any]) -> Collection:
        collection = find_collection(
            table.name, options["database"], embedder=options["embedder"], distance=options["distance"]
        )
        if collection.pk is None:
            collection.distance = options["distance"] or table.distance
            collection.metadata = json.loads(source.metadata(table) or "null") or {}
            collection.save(using=options["database"])
        return collection
