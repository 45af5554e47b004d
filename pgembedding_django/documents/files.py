"""Finds the files below some paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pgembedding_django.documents.loaders import LOADERS

__all__ = ["FoundFiles", "find_files", "source_of"]


@dataclass
class FoundFiles:
    """
    What lies below some paths.

    files: those to read. unread: names and reasons of what cannot be. roots: the paths that were looked through.
    """

    files: list[Path] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)

    def covers(self, source: str) -> bool:
        """Tell whether a file would have been found, were it there."""
        path = Path(source)
        hidden = [Path(name) for name, _ in self.unread]
        return any(map(path.is_relative_to, self.roots)) and not any(map(path.is_relative_to, hidden))


def find_files(paths: Iterable[str | Path], *, follow_links: bool = False) -> FoundFiles:
    """
    Find the files that paths name, and those of a readable kind in the folders that they name, sorted.

    follow_links: read files outside of these folders, or hidden in them, to which a link in them leads.
    Hidden files and folders are left out, links to folders are not followed, and a file found twice counts once.
    """
    sources = FoundFiles()
    paths = list(paths)
    sources.roots = [_resolve(path) for path in paths if str(path) and os.path.isdir(path)]
    for name in paths:
        path = _resolve(name)
        if not str(name):  # As "$UNSET" leaves it in a shell, not the folder where the shell is.
            sources.unread.append(('""', "names no file"))
        elif path in sources.roots:
            _walk(path, sources, follow_links)
        elif not os.path.lexists(path):
            sources.unread.append((source_of(path), "does not exist"))
        elif path.suffix.lower() not in LOADERS:
            sources.unread.append((source_of(path), f"is none of {', '.join(LOADERS)}"))
        else:
            sources.files.append(path)
    sources.files = sorted(set(sources.files))
    return sources


def source_of(path: Path) -> str:
    """Return how the metadata names a file: its path, with what is no Unicode in it escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(root: Path, sources: FoundFiles, follow_links: bool) -> None:
    """Add what lies below a folder."""

    def report(error: OSError) -> None:
        sources.unread.append((source_of(Path(error.filename)), f"cannot be read: {error.strerror}"))

    for folder, folders, names in os.walk(root, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in LOADERS:
                _add(Path(folder, name), sources, follow_links)


def _add(path: Path, sources: FoundFiles, follow_links: bool) -> None:
    target = _resolve(path)
    refusal = None if target == path else _refuse(target, sources.roots, follow_links)
    if refusal is None:
        sources.files.append(target)
    else:
        sources.unread.append((source_of(path), f"is a link to {source_of(target)}, which {refusal}"))


def _refuse(target: Path, roots: list[Path], follow_links: bool) -> str | None:
    """Return why the file that a link leads to is not read."""
    if target.suffix.lower() not in LOADERS and os.path.lexists(target):
        return f"is none of {', '.join(LOADERS)}"
    inside = [target.relative_to(root) for root in roots if target.is_relative_to(root)]
    if follow_links or any(not any(part.startswith(".") for part in path.parts) for path in inside):
        return None
    return f"is {'hidden' if inside else 'outside of the folder'} (--follow-links reads it)"


def _resolve(path: str | Path) -> Path:
    return Path(os.path.realpath(path))  # Unlike Path.resolve(), without an error for a link to itself.
