"""Settings of the benchmarks: an embedded Postgres with a folder of its own, the server's defaults otherwise."""

from pathlib import Path

from pgembedding_django import embedded

ROOT = Path(__file__).resolve().parent.parent

DATABASES = {"default": embedded.database(ROOT / ".postgres" / "bench", version=18)}
SECRET_KEY = "benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["pgembedding_django", "benchmarks"]
