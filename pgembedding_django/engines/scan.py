"""How one search reads a table, and how many candidates it keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["EF_SEARCH", "EF_SEARCH_OF_ROWS", "Scan", "fitting_ef_search"]


#: Rows of a table: candidates that find 0.99 of the ten nearest of real embeddings (docstrings of installed packages,
#: 256 dimensions, 200 questions that are none of the rows).
EF_SEARCH_OF_ROWS = {1_000: 40, 2_000: 80, 6_000: 100, 10_000: 120, 20_000: 150}

#: Of a larger table, and of one whose size nobody has counted. On 100,000 clustered rows of 384 dimensions, 40 (the
#: server's default) found 0.89 of the ten nearest, 100 found 0.98 and 200 found 0.99 (benchmarks/).
EF_SEARCH = 200


def fitting_ef_search(rows: int) -> int:
    """Return how many candidates a search of a table of so many rows keeps; 0 where their number is not known."""
    return next((ef_search for most, ef_search in EF_SEARCH_OF_ROWS.items() if 0 < rows <= most), EF_SEARCH)


@dataclass(frozen=True)
class Scan:
    """
    How one search reads the table: exactly, or through an index.

    reason: why, for people. index: its name, or "" for an exact scan.
    ef_search: candidates that the scan keeps, 0 where the index fixes them. probes: lists that it reads, 0 where the
        index has none.
    fits_table: whether ef_search is the least, and the size of the table asks for more.
    is_fixed: whether the search or the index names ef_search, so that the table does not choose it.
    max_scan_tuples: how many it may visit when those are too few, 0 to stop at them. goes_on_to: how many in a second
        scan where the first stopped at too few.
    candidates: how many rows the index gives to be ranked again exactly; 0 where its own order is the exact one.
    precision: of the index, None for the column's own.
    listed: of how many rows the statement lists the keys, to rank those rows again; 0 where the index gives the answer.
    lists_then: of how many in that second scan, 0 for as many.
    enough: how many of these there must be, or the statement answers nothing.
    estimated: whether the reason counts rows as the planner believes.
    parts: in how many parts of the table the rows may be that it reads; 0 where that is not known.
    """

    reason: str = ""
    index: str = ""
    ef_search: int = 0
    probes: int = 0
    fits_table: bool = False
    is_fixed: bool = False
    max_scan_tuples: int = 0
    goes_on_to: int = 0
    candidates: int = 0
    precision: str | None = None
    listed: int = 0
    lists_then: int = 0
    enough: int = 0
    estimated: bool = False
    parts: int = 0

    def explain(self) -> str:
        """Return the scan in words."""
        if not self.index:
            return f"Exact scan: {self.reason}."
        how = {"ef_search": self.ef_search, "probes": self.probes}
        kept = "".join(f" with {name}={value}" for name, value in how.items() if value)
        again = f", {self.candidates} candidates ranked again" if self.candidates else ""
        return f"Index scan on {self.index}{kept}{again}: {self.reason}."

    def going_on(self) -> Scan:
        """Return the scan that does not stop at its first candidates."""
        return replace(self, max_scan_tuples=self.goes_on_to, listed=self.lists_then or self.listed)

    @property
    def reads_in_order(self) -> bool:
        """Whether the rows come from the index in their final order."""
        return bool(self.index) and not self.listed
