"""URLs of databases, as people pass them."""

from urllib.parse import quote, urlencode


def url_of(entry, *, name=None, driver="psycopg2"):
    """Return the URL of a database by its entry in DATABASES, with SQLAlchemy's "+driver"."""
    password = f":{quote(entry['PASSWORD'])}" if entry["PASSWORD"] else ""
    place = urlencode({"host": entry["HOST"] or "localhost", "port": entry["PORT"] or 5432})
    return f"postgresql+{driver}://{entry['USER']}{password}@/{name or entry['NAME']}?{place}"
