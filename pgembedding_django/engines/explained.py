"""What EXPLAIN (FORMAT JSON) tells, also of a statement that several servers run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Plan", "Task", "expected_rows", "plan_nodes", "tasks_of"]

Plan = dict[str, Any]


class Task(NamedTuple):
    """
    What one server does of a statement.

    rows: that it is expected to return. tables: that it reads, by their names there.
    """

    rows: int
    tables: tuple[str, ...]


def plan_nodes(plan: Plan) -> Iterator[Plan]:
    """Return each node of a plan, those of other servers too."""
    yield plan
    for part in (*plan.get("Plans", ()), *_remote_plans(plan), *_subplans(plan)):
        yield from plan_nodes(part)


def tasks_of(plan: Plan) -> list[Task]:
    """Return what other servers do of a statement; none where it runs on the one that was asked."""
    return [_read_task(list(_plans_of(task))) for task in _tasks(plan)]


def expected_rows(plan: Plan) -> int:
    """Return how many rows a statement is expected to give."""
    tasks = tasks_of(plan)
    return sum(task.rows for task in tasks) if tasks else int(plan["Plan Rows"])


def _tables(plan: Plan) -> Iterator[str]:
    return (node["Relation Name"] for node in plan_nodes(plan) if "Relation Name" in node)


def _read_task(plans: list[Plan]) -> Task:
    return Task(sum(int(plan["Plan Rows"]) for plan in plans), tuple(name for plan in plans for name in _tables(plan)))


def _remote_plans(plan: Plan) -> Iterator[Plan]:
    for task in _tasks(plan):
        yield from _plans_of(task)


def _tasks(plan: Plan) -> list[Plan]:
    tasks: list[Plan] = plan.get("Distributed Query", {}).get("Job", {}).get("Tasks", [])
    return tasks


def _plans_of(task: Plan) -> Iterator[Plan]:
    """Yield the plans of a task of Citus, a list of lists; a server that does not answer gives none."""
    for explained in task.get("Remote Plan", ()):
        yield explained[0]["Plan"]


def _subplans(plan: Plan) -> Iterator[Plan]:
    for subplan in plan.get("Distributed Query", {}).get("Subplans", ()):
        for explained in subplan["PlannedStmt"]:
            yield explained["Plan"]
