"""The abstract model of a passage."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from pgembedding_django.passages.managers import PassageManager
from pgembedding_django.passages.splitting import Splits

__all__ = ["Passage"]


class Passage(models.Model):
    """
    A piece of a long text of another row, with a vector of its own.

    A subclass has a ForeignKey to the row whose text it is a piece of, an EmbeddingField(source="text"), and `splits`,
    the name of that row's column, or a Splits. `embed()` of its manager makes the rows, and keeps them in step.
    position: which piece it is, from 0. start, end: its characters in the text, None where a splitter changed it.
    text: what is embedded: the context that Splits names, and the piece.
    """

    position: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(editable=False)
    start: models.PositiveIntegerField[int | None, int | None] = models.PositiveIntegerField(null=True, editable=False)
    end: models.PositiveIntegerField[int | None, int | None] = models.PositiveIntegerField(null=True, editable=False)
    text: models.TextField[str, str] = models.TextField()
    #: Of the text that was split, and of how: in the first passage of each text alone, so that an edit rewrites no row
    #: that stays.
    parent_digest: models.CharField[str | None, str | None] = models.CharField(
        max_length=64, null=True, blank=True, editable=False
    )

    objects = PassageManager()

    splits: ClassVar[str | Splits]

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.excerpt

    @property
    def excerpt(self) -> str:
        """The piece without the context before it."""
        if self.start is None or self.end is None:
            return self.text
        return self.text[len(self.text) - (self.end - self.start) :]
