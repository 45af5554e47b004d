"""Settings of the benchmarks: an embedded Postgres with a folder of its own."""

from benchmarks.server import FOLDER
from pgembedding_django.testing import embedded

DATABASES = {"default": embedded.database(FOLDER, version=18)}
SECRET_KEY = "benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["pgembedding_django", "pgembedding_django.documents", "benchmarks"]
TIME_ZONE = "UTC"
PGEMBEDDING = {
    "EMBEDDERS": {
        "instant": {"BACKEND": "benchmarks.embedding.Instant"},
        "slow": {"BACKEND": "benchmarks.embedding.Slow"},
    }
}
