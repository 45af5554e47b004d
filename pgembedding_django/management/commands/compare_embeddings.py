"""manage.py compare_embeddings: how far two fields of a model agree on what is near."""

from __future__ import annotations

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.template.defaultfilters import pluralize

from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.maintenance.recall.comparison import compare
from pgembedding_django.management.base import DatabaseCommand

#: Rows that are named, of those on which the two fields agree least.
WORST = 5


class Command(DatabaseCommand):
    help = "Compares the nearest rows by two fields of a model, for rows drawn at random. Embeds nothing."
    rights = "SELECT on the table of the model"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("label", metavar="app.Model")
        parser.add_argument("old", help="the name of an EmbeddingField")
        parser.add_argument("new", help="the name of another one")
        parser.add_argument("--sample", type=int, default=100, metavar="N", help="rows to draw; 100 unless given")
        parser.add_argument("--k", type=int, default=10, help="nearest rows to compare; 10 unless given")

    def handle(self, *, label: str, old: str, new: str, sample: int, k: int, database: str, **options: Any) -> None:
        try:
            model, field = parse_target(label)
            if field:
                raise ValueError(f'"{label}" names a field. Write app.Model, and after it the two fields.')
            found = compare(model, old, new, sample=sample, k=k, using=database)
        except ValueError as error:
            raise CommandError(str(error)) from error
        drawn = len(found.overlaps)
        self.stdout.write(
            f"{label}: of the {found.k} nearest row{pluralize(found.k)}, {found.mean:.0%} are the same by {old} and by "
            f"{new} ({drawn:,} row{pluralize(drawn)} drawn of {found.candidates:,} that have both)."
        )
        for pk, overlap in found.worst(WORST):
            self.stdout.write(f"  pk {pk}: {overlap:.0%}")
