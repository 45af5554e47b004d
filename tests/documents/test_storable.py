"""What Postgres cannot hold in collections and documents is refused in words, by whatever way it comes."""

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db.models import F

from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.documents.storable import Unstorable

pytestmark = pytest.mark.django_db


@pytest.fixture
def collection():
    return Collection.objects.create(name="python")


@pytest.mark.parametrize(
    ("name", "value"), [("name", "a\0b"), ("embedder", "\0"), ("metadata", {"a": ["\0"]}), ("metadata", {"a\0": 1})]
)
def test_collection_with_nul_is_refused_by_its_field(collection, name, value):
    message = rf"^Collection\.{name} must have no NUL character, which Postgres stores in no text\.$"
    with pytest.raises(Unstorable, match=message):
        Collection.objects.create(**{"name": "other", name: value})
    setattr(collection, name, value)
    with pytest.raises(ValueError, match=message):
        collection.save()
    with pytest.raises(ValueError, match=message):
        collection.save(update_fields=[name])


def test_collection_saves_other_fields_than_the_one_with_nul(collection):
    collection.name = "\0"
    collection.metadata = {"a": 1}
    collection.save(update_fields=["metadata"])
    collection.refresh_from_db()
    assert (collection.name, collection.metadata) == ("python", {"a": 1})


VALUES = [("key", "a\0"), ("content", "a\0"), ("metadata", {"a": "\0"}), ("metadata", {"\0": 1})]
WAYS = {
    "create": lambda rows, document: rows.create(key=document.key, **values(document)),
    "bulk_create": lambda rows, document: rows.bulk_create([document]),
    "add": lambda rows, document: rows.get_or_create(key="x")[0].collection.add([document]),
}


def values(document):
    return {"content": document.content, "metadata": document.metadata}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "value"), VALUES)
def test_document_with_nul_is_refused_by_key_and_field(collection, way, name, value):
    document = Document(**{"key": "a", "content": "text", name: value})
    with pytest.raises(ValidationError) as caught:
        WAYS[way](collection.documents, document)
    key = '"a\\u0000"' if name == "key" else '"a"'
    assert caught.value.messages == [
        f"Document {key}: {name} must have no NUL character, which Postgres stores in no text."
    ]
    assert caught.value.code == "nul"


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_bulk_load_of_a_document_with_nul_names_row_and_field(collection, name, value):
    document = Document(**{"key": "a", "content": "text", "embedding": [1, 2], name: value})
    with pytest.raises(ValidationError, match=rf"Row 0 .*Document\.{name}.* NUL "):
        collection.documents.bulk_load([document])
    assert not collection.documents.exists()


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_update_with_nul_is_refused_by_field(collection, name, value):
    collection.documents.create(key="a", content="text")
    with pytest.raises(ValueError, match=rf"^Document\.{name} must have no NUL character"):
        collection.documents.update(**{name: value})


def test_bulk_update_checks_the_fields_that_it_writes(collection):
    document = collection.documents.create(key="a", content="text")
    document.content, document.metadata = "\0", {"a": 1}
    collection.documents.bulk_update([document], ["metadata"])
    with pytest.raises(ValidationError, match="content must have no NUL"):
        collection.documents.bulk_update([document], ["content"])


def test_save_of_an_expression_is_left_to_the_server(collection):
    document = collection.documents.create(key="a", content="text")
    document.content = F("key")
    document.save(update_fields=["content"])
    collection.documents.update(key=F("content"))
    document.refresh_from_db()
    assert document.content == "a"


def test_lone_surrogate_is_refused_by_key_and_field(collection):
    with pytest.raises(ValidationError, match=r'^\["?\'?Document "a": content cannot be stored: '):
        collection.documents.create(key="a", content="\ud800")


def test_key_that_is_too_long_is_refused_before_any_sql(collection, django_assert_num_queries):
    document = Document(collection=collection, key="x" * 256, content="text")
    with django_assert_num_queries(0), pytest.raises(ValidationError, match="at most 255 characters, got 256"):
        document.save()


@pytest.mark.parametrize("command", [["search_documents", "a\0b", "question"], ["ingest", "x", "--collection", "a\0b"]])
def test_command_for_a_name_with_nul_says_so(command):
    with pytest.raises(CommandError, match=r"^Collection\.name must be a text that Postgres can hold"):
        call_command(*command)
