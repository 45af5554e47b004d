"""What the commands of documents share."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError

from pgembedding_django.documents.models import Collection
from pgembedding_django.embedders import get_embedder

__all__ = ["RESUME", "RIGHTS", "find_collection", "printable"]

RIGHTS = "SELECT, INSERT, UPDATE and DELETE on pgembedding_documents_collection and pgembedding_documents_document"

#: After an interrupt.
RESUME = "What was stored stays; run the command again to go on."


def find_collection(name: str, using: str, *, embedder: str | None = None, distance: str | None = None) -> Collection:
    """
    Return the collection of a name, which is not saved where there was none.

    embedder, distance: what a new one gets; raises CommandError if one that is there has another.
    """
    try:
        Collection.check_name(name)
        if embedder is not None:
            get_embedder(embedder)  # An unknown one is told first.
    except (ImproperlyConfigured, ValueError) as error:
        raise CommandError(str(error)) from error
    collection = Collection.objects.using(using).filter(name=name).first()
    if collection is None:
        collection = Collection(name=name, embedder=embedder or "default", distance=distance or Collection.Distance.L2)
        collection._state.db = using
    if embedder not in (None, collection.embedder):
        raise CommandError(
            f'Collection "{name}" has the embedder "{collection.embedder}", and its vectors could not be compared with '
            f'those of "{embedder}". Leave out --embedder, or choose another collection.'
        )
    if distance not in (None, collection.distance):
        raise CommandError(
            f'Collection "{name}" has the distance "{collection.distance}", got "{distance}". Leave out --distance.'
        )
    return collection


def printable(text: str) -> str:
    """Replace what a terminal would take for more than a character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
