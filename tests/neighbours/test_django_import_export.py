"""django-import-export: rows go to CSV, XLSX and JSON and back bit by bit, and unchanged ones are skipped."""

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from import_export.admin import ImportExportModelAdmin
from import_export.resources import ModelResource
from tablib import Dataset

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector
from tests.admin import serve
from tests.neighbours.browser import chromium, needs_chromium, visit  # noqa: F401 (fixtures)

pytestmark = pytest.mark.django_db

VECTORS = np.random.default_rng(3).standard_normal((4, 1536)).astype(np.float32)


class Scene(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=1536, source="title", null=True, blank=True)

    objects = EmbeddingManager()


class SceneResource(ModelResource):
    class Meta:
        model = Scene
        skip_unchanged = True
        report_skipped = True


@pytest.fixture
def scenes():
    Scene.objects.bulk_create(Scene(title=str(i), embedding=vector) for i, vector in enumerate(VECTORS))
    Scene.objects.create(title="none")
    return Scene.objects.order_by("pk")


def stored():
    return [(title, v and v.tobytes()) for title, v in Scene.objects.order_by("pk").values_list("title", "embedding")]


def exported(format):
    data = SceneResource().export(Scene.objects.order_by("pk"))
    return Dataset().load(data.export(format), format=format)


@pytest.mark.parametrize("format", ["csv", "xlsx", "json", "yaml"])
def test_rows_come_back_bit_by_bit(scenes, format):
    before, data = stored(), exported(format)
    Scene.objects.all().delete()
    result = SceneResource().import_data(data, raise_errors=True)
    assert result.totals["new"] == 5
    assert stored() == before


@pytest.mark.parametrize("format", ["csv", "xlsx", "json"])
def test_unchanged_rows_are_skipped_and_changed_ones_updated(scenes, format):
    scenes.filter(embedding=None).delete()  # "" is not None, for any CharField such as the digest.
    data = exported(format)
    scenes.filter(title="1").update(embedding=VECTORS[0])
    result = SceneResource().import_data(data, raise_errors=True)
    assert (result.totals["skip"], result.totals["update"]) == (3, 1)
    assert scenes[1].embedding == VECTORS[1]


@pytest.mark.parametrize("text", ["[1, 2]", "x", "[0.1 0.2 ... 0.3]"])
def test_what_is_no_vector_is_an_error_of_its_row(text):
    result = SceneResource().import_data(Dataset(("", "a", text), headers=["id", "title", "embedding"]))
    [row] = result.invalid_rows
    assert "Scene.embedding must " in str(row.error)
    assert not Scene.objects.exists()


def test_numpy_s_spelling_is_read():
    text = np.array2string(VECTORS[0], threshold=2000)
    SceneResource().import_data(Dataset(("", "a", text), headers=["id", "title", "embedding"]), raise_errors=True)
    np.testing.assert_allclose(Scene.objects.get().embedding, VECTORS[0], rtol=1e-6, atol=1e-6)


def test_admin_exports_and_imports(settings, admin_client, scenes):
    serve(settings, Scene, base=ImportExportModelAdmin, mixin=False, resource_classes=[SceneResource])
    answer = admin_client.post(
        "/admin/neighbours/scene/export/",
        {"format": "0", "resource": "", "sceneresource_id": "on", "sceneresource_title": "on"}
        | {"sceneresource_embedding": "on"},
    )
    assert answer.status_code == 200
    assert str(Vector(VECTORS[0])) in answer.content.decode()
    upload = SimpleUploadedFile("scenes.csv", answer.content, "text/csv")
    page = admin_client.post("/admin/neighbours/scene/import/", {"format": "0", "import_file": upload, "resource": ""})
    assert (page.status_code, page.context["result"].totals["skip"]) == (200, 5)


@needs_chromium
def test_pages_open_in_a_browser(settings, scenes, visit):  # noqa: F811
    serve(settings, Scene, base=ImportExportModelAdmin, mixin=False, indexes=False, resource_classes=[SceneResource])
    assert "Scene object" in visit("/admin/neighbours/scene/", "list")
    assert "Embedding" in visit("/admin/neighbours/scene/export/", "export")
    assert "embedding" in visit("/admin/neighbours/scene/import/", "import")
