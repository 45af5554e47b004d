"""Settings for mypy, which needs the apps and no database: it would start the embedded one and never stop it."""

SECRET_KEY = "typing"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "pgembedding_django",
    "pgembedding_django.documents",
    "tests.typing.library",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "typing"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
