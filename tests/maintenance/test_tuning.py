"""tune(): builds tried on a sample, and nothing left behind."""

import signal

import numpy as np
import pytest
from django.db import NotSupportedError, connection
from django.db.models import Q

from pgembedding_django import HnswIndex
from pgembedding_django.maintenance.recall import trials, tuning
from pgembedding_django.maintenance.recall.sampling import Recall
from pgembedding_django.maintenance.recall.trials import Trial
from pgembedding_django.maintenance.recall.tuning import BUILDS, TuningReport, tune
from tests.models import Article, Pair, Required
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db

VECTORS = np.random.default_rng(8).standard_normal((1000, 3)).astype(np.float32)

#: What of a database tuning could leave behind.
LEFT = "SELECT relname FROM pg_class WHERE relname LIKE 'pgembedding\\_tune%%'"


@pytest.fixture
def many():
    Article.objects.bulk_load(
        Article(title=str(i), published=i % 4 == 0, embedding=vector) for i, vector in enumerate(VECTORS)
    )


def trial(m, ef_search, recall):
    return Trial(m, 64, 1.0, 1000, Recall(ef_search, recall, recall, recall, 1.0, 2.0, ()))


def report(*trials, **options):
    index = HnswIndex(**{"fields": ["embedding"], "name": "a_hnsw", **options})
    return TuningReport(index=index, target=0.98, k=10, rows=10, queries=5, total=20, trials=trials)


# What is tried


def test_tune_stops_at_the_first_build_that_is_good_enough(many):
    found = tune(Article, recall=0.9, sample_rows=500)
    assert [(trial.m, trial.ef_construction) for trial in found.trials] == [BUILDS[0]]
    assert found.reached
    assert (found.rows, found.total, found.k) == (500, 1000, 10)
    assert found.best.recall.recall >= 0.9
    assert found.best.size > 0


def test_tune_tries_every_build_where_none_is_good_enough(many, monkeypatch):
    monkeypatch.setattr(trials, "ENOUGH", 0)
    found = tune(Article, recall=0.9, sample_rows=100)
    assert [(trial.m, trial.ef_construction) for trial in found.trials] == list(BUILDS)


def test_tune_goes_on_to_more_candidates_until_the_target(many, monkeypatch):
    monkeypatch.setattr(tuning, "BUILDS", ((2, 4),))
    monkeypatch.setattr(trials, "EF_SEARCH", (1, 2, 400))
    seen = []
    found = tune(Article, recall=0.9, k=5, progress=lambda done, total: seen.append((done, total)))
    tried = trials.EF_SEARCH.index(found.best.recall.ef_search) + 1
    assert tried > 1
    assert seen == [(i + 1, 1 + len(trials.EF_SEARCH)) for i in range(1 + tried)]


def test_tune_samples_the_rows_of_a_partial_index(many, monkeypatch):
    index = HnswIndex(fields=["embedding"], name="a", condition=Q(published=True))
    monkeypatch.setattr(Article._meta, "indexes", [index])
    found = tune(Article, recall=0.9)
    assert (found.rows, found.total) == (225, 250)


@pytest.mark.pgvector
@pytest.mark.parametrize("precision", ["half", "binary"])
def test_tune_keeps_precision_and_distance(many, monkeypatch, precision):
    index = HnswIndex(fields=["embedding"], name="a", precision=precision, distance="cosine")
    monkeypatch.setattr(Article._meta, "indexes", [index])
    line = tune(Article, recall=0.1, sample_rows=200).line
    assert f"precision='{precision}'" in line
    assert "distance='cosine'" in line


def test_tune_of_a_field_without_an_index_names_one():
    Required.objects.bulk_load(Required(embedding=vector) for vector in VECTORS[:50])
    assert "name='required_embedding_hnsw'" in tune(Required, recall=0.9).line


def test_tune_asks_by_rows_that_are_not_in_the_graph():
    # Two rows of three ask, so that one can be found.
    Article.objects.bulk_load(Article(title="", embedding=[1, 2, i]) for i in range(3))
    found = tune(Article, recall=0.9)
    assert (found.rows, found.total, found.k) == (1, 3, 1)


def test_tune_leaves_out_rows_without_a_vector(many):
    Article.objects.bulk_create([Article(title="none")] * 3)
    found = tune(Article, recall=0.9)
    assert (found.rows, found.total) == (900, 1000)


# What is chosen


def test_line_is_the_index_to_paste():
    found = report(trial(16, 40, 0.99), distance="cosine", condition=Q(published=True))
    assert found.line == (
        "HnswIndex(condition=models.Q(('published', True)), distance='cosine', ef_construction=64, ef_search=40, "
        "fields=['embedding'], m=16, name='a_hnsw')"
    )


def test_best_reaches_the_target_with_the_fewest_candidates():
    found = report(trial(8, 400, 0.99), trial(16, 100, 0.98), trial(24, 100, 0.999))
    assert found.reached
    assert found.best.m == 16


def test_best_where_none_reaches_the_target_finds_most():
    found = report(trial(8, 400, 0.5), trial(16, 400, 0.7), trial(24, 400, 0.6))
    assert not found.reached
    assert found.best.m == 16


# What is refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"recall": 0}, "recall must be over 0 and at most 1, got 0."),
        ({"recall": 1.1}, "recall must be over 0 and at most 1, got 1.1."),
        ({"k": 0}, "k must be an integer from 1 to 100,000, got 0."),
        ({"sample_rows": 1}, "sample_rows must be an integer from 2 to 2,147,483,647, got 1."),
        (
            {"seed": 2**63},
            "seed must be an integer from -9,223,372,036,854,775,807 to 9,223,372,036,854,775,807, got "
            "9223372036854775808.",
        ),
    ],
)
def test_tune_of_wrong_arguments_is_refused(options, sentence):
    with pytest.raises(ValueError) as caught:
        tune(Article, **{"recall": 0.9, **options})
    assert str(caught.value) == sentence


def test_tune_of_an_empty_table_is_refused():
    with pytest.raises(ValueError) as caught:
        tune(Pair, "one", recall=0.9)
    assert str(caught.value) == "Pair.one has 0 rows with a vector, and tuning needs 3. Run: manage.py embed tests.Pair"


def test_tune_on_a_read_only_connection_is_refused(many):
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(NotSupportedError) as caught:
        tune(Article, recall=0.9)
    assert str(caught.value) == (
        'Tuning copies rows to a temporary table, which this role may not make in database "default". Use a primary '
        "server and a role with the TEMP right."
    )


def test_tune_of_more_dimensions_than_an_index_holds_is_refused(monkeypatch):
    monkeypatch.setattr(Article._meta.get_field("embedding"), "dimensions", 5000)
    with pytest.raises(NotSupportedError, match=r"^Article.embedding has 5000 dimensions, more than an index of "):
        tune(Article, recall=0.9)


# What is left behind


def left():
    with connection.cursor() as cursor:
        cursor.execute(LEFT)
        return cursor.fetchall()


def test_tune_leaves_nothing_behind(many):
    tune(Article, recall=0.9)
    assert left() == []


def test_tune_interrupted_leaves_nothing_behind(many):
    def interrupt(done, total):
        assert left() != []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(Article, recall=0.9, progress=interrupt)
    assert left() == []


SCRIPT = """
import sys, time
from pgembedding_django.maintenance.recall.tuning import tune
from tests.models import Article

def stop(done, total):
    print("built", flush=True)
    time.sleep(600)

tune(Article, recall=0.9, progress=stop)
"""


def test_tune_killed_leaves_nothing_behind(ready_database):
    ready_database.migrate("tests")
    Article.objects.using(ready_database.alias).bulk_load(Article(title="", embedding=v) for v in VECTORS)
    process = ready_database.start("shell", "-v0", "-c", SCRIPT)
    assert process.stdout.readline() == "built\n"
    assert ready_database.execute(
        "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(
        ready_database,
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_class WHERE relname LIKE 'pgembedding\\_tune%') AND NOT EXISTS "
        "(SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())",
    )


# Where the precision is the limit


@pytest.fixture
def one_sided(monkeypatch):
    """Rows of which signs tell nothing, under an index of signs."""
    index = HnswIndex(fields=["embedding"], name="a", precision="binary")
    monkeypatch.setattr(Article._meta, "indexes", [index])
    Article.objects.bulk_load(Article(title="", embedding=vector) for vector in np.abs(VECTORS))


@pytest.mark.pgvector
def test_tune_tries_finer_precisions_where_the_declared_one_cannot_reach_the_target(one_sided):
    # Of 900 rows whose signs are all alike, any 320 are as good as others.
    found = tune(Article, recall=0.9)
    assert [(trial.precision, trial.m) for trial in found.trials] == [("binary", 8), ("half", 8)]
    assert found.trials[0].recall.recall < 0.6
    assert "precision='half'" in found.line


@pytest.mark.pgvector
def test_tune_leaves_the_precision_out_that_the_column_has_itself(one_sided, monkeypatch):
    monkeypatch.setattr(tuning, "FINER", {"binary": (None,)})
    found = tune(Article, recall=0.9)
    assert [trial.precision for trial in found.trials] == ["binary", None]
    assert "precision" not in found.line
