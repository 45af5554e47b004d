"""manage.py rebuild_hnsw_indexes: builds indexes anew, or repairs what interrupted builds left."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import CommandError, CommandParser, no_translations
from django.db import Error
from django.db.models import Model
from django.template.defaultfilters import filesizeformat, pluralize
from tqdm import tqdm

from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.indexes.progress import BuildProgress
from pgembedding_django.maintenance.rebuilding.errors import REBUILD_RIGHTS
from pgembedding_django.maintenance.rebuilding.estimate import estimate_disk, estimate_memory, warn_of_memory
from pgembedding_django.maintenance.rebuilding.jobs import perform
from pgembedding_django.maintenance.rebuilding.rebuild import RebuildOptions, queue_rebuild
from pgembedding_django.maintenance.rebuilding.repair import plan_repair, queue_step
from pgembedding_django.maintenance.rebuilding.session import check_build
from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.models import HnswIndexStatus, IndexRun
from pgembedding_django.search.fields import find_measured_field

#: What is to be done: in words, and what records it.
Task = tuple[str, Callable[[], IndexRun]]


#: Bytes of a new index that a disk may lack.
LARGE = 64 * 2**20

FULL_DISK = (
    "Where the disk may become full, pass --parallel-workers 0: a parallel build then hangs for good, one without help "
    "ends and leaves the old index serving."
)


class Command(DatabaseCommand):
    help = (
        "Builds HNSW and IVFFlat indexes anew, one after another, while they serve. With --repair it drops what "
        "interrupted builds left behind, and finishes or creates what should be there."
    )
    requires_system_checks = []
    needs_postgres = True
    rights = REBUILD_RIGHTS
    after_interrupt = (
        "What was rebuilt stays. To clear away what the last one left behind, run: "
        "manage.py rebuild_hnsw_indexes --repair"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_noinput(parser)
        parser.add_argument(
            "targets",
            nargs="*",
            metavar="app.Model[.field] | index",
            help="Which ones; an index as name or schema.name. All that models declare unless given.",
        )
        parser.add_argument("--repair", action="store_true", help="Repair only, and leave alone what is whole.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and do nothing.")
        parser.add_argument(
            "--no-concurrently",
            action="store_false",
            dest="concurrently",
            help="Build faster, while searches and writes of the table wait.",
        )
        parser.add_argument("--maintenance-work-mem", metavar="SIZE", help='Memory of a build, such as "2GB".')
        parser.add_argument(
            "--parallel-workers",
            type=int,
            metavar="N",
            help="Processes that help with a build; 0 where the disk may fill.",
        )
        parser.add_argument("--give-up", type=float, metavar="SECONDS", help="Leave an index that takes longer.")

    @no_translations
    def handle(self, *targets: str, **options: Any) -> None:
        how = _how(options)
        reports = self._choose(list(options["targets"]), options["database"])
        tasks = self._plan(reports, how, options)
        missing = [] if options["repair"] else [report for report in reports if report.status is None]
        self._say_missing(missing)
        if not tasks and not missing:
            self.stdout.write("Nothing to do.")
            return
        for words, _ in tasks:
            self.stdout.write(words)
        if how["parallel_workers"] != 0 and _largest(reports, options["database"]) >= LARGE:
            self.stdout.write(FULL_DISK)
        if options["dry_run"] or (tasks and options["interactive"] and not self.agrees("Go on?")):
            return
        failed = sum(not self._perform(queue, options["database"]) for _, queue in tasks)
        if failed:
            raise CommandError(f"{failed} of {len(tasks)} failed.")
        if missing:
            raise CommandError(f"{len(missing)} missing, and so not rebuilt.")

    def _choose(self, targets: list[str], using: str) -> list[IndexReport]:
        """Return the reports of what was named: each index of a model, or the index itself."""
        reports = list_indexes(using)
        if not targets:
            return [report for report in reports if report.model is not None]
        chosen = []
        for target in targets:
            model, field = _find_model(target)
            matching = [
                report for report in reports if (_is_of(report, model, field) if model else _is(report, target))
            ]
            if not matching and model is None:
                try:
                    find_index(target, using)
                except ObjectDoesNotExist as error:
                    raise CommandError(str(error)) from error
            if not matching:
                self.stdout.write(f"{target} has no HNSW index, neither declared nor built.")
            chosen += matching
        return chosen

    def _plan(self, reports: list[IndexReport], how: RebuildOptions, options: dict[str, Any]) -> list[Task]:
        # A user of the admin may have the same name.
        using, person = options["database"], f"{getpass.getuser()} (command line)"
        if options["repair"]:
            return [
                (step.words, partial(queue_step, step, using=using, person=person, **how))
                for step in plan_repair(using, reports)
            ]
        named, memory = set(options["targets"]), how["maintenance_work_mem"]
        return [
            (
                f"Rebuild {report.label} of {report.table}: {_needs(status, using)}. "
                f"{warn_of_memory(status, memory, using)}".rstrip(),
                partial(queue_rebuild, status, using=using, person=person, **how),
            )
            for report in reports
            if (status := report.status) is not None
            and not report.leftover_of
            # The index of a partition is rebuilt with that of its table.
            and (status.parent_oid is None or named & {report.name, report.label})
        ]

    def _say_missing(self, reports: list[IndexReport]) -> None:
        for report in reports:
            remedy = " Run: manage.py rebuild_hnsw_indexes --repair" if report.repairable else ""
            self.stderr.write(f"{report.label} of {report.table} is missing. {report.advice}{remedy}")

    def _perform(self, queue: Callable[[], IndexRun], using: str) -> bool:
        try:
            run = queue()
            warning = run.notice  # The plan has said it.
            form = "{l_bar}{bar}|{postfix}"
            with tqdm(total=100, desc=run.index, unit="%", leave=False, disable=None, bar_format=form) as bar:
                perform(run, lambda progress: _show(bar, run, progress))
        except (Error, LookupError, ObjectDoesNotExist) as error:
            self.stderr.write(self.explain(error, using))
            return False
        self.stdout.write("\n".join(filter(None, [_summary(run), run.notice.removeprefix(warning).strip()])))
        return True


def _largest(reports: list[IndexReport], using: str) -> int:
    """Return how many bytes the largest of some indexes takes when it is built anew."""
    return max((estimate_disk(report.status, using) for report in reports if report.status), default=0)


def _needs(status: HnswIndexStatus, using: str) -> str:
    """Return the room that a rebuild takes."""
    memory, disk = estimate_memory(status, using), f"{filesizeformat(estimate_disk(status, using))} of disk"
    need = f"about {filesizeformat(memory)} of memory and {disk}" if memory else f"about {disk}"
    return need.replace("\xa0", " ")


def _how(options: dict[str, Any]) -> RebuildOptions:
    how: RebuildOptions = {
        "concurrently": options["concurrently"],
        "maintenance_work_mem": options["maintenance_work_mem"],
        "parallel_workers": options["parallel_workers"],
        "give_up": options["give_up"],
    }
    try:
        check_build(**how)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return how


def _find_model(target: str) -> tuple[type[Model] | None, str | None]:
    try:
        model, field = parse_target(target)
    except ValueError:
        return None, None  # It is an index.
    try:
        return model, field and find_measured_field(model, field).name
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


def _is_of(report: IndexReport, model: type[Model], field: str | None) -> bool:
    return report.model is model and field in (None, report.field and report.field.name)


def _is(report: IndexReport, target: str) -> bool:
    return target in (report.name, report.label)


def _show(bar: tqdm[NoReturn], run: IndexRun, progress: BuildProgress) -> None:
    bar.n = (100 * (run.part - 1) + progress.percent) / run.parts
    pids = progress.blocked_by
    waits = f", waits for backend{pluralize(pids)} {', '.join(map(str, pids))}" if pids else ""
    bar.set_postfix_str(progress.phase + waits)


def _summary(run: IndexRun) -> str:
    seconds = run.duration.total_seconds() if run.duration else 0.0
    done = {IndexRun.Action.REBUILD: "Rebuilt", IndexRun.Action.CREATE: "Created", IndexRun.Action.DROP: "Dropped"}
    sizes = [
        filesizeformat(size).replace("\xa0", " ") for size in (run.size_before, run.size_after) if size is not None
    ]
    text = f"{done[IndexRun.Action(run.action)]} {run.index} in {seconds:.1f} s"
    return text + (f", {' -> '.join(sizes)}." if sizes else ".")
