"""manage.py demo: from nothing to answers."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from tqdm import tqdm

from example_project.pydocs import loading
from example_project.pydocs.corpus import entries
from example_project.pydocs.models import Section
from example_project.pydocs.search import search
from pgembedding_django.embedders import EmbeddingError, get_embedder

QUESTIONS = ["how do I catch an exception?", "pick a random element from a list", "split a string at commas"]
NEIGHBOURS = 5

#: Characters of the bar of distance 0; a row at distance 1 has none.
BAR = 20

#: Commands of manage.py, and what they show.
NEXT = (
    ("runserver", "the search page at http://127.0.0.1:8000/"),
    ("createsuperuser", "a login for http://127.0.0.1:8000/admin/"),
    ("hnsw_indexes", "the state of its index, as the admin shows it"),
    ("measure_recall pydocs.Section", "how much of the exact answers the index finds"),
)


class Command(BaseCommand):
    help = "Loads the Python documentation, embeds it, and answers three questions. May be run again at any time."

    def add_arguments(self, parser):
        parser.add_argument("--limit", type=int, metavar="N", help="load only the first N sections")

    def handle(self, *, limit, **options):
        self.stdout.write(self.style.MIGRATE_HEADING("\nAsk the Python documentation\n"))
        try:
            self._prepare(limit)
            self._answer_all()
        except EmbeddingError as error:
            raise CommandError(f"The demo stops where the embedder did: {error}") from error
        self._show_next()

    def _answer_all(self):
        # The times below are those of a server that has been asked before.
        search("hello")
        for question in QUESTIONS:
            self._answer(question)

    def _prepare(self, limit):
        self._say("Database", _database())
        self._say("Embedder", _embedder())
        call_command("migrate", verbosity=0)
        changes = loading.load(list(entries())[:limit])
        self._say("Sections", f"{Section.objects.count():,}: {_summary(changes)}")
        self._say("Vectors", self._embed())
        made = "was missing, so it was made again" if loading.ensure_index() else "made by the migration"
        loading.analyze()
        self._say("Index", f"{Section._meta.indexes[0].name} (HNSW, cosine), {made}")

    def _embed(self):
        started = time.perf_counter()
        # Shown on a terminal only, and gone when it is done.
        total = Section.objects.stale().count()
        with tqdm(desc="  embedding", total=total, unit=" sections", leave=False, disable=None) as bar:
            embedded = Section.objects.embed(progress=lambda done: bar.update(done - bar.n)).embedded
        seconds = time.perf_counter() - started
        return f"{embedded:,} embedded in {seconds:.1f} s" if embedded else "up to date"

    def _answer(self, question):
        rows, _, took = search(question, k=NEIGHBOURS)
        self.stdout.write(f"\n{self.style.MIGRATE_LABEL(question)}  ({took:.1f} ms)")
        for row in rows:
            bar = "━" * round(BAR * max(0, 1 - row.distance))
            self.stdout.write(f"  {row.distance:.3f}  {self.style.SUCCESS(f'{bar:{BAR}}')}  {row}")

    def _show_next(self):
        self.stdout.write(self.style.MIGRATE_HEADING("\nWhere to look next\n"))
        if variables := [name for name in ("DATABASE_URL", "EMBEDDER") if name in os.environ]:
            self.stdout.write(f"  With {' and '.join(variables)} set as it was here:")
        for command, what in NEXT:
            self.stdout.write(f"  {_manage()} {command:29}  {what}")
        self.stdout.write("\nREADME.md tells the same for a project of your own.")

    def _say(self, what, value):
        self.stdout.write(f"  {what:9} {value}")


def _database():
    version = connection.pg_version // 10000
    if "DATABASE_URL" in os.environ:
        return f"{connection.settings_dict['NAME']} on Postgres {version}, from DATABASE_URL"
    return f"embedded Postgres {version} in .postgres/demo"


def _embedder():
    embedder = get_embedder()
    name = getattr(embedder, "model", type(embedder).__name__)
    if embedder.sends_to:
        return f"{name}, paid for by your OPENAI_API_KEY"
    return f"{name}, offline (EMBEDDER=openai uses your OPENAI_API_KEY)"


def _manage():
    """Return how manage.py is called from the folder that the shell is in."""
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    return shlex.join([python, sys.argv[0]])


def _summary(changes):
    told = [f"{count:,} {kind}" for kind, count in changes._asdict().items() if count]
    return ", ".join(told) or "nothing changed"
