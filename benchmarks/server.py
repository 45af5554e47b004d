"""Gives the benchmarks' server its memory: `python -m benchmarks.server`, before anything else starts it."""

from pathlib import Path

import psycopg2

from pgembedding_django.testing import embedded

FOLDER = Path(__file__).resolve().parent.parent / ".postgres" / "bench"

#: The default of 128 MB holds no index of 100,000 rows; what is measured then is how fast pages are copied.
SHARED_BUFFERS = "1GB"


def main() -> None:
    """Set shared_buffers, which counts from the next start; the server stops when this process ends."""
    entry = embedded.database(FOLDER, version=18)
    server = psycopg2.connect(host=entry["HOST"], port=entry["PORT"], user=entry["USER"], dbname=entry["NAME"])
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET shared_buffers = %s", [SHARED_BUFFERS])
    server.close()


if __name__ == "__main__":
    main()
