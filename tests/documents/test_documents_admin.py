"""Collections and documents in Django's own admin."""

from types import ModuleType

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection, models
from django.db.models import signals
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from pgembedding_django.documents.admin import CollectionAdmin
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.embedders.dummy import DummyEmbedder

pytestmark = pytest.mark.django_db

COLLECTIONS = "/admin/pgembedding_documents/collection/"
DOCUMENTS = "/admin/pgembedding_documents/document/"


@pytest.fixture
def fruit():
    collection = Collection.objects.create(name="fruit <b>")
    texts = ["red apple", "yellow banana", "red cherry <script>"]
    collection.add_texts(texts, [{"text": text} for text in texts], keys=["a", "b", "c"])
    return collection


@pytest.fixture
def client_of():
    """Make a client of someone of the staff with some permissions."""

    def make(*permissions):
        client = Client()
        user = User.objects.create_user("staff", password="staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return make


def page_of(client, url, **query):
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def order_of(page, *texts):
    return sorted((text for text in texts if text in page), key=page.index)


# Collections


def test_list_shows_counts_and_the_state_of_the_index(fruit, admin_client):
    Collection.objects.create(name="empty")
    page = page_of(admin_client, COLLECTIONS)
    assert '<td class="field-documents_count">3</td>' in page
    assert '<td class="field-documents_count">0</td>' in page
    assert page.count("None: each search reads the whole collection") == 2
    fruit.create_hnsw_index(concurrently=False)
    assert "Ready, " in page_of(admin_client, COLLECTIONS)


def test_list_shows_an_index_that_is_not_ready(fruit, admin_client):
    fruit.create_hnsw_index(concurrently=False)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)",
            [f"pgembedding_documents_{fruit.pk}_hnsw"],
        )
    assert "Not ready: being built, or left by an interrupted build" in page_of(admin_client, COLLECTIONS)


def test_list_shows_an_index_of_other_dimensions(fruit, admin_client):
    fruit.create_hnsw_index(concurrently=False)
    fruit.replace([Document(embedding=[1, 2, 3, 4, 5])])
    assert "Not used: of other dimensions, or unfinished." in page_of(admin_client, COLLECTIONS)


def test_list_asks_as_often_for_many_collections_as_for_one(fruit, admin_client):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            page_of(admin_client, COLLECTIONS)
        return len(captured)

    one = queries()
    Collection.objects.bulk_create(Collection(name=str(i)) for i in range(20))
    assert queries() == one


def test_list_can_be_ordered_by_documents(fruit, admin_client):
    Collection.objects.create(name="empty")
    page = page_of(admin_client, COLLECTIONS, o="2")
    assert order_of(page, ">empty<", ">fruit &lt;b&gt;<") == [">empty<", ">fruit &lt;b&gt;<"]


def test_change_page_shows_size_and_keeps_embedder_and_distance(fruit, admin_client):
    url = f"{COLLECTIONS}{fruit.pk}/change/"
    page = page_of(admin_client, url)
    assert "bytes" in page
    assert 'name="embedder"' not in page
    answer = admin_client.post(url, {"name": "renamed", "metadata": "{}", "embedder": "x", "distance": "l1"})
    assert answer.status_code == 302
    assert Collection.objects.values_list("name", "embedder", "distance").get() == ("renamed", "default", "l2")


def test_change_page_of_an_empty_collection_shows_no_bytes(admin_client):
    collection = Collection.objects.create(name="empty")
    assert "0\N{NO-BREAK SPACE}bytes" in page_of(admin_client, f"{COLLECTIONS}{collection.pk}/change/")


def test_collection_can_be_added(admin_client):
    answer = admin_client.post(
        f"{COLLECTIONS}add/", {"name": "new", "metadata": "{}", "embedder": "default", "distance": "cosine"}
    )
    assert answer.status_code == 302
    assert Collection.objects.get().distance == "cosine"


def test_collection_is_given_one_of_the_embedders_that_are_set(admin_client, settings):
    embedders = settings.PGEMBEDDING["EMBEDDERS"]
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {**embedders, "other": embedders["default"]}}
    page = page_of(admin_client, f"{COLLECTIONS}add/")
    assert '<option value="default" selected>default</option>' in page
    assert '<option value="other">other</option>' in page
    given = {"name": "new", "metadata": "{}", "embedder": "unknown", "distance": "l2"}
    assert "Select a valid choice" in admin_client.post(f"{COLLECTIONS}add/", given).content.decode()


@pytest.fixture
def loaded():
    """The documents that were made into instances."""
    instances = []

    def note(instance, **kwargs):
        instances.append(instance)

    signals.post_init.connect(note, sender=Document)
    yield instances
    signals.post_init.disconnect(note, sender=Document)


def test_deleting_a_collection_counts_its_documents_and_loads_none(fruit, admin_client, loaded):
    url = f"{COLLECTIONS}{fruit.pk}/delete/"
    loaded.clear()
    page = page_of(admin_client, url)
    assert "<li>Documents: 3</li>" in page
    assert "Collection: fruit &lt;b&gt;" in page
    admin_client.post(url, {"post": "yes"})
    assert (Document.objects.count(), loaded) == (0, [])


def test_deleting_chosen_collections_counts_their_documents_and_loads_none(fruit, admin_client, loaded):
    Collection.objects.create(name="empty")
    chosen = {"action": "delete_selected", "_selected_action": Collection.objects.values_list("pk", flat=True)}
    loaded.clear()
    page = admin_client.post(COLLECTIONS, chosen).content.decode()
    assert "<li>Documents: 3</li>" in page
    admin_client.post(COLLECTIONS, {**chosen, "post": "yes"})
    assert (Collection.objects.count(), Document.objects.count(), loaded) == (0, 0, [])


def test_deleting_a_collection_needs_the_permission_for_documents(fruit, client_of):
    client = client_of("view_collection", "delete_collection")
    url = f"{COLLECTIONS}{fruit.pk}/delete/"
    assert "your account doesn't have permission" in page_of(client, url).replace("’", "'").replace("&#x27;", "'")
    assert client.post(url, {"post": "yes"}).status_code == 403
    assert Document.objects.count() == 3


@pytest.mark.parametrize("on_delete", [models.PROTECT, models.RESTRICT])
def test_deleting_a_collection_that_is_protected_says_so(fruit, admin_client, monkeypatch, on_delete):
    monkeypatch.setattr(Document._meta.get_field("collection").remote_field, "on_delete", on_delete)
    page = page_of(admin_client, f"{COLLECTIONS}{fruit.pk}/delete/")
    assert "yellow banana" in page
    assert "would require deleting the following protected related objects" in page


def test_deleting_a_collection_needs_no_admin_of_documents(fruit, admin_client, settings):
    site = admin.AdminSite()
    site.register(Collection, CollectionAdmin)
    settings.ROOT_URLCONF = ModuleType("urls")
    settings.ROOT_URLCONF.urlpatterns = [path("admin/", site.urls)]
    assert "<li>Documents: 3</li>" in page_of(admin_client, f"{COLLECTIONS}{fruit.pk}/delete/")


# Documents


def test_documents_can_be_read_and_not_changed(fruit, admin_client):
    document = fruit.documents.get(key="c")
    url = f"{DOCUMENTS}{document.pk}/change/"
    page = page_of(admin_client, url)
    assert "3 dimensions · norm 1.0000" in page
    assert "&quot;text&quot;: &quot;red cherry &lt;script&gt;&quot;" in page
    assert "cherry <script>" not in page
    assert admin_client.post(url, {"content": "changed"}).status_code == 403
    assert admin_client.get(f"{DOCUMENTS}add/").status_code == 403


def test_search_within_a_collection_is_by_meaning(fruit, admin_client):
    page = page_of(admin_client, DOCUMENTS, q="banana yellow", collection__id__exact=fruit.pk)
    assert order_of(page, "yellow banana</a>", "red apple</a>")[0] == "yellow banana</a>"
    assert '<td class="field-distance">0.0000</td>' in page
    assert "3 documents" in page


def test_search_in_all_collections_is_by_words(fruit, admin_client):
    page = page_of(admin_client, DOCUMENTS, q="banana")
    assert order_of(page, "yellow banana</a>", "red apple</a>") == ["yellow banana</a>"]
    assert '<td class="field-distance">-</td>' in page


def test_list_of_a_collection_shows_all_of_it(fruit, admin_client):
    Collection.objects.create(name="other").add([Document(content="elsewhere", embedding=[1, 2])])
    page = page_of(admin_client, DOCUMENTS, collection__id__exact=fruit.pk)
    assert "elsewhere" not in page
    assert "3 documents" in page


def test_list_reads_no_vector(fruit, admin_client):
    with CaptureQueriesContext(connection) as queries:
        page_of(admin_client, DOCUMENTS)
    assert not any('"embedding"' in query["sql"] for query in queries)


def test_search_that_cannot_be_embedded_says_why(fruit, admin_client, monkeypatch):
    monkeypatch.setattr(DummyEmbedder, "compute", lambda self, texts: [])
    page = page_of(admin_client, DOCUMENTS, q="banana", collection__id__exact=fruit.pk)
    assert "Document.embedding: DummyEmbedder gave 0 vectors for 1 texts" in page
    assert "3 documents" in page


def test_search_within_an_unknown_collection_finds_nothing(fruit, admin_client):
    assert "0 documents" in page_of(admin_client, DOCUMENTS, q="banana", collection__id__exact=99999)


def test_documents_can_be_deleted(fruit, admin_client):
    document = fruit.documents.get(key="a")
    admin_client.post(f"{DOCUMENTS}{document.pk}/delete/", {"post": "yes"})
    assert not fruit.documents.filter(key="a").exists()
