"""manage.py embed: gives rows the vectors of their texts."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db import InterfaceError, OperationalError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from pgembedding_django.compat.background import NotEnqueued
from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.embedding import EmbedReport, EmbedRun, Estimate
from pgembedding_django.maintenance.rebuilding.targets import parse_target
from pgembedding_django.management.base import STOPPING, DatabaseCommand, handled
from pgembedding_django.passages import PassageReport
from pgembedding_django.querysets import every_row

RESUME = "What was embedded is kept. Run the same command again to go on."


class Command(DatabaseCommand):
    help = (
        "Embeds the rows of a model that are stale: without a vector, or whose text or embedding model changed. "
        "May be stopped and run again at any time, and run several times at once."
    )
    rights = (
        "SELECT and UPDATE on the table of the model, and SELECT, INSERT, UPDATE and DELETE on "
        "pgembedding_django_embedclaim"
    )
    after_interrupt = RESUME

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_noinput(parser)
        parser.add_argument("label", metavar="app.Model[.field]", help="the field only where several have a source")
        parser.add_argument("--all", action="store_true", help="embed the rows that are not stale, too")
        parser.add_argument("--limit", type=int, metavar="N", help="embed at most N rows")
        parser.add_argument(
            "--batch-size", type=int, metavar="N", help="texts of one call; the embedder's own unless given"
        )
        parser.add_argument(
            "--concurrency", type=int, metavar="N", help="calls at once; the embedder's own unless given"
        )
        parser.add_argument(
            "--enqueue", action="store_true", help="hand the stale rows to the workers of Django's tasks"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")

    def handle(self, *, label: str, dry_run: bool, interactive: bool, database: str, **options: Any) -> None:
        try:
            runs = self._plan(label, database, options)
            counted = dry_run or (interactive and any(run.embedder.sends_to for run in runs))
            sent = self._say_counts(runs, options["limit"]) if counted else False
        except (ImproperlyConfigured, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        if not runs:
            self.stdout.write(f"{label}: 0 rows to embed.")
        if not dry_run and (not (interactive and sent) or self.agrees("Continue?")):
            if options["enqueue"]:
                self._enqueue_all(runs, options)
            else:
                self._run_all(runs, options["limit"], announced=counted)

    def _plan(self, label: str, database: str, options: dict[str, Any]) -> Sequence[EmbedRun]:
        """Return what is to be run: one run for most models, one for each collection of documents, two for passages."""
        model, name = parse_target(label)
        sizes = {option: options[option] for option in ("batch_size", "concurrency", "limit", "all")}
        return every_row(model, database).embed_runs(name, **sizes)

    def _say_counts(self, runs: Sequence[EmbedRun], left: int | None) -> bool:
        """Count what each run would send, and tell whether any of it leaves this machine."""
        sent = False
        for run in runs:
            if left == 0:
                break
            needed = run.estimate(left)
            left = left and left - needed.rows
            run.total = needed.rows
            self._say_count(run, needed)
            sent = sent or bool(needed.rows and run.embedder.sends_to)
        return sent

    def _say_count(self, run: EmbedRun, needed: Estimate) -> None:
        price = "" if needed.price is None else f", at a price of about {needed.price:,.4f}"
        self.stdout.write(
            f"{_name(run)}: {_count(needed.rows, run.noun)} {run.work} by {_embedder(run)}, "
            f"{_count(needed.characters, 'character')}, at most about {_count(needed.tokens, 'token')}{price}."
        )
        if needed.too_long:
            named = ", ".join(map(str, needed.longest)) + (", ..." if needed.too_long > len(needed.longest) else "")
            self.stdout.write(
                f"{_count(needed.too_long, 'text')} of about more than {run.embedder.max_tokens:,} tokens, which the "
                f"embedder does not take whole: pk {named}. Passages split them: see Passages of long texts in the "
                "documentation."
            )
        if needed.rows and run.embedder.sends_to:
            self.stdout.write(f"Their texts are sent to {run.embedder.sends_to}, which may charge for them.")

    def _run_all(self, runs: Sequence[EmbedRun], left: int | None, *, announced: bool) -> None:
        for run in runs:
            if left == 0:
                break
            if not announced:
                rows = f"every {run.noun}" if run.all else f"the stale {run.noun}s"
                self.stdout.write(f"{_name(run)}: embedding {rows} by {_embedder(run)}.")
            run.limit = left
            self._run(run)
            left = left and left - run.report.rows
        failed = sum(run.report.failed for run in runs)
        if failed:
            raise CommandError(f"{_count(failed, 'row')} could not be embedded; what was stale still is.")

    def _enqueue_all(self, runs: Sequence[EmbedRun], options: dict[str, Any]) -> None:
        if unfit := [name for name in ("all", "batch_size", "concurrency") if options[name]]:
            raise CommandError(f"--enqueue takes --limit alone, got --{unfit[0].replace('_', '-')}.")
        for run in runs:
            try:
                count = run.enqueue(options["limit"])
            except (ImproperlyConfigured, NotEnqueued, TypeError) as error:
                raise CommandError(f"{error} What was handed over is kept.") from error
            self.stdout.write(
                f"{_name(run)}: {_count(count, f'stale {run.noun}')} handed to the workers. What is left tells: "
                f"manage.py embed {run.field.model._meta.label}.{run.field.name} --dry-run"
            )

    def _run(self, run: EmbedRun) -> None:
        # Shown on a terminal only; identical texts and rows of other workers make a run shorter than announced.
        with tqdm(total=run.total, unit=" rows", desc="embedding", disable=None) as bar, self._stopped_by_signals(run):
            run.progress = lambda done: bar.update(done - bar.n)
            try:
                run.run()
            except (EmbeddingError, ImproperlyConfigured) as error:
                bar.close()
                self._say_summary(run.report)
                raise CommandError(f"{error} {RESUME}") from error
            except (OperationalError, InterfaceError):
                bar.close()
                self._say_summary(run.report)
                raise
        self._say_summary(run.report)
        if run.stopped:
            raise CommandError(f"Stopped. {RESUME}", returncode=128 + self.stopped_by)

    @contextmanager
    def _stopped_by_signals(self, run: EmbedRun) -> Iterator[None]:
        """Let the first Ctrl-C, SIGTERM or SIGHUP stop the run after what is under way, and the second break it off."""

        def stop(number: int, *args: object) -> None:
            # The second one ends the process, and with its session the claims.
            for each in STOPPING:
                signal.signal(each, signal.SIG_DFL)
            self.stopped_by = number
            self.stderr.write("Stopping once what is under way is written. Ctrl-C again drops it.")
            run.stop()

        with handled(stop):
            yield

    def _say_summary(self, report: EmbedReport) -> None:
        for pk, reason in report.failures:
            self.stderr.write(f"pk {pk}: {reason}")
        if isinstance(report, PassageReport) and report.parents:
            self.stdout.write(
                f"{_count(report.parents, 'text')} split: {report.kept:,} passages kept, {report.deleted:,} deleted."
            )
        self.stdout.write(
            f"{report.embedded:,} embedded, {report.skipped:,} without text, {report.changed:,} edited meanwhile, "
            f"{report.failed:,} failed; {_count(report.texts, 'text')} and about {_count(report.tokens, 'token')} in "
            f"{_count(report.requests, 'request')}, {report.seconds:.1f} s."
        )


def _name(run: EmbedRun) -> str:
    return f"{run.field.model._meta.app_label}.{run.field.label}"


def _embedder(run: EmbedRun) -> str:
    return f'"{run.field.embedder}" ({_short(run.embedder.identity)})'


def _short(identity: str) -> str:
    """Return the class or model that an identity begins with, without the modules before a class."""
    name, colon, rest = identity.partition(":")
    return name.rpartition(".")[2] + colon + rest


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{pluralize(number)}"
