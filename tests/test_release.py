"""What a release says of itself: its version, its metadata, and the names that it promises."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pgembedding_django

ROOT = Path(__file__).resolve().parent.parent

#: The names that change with notice only (docs/compatibility.md). One that is missing here is new, or was lost.
PUBLIC = {
    "pgembedding_django.passages": {"Passage", "PassageManager", "PassageQuerySet", "PassageReport", "Splits"},
    "pgembedding_django": {
        "AddPartition",
        "BitField",
        "Centroid",
        "CosineDistance",
        "CreateEmbeddingExtension",
        "DistributeTable",
        "EmbeddingField",
        "EmbeddingManager",
        "EmbeddingQuerySet",
        "HalfVectorField",
        "HammingDistance",
        "HnswIndex",
        "IvfflatIndex",
        "JaccardDistance",
        "L1Distance",
        "L2Distance",
        "MaxInnerProduct",
        "PartitionTable",
        "ReferenceTable",
        "SparseVector",
        "SparseVectorField",
        "Vector",
        "arerank",
        "diversify",
        "rerank",
        "search_all",
    },
    "pgembedding_django.admin": {"EmbeddingAdminMixin", "HnswIndexAdmin", "PassageInline"},
    "pgembedding_django.embedders": {
        "Embedder",
        "EmbedderUnavailable",
        "EmbeddingError",
        "RefusedByServer",
        "TextRejected",
        "get_embedder",
    },
    "pgembedding_django.langchain": {"ADA_TOKEN_COUNT", "PGEmbedding"},
    "pgembedding_django.maintenance": {
        "IndexReport",
        "find_index",
        "list_indexes",
        "measure_recall",
        "measure_relevance",
        "progress_of",
        "read_questions",
        "rebuild",
        "replica_lag",
        "start_rebuild",
    },
    "pgembedding_django.rerankers": {
        "HttpReranker",
        "Reranker",
        "RerankerUnavailable",
        "RerankingError",
        "get_reranker",
    },
    "pgembedding_django.testing": {"DummyEmbedder", "assertIndexUsed"},
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_those_that_were_promised(module):
    assert set(importlib.import_module(module).__all__) == PUBLIC[module]


def test_documentation_imports_from_public_modules():
    allowed = {*PUBLIC, "pgembedding_django.models"} | {
        f"pgembedding_django.documents.{n}" for n in ("models", "views")
    }
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    used = {
        m for page in pages for m in re.findall(r"^\s*from (pgembedding_django[\w.]*) import", page.read_text(), re.M)
    }
    contrib = {f"pgembedding_django.contrib.{p.stem}" for p in (ROOT / "pgembedding_django/contrib").glob("[a-z]*.py")}
    assert used - allowed - contrib == set()


def test_version_is_the_one_of_the_changelog():
    assert re.search(rf"^## {re.escape(pgembedding_django.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_lowest_environment_has_the_lowest_version_of_each_dependency():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = settings["project"]["optional-dependencies"]
    # A driver of its own, a package that tests/neighbours has, and what only the example needs.
    apart = {"psycopg", "rest_framework", "example"}
    named = [*settings["project"]["dependencies"], *(each for name in extras.keys() - apart for each in extras[name])]
    installed = {
        each.name: each.specifier for each in map(Requirement, settings["tool"]["tox"]["env"]["lowest"]["deps"])
    }
    for requirement in map(Requirement, named):
        (lowest,) = requirement.specifier
        assert installed[requirement.name].contains(lowest.version), requirement


@pytest.fixture
def with_addresses():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.with_addresses


TEXT = "![A page](docs/page.png) See [the tutorial](docs/tutorial.md) and [pgvector](https://example.com/x)."


def test_readme_links_to_files_where_the_address_is_known(with_addresses):
    assert with_addresses(TEXT, "https://forge.example/o/n") == (
        "![A page](https://forge.example/o/n/raw/main/docs/page.png) See "
        "[the tutorial](https://forge.example/o/n/blob/main/docs/tutorial.md) and [pgvector](https://example.com/x)."
    )


def test_readme_has_no_dead_link_where_the_address_is_unknown(with_addresses):
    assert with_addresses(TEXT, "") == " See the tutorial and [pgvector](https://example.com/x)."
