"""manage.py find_duplicates: pairs of rows whose vectors are near each other."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import NotSupportedError
from django.template.defaultfilters import pluralize

from pgembedding_django.functions import DISTANCE_CLASSES
from pgembedding_django.maintenance.rebuilding.targets import parse_filters, parse_target
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.querysets import every_row
from pgembedding_django.search.duplicates import Pair


class Command(DatabaseCommand):
    help = "Lists the pairs of rows that are no farther apart than a distance, each once. Deletes nothing."
    rights = "SELECT on the table of the model"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target", metavar="app.Model[.field]")
        parser.add_argument("max_distance", type=float, help="the greatest distance; 0 finds equal vectors")
        parser.add_argument("--distance", choices=tuple(DISTANCE_CLASSES), help="that of the field unless given")
        parser.add_argument("--limit", type=int, metavar="N", help="end after so many pairs")
        self.add_filter(parser, "pair")
        parser.add_argument("--json", action="store_true", help="print a JSON object a line")

    def handle(self, *, target: str, max_distance: float, database: str, **options: Any) -> None:
        count = 0
        try:
            model, field = parse_target(target)
            rows = every_row(model, database).filter(**parse_filters(model, options["filter"], using=database))
            pairs = rows.near_duplicates(max_distance, field=field, distance=options["distance"])
            for pair in islice(pairs, options["limit"]):
                count += 1
                self.stdout.write(_as_json(pair) if options["json"] else _as_text(pair))
        except (NotSupportedError, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        if not options["json"]:
            self.stdout.write(f"{count:,} pair{pluralize(count)}.")


def _as_text(pair: Pair[Any]) -> str:
    return f"{pair.distance:.4f}  pk {pair.one.pk} and {pair.other.pk}: {pair.one} | {pair.other}"


def _as_json(pair: Pair[Any]) -> str:
    keys = [key if isinstance(key, int | list | tuple) else str(key) for key in (pair.one.pk, pair.other.pk)]
    return json.dumps({"one": keys[0], "other": keys[1], "distance": pair.distance})
