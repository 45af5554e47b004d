"""What only mypy with django-stubs' plugin can find: the manager that as_manager() makes."""

from __future__ import annotations

from typing import assert_type

from tests.typing.library.models import Page, PageQuerySet

assert_type(Page.objects.get(pk=1), Page)
assert_type(Page.objects.all().long().nearest("text"), PageQuerySet)
for page in Page.objects.nearest("text"):
    assert_type(page, Page)
