"""manage.py move_embeddings: moves rows with their vectors from one database to another, whatever their engines."""

from __future__ import annotations

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db import DataError, IntegrityError, NotSupportedError, ProgrammingError, connections
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.loading.moving import Move, MovedTable, plan_move
from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.management.base import DatabaseCommand

#: Primary keys that a message names.
SHOWN = 5

RESUME = (
    "What was moved is kept. Run the same command again to go on; until it ends, HNSW indexes of the new tables may be "
    "missing."
)


class Command(DatabaseCommand):
    help = (
        "Copies the rows of models with their vectors from one database to another: of those named, or of all that "
        "have an EmbeddingField, with what their foreign keys and many-to-many relations refer to. Nothing is deleted "
        "or embedded. May be stopped and run again at any time: rows that are there already stay as they are."
    )
    rights = "SELECT in the one database; in the other ownership of the tables, and TEMPORARY on the database"
    after_interrupt = RESUME

    def add_arguments(self, parser: CommandParser) -> None:
        aliases = tuple(connections)
        parser.add_argument("labels", nargs="*", metavar="app.Model", help="all with an EmbeddingField unless given")
        parser.add_argument("--from", required=True, choices=aliases, dest="source", help="alias of the old database")
        parser.add_argument("--to", required=True, choices=aliases, dest="database", help="alias of the new one")
        parser.add_argument("--dry-run", action="store_true", help="say what would be moved, and move nothing")

    def handle(self, *, labels: list[str], source: str, database: str, dry_run: bool, **options: Any) -> None:
        if source == database:
            raise CommandError(f'--from and --to must be two databases, got "{source}" twice.')
        try:
            models = [parse_target(label)[0] for label in labels]
        except ValueError as error:
            raise CommandError(str(error)) from error
        move = Move(plan_move(models, source, database), source, database)
        try:
            total = self._say_plan(move)
        except NotSupportedError as error:
            raise CommandError(str(error)) from error
        try:
            if not dry_run:
                self._move(move, total)
        except (DataError, IntegrityError, NotSupportedError, ValueError) as error:
            raise CommandError(f"{error} {RESUME}") from error

    def _say_plan(self, move: Move) -> int:
        try:
            rows = move.count_rows(move.source)
        except ProgrammingError as error:
            raise CommandError(self.explain(error, move.source)) from error
        present = move.count_rows(move.target)
        move.check_columns()
        for model in move.plan.tables:
            why = ", to which others refer" if model in move.plan.referred else ""
            self.stdout.write(
                f'{model._meta.label}{why}: {_count(rows[model], "row")} in "{move.source}", {present[model]:,} in '
                f'"{move.target}".'
            )
        for model, moved in move.plan.left:
            self.stdout.write(f"Not moved: {model._meta.label}, which refers to {moved._meta.label}.")
        self.stdout.write("No other table is moved.")
        return sum(rows.values())

    def _move(self, move: Move, total: int) -> None:
        # Shown on a terminal only.
        with tqdm(total=total, unit=" rows", desc="moving", disable=None) as bar:
            move.progress = bar.update
            moved = list(move.run())
        self._build_collections(move)
        for table in moved:
            self._say_moved(table, move)
        problems = [problem for table in moved for problem in _problems(table, move)]
        if problems:
            raise CommandError("\n".join(problems))

    def _build_collections(self, move: Move) -> None:
        """Build the indexes of the collections that moved, which no model declares."""
        if any(model._meta.label == "pgembedding_documents.Collection" for model in move.plan.tables):
            # An optional app, which must be installed to be imported.
            from pgembedding_django.documents.building import build_missing_indexes
            from pgembedding_django.documents.models import Collection

            for name in build_missing_indexes(Collection, move.target):
                self.stdout.write(f'Built the index of collection "{name}".')

    def _say_moved(self, table: MovedTable, move: Move) -> None:
        self.stdout.write(
            f"{table.model._meta.label}: {table.copied:,} moved, {table.kept:,} were there already; now "
            f'{_count(table.source_rows, "row")} in "{move.source}", {table.target_rows:,} in "{move.target}".'
        )


def _problems(table: MovedTable, move: Move) -> list[str]:
    label, problems = table.model._meta.label, []
    if table.missing:
        problems.append(
            f'{label}: {_count(table.missing, "row")} came to "{move.source}" meanwhile. Stop what writes there, and '
            "run the same command again."
        )
    if table.differing:
        keys = ", ".join("/".join(key) for key in table.differing[:SHOWN])
        dots = ", ..." if len(table.differing) > SHOWN else ""
        problems.append(
            f'{label}: {_count(len(table.differing), "row")} of "{move.target}" hold something else than in '
            f'"{move.source}", and stayed so (pk {keys}{dots}). Delete there what the old rows shall replace, and run '
            "the same command again."
        )
    return problems


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{pluralize(number)}"
