import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.core import checks
from django.core.management import call_command
from django.db import connection, models

import pgembedding_django.checks
from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.admin import EmbeddingAdminMixin
from pgembedding_django.checks import check_admins, check_databases, check_models
from pgembedding_django.engines import ENGINES
from tests.models import Article, Section
from tests.support.notes import make_note

DUMMY = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder"}
BAD_OPCLASS = "vector_l2_ops) ; drop table xt; --"
BAD_NAME = 'a" on xt(id); drop table xt; --'


class Nowhere:
    """A router that lets no database have the models of the tests."""

    def allow_migrate(self, db, app_label, **hints):
        return app_label != "tests"


def hnsw(**options):
    return HnswIndex(**{"fields": ["embedding"], "name": "note_hnsw", **options})


def told(messages):
    """Return id, message and hint of each message but the caution of an engine."""
    return [(message.id, message.msg, message.hint) for message in messages if message.id != "pgembedding.W030"]


def found(registry):
    return told(check_models([registry.get_app_config("tests")]))


@pytest.fixture
def on_pgvector(settings):
    settings.PGEMBEDDING = {"ENGINE": "pgvector"}


@pytest.fixture
def on_pg_embedding(settings):
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}


# Models


def test_model_of_the_readme_gives_no_message(isolated, settings):
    class Article(models.Model):
        title = models.CharField(max_length=200)
        body = models.TextField()
        embedding = EmbeddingField(dimensions=1536, source="body", null=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="article_embedding_hnsw")]

    settings.PGEMBEDDING = {"EMBEDDERS": {"default": {**DUMMY, "OPTIONS": {"dimensions": 1536}}}}
    assert check_models([isolated.get_app_config("tests")]) == []
    assert Article.check() == []


def test_model_without_our_fields_gives_no_message(isolated, settings):
    class Plain(models.Model):
        class Meta:
            app_label = "tests"

    settings.PGEMBEDDING = {"ENGINE": "nonsense"}
    assert found(isolated) == []


def test_proxy_gives_no_message_of_its_own(isolated, on_pgvector):
    note = make_note(unique=True)

    class Proxy(note):
        class Meta:
            app_label = "tests"
            proxy = True

    assert [code for code, _, _ in found(isolated)] == ["pgembedding.E008"]


def test_checks_of_every_app_run_with_manage_py_check():
    registered = checks.registry.registry.get_checks()
    assert check_models in registered
    assert check_databases in checks.registry.registry.get_checks(include_deployment_checks=True)


FIELDS = [
    (
        "pgvector",
        {"dimensions": 16001},
        "pgembedding.E001",
        "Note.embedding must have at most 16000 dimensions on pgvector, got 16001.",
        "Ask the embedder for fewer dimensions.",
    ),
    (
        "pg_embedding",
        {"storage": "half"},
        "pgembedding.E003",
        'Note.embedding has storage="half", which pg_embedding does not have.',
        'Use storage="single", or the engine pgvector.',
    ),
    (
        "pgvector",
        {"embedder": "other"},
        "pgembedding.E004",
        'Note.embedding names the embedder "other", which PGEMBEDDING["EMBEDDERS"] does not have.',
        "Add it to the setting.",
    ),
    (
        "pgvector",
        {"unique": True},
        "pgembedding.E008",
        "Note.embedding must not be unique, a primary key or db_index=True.",
        "Vectors are compared by distance: index them by HnswIndex in Meta.indexes, and put a constraint on the text "
        "that they stand for.",
    ),
    (
        "pgvector",
        {"db_index": True},
        "pgembedding.E008",
        "Note.embedding must not be unique, a primary key or db_index=True.",
        "Vectors are compared by distance: index them by HnswIndex in Meta.indexes, and put a constraint on the text "
        "that they stand for.",
    ),
    (
        "pg_embedding",
        {"primary_key": True, "null": False},
        "pgembedding.E008",
        "Note.embedding must not be unique, a primary key or db_index=True.",
        "Vectors are compared by distance: index them by HnswIndex in Meta.indexes, and put a constraint on the text "
        "that they stand for.",
    ),
]


@pytest.mark.parametrize(("name", "options", "code", "message", "hint"), FIELDS)
def test_field_that_the_engine_cannot_hold_is_named(isolated, settings, name, options, code, message, hint):
    settings.PGEMBEDDING = {"ENGINE": name}
    make_note(**options)
    assert found(isolated) == [(code, message, hint)]


INDEXES = [
    (
        "pgvector",
        {"fields": ["title"]},
        {},
        "pgembedding.E010",
        "note_hnsw must index an EmbeddingField, but Note.title is a CharField.",
        "Name an EmbeddingField in fields=.",
    ),
    (
        "pgvector",
        {},
        {"dimensions": None},
        "pgembedding.E011",
        "note_hnsw needs a field with dimensions, but Note.embedding has none.",
        "Give dimensions to the field, or to the index for the vectors of one length.",
    ),
    (
        "pgvector",
        {"dimensions": 4},
        {},
        "pgembedding.E034",
        "note_hnsw is for 4 dimensions, but Note.embedding has 3.",
        "Leave dimensions out of the index.",
    ),
    (
        "pgvector",
        {"dimensions": 4001, "precision": "half"},
        {"dimensions": None},
        "pgembedding.E012",
        "note_hnsw can hold at most 4000 dimensions on pgvector, but Note.embedding has 4001.",
        "Ask the embedder for fewer dimensions.",
    ),
    (
        "pgvector",
        {},
        {"dimensions": 3072},
        "pgembedding.E012",
        "note_hnsw can hold at most 2000 dimensions on pgvector, but Note.embedding has 3072.",
        'Give the index precision="half", which holds up to 4000 dimensions, or ask for fewer dimensions.',
    ),
    (
        "pgvector",
        {},
        {"dimensions": 5000},
        "pgembedding.E012",
        "note_hnsw can hold at most 2000 dimensions on pgvector, but Note.embedding has 5000.",
        "Ask the embedder for fewer dimensions.",
    ),
    (
        "pgvector",
        {},
        {"dimensions": 5000, "storage": "half"},
        "pgembedding.E012",
        "note_hnsw can hold at most 4000 dimensions on pgvector, but Note.embedding has 5000.",
        "Ask the embedder for fewer dimensions.",
    ),
    (
        "pg_embedding",
        {"m": 300},
        {"dimensions": 1536},
        "pgembedding.E012",
        "note_hnsw can hold at most 1435 dimensions on pg_embedding, but Note.embedding has 1536.",
        "Use an m of at most 249.",
    ),
    (
        "pg_embedding",
        {},
        {"dimensions": 2004},
        "pgembedding.E012",
        "note_hnsw can hold at most 2003 dimensions on pg_embedding, but Note.embedding has 2004.",
        "Use an m of at most 15.",
    ),
    (
        "pg_embedding",
        {},
        {"dimensions": 3072},
        "pgembedding.E012",
        "note_hnsw can hold at most 2003 dimensions on pg_embedding, but Note.embedding has 3072.",
        "Ask the embedder for fewer dimensions.",
    ),
    (
        "pgvector",
        {"m": 16.5},
        {},
        "pgembedding.E013",
        "note_hnsw's m must be an integer from 2 to 100 on pgvector, got 16.5.",
        "Correct the option in Meta.indexes.",
    ),
    (
        "pgvector",
        {"m": "16); drop table xt; --"},
        {},
        "pgembedding.E013",
        "note_hnsw's m must be an integer from 2 to 100 on pgvector, got '16); drop table xt; --'.",
        "Correct the option in Meta.indexes.",
    ),
    (
        "pg_embedding",
        {"ef_search": True},
        {},
        "pgembedding.E013",
        "note_hnsw's ef_search must be an integer from 1 to 1000 on pg_embedding, got True.",
        "Correct the option in Meta.indexes.",
    ),
    (
        "pgvector",
        {"m": 40},
        {},
        "pgembedding.E014",
        "note_hnsw's ef_construction must be at least 2 * m = 80, got 64.",
        "Correct the options in Meta.indexes.",
    ),
    (
        "pgvector",
        {"opclasses": [BAD_OPCLASS]},
        {},
        "pgembedding.E015",
        f"Note's HnswIndex.opclasses must be an operator class of HNSW, got {BAD_OPCLASS!r}.",
        'Give distance= instead, such as distance="cosine".',
    ),
    (
        "pgvector",
        {"name": BAD_NAME},
        {},
        "pgembedding.E016",
        f"Note's HnswIndex.name must not contain a double quote, got {BAD_NAME!r}.",
        "Django puts the name into DDL as it is.",
    ),
    (
        "pg_embedding",
        {"precision": "half"},
        {},
        "pgembedding.E018",
        'note_hnsw has precision="half", which pg_embedding does not have.',
        "Leave precision out, or use the engine pgvector.",
    ),
    (
        "pg_embedding",
        {"distance": "inner_product"},
        {},
        "pgembedding.E017",
        'note_hnsw has distance="inner_product", which pg_embedding does not have.',
        "Use one of: l2, cosine, l1.",
    ),
]


@pytest.mark.parametrize(("name", "index", "field", "code", "message", "hint"), INDEXES)
def test_index_that_the_engine_cannot_build_is_named(isolated, settings, name, index, field, code, message, hint):
    settings.PGEMBEDDING = {"ENGINE": name}
    make_note(hnsw(**index), **field)
    assert found(isolated) == [(code, message, hint)]


FITTING = [
    ("pgvector", {}, {"dimensions": 2000}),
    ("pgvector", {}, {"dimensions": 4000, "storage": "half"}),
    ("pgvector", {"m": 40, "ef_construction": 80}, {}),
    ("pgvector", {"opclasses": ["vector_l2_ops"]}, {}),
    ("pg_embedding", {}, {"dimensions": 2003}),
    ("pg_embedding", {"m": 249}, {"dimensions": 1537}),
    ("pg_embedding", {"m": 40}, {}),
]


@pytest.mark.parametrize(("name", "index", "field"), FITTING)
def test_index_at_the_bounds_gives_no_message(isolated, settings, name, index, field):
    settings.PGEMBEDDING = {"ENGINE": name}
    make_note(hnsw(**index), **field)
    assert found(isolated) == []


def test_index_of_a_missing_field_is_left_to_django(isolated, on_pgvector):
    make_note(hnsw(fields=["gone"]))
    assert found(isolated) == []


def test_model_that_no_postgres_may_hold_is_named(isolated, settings):
    settings.DATABASE_ROUTERS = [Nowhere()]
    make_note()
    assert found(isolated) == [
        (
            "pgembedding.E002",
            "Note has an EmbeddingField, but no PostgreSQL or SQLite database of this project may hold it.",
            "Set a PostgreSQL database in DATABASES, and let the routers allow the model on it.",
        )
    ]


class OnSqlite:
    def allow_migrate(self, db, app_label, **hints):
        return db == "lite"


def test_model_of_sqlite_alone_passes(isolated, settings, sqlite):
    settings.DATABASE_ROUTERS = [OnSqlite()]
    make_note(hnsw(precision="half"))
    assert found(isolated) == []


def test_bits_on_sqlite_alone_are_refused(isolated, settings, sqlite):
    settings.DATABASE_ROUTERS = [OnSqlite()]

    class Sign(models.Model):
        bits = BitField(length=8)

        class Meta:
            app_label = "tests"

    assert found(isolated) == [
        ("pgembedding.E003", "Sign.bits is a BitField, which sqlite cannot store.", "Use the engine pgvector.")
    ]


def test_database_of_another_vendor_counts_for_nothing(isolated, settings, sqlite, on_pgvector):
    make_note(hnsw(m=101))
    assert [code for code, _, _ in found(isolated)] == ["pgembedding.E013"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ENGINE": "faiss"}, 'PGEMBEDDING["ENGINE"] must be "pgvector" or "pg_embedding", got "faiss".'),
        ({"ENGINE": 3}, 'PGEMBEDDING["ENGINE"] must be an engine\'s name or a dict of alias to name, got int.'),
        ("pgvector", "PGEMBEDDING must be a dict, got str."),
    ],
)
def test_setting_that_names_no_engine_is_reported_once(isolated, settings, setting, message):
    settings.PGEMBEDDING = setting
    make_note()
    assert found(isolated) == [("pgembedding.E007", message, "Correct the setting.")]


def test_engine_that_is_not_safe_by_itself_says_so_once(isolated, on_pg_embedding):
    make_note()
    messages = check_models([isolated.get_app_config("tests")])
    assert [(message.id, message.msg, message.hint) for message in messages] == [
        (
            "pgembedding.W030",
            "pg_embedding is archived, and its index is not safe by itself: a crash loses rows of it, and a reader "
            "beside a writer can hang the server. nearest() and the trigger made with each HnswIndex keep readers and "
            "writers of an index apart, and after a crash searches are exact and writes are refused until the index is "
            "rebuilt; SQL that skips both is not protected.",
            "Move to pgvector when you can.",
        )
    ]


# Embedders

EMBEDDERS = [
    (
        {"other": DUMMY},
        {"embedder": "third"},
        "pgembedding.E004",
        'Note.embedding names the embedder "third", which PGEMBEDDING["EMBEDDERS"] does not have.',
        "Add it to the setting, or use one of: other.",
    ),
    (
        {"other": DUMMY},
        {},
        "pgembedding.E004",
        'Note.embedding names the embedder "default", which PGEMBEDDING["EMBEDDERS"] does not have.',
        "Add it to the setting, or use one of: other.",
    ),
    (
        {"default": {**DUMMY, "OPTIONS": {"dimensions": 4}}},
        {"source": "title"},
        "pgembedding.E005",
        'Note.embedding has 3 dimensions, but the embedder "default" makes 4.',
        "Give both the same number.",
    ),
    (
        {"other": {**DUMMY, "OPTIONS": {"dimensions": 4}}},
        {"embedder": "other"},
        "pgembedding.E005",
        'Note.embedding has 3 dimensions, but the embedder "other" makes 4.',
        "Give both the same number.",
    ),
    (
        {"default": {"BACKEND": "nowhere.Embedder"}},
        {},
        "pgembedding.E006",
        'PGEMBEDDING["EMBEDDERS"]["default"]["BACKEND"] cannot be imported: No module named \'nowhere\'',
        "Correct the setting.",
    ),
    (
        ["default"],
        {},
        "pgembedding.E006",
        'PGEMBEDDING["EMBEDDERS"] must be a dict, got list.',
        "Correct the setting.",
    ),
]


@pytest.mark.parametrize(("embedders", "field", "code", "message", "hint"), EMBEDDERS)
def test_embedder_that_does_not_suit_is_named(isolated, settings, embedders, field, code, message, hint):
    settings.PGEMBEDDING = {"EMBEDDERS": embedders}
    make_note(**field)
    assert found(isolated) == [(code, message, hint)]


@pytest.mark.parametrize(
    ("embedders", "field"),
    [
        ({}, {"source": "title"}),
        ({"default": {**DUMMY, "OPTIONS": {"dimensions": 3}}}, {"source": "title"}),
        ({"default": {**DUMMY, "OPTIONS": {"dimensions": 4}}}, {"dimensions": None, "source": "title"}),
        ({"default": {**DUMMY, "OPTIONS": {"dimensions": 4}}}, {}),
    ],
)
def test_embedder_that_suits_or_is_not_used_gives_no_message(isolated, settings, embedders, field):
    settings.PGEMBEDDING = {"EMBEDDERS": embedders}
    make_note(**field)
    assert found(isolated) == []


# Databases


def asked(registry, *aliases):
    return told(check_databases([registry.get_app_config("tests")], databases=aliases))


@pytest.mark.django_db
def test_database_that_is_ready_gives_no_message(isolated):
    make_note(hnsw())
    assert asked(isolated, "default") == []


def test_database_that_is_not_asked_about_gives_no_message(isolated):
    make_note(hnsw())
    assert check_databases([isolated.get_app_config("tests")]) == []


def test_database_of_another_vendor_or_without_our_models_gives_no_message(isolated, fresh_database, sqlite, settings):
    settings.DATABASE_ROUTERS = [Nowhere()]
    make_note()
    assert asked(isolated, "lite", "fresh") == []


def test_database_with_an_unknown_engine_is_left_to_the_other_check(isolated, fresh_database, settings):
    settings.PGEMBEDDING = {"ENGINE": "faiss"}
    make_note()
    assert asked(isolated, "fresh") == []


def test_missing_extension_that_migrate_is_about_to_create_gives_no_message(isolated, fresh_database):
    make_note()
    assert asked(isolated, "fresh") == []


def test_missing_extension_that_the_role_cannot_create_is_e020(isolated, fresh_database, role, engine):
    make_note()
    version = ".".join(map(str, engine.advised_version))
    assert asked(isolated, "fresh") == [
        (
            "pgembedding.E020",
            f'Extension "{engine.extension}" is missing in database "fresh", and role "{role}" cannot create it.',
            f"Install {engine.package} {version} or newer on the server, and let a superuser run: "
            f'psql -d {fresh_database.name} -c "CREATE EXTENSION {engine.extension}"',
        )
    ]


@pytest.mark.pgvector
def test_missing_extension_that_the_server_lacks_is_e020(isolated, fresh_database, offered_extensions, on_pg_embedding):
    if "embedding" in offered_extensions:
        pytest.skip('this server offers the extension "embedding"')
    make_note()
    assert [code for code, _, _ in asked(isolated, "fresh")] == ["pgembedding.E020"]


def test_extension_dropped_after_its_migration_is_w021(isolated, fresh_database, engine):
    make_note()
    fresh_database.migrate("pgembedding_django")
    fresh_database.execute(f"DROP EXTENSION {engine.extension}")
    assert asked(isolated, "fresh") == [
        (
            "pgembedding.W021",
            f'Extension "{engine.extension}" is missing in database "fresh", although the migration that creates it '
            "has run.",
            "Run migrate, which creates it again.",
        )
    ]


def test_extension_off_the_search_path_is_e022(isolated, fresh_database, engine):
    make_note()
    fresh_database.execute("CREATE SCHEMA elsewhere")
    fresh_database.execute(f"CREATE EXTENSION {engine.extension} SCHEMA elsewhere")
    assert asked(isolated, "fresh") == [
        (
            "pgembedding.E022",
            f'Extension "{engine.extension}" of database "fresh" lies in schema "elsewhere", which is not on the '
            "search path.",
            f"Run: ALTER EXTENSION {engine.extension} SET SCHEMA public, or add the schema to the search_path.",
        )
    ]


def test_extension_of_the_other_engine_is_e023(isolated, ready_database, engine, settings):
    wanted = next(other for other in ENGINES.values() if other is not engine)
    settings.PGEMBEDDING = {"ENGINE": {"fresh": wanted.name}}
    make_note()
    assert asked(isolated, "fresh") == [
        (
            "pgembedding.E023",
            f'Extension "{wanted.extension}" is missing in database "fresh", which has extension '
            f'"{engine.extension}" in its place.',
            f'Set PGEMBEDDING["ENGINE"] to "{engine.name}" for this database, or move it to {wanted.name}.',
        )
    ]


def test_extension_older_than_advised_is_w024(isolated, ready_database, engine, monkeypatch):
    version = ".".join(map(str, engine.version(ready_database.connection)))
    monkeypatch.setattr(type(engine), "advised_version", (99, 1))
    make_note()
    assert asked(isolated, "fresh") == [
        (
            "pgembedding.W024",
            f'Extension "{engine.extension}" {version} of database "fresh" is older than 99.1.',
            f"Install {engine.package} 99.1 on the server, then run: ALTER EXTENSION {engine.extension} UPDATE",
        )
    ]


def set_dims(dims):
    """Give the index the option that pg_embedding keeps its dimensions in, whatever the engine that built it."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reloptions = %s WHERE relname = 'note_hnsw'", [[f"dims={dims}"]])


def built(*indexes, **field):
    note = make_note(**field)
    with connection.schema_editor() as editor:
        editor.create_model(note)
        editor.add_index(note, hnsw())
    note._meta.indexes = list(indexes)


@pytest.mark.django_db
def test_index_built_for_other_dimensions_is_e026(isolated):
    built(hnsw())
    set_dims(4)
    assert asked(isolated, "default") == [
        (
            "pgembedding.E026",
            "note_hnsw was built for 4 dimensions, but Note.embedding has 3, so every write and search through it "
            "fails.",
            "Remove the index in one migration and add it in the next.",
        )
    ]


@pytest.mark.django_db
def test_index_built_for_the_dimensions_of_the_field_gives_no_message(isolated):
    built(hnsw())
    set_dims(3)
    assert asked(isolated, "default") == []


@pytest.mark.django_db
@pytest.mark.parametrize("index", [{"fields": ["gone"]}, {"fields": ["title"]}, {"name": BAD_NAME}])
def test_index_that_another_check_refuses_is_left_alone(isolated, index):
    built(hnsw(**index))
    assert asked(isolated, "default") == []


@pytest.mark.django_db
def test_manage_py_check_of_the_database_passes(settings):
    call_command("check", databases=["default"], fail_level="ERROR")


# The admin


@pytest.fixture
def site(monkeypatch):
    """The only site of the admin."""
    site = admin.AdminSite()
    monkeypatch.setattr("django.contrib.admin.sites.all_sites", [site])
    return site


@pytest.mark.parametrize("option", ["list_display", "readonly_fields"])
def test_admin_that_shows_a_vector_without_mixin_is_warned_of(site, option):
    site.register(Article, type("ArticleAdmin", (admin.ModelAdmin,), {option: ["title", "embedding"]}))
    assert [(message.id, message.msg, message.hint) for message in check_admins()] == [
        (
            "pgembedding.W031",
            "ArticleAdmin shows every number of Article.embedding.",
            "Put pgembedding_django.admin.EmbeddingAdminMixin before ModelAdmin.",
        )
    ]


def test_inline_that_shows_a_vector_without_mixin_is_warned_of(site):
    line = type("Lines", (admin.TabularInline,), {"model": Article, "readonly_fields": ["embedding"]})
    site.register(Section, type("SectionAdmin", (admin.ModelAdmin,), {"inlines": [line]}))
    assert [(message.msg, message.hint) for message in check_admins()] == [
        (
            "Lines shows every number of Article.embedding.",
            "Put pgembedding_django.admin.EmbeddingAdminMixin before the inline.",
        )
    ]


def test_admin_that_shows_no_vector_passes(site):
    site.register(Article, type("ArticleAdmin", (admin.ModelAdmin,), {"list_display": ["title"]}))
    assert check_admins() == []


def test_admin_with_mixin_passes(site):
    shown = {"list_display": ["title", "embedding"]}
    site.register(Article, type("ArticleAdmin", (EmbeddingAdminMixin, admin.ModelAdmin), shown))
    assert check_admins() == []


def test_admin_not_installed_is_left_alone(site, settings):
    site.register(Article, type("ArticleAdmin", (admin.ModelAdmin,), {}))
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
    assert check_admins() == []


# The ids

IDS = {
    *("E001", "E002", "E003", "E004", "E005", "E006", "E007", "E008", "E009"),
    *("E010", "E011", "E012", "E013", "E014", "E015", "E016", "E017", "E018", "E019"),
    *(
        "E020",
        "W021",
        "E022",
        "E023",
        "W024",
        "E026",
        "W027",
        "W028",
        "W029",
        "W030",
        "W031",
        "W032",
        "W033",
        "E034",
        "E035",
        "W036",
    ),
    *("E040", "E041", "E042", "E043"),
    *("E044", "E045", "E046"),
}


def test_ids_are_unique_and_each_has_a_hint():
    folder = Path(pgembedding_django.checks.__file__).parent
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    used = re.findall(r'id="pgembedding\.([EW]\d{3})"', source)
    assert set(used) == IDS
    assert len({code[1:] for code in used}) == len(IDS)
    assert len(re.findall(r"\bhint=", source)) == len(used)
    assert sorted(code for code in used if used.count(code) > 1) == ["E006", "E006"]
