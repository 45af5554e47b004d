"""
Settings of the example; no environment variable is needed.

DATABASE_URL: a Postgres of your own, such as "postgres://user:password@localhost/pydocs", instead of the embedded one.
EMBEDDER: "openai" embeds with OpenAI, which charges your OPENAI_API_KEY, instead of wordllama, which is offline. Run
    `manage.py demo` after a change: vectors of two models cannot be compared.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.testing import embedded

env = environ.Env()
ROOT = Path(__file__).resolve().parent.parent
EMBEDDED_DATA = ROOT / ".postgres" / "demo"

if "DATABASE_URL" in os.environ:
    if env.DB_SCHEMES.get(urlsplit(os.environ["DATABASE_URL"]).scheme) != "django.db.backends.postgresql":
        raise ImproperlyConfigured("DATABASE_URL must name a Postgres: postgres://user:password@localhost/pydocs")
    DATABASES = {"default": env.db("DATABASE_URL")}
else:
    DATABASES = {"default": embedded.database(EMBEDDED_DATA, version=18)}

#: The column has 256 dimensions: what wordllama gives, and what the larger model shortens its vectors to when asked.
DIMENSIONS = 256
OFFLINE = {"BACKEND": "pgembedding_django.embedders.wordllama.WordLlamaEmbedder", "OPTIONS": {"dimensions": DIMENSIONS}}
OPENAI = {
    "BACKEND": "pgembedding_django.embedders.openai.OpenAIEmbedder",
    # Whoever runs the demo would rather know at once than wait for a server that is away.
    "OPTIONS": {"model": "text-embedding-3-small", "dimensions": DIMENSIONS, "deadline": 3},
}
# A key that is in the environment for something else is not used.
PGEMBEDDING = {"EMBEDDERS": {"default": OPENAI if env("EMBEDDER", default="") == "openai" else OFFLINE}}

# For a machine of your own only: a known key, and every error shown.
SECRET_KEY = "example"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgembedding_django",
    "example_project.pydocs",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
ROOT_URLCONF = "example_project.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

# wordllama sets up the root logger, for every message of every library, unless it has a handler already.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django": {"handlers": [], "level": "INFO"}},
}
