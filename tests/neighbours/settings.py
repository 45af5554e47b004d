"""Settings of the tests beside other packages: their apps, on the database of the other tests."""

from tests.settings import (  # noqa: F401 - settings are read as attributes of this module
    DATABASES,
    DEFAULT_AUTO_FIELD,
    MIDDLEWARE,
    PASSWORD_HASHERS,
    PGEMBEDDING,
    ROOT,
    SECRET_KEY,
    STATIC_URL,
    TEMPLATES,
    USE_TZ,
)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "pgembedding_django",
    "pgembedding_django.documents",
    "django_filters",
    "drf_spectacular",
    "graphene_django",
    "ninja",
    "import_export",
    "rest_framework",
    "strawberry_django",
    "safedelete",
    "simple_history",
    "tests.neighbours",
]
# Each module of tests holds its own models; their tables are made without migrations.
MIGRATION_MODULES = {"neighbours": None}
ROOT_URLCONF = "tests.neighbours.urls"
