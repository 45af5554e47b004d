"""Which engine serves the session, and the fixtures that the folders share."""

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test.utils import isolate_apps

from pgembedding_django.engines import ENGINES
from pgembedding_django.search import estimates

#: The fixtures of all tests.
pytest_plugins = [
    "tests.support.capabilities",
    "tests.support.databases",
    "tests.support.doubles",
    "tests.support.roles",
    "tests.support.servers",
    "tests.support.tables",
]

#: Those have packages and settings of their own: `make neighbours`.
collect_ignore = ["neighbours"]


@pytest.fixture(scope="session")
def offered_extensions(django_db_setup, django_db_blocker):
    """The extensions of engines that the session's server could create."""
    with django_db_blocker.unblock(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT name FROM pg_available_extensions")
        return {name for (name,) in cursor.fetchall()} & {engine.extension for engine in ENGINES.values()}


@pytest.fixture(autouse=True)
def _only_on_its_engine(request):
    """Skip a test that is marked with an engine where the session runs on another one."""
    for engine in ENGINES.values():
        if request.node.get_closest_marker(engine.name) and not (
            django_settings.PGEMBEDDING["ENGINE"] == engine.name
            and engine.extension in request.getfixturevalue("offered_extensions")
        ):
            reasons = {
                "pg_embedding": 'this server does not offer the extension "embedding"',
                "pgvector": 'this session runs on the engine "pg_embedding"',
            }
            pytest.skip(reasons[engine.name])


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Let no test know how many rows another one had."""
    estimates.forget()


@pytest.fixture
def engine():
    """The engine that the session runs on."""
    return ENGINES[django_settings.PGEMBEDDING["ENGINE"]]


@pytest.fixture
def isolated():
    """An app registry of its own for models that a test defines with the app label "tests"."""
    with isolate_apps("tests") as registry:
        yield registry
