"""manage.py measure_relevance: how well each way to search answers questions whose right answers are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import NotSupportedError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.maintenance.rebuilding.targets import parse_filters, parse_target
from pgembedding_django.maintenance.recall.plots import standalone
from pgembedding_django.maintenance.relevance.plots import draw_relevance
from pgembedding_django.maintenance.relevance.questions import read_questions
from pgembedding_django.maintenance.relevance.relevance import Relevance, RelevanceReport, measure_relevance
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.management.commands.measure_recall import share
from pgembedding_django.rerankers import RerankingError

#: What says by itself what is wrong.
REFUSALS = (EmbeddingError, ImproperlyConfigured, ImportError, NotSupportedError, RerankingError, TypeError, ValueError)


class Command(DatabaseCommand):
    help = "Asks questions whose right answers are known by several ways to search, and says which answers best."
    rights = "SELECT on the table of the model"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("label", metavar="app.Model")
        parser.add_argument("questions", type=Path, metavar="questions.jsonl")
        parser.add_argument(
            "--way",
            action="append",
            metavar="WAY",
            help='how to search, such as "nearest", "hybrid fields=title,body", "rerank candidates=50" or the dotted '
            "path of a function (rows, text, k); repeatable, and the first is what the others are compared with",
        )
        parser.add_argument("--k", type=int, default=10, help="rows wanted of each question (10)")
        parser.add_argument("--key", default="pk", metavar="FIELD", help="the field that the answers name (pk)")
        self.add_filter(parser, "search")
        parser.add_argument("--min", type=share, help="exit with status 1 if the first way has a lower nDCG")
        parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the measures of each way")
        parser.add_argument("--json", action="store_true", help="print JSON instead of the table")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plot"] and not options["plot"].parent.is_dir():
            raise CommandError(f"--plot needs a folder that is there, got {options['plot'].parent}.")
        report = self._measure(options)
        self.stdout.write(_as_json(report) if options["json"] else _as_text(report))
        if options["plot"]:
            _draw(report, options["plot"])
        first = report.ways[0]
        if options["min"] is not None and first.ndcg < options["min"]:
            raise CommandError(f"{first.way} has nDCG@{report.k} {first.ndcg:.3f}, less than {options['min']:g}.")

    def _measure(self, options: dict[str, Any]) -> RelevanceReport:
        with tqdm(unit=" searches", file=sys.stderr, disable=None, leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                model, field = parse_target(options["label"])
                if field:
                    raise ValueError(
                        f'"{options["label"]}" names a field. Write app.Model, and --way "nearest field=..."'
                    )
                using, key = options["database"], options["key"]
                return measure_relevance(
                    model,
                    read_questions(options["questions"], model, key=key, using=using),
                    options["way"] or ["nearest"],
                    k=options["k"],
                    key=key,
                    filters=parse_filters(model, options["filter"], using=using),
                    using=using,
                    progress=show,
                )
            except OSError as error:
                raise CommandError(f"{options['questions']} cannot be read: {error.strerror}.") from error
            except REFUSALS as error:
                raise CommandError(str(error).strip()) from error


def _draw(report: RelevanceReport, path: Path) -> None:
    try:
        path.write_text(standalone(draw_relevance(report)), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--plot cannot write {path}: {error.strerror}.") from error


def _as_text(report: RelevanceReport) -> str:
    k, width = report.k, max(len(way.way) for way in report.ways)
    number = len(report.questions)
    lines = [
        f"{report.model}: {number:,} question{pluralize(number)}, {k} row{pluralize(k)} of each.",
        "",
        f"{'':<{width}}  {f'nDCG@{k}':>8}  {f'RR@{k}':>8}  {f'R@{k}':>8}  {'p50':>10}",
        *(_as_row(way, width) for way in report.ways),
        "",
        *report.verdict(),
    ]
    return "\n".join(lines).rstrip()


def _as_row(way: Relevance, width: int) -> str:
    return f"{way.way:<{width}}  {way.ndcg:>8.3f}  {way.mrr:>8.3f}  {way.recall:>8.3f}  {way.p50_ms:>7.2f} ms"


def _as_json(report: RelevanceReport) -> str:
    ways = [
        {
            "way": way.way,
            "ndcg": way.ndcg,
            "mrr": way.mrr,
            "recall": way.recall,
            "p50_ms": way.p50_ms,
            "p": report.p(way),
            "each": {name: list(values) for name, values in way.scores.items()},
        }
        for way in report.ways
    ]
    questions = [question.text for question in report.questions]
    return json.dumps(
        {"model": report.model, "k": report.k, "questions": questions, "ways": ways, "verdict": report.verdict()},
        indent=2,
    )
