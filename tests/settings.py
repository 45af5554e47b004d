"""Settings of the tests: a real Postgres, embedded unless DATABASE_URL names another."""

import os
from pathlib import Path

import environ

from pgembedding_django.testing import embedded

env = environ.Env()
ROOT = Path(__file__).resolve().parent.parent
VERSION = env.int("PGEMBEDDING_TEST_POSTGRES", 18)

EMBEDDED = "DATABASE_URL" not in os.environ

if EMBEDDED:
    DATABASES = {"default": embedded.database(ROOT / ".postgres" / f"tests-{VERSION}", version=VERSION)}
else:
    DATABASES = {"default": env.db("DATABASE_URL")}
DATABASES["default"]["TEST"] = {"NAME": f"test_pgembedding_{os.getpid()}"}

SECRET_KEY = "tests"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "pgembedding_django",
    "pgembedding_django.documents",
    "tests",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# An ArrayField is what bulk_load() is tested with; nothing of django.contrib.postgres is needed for it.
SILENCED_SYSTEM_CHECKS = ["postgres.E005"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

PGEMBEDDING = {
    "ENGINE": env("PGEMBEDDING_TEST_ENGINE", default="pgvector"),
    "EMBEDDERS": {
        "default": {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 3}}
    },
}
