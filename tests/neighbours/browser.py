"""
Chromium before the pages of an admin, and what these show: a volume and its sheets.

PGEMBEDDING_PICTURES=folder keeps a picture of each page, wide, narrow and dark.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import models
from django.test import Client
from playwright.sync_api import sync_playwright

from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, HnswIndex, SparseVectorField

CHROMIUM = Path("/usr/bin/chromium")
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PICTURES = os.environ.get("PGEMBEDDING_PICTURES")


def needs_chromium(test):
    """Mark a test that opens pages: a server in a thread of its own sees what is committed."""
    skip = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium at /usr/bin/chromium")
    return pytest.mark.django_db(transaction=True)(skip(test))


class Volume(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=1536, source="title", null=True)
    print = BitField(length=64, null=True, blank=True)
    words = SparseVectorField(dimensions=30_000, null=True, blank=True)

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="volume_hnsw")]

    def __str__(self):
        return self.title


class Quire(models.Model):
    volume = models.ForeignKey(Volume, models.CASCADE, related_name="quires")
    text = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=384, source="text", null=True)

    objects = EmbeddingManager()

    def __str__(self):
        return self.text


@pytest.fixture(scope="module")
def chromium():
    """A browser; Django otherwise refuses the database to whatever runs beside its event loop."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def volume():
    rng = np.random.default_rng(4)
    volume = Volume.objects.create(title="Of apples", embedding=rng.standard_normal(1536), print="01" * 32)
    Volume.objects.create(title="Of pears", words={place: 0.5 + place for place in range(60)})
    for text in ("Green ones", "Red ones"):
        Quire.objects.create(volume=volume, text=text, embedding=rng.standard_normal(384))
    return volume


@pytest.fixture
def visit(chromium, live_server, request):
    """Open pages as the superuser, each wide, narrow and dark; return what the last says. fits: into the screen."""
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}

    def visit(address, name, *, fits=True):
        for kind, size, scheme in (("wide", WIDE, "light"), ("narrow", NARROW, "light"), ("dark", WIDE, "dark")):
            context = chromium.new_context(base_url=live_server.url, viewport=size, color_scheme=scheme)
            context.add_cookies([cookie])
            page, errors = context.new_page(), []
            page.on("pageerror", lambda error, errors=errors: errors.append(error))
            answer = page.goto(address)
            assert (answer.status, errors) == (200, [])
            if PICTURES:
                page.screenshot(path=f"{PICTURES}/{request.module.__name__.split('.')[-1]}-{name}-{kind}.png")
            assert not fits or page.evaluate(SIDEWAYS) <= 1, f"{address} is wider than the screen ({kind})"
            said = page.inner_text("body")
            context.close()
        return said

    return visit
