"""What a measurement of recall found, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pgembedding_django.engines import GRAPH, MAX_EF_SEARCH
from pgembedding_django.maintenance.recall.sampling import Recall

__all__ = ["BuiltIndex", "RecallReport"]

#: Recall that the last step of ef_search must gain for a larger one to be advised.
CLIMB = 0.01


@dataclass(frozen=True)
class BuiltIndex:
    """
    The options that an index was built with beside those that are declared, as the advice compares them.

    Not the index in the database itself (HnswIndexStatus): of that it has the name alone.
    graph: the m and ef_construction that it was built with. declared: those that the model gives it, and ef_search.
    ef_search: where the index fixes it, else None.
    names: its own, and those of its parts where the table is partitioned.
    builder: the method that builds it, where no model declares it.
    parameter: what a search takes to find more, "probes" of an IvfflatIndex, whose "graph" is the number of its lists.
    """

    schema: str
    name: str
    graph: Mapping[str, int]
    declared: Mapping[str, int | None]
    ef_search: int | None
    names: tuple[str, ...]
    builder: str = ""
    parameter: str = "ef_search"

    @property
    def most(self) -> int:
        """The largest value of the parameter."""
        return MAX_EF_SEARCH if self.parameter == "ef_search" else self.graph["lists"]


@dataclass(frozen=True)
class RecallReport:
    """
    What a measurement found, and what follows from it.

    field: the label, as app.Model.field. filters: as text. size: rows with a vector behind the filter.
    k: rows wanted of each query, at most size - 1. queries: primary keys of the rows that asked,
    None for a vector given.
    default: nearest() by itself, which ran as explained. reads_index: whether Postgres read the index for it.
    rows: the index alone, by ascending ef_search or probes. precision: of the index, as declared.
    ceiling: what a graph that loses nothing would find, None where the precision is the column's own.
    """

    model: str
    field: str
    index: BuiltIndex
    filters: str
    size: int
    k: int
    queries: tuple[object, ...]
    default: Recall
    reads_index: bool
    explained: str
    rows: tuple[Recall, ...]
    precision: str | None = None
    ceiling: float | None = None

    def smallest(self, target: float) -> Recall | None:
        """Return the row of the smallest ef_search that reaches a recall, or None."""
        return next((row for row in self.rows if row.recall >= target), None)

    def advice(self, target: float) -> list[str]:
        """Return what to do to reach a recall, one sentence or two each; the first tells the smallest ef_search."""
        smallest, best = self.smallest(target), max(self.rows, key=lambda row: row.recall)
        if smallest is None:
            advice = [
                f"No {self.index.parameter} measured reaches a recall of {target:g}: {best.ef_search} finds "
                f"{best.recall:.3f}."
            ]
            advice += self._advise_precision() if self._is_coarse(target) else self._advise_climb()
        else:
            advice = [
                f"{self.index.parameter}={smallest.ef_search} is the smallest measured that reaches a recall of "
                f"{target:g}."
            ]
        if self.default.recall < target:
            advice += self._advise_default(target, smallest)
        if not self._is_coarse(target) and (smallest is None or self.default.recall < target):
            advice += self._advise_graph(smallest)
        if not self.reads_index:
            advice.append(self._explain_exact())
        return advice

    def _explain_exact(self) -> str:
        return f"nearest() by itself reads every row here, so its answers are exact. {self.explained}"

    def _is_coarse(self, target: float) -> bool:
        """Tell whether it is the precision that keeps every graph from the target."""
        return self.smallest(target) is None and self.ceiling is not None and self.ceiling < target

    def _advise_precision(self) -> list[str]:
        finer = 'precision="half", or none' if self.precision == "binary" else "none"
        return [
            f'precision="{self.precision}" is the cause: its candidates hold {self.ceiling:.3f} of the nearest rows '
            f"even if the graph loses none. Declare {finer}, and migrate; manage.py tune_hnsw {self.model} tries them."
        ]

    def _advise_climb(self) -> list[str]:
        if self.index.ef_search is not None and self.index.builder:
            return [self._call(None, ef_search=min(2 * self.index.ef_search, MAX_EF_SEARCH))]
        if self.index.ef_search is not None:
            return [f"Declare a larger ef_search in {self.index.name} and migrate."]
        last = self.rows[-1]
        climbs = len(self.rows) < 2 or last.recall - self.rows[-2].recall >= CLIMB
        if climbs and cast(int, last.ef_search) < self.index.most:
            upto = min(4 * cast(int, last.ef_search), self.index.most)
            return [f"Recall still rises with {self.index.parameter}: measure up to {upto}."]
        return []

    def _advise_default(self, target: float, smallest: Recall | None) -> list[str]:
        short = f"nearest() by itself finds {self.default.recall:.3f}, short of {target:g}"
        if smallest is None or self.index.ef_search is not None:
            return [f"{short}."]
        if self.index.builder:
            return [f"{short}. {self._call(smallest)} It keeps the graph. Or pass ef_search."]
        return [f"{short}: declare {self.index.parameter}={smallest.ef_search} in {self.index.name}, or pass it."]

    def _advise_graph(self, smallest: Recall | None) -> list[str]:
        other = [name for name in self.index.graph if self.index.graph[name] != self.index.declared[name]]
        if other and not self.index.builder:
            built, declared = (
                " and ".join(f"{name}={graph[name]}" for name in other)
                for graph in (self.index.graph, self.index.declared)
            )
            return [
                f"{self.index.name} was built with {built}, and the model declares {declared}: migrate, or where no "
                "migration is left to run, drop it. Then run: manage.py rebuild_hnsw_indexes --repair"
            ]
        thin = {name: least for name, least in GRAPH.items() if self.index.graph.get(name, least) < least}
        if thin:
            built = " and ".join(f"{name}={self.index.graph[name]}" for name in thin)
            better = " and ".join(f"{name}={least}" for name, least in thin.items())
            remedy = self._call(smallest, **thin) if self.index.builder else f"Declare {better}, and migrate."
            return [f"The graph is thin: {self.index.name} was built with {built}. {remedy}"]
        if smallest is not None:
            return []
        name = shlex.quote(self.index.name)
        if self.index.parameter == "probes":
            return [
                "Rebuild the index, whose lists are those of the rows that were there when it was built: "
                f"manage.py rebuild_hnsw_indexes {name}"
            ]
        larger = f"declare a larger m; manage.py tune_hnsw {self.model} finds one."
        if self.index.builder:
            larger = f"build a larger graph. {self._call(None, **{name: 2 * self.index.graph[name] for name in GRAPH})}"
        return [
            f"Rebuild the index, which deletes and updates wear out: manage.py rebuild_hnsw_indexes {name}",
            f"If it stays short, {larger}",
        ]

    def _call(self, smallest: Recall | None, **better: int) -> str:
        """Return how to build an index that no model declares: as it is, but for ef_search and what is better."""
        searched_with = {} if smallest is None else {"ef_search": smallest.ef_search}
        options = {**self.index.graph, "ef_search": self.index.declared["ef_search"], **searched_with, **better}
        return f"Call {self.index.builder}({', '.join(f'{name}={value}' for name, value in options.items())})."
