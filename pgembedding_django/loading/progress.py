"""How long work on rows tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

#: Called with the number of rows done so far.
Progress = Callable[[int], object]
