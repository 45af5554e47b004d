"""A project whose migrations were written by 0.1.0 and have not been touched since."""

import environ

env = environ.Env()
SECRET_KEY = "released"
DATABASES = {"default": env.db("DATABASE_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "pgembedding_django",
    "pgembedding_django.documents",
    "tests.released.shop",
]
PGEMBEDDING = {
    "EMBEDDERS": {
        "default": {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 3}}
    }
}
