"""What `hnsw_indexes --plan` takes and prints."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import CommandError
from django.db import connections
from django.template.defaultfilters import filesizeformat

from pgembedding_django.engines.building import available_memory
from pgembedding_django.maintenance.sizing import Need

__all__ = ["describe_plan", "read_plan"]

HEADER = ("index", "precision", "size", "memory", "table", "disk")


def read_plan(words: Sequence[str]) -> dict[str, int]:
    """Return the numbers of `rows=50000000 partitions=16`."""
    plan = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in ("rows", "partitions") or not number.isdecimal() or not int(number):
            raise CommandError(f"--plan takes rows=NUMBER and, where wanted, partitions=NUMBER, got {word}.")
        plan[name] = int(number)
    if "rows" not in plan:
        raise CommandError("--plan needs rows=NUMBER, such as rows=50000000.")
    return plan


def describe_plan(needs: Sequence[Need], using: str) -> list[str]:
    """Return the lines of a table, and what they mean."""
    if not needs:
        return ["No model declares an HnswIndex here."]
    rows = [HEADER, *map(_cells, needs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    has = _size(available_memory(connections[using]))
    lines += [
        "",
        f"For {needs[0].rows:,} rows with a vector; * is what the model declares.",
        "size: of the index, which is up to 5% larger than said.",
        f"memory: of a build; here it gets {has}, and one that needs more takes many times as long.",
        "disk: the table, the index, and the new index beside it during a rebuild.",
    ]
    guessed = sorted({need.model for need in needs if not need.measured})
    if guessed:
        lines.append(f"The table of {', '.join(guessed)} has too few rows to tell, so its vectors alone are counted.")
    return lines


def _cells(need: Need) -> tuple[str, ...]:
    precision = f"{need.precision}{' *' if need.declared else ''}"
    sizes = (need.size, need.memory, need.table, need.disk)
    return need.index, precision, *(_size(size) if size else "?" for size in sizes)


def _size(size: int) -> str:
    return filesizeformat(size).replace("\xa0", " ")
