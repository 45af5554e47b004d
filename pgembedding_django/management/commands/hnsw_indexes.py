"""manage.py hnsw_indexes: what a database has of HNSW indexes, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from django.core.management.base import CommandError, CommandParser, no_translations
from django.core.serializers.json import DjangoJSONEncoder
from django.template.defaultfilters import filesizeformat
from django.utils.timezone import is_aware, localtime

from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.indexes.lookup import can_read
from pgembedding_django.maintenance.replicas import replica_lag
from pgembedding_django.maintenance.sizing import plan_indexes
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.management.planning import describe_plan, read_plan

COLUMNS = ("state", "index", "table", "distance", "size", "rows", "dead", "scans", "rebuilt", "recall")
NUMBERS = ("size", "rows", "dead", "scans", "recall")

#: What is left out, the first one first, where a line would be wider than the terminal.
SPARED = ("distance", "table", "dead")

#: Columns where there is no terminal, and of sentences at most.
WIDTH = 100


class Command(DatabaseCommand):
    help = (
        "Lists the HNSW and IVFFlat indexes of a database: their state, their size and use, and what to do about them."
    )
    requires_system_checks = []
    needs_postgres = True
    rights = "SELECT on pgembedding_hnsw_index"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="Print JSON, with everything that is known.")
        parser.add_argument(
            "--fail-on",
            default="",
            metavar="STATES",
            help=f"Exit with status 1 if an index is in one of these states: {', '.join(State.values)}.",
        )
        parser.add_argument(
            "--plan",
            nargs="+",
            metavar=("rows=NUMBER", "partitions=NUMBER"),
            help="Say instead what each HnswIndex of the models would need at so many rows.",
        )

    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"]:
            self._plan(read_plan(options["plan"]), options)
            return
        fatal = set(filter(None, options["fail_on"].split(",")))
        if unknown := fatal - set(State.values):
            raise CommandError(f"--fail-on takes {', '.join(State.values)}, got {', '.join(sorted(unknown))}.")
        reports = list_indexes(options["database"])
        collections = _name_collections(reports, options["database"])
        if options["json"]:
            entries = [{**_as_json(report), "collection": collections.get(report.name)} for report in reports]
            self.stdout.write(json.dumps(entries, cls=DjangoJSONEncoder, indent=2))
        else:
            self._write_table(reports, collections, options["database"])
        if any(report.state in fatal for report in reports):
            sys.exit(1)

    def _plan(self, plan: dict[str, int], options: dict[str, Any]) -> None:
        needs = plan_indexes(using=options["database"], **plan)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(need) for need in needs], indent=2))
        else:
            self.stdout.write("\n".join(describe_plan(needs, options["database"])))

    def _write_table(self, reports: list[IndexReport], collections: dict[str, str], using: str) -> None:
        if not reports:
            self.stdout.write(f'Database "{using}" has no HNSW index.')
            return
        width = get_terminal_size((WIDTH, 24)).columns
        names = Counter(report.name for report in reports)
        rows = [_as_row(report, collections.get(report.name), unique=names[report.name] == 1) for report in reports]
        widths = _fit(rows, width)
        for row in (dict(zip(COLUMNS, COLUMNS, strict=True)), *rows):
            self.stdout.write(_line(row, widths))
        for report in reports:
            # What a rebuild builds says what the index says that it replaces; of a standby it is said once.
            if report.state is State.UNKNOWN or (report.state is State.BUILDING and report.leftover_of):
                continue
            if report.advice:
                self._write_advice(f"{report.label}: {report.advice}", width)
        if unknown := {report.advice for report in reports if report.state is State.UNKNOWN}:
            lag = replica_lag(using)
            behind = "" if lag is None else f" It is {lag.total_seconds():.1f} s behind."
            self._write_advice(unknown.pop() + behind, width)

    def _write_advice(self, advice: str, width: int) -> None:
        said = wrap(advice, min(width, WIDTH), break_on_hyphens=False)
        self.stdout.write("\n" + "\n".join(said))


def _name_collections(reports: list[IndexReport], using: str) -> dict[str, str]:
    """Return index: name of the collection whose documents it is for, where there are collections."""
    if "pgembedding_documents.Document" not in {report.model._meta.label for report in reports if report.model}:
        return {}
    # An app that not every project has.
    from pgembedding_django.documents.models import Collection

    return Collection.objects.db_manager(using).by_index() if can_read(Collection, using) else {}


def _as_row(report: IndexReport, collection: str | None, *, unique: bool) -> dict[str, str]:
    """unique: whether no other schema has an index of the same name."""
    status, rebuild, recall = report.status, report.last_rebuild, report.last_recall
    row = dict.fromkeys(COLUMNS, "")
    name = report.name if unique else report.label
    if report.method == "ivfflat":
        name += " (ivfflat)"
    if collection is not None:
        name += f" ({_printable(collection)})"
    row.update(state=report.state.value, index=name, table=report.table, distance=report.distance or "unknown")
    if status is not None:
        row.update(
            size=filesizeformat(status.size).replace("\xa0", " "),
            rows="?" if status.rows is None else str(status.rows),
            dead="?" if status.dead_share is None else f"{status.dead_share:.0%}",
            scans=str(status.scans),
            rebuilt=_day(rebuild.finished if rebuild else None),
            recall=f"{recall.recall:.3f}" if recall else "-",
        )
    return row


def _day(when: datetime | None) -> str:
    return f"{localtime(when) if is_aware(when) else when:%Y-%m-%d}" if when else "-"


def _fit(rows: list[dict[str, str]], width: int) -> dict[str, int]:
    """Return the columns that a line has room for and their widths; the name of an index is cut where none is left."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS}
    for name in SPARED:
        if _length(widths) > width:
            del widths[name]
    widths["index"] = max(widths["index"] - max(_length(widths) - width, 0), len("index"))
    return widths


def _length(widths: dict[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _line(row: dict[str, str], widths: dict[str, int]) -> str:
    cells = [
        row[name].rjust(width) if name in NUMBERS else _cut(row[name], width).ljust(width)
        for name, width in widths.items()
    ]
    return "  ".join(cells).rstrip()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _as_json(report: IndexReport) -> dict[str, Any]:
    status, rebuild, recall = report.status, report.last_rebuild, report.last_recall
    names = ("oid", "type", "dimensions", "options", "partial", "valid", "ready", "size", "rows", "dead_share")
    counts = ("scans", "entries_read", "stats_reset", "building_pid")
    return {
        "schema": report.schema,
        "index": report.name,
        "method": report.method,
        "table": report.table,
        "model": report.model._meta.label if report.model else None,
        "field": report.field.name if report.field else None,
        "declared": report.declared is not None,
        "engine": report.engine,
        "distance": report.distance,
        "state": report.state.value,
        "advice": report.advice,
        "leftover_of": report.leftover_of,
        **{name: getattr(status, name) if status else None for name in names + counts},
        "last_rebuild": rebuild.finished if rebuild else None,
        "last_recall": recall.recall if recall else None,
    }
