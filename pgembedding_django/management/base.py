"""What the commands share: the database they work in, their question, and the sentence in which they end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, InterfaceError, InternalError, OperationalError, ProgrammingError, connections

from pgembedding_django.loading.primary import READ_ONLY
from pgembedding_django.maintenance.rebuilding.errors import NO_RIGHT, end_sentence, explain_refusal
from pgembedding_django.operations import sqlstate

__all__ = ["INTERRUPTED", "STOPPING", "DatabaseCommand", "Interrupted", "handled"]

#: What ends a command as Ctrl-C does: its user, the system that stops or restarts, the terminal that is closed.
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: The exit status of a command that Ctrl-C ended, as shells have it: 128 and the number of the signal.
INTERRUPTED = 128 + signal.SIGINT

#: SQLSTATE of tables and columns that are not there.
ABSENT = ("42P01", "42703")


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command; number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle the signals that end a command; one that the process ignores, as after `nohup`, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    heard = {number: former for number, former in before.items() if former not in (signal.SIG_IGN, None)}
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in heard.items():
            signal.signal(number, former)


class DatabaseCommand(BaseCommand):
    """
    A command that works in one database.

    rights: what its role needs there.
    after_interrupt: what is left after Ctrl-C or a lost connection, and how to go on.
    Ends in one sentence. Exit status: 1 where the server refuses or is lost, 128 and its number after a signal.
    """

    rights = ""
    #: Whether it is about indexes, or about what else SQLite lacks.
    needs_postgres = False
    after_interrupt = "Nothing was changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help='"default" unless given'
        )

    def add_filter(self, parser: CommandParser, verb: str) -> None:
        """Let the command be limited to some rows, as parse_filters() reads them."""
        parser.add_argument(
            "--filter",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"{verb} only such rows, as published=true or views__gt=9; repeatable",
        )

    def add_noinput(self, parser: CommandParser) -> None:
        """Let the command be told to ask nothing."""
        parser.add_argument("--noinput", "--no-input", action="store_false", dest="interactive", help="ask nothing")

    def run_from_argv(self, argv: list[str]) -> None:
        # Whoever calls a command from Python has handlers of their own.
        with handled(_interrupt):
            super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        if self.needs_postgres and connections[options["database"]].vendor == "sqlite":
            raise CommandError(
                f'Database "{options["database"]}" is SQLite, which has no index of vectors and reads every row, so '
                "this command has nothing to do there. It needs PostgreSQL."
            )
        try:
            return super().execute(*args, **options)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            raise CommandError(f"Interrupted. {self.after_interrupt}", returncode=128 + number) from error
        except (InterfaceError, OperationalError) as error:
            # The server is gone or ended the connection, the disk is full, a lock or a statement took too long.
            raise CommandError(f"{self.explain(error, options['database'])} {self.after_interrupt}") from error
        except (ProgrammingError, InternalError) as error:
            if sqlstate(error) not in ("", NO_RIGHT, READ_ONLY, *ABSENT):
                raise
            raise CommandError(self.explain(error, options["database"])) from error

    def agrees(self, question: str) -> bool:
        """Ask a person; anything but yes is no."""
        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError as error:
            raise CommandError("Nobody is there to answer. Pass --noinput to go on without a question.") from error

    def explain(self, error: Exception, using: str) -> str:
        """Return an error of the server in one sentence, with its remedy where there is one."""
        if sqlstate(error) in ABSENT:
            return f"{end_sentence(error)} Run: manage.py migrate --database {using}"
        return explain_refusal(error, using, self.rights)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
