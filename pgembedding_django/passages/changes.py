"""What becomes of the passages of a text that changed: which stay, which are new, which are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction

from pgembedding_django.fields.source import JOINT
from pgembedding_django.passages.parents import DIGEST, Parents
from pgembedding_django.vectors import Vector

__all__ = ["Change", "read_changes", "write_changes"]

#: What a passage that stays may have to learn of its place.
PLACE = ("position", "start", "end", "parent_digest")

#: Rows of one statement.
BATCH = 1000


class Stored(NamedTuple):
    """A passage as it stands in the table."""

    pk: Any
    text: str
    place: tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    """
    What is to be done for one row.

    digest: of its text as it was read. seen: the passages that it had. new: passages without vectors, and texts: what
        is embedded for each of them. kept: passages whose text is still there; moved: those of them at another place.
    gone: the keys of the others.
    """

    pk: Any
    digest: str
    seen: frozenset[Any]
    new: list[Any]
    texts: list[str]
    kept: list[Any]
    moved: list[Any]
    gone: list[Any]


def read_changes(parents: Parents, using: str, pks: Sequence[Any], measure: Callable[[str], int]) -> Iterator[Change]:
    """Split the texts of some rows, and compare the pieces with the passages that are there."""
    rows = parents.digested(parents.rows(using).filter(pk__in=pks)).order_by("pk")
    target = parents.key.target_field.attname
    found = list(rows.values_list("pk", target, DIGEST, *parents.columns))
    stored = _read_stored(parents, using, [key for _, key, *_ in found])
    for pk, key, digest, text, *context in found:
        passages = _passages(parents, key, digest, text or "", context, measure)
        yield _compare(parents, pk, digest, passages, stored[key])


def _read_stored(parents: Parents, using: str, keys: Sequence[Any]) -> dict[Any, list[Stored]]:
    passages = parents.passages._base_manager.using(using).filter(**{f"{parents.key.attname}__in": keys})
    stored: dict[Any, list[Stored]] = defaultdict(list)
    rows = passages.order_by("position", "pk").values_list("pk", parents.key.attname, "text", *PLACE)
    for pk, key, text, *place in rows:
        stored[key].append(Stored(pk, text, tuple(place)))
    return stored


def _passages(
    parents: Parents, key: Any, digest: str, text: str, context: Sequence[str | None], measure: Callable[[str], int]
) -> list[Any]:
    """Return the passages of a text, as it would be split anew."""
    before = "".join(f"{part.strip()}{JOINT}" for part in context if part and part.strip())
    return [
        parents.passages(
            **{parents.key.attname: key},
            position=position,
            start=piece.start,
            end=piece.end,
            text=f"{before}{piece.text}",
            # The first one alone stands for the text, so that the others stay as they are.
            parent_digest=None if position else digest,
        )
        for position, piece in enumerate(parents.splits.split(text, measure))
    ]


def _compare(parents: Parents, pk: Any, digest: str, passages: list[Any], stored: Sequence[Stored]) -> Change:
    there: dict[str, list[Stored]] = defaultdict(list)
    for each in reversed(stored):
        there[each.text].append(each)
    new, kept, moved = [], [], []
    for passage in passages:
        if not there[passage.text]:
            new.append(passage)
            continue
        old = there[passage.text].pop()
        passage.pk = old.pk
        kept.append(passage)
        if old.place != tuple(getattr(passage, name) for name in PLACE):
            moved.append(passage)
    gone = [each.pk for left in there.values() for each in left]
    source = parents.field.text_source
    texts = [source.text(passage) for passage in new]
    return Change(pk, digest, frozenset(each.pk for each in stored), new, texts, kept, moved, gone)


def write_changes(
    parents: Parents, using: str, changes: Sequence[Change], vectors: Mapping[str, Vector]
) -> Collection[Any]:
    """
    Write passages in one transaction, and return the primary keys of the rows that were still as they were read.

    Locks those rows, so that one whose text is edited meanwhile waits, and is stale afterwards.
    """
    passages = parents.passages._base_manager.using(using)
    with transaction.atomic(using=using):
        rows = parents.rows(using).filter(pk__in=[change.pk for change in changes]).order_by("pk")
        now = dict(parents.digested(rows).select_for_update(no_key=True).values_list("pk", DIGEST))
        seen = _read_keys(parents, using, list(now))
        wanted = [each for each in changes if now.get(each.pk) == each.digest and seen[each.pk] == each.seen]
        for change in wanted:
            for passage, text in zip(change.new, change.texts, strict=True):
                setattr(passage, parents.field.name, vectors.get(text))
        gone = [pk for change in wanted for pk in change.gone]
        for start in range(0, len(gone), BATCH):
            passages.filter(pk__in=gone[start : start + BATCH]).delete()
        passages.bulk_update([each for change in wanted for each in change.moved], PLACE, batch_size=BATCH)
        passages.bulk_create([each for change in wanted for each in change.new], batch_size=BATCH)
    return {change.pk for change in wanted}


def _read_keys(parents: Parents, using: str, pks: Sequence[Any]) -> dict[Any, set[Any]]:
    keys: dict[Any, set[Any]] = defaultdict(set)
    rows = parents.passages._base_manager.using(using).filter(**{f"{parents.key.name}__pk__in": pks})
    for parent, pk in rows.values_list(f"{parents.key.name}__pk", "pk"):
        keys[parent].add(pk)
    return keys
