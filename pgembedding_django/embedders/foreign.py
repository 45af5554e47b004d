"""What a failure of code that is not ours means."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError
from pgembedding_django.embedders.replies import PASSING

__all__ = ["OURS", "read_exception"]

#: What code that is not ours raises on purpose, for us to pass on.
OURS = (EmbeddingError, ImproperlyConfigured)


def read_exception(error: Exception, name: str) -> EmbeddingError:
    """
    Return what an exception of another package means.

    name: what raised it. The message leaves out the exception's own words, which may repeat a key.
    """
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    told = f"{type(error).__name__} {status}" if status else type(error).__name__
    passing = isinstance(error, ConnectionError | TimeoutError)
    if passing or (isinstance(status, int) and (status in PASSING or status >= 500)):
        unavailable = EmbedderUnavailable(f"{name} raised {told}.")
        # Too many requests is never about a text.
        unavailable.is_about_no_text = status == 429
        return unavailable
    return EmbeddingError(f"{name} raised {told}.")
