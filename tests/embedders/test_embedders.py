"""What every embedder's answer must be, which embedder an alias names, and the two that work offline."""

import subprocess
import sys

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders import Embedder, EmbeddingError, get_embedder
from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.embedders.wordllama import WordLlamaEmbedder

DUMMY = "pgembedding_django.embedders.dummy.DummyEmbedder"


class Fixed(Embedder):
    """Answers what it was made with."""

    def __init__(self, answer, *, dimensions=None):
        super().__init__(dimensions=dimensions)
        self.answer = answer

    def compute(self, texts):
        return self.answer


class Asking(Fixed):
    """Tells questions from documents."""

    def compute_query(self, text):
        return [9, 9]


ANSWERS = {
    "lists": [[1, 2], [3, 4]],
    "array": np.array([[1, 2], [3, 4]]),
    "arrays": [np.float16([1, 2]), np.array([3, 4])],
    "generator": ([x, x + 1] for x in (1, 3)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_embed_any_answer_that_numpy_reads_gives_float32(answer):
    embedded = Fixed(answer).embed(["a", "b"])
    assert embedded.dtype == np.float32
    assert embedded.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("texts", [("a", "b"), (text for text in "ab"), {"a": 1, "b": 2}])
def test_embed_any_iterable_of_texts_is_taken(texts):
    assert Fixed([[1], [2]]).embed(texts).tolist() == [[1], [2]]


@pytest.mark.parametrize(("dimensions", "shape"), [(None, (0, 0)), (3, (0, 3))])
def test_embed_no_texts_gives_no_rows(dimensions, shape):
    assert Fixed(None, dimensions=dimensions).embed([]).shape == shape


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([[1, 2]], "Fixed gave 1 vectors for 2 texts."),
        ([[1]] * 3, "Fixed gave 3 vectors for 2 texts."),
        ([], "Fixed gave 0 vectors for 2 texts."),
        ([1, 2], "Fixed's vector of text 0 must be a sequence of numbers, got int."),
        (np.array([1, 2]), "Fixed's vector of text 0 must be one-dimensional, got shape ()."),
        ([[1, 2], [3]], "Fixed's vector of text 1 must have 2 dimensions, got 1."),
        ([[1, 2], None], "Fixed's vector of text 1 must be a sequence of numbers, got NoneType."),
        ([[1, 2], []], "Fixed's vector of text 1 must have at least 1 dimension, got 0."),
        ([[1, 2], [np.nan, 1]], "Fixed's vector of text 1 must be finite, got nan at position 0."),
        ([[1, 2], [1, np.inf]], "Fixed's vector of text 1 must be finite, got inf at position 1."),
    ],
)
def test_embed_wrong_answer_names_the_text(answer, sentence):
    with pytest.raises(EmbeddingError) as caught:
        Fixed(answer).embed(["a", "b"])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Fixed needs text to embed, but {} is blank."),
        (" \n\t", "Fixed needs text to embed, but {} is blank."),
        (None, "Fixed embeds str, but {} is NoneType."),
        (b"a", "Fixed embeds str, but {} is bytes."),
        ("ab\ud800", "Fixed needs Unicode, but {} has a lone surrogate at character 2."),
    ],
)
def test_embed_wrong_text_is_refused(text, sentence):
    with pytest.raises(EmbeddingError) as caught:
        Fixed([[1], [1]]).embed(["a", text])
    assert str(caught.value) == sentence.format("text 1")
    with pytest.raises(EmbeddingError) as caught:
        Fixed([[1]]).embed_query(text)
    assert str(caught.value) == sentence.format("the query")


def test_embed_one_str_is_refused():
    with pytest.raises(TypeError) as caught:
        Fixed([[1]]).embed("text")
    assert str(caught.value) == "Fixed.embed() takes a list of texts, got one str."


def test_embed_query_gives_one_vector():
    vector = Fixed([[1, 2]]).embed_query("a")
    assert vector.dtype == np.float32
    assert vector.tolist() == [1, 2]


def test_embed_query_own_compute_query_is_used():
    assert Asking([[1, 2]]).embed_query("a").tolist() == [9, 9]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([], "Fixed gave 0 vectors for 1 texts."),
        ([[1, 2, 3]], "Fixed's vector of the query must have 2 dimensions, got 3."),
        ([[np.nan, 1]], "Fixed's vector of the query must be finite, got nan at position 0."),
    ],
)
def test_embed_query_wrong_answer_names_the_query(answer, sentence):
    with pytest.raises(EmbeddingError) as caught:
        Fixed(answer, dimensions=2).embed_query("a")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("dimensions", [0, -1, "3", True, 1.5])
def test_embedder_wrong_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError) as caught:
        DummyEmbedder(dimensions=dimensions)
    assert str(caught.value) == f"DummyEmbedder.dimensions must be a positive integer, got {dimensions!r}."


# get_embedder


def embedders(**aliases):
    return {"EMBEDDERS": aliases}


def dummy(**options):
    return {"BACKEND": DUMMY, "OPTIONS": options}


def test_get_embedder_without_alias_gives_the_default(settings):
    settings.PGEMBEDDING = embedders(default=dummy(dimensions=5))
    assert isinstance(get_embedder(), DummyEmbedder)
    assert get_embedder().dimensions == 5


def test_get_embedder_without_options_takes_the_defaults(settings):
    settings.PGEMBEDDING = embedders(default={"BACKEND": DUMMY})
    assert get_embedder().dimensions == 16


def test_get_embedder_same_settings_give_the_same_instance(settings):
    settings.PGEMBEDDING = embedders(default=dummy(dimensions=5), other=dummy(dimensions=5))
    first = get_embedder()
    settings.PGEMBEDDING = embedders(default=dummy(dimensions=5), other=dummy(dimensions=5))
    assert get_embedder() is first
    assert get_embedder("other") is not first


def test_get_embedder_changed_settings_give_a_new_instance(settings):
    settings.PGEMBEDDING = embedders(default=dummy(dimensions=5))
    first = get_embedder()
    settings.PGEMBEDDING["EMBEDDERS"]["default"]["OPTIONS"]["dimensions"] = 6
    assert get_embedder() is not first
    assert get_embedder().dimensions == 6


ALIAS = 'PGEMBEDDING["EMBEDDERS"]["default"]'


@pytest.mark.parametrize(
    ("configured", "sentence"),
    [
        ({}, f"{ALIAS} is not set."),
        ({"default": DUMMY}, f"{ALIAS} must be a dict, got str."),
        ({"default": {}}, f'{ALIAS}["BACKEND"] must be the dotted path of an Embedder or a function, got None.'),
        (
            {"default": {"BACKEND": DummyEmbedder}},
            f'{ALIAS}["BACKEND"] must be the dotted path of an Embedder or a function, got {DummyEmbedder!r}.',
        ),
        (
            {"default": {"BACKEND": "nothing"}},
            f'{ALIAS}["BACKEND"] cannot be imported: nothing doesn\'t look like a module path',
        ),
        ({"default": {"BACKEND": "no.such"}}, f"{ALIAS}[\"BACKEND\"] cannot be imported: No module named 'no'"),
        (
            {"default": {"BACKEND": "collections.Embedder"}},
            f'{ALIAS}["BACKEND"] cannot be imported: Module "collections" does not define a "Embedder" attribute/class',
        ),
        (
            {"default": {"BACKEND": "collections.deque"}},
            f"{ALIAS}[\"BACKEND\"] must be a subclass of Embedder or a function, got <class 'collections.deque'>.",
        ),
        (
            {"default": {"BACKEND": "math.pi"}},
            f'{ALIAS}["BACKEND"] must be a subclass of Embedder or a function, got {np.pi!r}.',
        ),
        ({"default": {"BACKEND": DUMMY, "OPTIONS": [3]}}, f'{ALIAS}["OPTIONS"] must be a dict, got list.'),
        (
            {"default": {"BACKEND": DUMMY, "OPTIONS": {"modle": "x"}}},
            f'{ALIAS}["OPTIONS"] do not suit DummyEmbedder: '
            "Embedder.__init__() got an unexpected keyword argument 'modle'",
        ),
        (
            {"default": {"BACKEND": DUMMY, "OPTIONS": {"dimensions": "3"}}},
            f'{ALIAS}["OPTIONS"] do not suit DummyEmbedder: '
            "DummyEmbedder.dimensions must be a positive integer, got '3'.",
        ),
    ],
)
def test_get_embedder_wrong_setting_says_which(settings, configured, sentence):
    settings.PGEMBEDDING = {"EMBEDDERS": configured}
    with pytest.raises(ImproperlyConfigured) as caught:
        get_embedder()
    assert str(caught.value) == sentence


def test_get_embedder_wrong_option_hides_the_key(settings):
    backend = "pgembedding_django.embedders.openai.OpenAIEmbedder"
    settings.PGEMBEDDING = embedders(default={"BACKEND": backend, "OPTIONS": {"api_key": "sk-secret", "modle": "x"}})
    with pytest.raises(ImproperlyConfigured) as caught:
        get_embedder()
    assert "sk-secret" not in f"{caught.value} {caught.value.__cause__!r}"


# The offline embedders


def test_dummy_embedder_is_the_same_in_every_process():
    program = (
        "from pgembedding_django.embedders.dummy import DummyEmbedder as D; print(D().embed_query('a b').tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(DummyEmbedder().embed_query("a b").tolist())


def test_dummy_embedder_gives_unit_vectors():
    norms = np.linalg.norm(DummyEmbedder(dimensions=7).embed(["a", "b c", "!?", "a a a"]), axis=1)
    assert norms == pytest.approx(1, abs=1e-6)


def test_dummy_embedder_shared_words_are_near():
    near, query, far = DummyEmbedder(dimensions=256).embed(["red apple pie", "red apple", "slow train"])
    assert near @ query > 0.7 > 0.3 > abs(far @ query)


@pytest.mark.parametrize("dimensions", [None, 128, 64])
def test_wordllama_embedder_gives_unit_vectors_of_its_dimensions(dimensions):
    embedder = WordLlamaEmbedder(dimensions=dimensions)
    embedded = embedder.embed(["an exception was raised", "\ue000", "snow"])
    assert embedded.shape == (3, dimensions or 256)
    assert np.linalg.norm(embedded, axis=1) == pytest.approx(1, abs=1e-5)


def test_wordllama_embedder_related_texts_are_nearer():
    embedder = WordLlamaEmbedder()
    query = embedder.embed_query("How do I catch an exception?")
    texts = ["Errors are handled by try and except.", "Exceptions can be raised.", "The lake is cold in winter."]
    similar, close, far = embedder.embed(texts) @ query
    assert min(similar, close) > far


def test_wordllama_embedder_text_has_the_same_vector_in_any_batch():
    texts = [f"{'word ' * (number % 90)}{number}" for number in range(130)]
    embedder = WordLlamaEmbedder(dimensions=64)
    alone = np.stack([embedder.embed_query(text) for text in texts])
    assert np.abs(embedder.embed(texts) - alone).max() < 1e-5


@pytest.mark.parametrize("dimensions", [1, 100, 512])
def test_wordllama_embedder_other_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError) as caught:
        WordLlamaEmbedder(dimensions=dimensions)
    assert str(caught.value) == f"WordLlamaEmbedder.dimensions must be 256, 128 or 64, got {dimensions}."


def test_wordllama_embedder_without_package_says_what_to_install(monkeypatch):
    from pgembedding_django.embedders import wordllama

    wordllama._load.cache_clear()
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        WordLlamaEmbedder().embed(["a"])
    assert str(caught.value) == 'WordLlamaEmbedder needs wordllama: pip install "pgembedding-django[wordllama]"'


SLOW_OR_OPTIONAL = ["openai", "wordllama", "tqdm", "langchain", "langchain_core", "tokenizers", "httpx2"]


def test_importing_the_package_loads_no_optional_package():
    program = (
        "import sys, django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['pgembedding_django'],\n"
        "                   DATABASES={'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'none'}})\n"
        "django.setup(); import pgembedding_django, pgembedding_django.embedders.openai\n"
        "import pgembedding_django.embedders.wordllama, pgembedding_django.embedders.langchain\n"
        "import pgembedding_django.embedders.cached\n"
        f"print([name for name in {SLOW_OR_OPTIONAL} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_wordllama_leaves_the_logging_of_the_project_alone():
    script = (
        "import logging, django; from django.conf import settings; settings.configure(); django.setup()\n"
        "from pgembedding_django.embedders.wordllama import WordLlamaEmbedder\n"
        "before = (logging.getLogger().handlers[:], logging.getLogger().level)\n"
        "WordLlamaEmbedder().embed(['a text'])\n"
        "assert (logging.getLogger().handlers, logging.getLogger().level) == before\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True)
