"""Members of a document's metadata in SQL, whose keys are parameters; a lookup would find paths in them."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import BooleanField, F, Field, Func, JSONField, Q, TextField, Value
from django.db.models.functions import Coalesce

__all__ = ["Like", "Member", "MemberText", "equals_any", "matches", "never_null"]


class Member(Func):
    """The value under a key."""

    function: str = "jsonb_extract_path"
    output_field: Field[Any, Any] = JSONField()

    def __init__(self, key: str) -> None:
        super().__init__(F("metadata"), Value(key))


class MemberText(Member):
    """The value under a key, as text."""

    function: str = "jsonb_extract_path_text"
    output_field = TextField()


class Like(Func):
    """arg_joiner: " LIKE " or " ILIKE "."""

    template = "(%(expressions)s)"
    output_field = BooleanField()


class PathMatches(Func):
    arg_joiner = " @? "
    template = "(%(expressions)s)"
    output_field = BooleanField()


class EqualsAny(Func):
    """Written so that the server looks the value up in a hash table."""

    arg_joiner = " = ANY ("
    template = "(%(expressions)s::jsonb[]))"
    output_field = BooleanField()


class Elements(Func):
    """The elements of a list, as a list; an empty one where there is no list."""

    function: str = "jsonb_path_query_array"
    output_field = JSONField()

    def __init__(self, key: str) -> None:
        super().__init__(Member(key), Value("strict $[*]"), Value({}, JSONField()), Value(True))


class HasOneOf(Func):
    function: str = "jsonb_path_exists"
    output_field = BooleanField()

    def __init__(self, elements: Elements, values: list[Any]) -> None:
        super().__init__(elements, Value("$ ? (@ == $value[*])"), Value({"value": values}, JSONField()))


def matches(key: str, predicate: str) -> Q:
    """
    Return the rows with a member that fulfils a predicate of jsonpath, in which values stand as JSON writes them.

    jsonpath writes strings and numbers as JSON does, so that neither a key nor a value ends what quotes it. In its lax
    mode a list matches by its elements, and what has another type does not match.
    """
    return Q(PathMatches(F("metadata"), Value(f"$.{json.dumps(key)} ? ({predicate})")))


def equals_any(key: str, values: list[Any]) -> Q:
    """Return the rows with a member that is one of many values, or a list that has one as an element."""
    whole = EqualsAny(Member(key), Value([json.dumps(value) for value in values]))
    return never_null(whole) | never_null(HasOneOf(Elements(key), values))


def never_null(condition: Any) -> Q:
    """Return a condition that is false where the member is missing, so that NOT turns it round."""
    return Q(Coalesce(condition, Value(False), output_field=BooleanField()))
