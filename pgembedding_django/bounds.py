"""What a number must be, asked in one way wherever a caller gives one."""

from __future__ import annotations

import numbers
from typing import TypeGuard

__all__ = ["is_integer", "is_number", "is_writable_integer"]


def is_integer(value: object, least: int, most: int | None = None) -> TypeGuard[int]:
    """Tell whether a value is an integer within bounds, of numpy too; True and False are none."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return integer and _is_within(value, least, most)


def is_writable_integer(value: object, least: int, most: int | None = None) -> TypeGuard[int]:
    """Tell whether a value is an integer within bounds that a migration can write, which numpy's are not."""
    return isinstance(value, int) and is_integer(value, least, most)


def is_number(value: object, least: float, most: float | None = None) -> TypeGuard[float]:
    """Tell whether a value is a real number within bounds; True, False and NaN are none."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and _is_within(value, least, most)


def _is_within(value: object, least: float, most: float | None) -> bool:
    number: float = value  # type: ignore[assignment]
    return bool(number >= least and (most is None or number <= most))
