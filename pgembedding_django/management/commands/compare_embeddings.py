"""manage.py compare_embeddings: how far two fields of a model agree on what is near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db.models import Model
from django.template.defaultfilters import pluralize

from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.maintenance.recall.comparison import compare
from pgembedding_django.maintenance.relevance.questions import read_questions
from pgembedding_django.maintenance.relevance.relevance import RelevanceReport, measure_relevance
from pgembedding_django.management.base import DatabaseCommand

#: Rows that are named, of those on which the two fields agree least.
WORST = 5


class Command(DatabaseCommand):
    help = "Compares the nearest rows by two fields of a model, for rows drawn at random. Embeds questions alone."
    rights = "SELECT on the table of the model"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("label", metavar="app.Model")
        parser.add_argument("old", help="the name of an EmbeddingField")
        parser.add_argument("new", help="the name of another one")
        parser.add_argument("--sample", type=int, default=100, metavar="N", help="rows to draw; 100 unless given")
        parser.add_argument("--k", type=int, default=10, help="nearest rows to compare; 10 unless given")
        parser.add_argument(
            "--questions",
            type=Path,
            metavar="FILE.jsonl",
            help="say which field answers these better, each with its right answers as measure_relevance reads them",
        )
        parser.add_argument("--key", default="pk", metavar="FIELD", help="the field that the answers name (pk)")

    def handle(self, *, label: str, old: str, new: str, sample: int, k: int, database: str, **options: Any) -> None:
        try:
            model, field = parse_target(label)
            if field:
                raise ValueError(f'"{label}" names a field. Write app.Model, and after it the two fields.')
            found = compare(model, old, new, sample=sample, k=k, using=database)
            judged = options["questions"] and _judge(model, old, new, k=k, using=database, **options)
        except OSError as error:
            raise CommandError(f"{options['questions']} cannot be read: {error.strerror}.") from error
        except (EmbeddingError, ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from error
        drawn = len(found.overlaps)
        self.stdout.write(
            f"{label}: of the {found.k} nearest row{pluralize(found.k)}, {found.mean:.0%} are the same by {old} and by "
            f"{new} ({drawn:,} row{pluralize(drawn)} drawn of {found.candidates:,} that have both)."
        )
        for pk, overlap in found.worst(WORST):
            self.stdout.write(f"  pk {pk}: {overlap:.0%}")
        if judged:
            number = len(judged.questions)
            self.stdout.write(f"By {number} question{pluralize(number)}: {judged.verdict()[0]}")


def _judge(
    model: type[Model], old: str, new: str, *, k: int, using: str, questions: Path, key: str, **options: Any
) -> RelevanceReport:
    read = read_questions(questions, model, key=key, using=using)

    def by(name: str) -> Any:
        return lambda rows, text, k: rows.nearest(text, k, field=name)

    return measure_relevance(model, read, {old: by(old), new: by(new)}, k=k, key=key, using=using)
