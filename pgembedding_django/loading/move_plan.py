"""Which tables move from one database to another, and in which order their foreign keys let them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, cast

from django.apps import apps
from django.db import router
from django.db.models import Model

from pgembedding_django.fields import measured_fields

if TYPE_CHECKING:
    from django.db.models import Field

__all__ = ["MovePlan", "Table", "is_circle", "plan_move"]

Table = type[Model]


@dataclass(frozen=True)
class MovePlan:
    """
    What moves, in order, and what does not.

    groups: tables that refer to each other, or to themselves, stand in one group, which moves in one transaction.
    referred: those that move only because the rows of others refer to them.
    left: pairs of a table that does not move and a table that moves, to which it refers.
    """

    groups: tuple[tuple[Table, ...], ...]
    referred: frozenset[Table]
    left: tuple[tuple[Table, Table], ...]

    @property
    def tables(self) -> list[Table]:
        return [table for group in self.groups for table in group]


def plan_move(named: Iterable[Table], source: str, target: str) -> MovePlan:
    """
    Plan a move of some models, or of all that have an EmbeddingField.

    With them move the rows of their many-to-many relations, and all tables that the foreign keys of any of these name.
    A table stays behind where the router keeps it off either of the databases.
    """
    chosen = {_concrete(model) for model in named} or {model for model in apps.get_models() if _has_vectors(model)}
    chosen = {model for model in _with_relations(chosen) if _is_in_both(model, source, target)}
    moved = set(chosen)
    waiting = list(chosen)
    while waiting:
        new = {model for model in _referred(waiting.pop()) if _is_in_both(model, source, target)} - moved
        moved |= new
        waiting += new
    return MovePlan(_groups(moved), frozenset(moved - chosen), _left(moved))


def is_circle(group: tuple[Table, ...]) -> bool:
    """Tell whether rows of a group may come before the rows that they refer to."""
    return len(group) > 1 or group[0] in _referred(group[0])


def _concrete(model: Table) -> Table:
    return cast("Table", model._meta.concrete_model)


def _has_vectors(model: Table) -> bool:
    return not model._meta.proxy and bool(measured_fields(model, local=True))


def _is_in_both(model: Table, source: str, target: str) -> bool:
    return all(router.allow_migrate_model(alias, model) for alias in (source, target))


def _with_relations(models: set[Table]) -> set[Table]:
    """Add the tables of parents, without which a row is none, and those of many-to-many relations."""
    whole = {parent for model in models for parent in (model, *model._meta.get_parent_list())}
    through = {field.remote_field.through for model in whole for field in model._meta.local_many_to_many}
    return whole | cast("set[Table]", through)


def _referred(model: Table) -> set[Table]:
    fields = cast("Iterable[Field[object, object]]", model._meta.local_concrete_fields)
    return {_concrete(cast("Table", field.related_model)) for field in fields if field.is_relation}


def _groups(models: set[Table]) -> tuple[tuple[Table, ...], ...]:
    names = sorted(models, key=_label)
    reached = {model: _reached(model, models) for model in names}
    group = {
        model: tuple(
            other for other in names if other is model or (other in reached[model] and model in reached[other])
        )
        for model in names
    }
    before = {
        group[model]: {group[other] for member in group[model] for other in reached[member]} - {group[model]}
        for model in names
    }
    ordered = TopologicalSorter({each: sorted(others, key=_label_of_first) for each, others in before.items()})
    return tuple(ordered.static_order())


def _reached(model: Table, models: set[Table]) -> set[Table]:
    """Return what a table's foreign keys lead to, over any number of tables."""
    reached: set[Table] = set()
    waiting = [model]
    while waiting:
        new = (_referred(waiting.pop()) & models) - reached
        reached |= new
        waiting += new
    return reached


def _left(moved: set[Table]) -> tuple[tuple[Table, Table], ...]:
    pairs = {
        (other, model)
        for other in apps.get_models(include_auto_created=True)
        if _concrete(other) is other and other not in moved
        for model in _referred(other) & moved
    }
    return tuple(sorted(pairs, key=lambda pair: (_label(pair[0]), _label(pair[1]))))


def _label(model: Table) -> str:
    return model._meta.label


def _label_of_first(group: tuple[Table, ...]) -> str:
    return _label(group[0])
