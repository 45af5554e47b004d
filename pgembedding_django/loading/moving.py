"""Moves tables from one database to another: in order, resumable, counted on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

from django.db import transaction

from pgembedding_django.loading.indexes import add_missing_indexes, drop_indexes
from pgembedding_django.loading.move_plan import MovePlan, Table, is_circle, plan_move
from pgembedding_django.loading.transfer import Key, Transfer

__all__ = ["Move", "MovePlan", "MovedTable", "plan_move"]


@dataclass
class MovedTable:
    """
    What became of one table.

    copied: rows that were moved now. kept: rows whose key was in the target before. differing: how many of those hold
    something else there. source_rows, target_rows: counted at the end.
    """

    model: Table
    copied: int = 0
    kept: int = 0
    differing: list[Key] = field(default_factory=list)
    source_rows: int = 0
    target_rows: int = 0

    @property
    def missing(self) -> int:
        """How many rows of the source did not come over, as where others write to it meanwhile."""
        return max(0, self.source_rows - self.copied - self.kept)


class Move:
    """
    The move of a plan's tables.

    progress: called with the number of rows of each page.
    A later run leaves alone the rows that an earlier one has copied.
    """

    plan: MovePlan
    source: str
    target: str
    progress: Callable[[int], object]

    def __init__(
        self, plan: MovePlan, source: str, target: str, progress: Callable[[int], object] = lambda rows: None
    ) -> None:
        self.plan, self.source, self.target, self.progress = plan, source, target, progress
        self.transfers: dict[Table, Transfer] = {model: Transfer(model, source, target) for model in plan.tables}

    def count_rows(self, using: str) -> dict[Table, int]:
        """Return how many rows each table has in one of the databases."""
        return {model: transfer.count(using) for model, transfer in self.transfers.items()}

    def check_columns(self) -> None:
        """Raise NotSupportedError where a column is missing, or has another type, in one of the databases."""
        for transfer in self.transfers.values():
            transfer.check_columns()

    def run(self) -> Iterator[MovedTable]:
        """
        Move table after table, and yield what became of each.

        Where a table gets more rows than it has, its HNSW indexes are dropped first and built at the end.
        Raises IntegrityError for a row that another one in the target stands for, and the server's own errors, naming
        the table and the page.
        """
        self.check_columns()
        for group in self.plan.groups:
            for model in group:
                self._make_room(model)
            with transaction.atomic(using=self.target) if is_circle(group) else nullcontext():
                moved = [self._move(self.transfers[model]) for model in group]
            for table in moved:
                add_missing_indexes(table.model, self.target)
                self.transfers[table.model].finish()
            yield from moved

    def _make_room(self, model: Table) -> None:
        source, target = (self.transfers[model].count(using) for using in (self.source, self.target))
        if source - target > target:
            drop_indexes(model, self.target)

    def _move(self, transfer: Transfer) -> MovedTable:
        moved = MovedTable(transfer.model)
        for page in transfer.run():
            if transfer.model in self.plan.referred:
                transfer.check_same(page.differing)
            moved.copied += page.copied
            moved.kept += page.kept
            moved.differing += page.differing
            self.progress(page.copied + page.kept)
        moved.source_rows, moved.target_rows = transfer.count(self.source), transfer.count(self.target)
        return moved
