"""manage.py tune_hnsw: tries builds of an index on a sample, and prints the one to declare."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import NotSupportedError
from django.db.models import Model
from django.template.defaultfilters import filesizeformat
from tqdm import tqdm

from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.maintenance.recall.trials import Trial
from pgembedding_django.maintenance.recall.tuning import TuningReport, check_tuning, tune
from pgembedding_django.management.base import DatabaseCommand

QUESTION = (
    "This copies up to {rows:,} rows of {target} to a temporary table and builds several indexes of it, one after "
    "another.\nNothing stays behind. Continue?"
)


class Command(DatabaseCommand):
    help = "Tries builds of an HNSW index on a sample of the rows, and prints the HnswIndex(...) to declare."
    needs_postgres = True
    rights = "SELECT on the table of the model"
    after_interrupt = "Nothing stays behind."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_noinput(parser)
        parser.add_argument("target", metavar="app.Model[.field]")
        parser.add_argument("--recall", type=float, required=True, help="what is to be reached, such as 0.98")
        parser.add_argument("--k", type=int, default=10, help="rows wanted of each query (10)")
        parser.add_argument("--sample-rows", type=int, default=20_000, help="rows that are copied (20,000)")
        parser.add_argument("--seed", type=int, default=0, help="draws other rows (0)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model, field = parse_target(options["target"])
            check_tuning(model, field, **_limits(options))
            question = QUESTION.format(rows=options["sample_rows"], target=options["target"])
            if options["interactive"] and not self.agrees(question):
                raise CommandError("Tuning cancelled.")
            report = self._tune(model, field, options)
        except (NotSupportedError, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(_as_text(report))
        if not report.reached:
            raise CommandError(
                f"No build tried reaches a recall of {report.target:g} on the sample: the best finds "
                f"{report.best.recall.recall:.3f}."
            )

    def _tune(self, model: type[Model], field: str | None, options: dict[str, Any]) -> TuningReport:
        with tqdm(unit=" steps", file=sys.stderr, disable=None, leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return tune(model, field, progress=show, **_limits(options))


def _limits(options: dict[str, Any]) -> dict[str, Any]:
    names = ("recall", "k", "sample_rows", "seed")
    return {"using": options["database"], **{name: options[name] for name in names}}


def _as_text(report: TuningReport) -> str:
    reduced = report.index.precision is not None
    lines = [
        f"{'precision  ' * reduced}{'m':>3}  {'ef_construction':>15}  {'ef_search':>9}  {f'recall@{report.k}':>10}  "
        f"{'95% interval':>16}  {'p50':>10}  {'build':>8}  {'size':>9}",
        *(f"{trial.precision or 'full':>9}  " * reduced + _as_row(trial) for trial in report.trials),
        "",
        *([report.line, ""] if report.reached else []),
        f"Measured on {report.rows:,} of {report.total:,} rows, asked by {report.queries} others.",
    ]
    if report.rows + report.queries < report.total:
        lines.append(
            "The same ef_search finds less in a larger graph: build the index, then choose ef_search by measure_recall."
        )
    return "\n".join(lines)


def _as_row(trial: Trial) -> str:
    found = trial.recall
    interval, size = f"{found.low:.3f} to {found.high:.3f}", filesizeformat(trial.size).replace("\xa0", " ")
    return (
        f"{trial.m:>3}  {trial.ef_construction:>15}  {found.ef_search:>9}  {found.recall:>10.3f}  {interval:>16}  "
        f"{found.p50_ms:>7.2f} ms  {trial.build_seconds:>6.1f} s  {size:>9}"
    )
