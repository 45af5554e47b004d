"""nearest() and embed() behind PgBouncer, which lends one connection to its clients transaction by transaction."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.models import Article
from tests.support.many import QUERY, RANKED, VECTORS, N, ids
from tests.support.tables import load_articles
from tests.support.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed"),
]

CONFIG = """
[databases]
{name} = {server}
[pgbouncer]
pool_mode = transaction
default_pool_size = 1
auth_type = any
listen_addr =
unix_socket_dir = {folder}
"""


@pytest.fixture
def pooled(ready_database):
    """A database of N articles whose clients all share one server connection."""
    ready_database.migrate()
    load_articles(VECTORS, "fresh")
    # The table is so small that a server may rather sort it.
    ready_database.execute(f"ALTER DATABASE {ready_database.name} SET enable_sort = off")
    entry = ready_database.connection.settings_dict
    with tempfile.TemporaryDirectory(prefix="pgbouncer") as name:
        folder, bouncer = Path(name), _start(entry, Path(name))
        _wait_for_socket(folder, bouncer)
        ready_database.become(HOST=str(folder), PORT="6432", DISABLE_SERVER_SIDE_CURSORS=True)
        yield ready_database
        ready_database.connection.close()
        bouncer.terminate()
        bouncer.wait(timeout=10)
        ready_database.become(HOST=entry["HOST"], PORT=entry["PORT"])


def _start(entry, folder):
    config = folder / "pgbouncer.ini"
    server = " ".join(f"{key.lower()}={entry[key]}" for key in ("HOST", "PORT", "USER", "PASSWORD") if entry[key])
    config.write_text(CONFIG.format(name=entry["NAME"], server=server, folder=folder))
    # It refuses to run as root, and whoever owns the server's socket may reach it.
    user = None
    if os.geteuid() == 0:
        user = Path(entry["HOST"]).owner() if entry["HOST"].startswith("/") else "nobody"
        for path in (folder, config):
            shutil.chown(path, user)
    with (folder / "log").open("w") as log:
        return subprocess.Popen([PGBOUNCER, str(config)], user=user, stderr=log, cwd="/")


def _wait_for_socket(folder, bouncer):
    def is_there():
        assert bouncer.poll() is None, (folder / "log").read_text()
        return (folder / ".s.PGSQL.6432").exists()

    wait_until(is_there)


def test_nearest_through_a_transaction_pool_finds_the_nearest(pooled):
    articles = Article.objects.using("fresh")
    assert articles.nearest(QUERY, exact=False).explain_nearest().startswith("Index scan")
    assert ids(articles.nearest(QUERY, 300, exact=False)) == RANKED[:300]
    half = [i for i in RANKED if i % 2 == 0]
    for _ in range(10):  # often enough for psycopg 3 to prepare a statement, if it did
        assert ids(articles.filter(published=True).nearest(QUERY)) == half[:10]


@pytest.mark.pgvector
def test_nearest_through_a_transaction_pool_leaks_no_setting_to_another_client(pooled):
    asked = "SELECT pg_backend_pid(), current_setting('hnsw.ef_search', true)"
    list(Article.objects.using("fresh").nearest(QUERY, ef_search=77))
    mine = pooled.execute(asked)
    other = pooled.open()
    with other.cursor() as cursor:
        cursor.execute(asked)
        assert cursor.fetchall() == mine == [(mine[0][0], "40")]
    other.close()


def test_embed_through_a_transaction_pool_makes_the_vectors_again(pooled):
    articles = Article.objects.using("fresh")
    articles.update(embedding=None)
    assert articles.embed(batch_size=200).embedded == len(VECTORS)
    assert not articles.stale().exists()


#: Claims rows, and is killed before it embeds them.
KILLED = """
import os, signal
import django
django.setup()
from pgembedding_django.embedding import claims
from tests.models import Article
claims.LEASE = int(os.environ["LEASE"])
field = Article._meta.get_field("embedding")
worker = claims.Claims(field, "default")
print(len(worker.take(list(Article.objects.values_list("pk", flat=True)), fresh_too=True)[0]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("lease", "left"), [("0", N), ("600", 0)], ids=["over", "running"])
def test_claim_of_a_worker_killed_behind_a_transaction_pool_ends_with_its_lease(pooled, lease, left):
    """The session in which it claimed belongs to the pooler, and lives on."""
    environment = pooled.environment(LEASE=lease)
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    assert (killed.stdout, killed.returncode) == (f"{len(VECTORS)}\n", -signal.SIGKILL), killed.stderr
    assert Article.objects.using("fresh").embed(all=True).rows == left
