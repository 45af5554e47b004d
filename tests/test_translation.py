"""The pages in another language, and what stays English."""

import io

import pytest
from django.core.management import call_command
from django.utils import translation

from pgembedding_django.checks import check_indexes
from tests.admin import CARE, INDEXES, invalidate, rebuild_page, serve, staff, text
from tests.models import Article

pytestmark = pytest.mark.django_db

ADVICE = "Its build, or a drop of it, was interrupted: no search uses it, but every write maintains it."


@pytest.fixture(autouse=True)
def german(settings):
    serve(settings, Article)
    invalidate()
    with translation.override("de"):
        yield


def test_list_of_indexes_speaks_german():
    page = text(staff(*CARE).get(INDEXES))
    assert "HNSW-Indizes" in page
    assert '<span class="pgembedding-state invalid">Ungültig</span>' in page
    assert "Sein Bau oder sein Löschen wurde abgebrochen: keine Suche nutzt ihn" in page
    assert "Ausgewählte Indizes neu bauen" in page


def test_page_that_asks_counts_in_german():
    assert "1 HNSW-Index neu bauen" in text(staff(*CARE).get(rebuild_page()))


def test_command_stays_english():
    out = io.StringIO()
    call_command("hnsw_indexes", stdout=out)
    assert ADVICE in " ".join(out.getvalue().split())


def test_check_stays_english():
    (message,) = check_indexes(databases=["default"])
    assert message.hint.startswith(ADVICE)
