"""Questions with their right answers, read from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from pgembedding_django.bounds import is_integer
from pgembedding_django.querysets import every_row

__all__ = ["Question", "read_questions"]

#: What a line must look like.
SHAPE = '{"question": "...", "answers": [key, ...]} or {"question": "...", "answers": {"key": grade, ...}}'


@dataclass(frozen=True)
class Question:
    """A question, and the grade of each row that answers it: 1, or more where some answer better."""

    text: str
    grades: Mapping[Any, int]


def read_questions(path: Path, model: type[Model], *, key: str = "pk", using: str = DEFAULT_DB_ALIAS) -> list[Question]:
    """
    Return the questions of a file, of which each line is a JSON object: a question, and the keys of its right answers.

    answers: a list of keys, or an object of keys and grades, integers of which the greater is the better.
    key: the field that the keys are of; the primary key unless given.
    Raises OSError if the file cannot be read, and ValueError with its line for what is no such object, and for a key
    that no row has.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text, a line for each question: {SHAPE}.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    read = [(number, _parse(f"{path}, line {number}", line, model, key)) for number, line in numbered]
    if not read:
        raise ValueError(f"{path} has no question. Write a line for each: {SHAPE}.")
    for number, wanted in _missing(read, model, key, using):
        raise ValueError(f"{path}, line {number}: no {model.__name__} has {key} {wanted!r}.")
    return [question for _, question in read]


def _parse(place: str, line: str, model: type[Model], key: str) -> Question:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} must be JSON: {error}.") from error
    answers = entry.get("answers") if isinstance(entry, dict) else None
    text = entry.get("question") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip() or not isinstance(answers, dict | list):
        raise ValueError(f"{place} must be {SHAPE}.")
    graded = answers.items() if isinstance(answers, dict) else [(answer, 1) for answer in answers]
    grades = {_parse_key(place, model, key, answer): grade for answer, grade in graded}
    if not all(is_integer(grade, 0) for grade in grades.values()) or not any(grades.values()):
        raise ValueError(f"{place} must have an answer, and grades that are integers from 0, got {answers!r}.")
    return Question(text.strip(), grades)


def _parse_key(place: str, model: type[Model], key: str, answer: Any) -> Any:
    """Return a key as rows of the model have it."""
    try:
        fields: list[Any] = list(model._meta.pk_fields) if key == "pk" else [model._meta.get_field(key)]
        parts = answer if len(fields) > 1 and isinstance(answer, list) else [answer]
        values = [field.to_python(part) for field, part in zip(fields, parts, strict=True)]
        (parsed,) = values if len(fields) == 1 else [tuple(values)]
        hash(parsed)
    except FieldDoesNotExist as error:
        raise ValueError(f"key must name a field of {model.__name__}, got {key!r}.") from error
    except (ValidationError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {answer!r} is no {key} of {model.__name__}.") from error
    return parsed


def _missing(
    questions: list[tuple[int, Question]], model: type[Model], key: str, using: str
) -> Iterator[tuple[int, Any]]:
    """Yield the line and the key of each answer that is no row."""
    wanted = {answer for _, question in questions for answer in question.grades}
    rows = every_row(model, using).filter(**{f"{key}__in": list(wanted)}).order_by()
    there = set(rows.values_list(key, flat=True))
    for number, question in questions:
        yield from ((number, answer) for answer in question.grades if answer not in there)
