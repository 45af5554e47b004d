"""manage.py search_documents: the nearest documents of a collection, for people or as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.text import Truncator

from pgembedding_django.documents.contents import as_result
from pgembedding_django.documents.management.targets import find_collection, printable
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.management.base import DatabaseCommand

#: Characters of a line for the source, and for all of it where there is no terminal.
SOURCE_WIDTH, LINE_WIDTH = 32, 120


class Command(DatabaseCommand):
    help = "Prints the documents of a collection that are nearest to a question."

    rights = "SELECT on pgembedding_documents_collection and pgembedding_documents_document"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("collection", metavar="NAME")
        parser.add_argument("question")
        parser.add_argument("-k", type=int, default=5, metavar="N", help="how many documents (default: 5)")
        parser.add_argument("--json", action="store_true", help="print JSON, with the whole content and metadata")

    def handle(self, *args: Any, **options: Any) -> None:
        collection = find_collection(options["collection"], options["database"])
        if collection.pk is None:
            names = Collection.objects.using(options["database"]).order_by("name").values_list("name", flat=True)
            raise CommandError(f'There is no collection "{collection.name}". There are: {", ".join(names) or "none"}.')
        try:
            documents = list(collection.documents.nearest(options["question"], options["k"]))
        except (ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            rows = [as_result(document) for document in documents]
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))
        else:
            self.stdout.write("\n".join(_table(documents)))


def _table(documents: list[Any]) -> Iterable[str]:
    width = max(shutil.get_terminal_size((LINE_WIDTH, 0)).columns - SOURCE_WIDTH - 14, 20)
    yield f"{'distance':>10}  {'source':<{SOURCE_WIDTH}}  text"
    for document in documents:
        source = _one_line(_source(document))
        # The end of a path tells more than its beginning.
        shown = source if len(source) <= SOURCE_WIDTH else f"…{source[1 - SOURCE_WIDTH :]}"
        text = Truncator(_one_line(document.content)).chars(width)
        yield f"{document.distance:>10.4f}  {shown:<{SOURCE_WIDTH}}  {text}"
    if not documents:
        yield "The collection has no documents."


def _source(document: Document) -> str:
    metadata = document.metadata if isinstance(document.metadata, dict) else {}
    page = f", page {metadata['page']}" if "page" in metadata else ""
    return f"{metadata.get('source', document.key)}{page}"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
