"""An embedder that counts what it is sent and misbehaves on command."""

import threading
import time
from collections import Counter

from pgembedding_django.embedders import Embedder, EmbedderUnavailable, EmbeddingError, TextRejected


def vector_of(text):
    """The vector of a text: exact in float32 and easy to write down in a test."""
    return [float(len(text)), float(ord(text[0])), 0.5]


class ScriptedEmbedder(Embedder):
    """
    Embed by `vector_of`, and count each text that was paid for in `paid`, each call's size in `sizes`.

    A text with the word "bad" is rejected. before: called with the texts of each call. failures: errors of the next
    calls. latency: seconds of each call. The state is the class's, since a changed setting makes another embedder.
    """

    dimensions = 3
    concurrency = 2

    def __init__(self, *, model="a", sends_to="", **options):
        super().__init__(**options)
        self.model, self._sends_to = model, sends_to

    @classmethod
    def reset(cls):
        cls.paid, cls.sizes, cls.failures = Counter(), [], []
        cls.before, cls.latency, cls.lock = None, 0, threading.Lock()

    @property
    def sends_to(self):
        return self._sends_to

    @property
    def identity(self):
        return f"scripted:{self.model}"

    def embed_each(self, texts):
        before = type(self).before
        if before:
            before(texts)
        time.sleep(self.latency)
        with self.lock:
            self.sizes.append(len(texts))
            if self.failures:
                raise self.failures.pop(0)
            self.paid.update(text for text in texts if "bad" not in text)
        return [TextRejected("it is bad") if "bad" in text else vector_of(text) for text in texts]

    def compute_query(self, text):
        return vector_of(text)


AWAY = EmbedderUnavailable("The server is away.")
REFUSED = EmbeddingError("The key is wrong.")
