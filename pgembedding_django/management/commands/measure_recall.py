"""manage.py measure_recall: how much of the exact answers an index finds."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentTypeError
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.core.management.base import CommandError, CommandParser
from django.db import DataError, NotSupportedError
from django.db.models import Model
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.maintenance.indexes.report import RecallReport
from pgembedding_django.maintenance.rebuilding.targets import parse_filters, parse_target
from pgembedding_django.maintenance.recall.plots import draw_recall, standalone
from pgembedding_django.maintenance.recall.questions import read_queries
from pgembedding_django.maintenance.recall.recall import MEASURED, measure_recall, record
from pgembedding_django.maintenance.recall.sampling import IndexUnusable, Recall
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.vectors import Vector

#: What says by itself what is wrong.
REFUSALS = (
    DataError, EmbeddingError, ImproperlyConfigured, IndexUnusable, NotSupportedError, ObjectDoesNotExist, TypeError,
    ValueError,
)  # fmt: skip

#: The recall advised towards where --min gives none.
TARGET = 0.95


class Command(DatabaseCommand):
    help = "Compares the answers of an HnswIndex or IvfflatIndex with the exact ones, and says what to do."
    needs_postgres = True
    rights = "SELECT on the table of the model and on pgembedding_hnsw_index"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target", metavar="app.Model[.field]")
        parser.add_argument("--k", type=int, default=10, help="rows wanted of each query (10)")
        parser.add_argument("--sample", type=int, default=200, help="stored rows that are drawn as queries (200)")
        parser.add_argument(
            "--queries",
            type=Path,
            metavar="FILE",
            help="ask these instead: a text a line, each embedded by the field's embedder, or a .npy of vectors",
        )
        self.add_filter(parser, "measure")
        parser.add_argument("--ef-search", type=_numbers, metavar="20,40,80,160", help="what to try of an HnswIndex")
        parser.add_argument("--probes", type=_numbers, metavar="2,5,10", help="what to try of an IvfflatIndex")
        parser.add_argument("--seed", type=int, default=0, help="draws other rows (0)")
        parser.add_argument("--min", type=share, help="exit with status 1 if nearest() by itself finds less")
        parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw recall against latency")
        parser.add_argument("--json", action="store_true", help="print JSON instead of the table")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plot"] and not options["plot"].parent.is_dir():
            raise CommandError(f"--plot needs a folder that is there, got {options['plot'].parent}.")
        target = TARGET if options["min"] is None else options["min"]
        report = self._measure(options)
        stored = record(report, using=options["database"])
        self.stdout.write(_as_json(report, target) if options["json"] else _as_text(report, target))
        if not stored:
            self.stderr.write("Not stored: this connection may not write the history.")
        if options["plot"]:
            _draw(report, target, options["plot"])
        if options["min"] is not None and report.default.recall < target:
            raise CommandError(
                f"nearest() finds {report.default.recall:.3f} of the exact answers, less than {target:g}."
            )

    def _measure(self, options: dict[str, Any]) -> RecallReport:
        with tqdm(unit=" searches", file=sys.stderr, disable=None, leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                model, field = parse_target(options["target"])
                filters = parse_filters(model, options["filter"], using=options["database"])
                scope: Any = {"filters": filters, "using": options["database"]}
                return measure_recall(
                    model,
                    field,
                    k=options["k"],
                    sample=options["sample"],
                    queries=options["queries"] and _read(options["queries"], model, field, **scope),
                    ef_search=options["ef_search"],
                    probes=options["probes"],
                    seed=options["seed"],
                    progress=show,
                    **scope,
                )
            except REFUSALS as error:
                raise CommandError(str(error).strip()) from error


def _read(path: Path, model: type[Model], field: str | None, **scope: Any) -> list[Vector]:
    try:
        return read_queries(path, model, field, **scope)
    except OSError as error:
        raise CommandError(f"--queries cannot read {path}: {error.strerror}.") from error


def _draw(report: RecallReport, target: float, path: Path) -> None:
    title = f"{report.model}.{report.field}, recall@{report.k}"
    drawing = draw_recall([report.default, *report.rows], title=title, target=target)
    try:
        path.write_text(standalone(drawing), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--plot cannot write {path}: {error.strerror}.") from error


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise ArgumentTypeError(f'must be integers with commas between, got "{text}"')
    return [int(part) for part in parts]


def share(text: str) -> float:
    if not re.fullmatch(r"0?\.\d+|1(\.0*)?", text):
        raise ArgumentTypeError(f'must be a number from 0 to 1, got "{text}"')
    return float(text)


def _as_text(report: RecallReport, target: float) -> str:
    index, filters = report.index, f" where {report.filters}" if report.filters else ""
    graph = ", ".join(f"{name}={value}" for name, value in index.graph.items())
    lines = [
        f"{report.model}.{report.field}, index {index.schema}.{index.name} ({graph})",
        _tell_queries(report, filters),
        "",
        f"{index.parameter:>10}  {f'recall@{report.k}':>10}  {'95% interval':>16}  {'p50':>10}  {'p95':>10}",
        *(_as_row(row) for row in (*report.rows, report.default)),
        "",
        *report.advice(target),
    ]
    return "\n".join(lines)


def _tell_queries(report: RecallReport, filters: str) -> str:
    if None in report.queries:
        rows = f"{report.size:,} row{pluralize(report.size)}"
        return f"{len(report.queries):,} queries asked {rows}{filters} for the {report.k} nearest."
    return (
        f"{len(report.queries):,} of {report.size:,} rows{filters} asked for the {report.k} nearest "
        f"other{pluralize(report.k)}. New queries find less at a small {report.index.parameter}."
    )


def _as_row(row: Recall) -> str:
    name = "nearest()" if row.ef_search is None else str(row.ef_search)
    interval = f"{row.low:.3f} to {row.high:.3f}"
    return f"{name:>10}  {row.recall:>10.3f}  {interval:>16}  {row.p50_ms:>7.2f} ms  {row.p95_ms:>7.2f} ms"


def _as_json(report: RecallReport, target: float) -> str:
    smallest = report.smallest(target)
    entries = {
        "model": report.model,
        "field": report.field,
        "index": asdict(report.index),
        "filter": report.filters,
        "rows": report.size,
        "sample": len(report.queries),
        "k": report.k,
        "measured": [{name: getattr(row, name) for name in MEASURED} for row in (*report.rows, report.default)],
        "nearest_reads_index": report.reads_index,
        "target": target,
        f"smallest_{report.index.parameter}": smallest and smallest.ef_search,
        "advice": report.advice(target),
    }
    return json.dumps(entries, indent=2)
