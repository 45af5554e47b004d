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
    "modeltranslation",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgembedding_django",
    "pgembedding_django.documents",
    "django_filters",
    "drf_spectacular",
    "graphene_django",
    "ninja",
    "import_export",
    "rest_framework",
    "strawberry_django",
    "auditlog",
    "mptt",
    "parler",
    "pghistory",
    "pgtrigger",
    "polymorphic",
    "reversion",
    "safedelete",
    "simple_history",
    "unfold.apps.BasicAppConfig",
    "tests.neighbours",
]
# Each module of tests holds its own models; their tables are made without migrations, and those that they refer to.
UNMIGRATED = ("admin", "auth", "auditlog", "contenttypes", "reversion", "sessions", "neighbours")
MIGRATION_MODULES = dict.fromkeys(UNMIGRATED)
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "German")]
ROOT_URLCONF = "tests.neighbours.urls"
