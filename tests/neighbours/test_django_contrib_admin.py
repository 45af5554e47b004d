"""django.contrib.admin: a plain ModelAdmin lists, shows and edits rows with vectors, also in inlines, in a browser."""

import pytest
from django.contrib import admin

from tests.admin import serve
from tests.neighbours.browser import Quire, Volume, chromium, needs_chromium, visit, volume  # noqa: F401 (fixtures)

LIST = "/admin/neighbours/volume/"


class Lines(admin.TabularInline):
    model = Quire
    extra = 1


class Blocks(admin.StackedInline):
    model = Quire
    extra = 1
    readonly_fields = ["embedding"]


OPTIONS = {
    "plain": {},
    "listed": {"list_display": ["title", "embedding", "print", "words"]},
    "readonly": {"readonly_fields": ["embedding", "print", "words"]},
    "lines": {"inlines": [Lines]},
    "blocks": {"inlines": [Blocks]},
}


@needs_chromium
@pytest.mark.parametrize("name", OPTIONS)
def test_pages_open_in_a_browser(settings, volume, visit, name):  # noqa: F811
    serve(settings, Volume, mixin=False, indexes=False, **OPTIONS[name])
    assert "Of apples" in visit(LIST, f"{name}-list")
    assert "Print" in visit(f"{LIST}{volume.pk}/change/", f"{name}-change")
    assert "Title" in visit(f"{LIST}add/", f"{name}-add")
