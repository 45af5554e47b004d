"""Embedders that count what they are sent, and a Django without a tasks framework."""

import sys

import pytest

from pgembedding_django.embedders.dummy import DummyEmbedder
from tests.support.scripted import ScriptedEmbedder


@pytest.fixture
def scripted(settings):
    """The default embedder, which counts what it is sent and misbehaves on command; call it to set its OPTIONS."""

    def configure(**options):
        backend = {"BACKEND": "tests.support.scripted.ScriptedEmbedder", "OPTIONS": options}
        embedders = {**settings.PGEMBEDDING["EMBEDDERS"], "default": backend}
        settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}

    ScriptedEmbedder.reset()
    configure()
    ScriptedEmbedder.configure = staticmethod(configure)
    return ScriptedEmbedder


@pytest.fixture
def no_framework(monkeypatch):
    # None in sys.modules is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "django.tasks", None)
    monkeypatch.setitem(sys.modules, "django_tasks", None)


@pytest.fixture(name="embedded")
def embedded_texts(monkeypatch):
    """The texts that were embedded as documents."""
    texts, compute = [], DummyEmbedder.compute

    def count(self, batch):
        texts.extend(batch)
        return compute(self, batch)

    monkeypatch.setattr(DummyEmbedder, "compute", count)
    return texts
