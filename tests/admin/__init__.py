"""What the tests of the admin share: a site, its people, and what is wrong with an index."""

from types import ModuleType

from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import path

from pgembedding_django.admin import EmbeddingAdminMixin, HnswIndexAdmin
from pgembedding_django.embedders import Embedder, EmbeddingError
from pgembedding_django.models import HnswIndexStatus, IndexRun
from tests.support.waiting import wait_until

INDEXES = "/admin/pgembedding_django/hnswindexstatus/"
ARTICLES = "/admin/tests/article/"
INDEX = "article_embedding_hnsw"

#: The permissions to look at indexes, and to do everything with them.
LOOK = ("view_hnswindexstatus",)
CARE = (*LOOK, "rebuild_hnswindexstatus", "repair_hnswindexstatus")


class AwayEmbedder(Embedder):
    """One whose server cannot be reached."""

    def compute(self, texts):
        raise EmbeddingError("<script>The server is away.</script>")


class PickyEmbedder(Embedder):
    """One that makes nothing of a text that is "bad"."""

    def compute(self, texts):
        return [[float("nan") if text == "bad" else 1.0] * 3 for text in texts]


def embed_with(settings, path, **options):
    """Make an embedder the default one."""
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": {"BACKEND": path, "OPTIONS": options}}}


def serve(settings, model, *, indexes=True, mixin=True, base=admin.ModelAdmin, **attributes):
    """Serve an admin site that has a model, with a ModelAdmin of the given attributes, and the indexes."""
    bases = (EmbeddingAdminMixin, base) if mixin else (base,)
    site = admin.AdminSite()
    site.register(model, type("SomeAdmin", bases, attributes))
    if indexes:
        site.register(HnswIndexStatus, HnswIndexAdmin)
    urls = ModuleType("urls")
    urls.urlpatterns = [path("admin/", site.urls)]
    settings.ROOT_URLCONF = urls


def staff(*codenames, name="ann", **options):
    """Return a client of someone who may enter the admin and has some permissions."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client(**options)
    client.force_login(user)
    return client


def label(name=INDEX):
    return f"public.{name}"


def rebuild_page(name=INDEX):
    return f"{INDEXES}rebuild/?index={label(name)}"


def invalidate(name=INDEX):
    """Make an index look as an interrupted build leaves it, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name])


class FreshRouter:
    """The indexes that the admin shows are those of the database "fresh"."""

    def db_for_write(self, model, **hints):
        return "fresh" if model is HnswIndexStatus else None


def text(answer):
    return answer.content.decode()


def messages(answer):
    """Return the messages of the page that an answer leads to."""
    return [str(message) for message in answer.context["messages"]]


def wait_for_runs(using="default"):
    """Return the runs once all have ended."""
    runs = IndexRun.objects.using(using)
    wait_until(lambda: not runs.filter(finished=None).exists())
    return list(runs.order_by("pk"))
