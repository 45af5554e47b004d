"""manage.py demo: from nothing to answers."""

from __future__ import annotations

import os
import time

from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from tqdm import tqdm

from example_project.pydocs import loading
from example_project.pydocs.corpus import entries
from example_project.pydocs.models import Section
from pgembedding_django.embedders import EmbeddingError, get_embedder

QUESTIONS = ["how do I catch an exception?", "pick a random element from a list", "split a string at commas"]
NEIGHBOURS = 5

#: Characters of the bar of distance 0; a row at distance 1 has none.
BAR = 20

NEXT = (
    ("make serve", "the search page at http://127.0.0.1:8000/ (python manage.py runserver)"),
    ("python manage.py createsuperuser", "a login for http://127.0.0.1:8000/admin/"),
    ("python manage.py hnsw_indexes", "the state of its index, as the admin shows it"),
    ("python manage.py measure_recall pydocs.Section", "how much of the exact answers the index finds"),
    ("README.md", "the same in a project of your own"),
)


class Command(BaseCommand):
    help = "Loads the Python documentation, embeds it, and answers three questions. May be run again at any time."

    def add_arguments(self, parser):
        parser.add_argument("--limit", type=int, metavar="N", help="load only the first N sections")

    def handle(self, *, limit, **options):
        self.stdout.write(self.style.MIGRATE_HEADING("\nAsk the Python documentation\n"))
        self._prepare(limit)
        # The first text of all loads the model; the times below are those of a server that has been asked before.
        get_embedder().embed_query(QUESTIONS[0])
        for question in QUESTIONS:
            self._answer(question)
        self._show_next()

    def _prepare(self, limit):
        self._say("Database", _database())
        self._say("Embedder", _embedder())
        call_command("migrate", verbosity=0)
        changes = loading.load(list(entries())[:limit])
        self._say("Sections", f"{Section.objects.count():,}: {_summary(changes)}")
        self._say("Vectors", self._embed())
        made = "was missing, so it was made again" if loading.ensure_index() else "made by the migration"
        self._say("Index", f"{Section._meta.indexes[0].name} (HNSW, cosine), {made}")

    def _embed(self):
        started = time.perf_counter()
        # Shown on a terminal only, and gone when it is done.
        total = Section.objects.stale().count()
        with tqdm(desc="  embedding", total=total, unit=" sections", leave=False, disable=None) as bar:
            try:
                embedded = Section.objects.embed(progress=lambda done: bar.update(done - bar.n)).embedded
            except EmbeddingError as error:
                raise CommandError(f"The sections could not be embedded: {error}") from error
        seconds = time.perf_counter() - started
        return f"{embedded:,} embedded in {seconds:.1f} s" if embedded else "up to date"

    def _answer(self, question):
        started = time.perf_counter()
        rows = list(Section.objects.nearest(question, NEIGHBOURS))
        took = (time.perf_counter() - started) * 1000
        self.stdout.write(f"\n{self.style.MIGRATE_LABEL(question)}  ({took:.1f} ms)")
        for row in rows:
            bar = "━" * round(BAR * max(0, 1 - row.distance))
            self.stdout.write(f"  {row.distance:.3f}  {self.style.SUCCESS(f'{bar:{BAR}}')}  {row}")

    def _show_next(self):
        self.stdout.write(self.style.MIGRATE_HEADING("\nWhere to look next\n"))
        for what, why in NEXT:
            self.stdout.write(f"  {what:46}  {why}")

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
    if os.environ.get("OPENAI_API_KEY"):
        return f"{name}, paid for by your OPENAI_API_KEY"
    return f"{name}, offline (set OPENAI_API_KEY to use OpenAI's)"


def _summary(changes):
    told = [f"{count:,} {kind}" for kind, count in changes._asdict().items() if count]
    return ", ".join(told) or "nothing changed"
