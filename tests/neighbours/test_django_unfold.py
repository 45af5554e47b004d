"""django-unfold: its ModelAdmin shows and edits rows with vectors, and the indexes have their pages."""

import re
from pathlib import Path
from types import ModuleType

import pytest
import unfold
from django.urls import path
from unfold.admin import ModelAdmin, TabularInline
from unfold.sites import UnfoldAdminSite

from pgembedding_django.admin import EmbeddingAdminMixin, HnswIndexAdmin
from pgembedding_django.models import HnswIndexStatus
from tests.neighbours.browser import Quire, Volume, chromium, needs_chromium, visit, volume  # noqa: F401 (fixtures)

#: django-unfold 0.91 on Django 6.1.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding get_action")

LIST = "/admin/neighbours/volume/"


class Lines(TabularInline):
    model = Quire
    extra = 1


class Plain(ModelAdmin):
    list_display = ["title", "print"]
    inlines = [Lines]


class Mixed(EmbeddingAdminMixin, ModelAdmin):
    list_display = ["title", "embedding", "words"]
    readonly_fields = ["embedding"]


class Indexes(HnswIndexAdmin, ModelAdmin):
    pass


@pytest.fixture
def serve(settings):
    """Serve a site as a project does that has unfold before Django's own admin."""
    templates = str(Path(unfold.__file__).parent / "templates")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [templates]}]

    def serve(model_admin):
        site = UnfoldAdminSite()
        site.register(Volume, model_admin)
        site.register(HnswIndexStatus, Indexes)
        urls = ModuleType("urls")
        urls.urlpatterns = [path("admin/", site.urls)]
        settings.ROOT_URLCONF = urls

    return serve


@needs_chromium
@pytest.mark.parametrize("model_admin", [Plain, Mixed])
def test_pages_open_in_a_browser(serve, volume, visit, model_admin):  # noqa: F811
    serve(model_admin)
    name = model_admin.__name__.lower()
    assert "Of apples" in visit(LIST, f"{name}-list")
    assert "Title" in visit(f"{LIST}{volume.pk}/change/", f"{name}-change")
    assert "Title" in visit(f"{LIST}add/", f"{name}-add")


@pytest.mark.django_db
def test_inputs_of_bits_and_sparse_vectors_have_its_style(serve, volume, admin_client):  # noqa: F811
    serve(Plain)
    page = admin_client.get(f"{LIST}{volume.pk}/change/").content.decode()
    inputs = {name: re.search(rf'<input [^>]*name="{name}"[^>]*>', page)[0] for name in ("title", "print", "words")}
    assert all("border-base-200" in tag for tag in inputs.values()), inputs


@needs_chromium
def test_pages_of_indexes_open_in_a_browser(serve, volume, visit):  # noqa: F811
    serve(Mixed)
    assert "healthy" in visit("/admin/pgembedding_django/hnswindexstatus/", "indexes").lower()
    status = HnswIndexStatus.objects.get(name="volume_hnsw")
    address = f"/admin/pgembedding_django/hnswindexstatus/{status.label.replace('_', '_5F')}/change/"
    assert "Recall" in visit(address, "index")
