"""How a load or a run of embed() reports its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

#: Called with the number of rows done so far.
Progress = Callable[[int], object]
