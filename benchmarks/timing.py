"""Takes turns: every competitor answers the same question before the next one is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that some work took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def median_of(rounds: int, works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Let each work report its seconds once a round, in turns; return the median of each."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(work())
    return {name: float(np.median(values)) for name, values in seconds.items()}


def p50(seconds: Iterable[float]) -> float:
    """Return the median in milliseconds."""
    return float(np.percentile(list(seconds), 50)) * 1000


def p95(seconds: Iterable[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return float(np.percentile(list(seconds), 95)) * 1000
