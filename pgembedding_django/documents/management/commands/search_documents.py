"""manage.py search_documents: the nearest documents of a collection, for people or as JSON."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.text import Truncator

from pgembedding_django.documents.contents import as_result
from pgembedding_django.documents.management.errors import told_in_a_sentence
from pgembedding_django.documents.models import Collection, Document

#: Characters of a line for the source, and for all of it where there is no terminal.
SOURCE_WIDTH, LINE_WIDTH = 32, 120


class Command(BaseCommand):
    help = "Prints the documents of a collection that are nearest to a question."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("collection", metavar="NAME")
        parser.add_argument("question")
        parser.add_argument("-k", type=int, default=5, metavar="N", help="how many documents (default: 5)")
        parser.add_argument("--json", action="store_true", help="print JSON, with the whole content and metadata")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), metavar="ALIAS")

    def handle(self, *args: Any, **options: Any) -> None:
        collections = Collection.objects.using(options["database"])
        try:
            with told_in_a_sentence():
                collection = collections.get(name=options["collection"])
                found = list(collection.documents.nearest(options["question"], options["k"]))
        except Collection.DoesNotExist as error:
            names = ", ".join(collections.order_by("name").values_list("name", flat=True)) or "none"
            raise CommandError(f'There is no collection "{options["collection"]}". There are: {names}.') from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            rows = [as_result(document) for document in found]
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))
        else:
            self.stdout.write("\n".join(_table(found)))


def _table(found: list[Any]) -> Iterable[str]:
    width = max(shutil.get_terminal_size((LINE_WIDTH, 0)).columns - SOURCE_WIDTH - 14, 20)
    yield f"{'distance':>10}  {'source':<{SOURCE_WIDTH}}  text"
    for document in found:
        source = _one_line(_source(document))
        # The end of a path tells more than its beginning.
        shown = source if len(source) <= SOURCE_WIDTH else f"…{source[1 - SOURCE_WIDTH :]}"
        text = Truncator(_one_line(document.content)).chars(width)
        yield f"{document.distance:>10.4f}  {shown:<{SOURCE_WIDTH}}  {text}"
    if not found:
        yield "The collection has no documents."


def _source(document: Document) -> str:
    metadata = document.metadata if isinstance(document.metadata, dict) else {}
    page = f", page {metadata['page']}" if "page" in metadata else ""
    return f"{metadata.get('source', document.key)}{page}"


def _one_line(text: str) -> str:
    """Replace what a terminal would take for more than a character."""
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
