"""Questions of real searches, read from a file."""

import numpy as np
import pytest

from pgembedding_django.embedders import get_embedder
from pgembedding_django.maintenance.recall.questions import read_queries
from tests.models import Article, Pair


def test_questions_are_the_lines_that_are_not_blank_embedded_as_queries(tmp_path):
    path = tmp_path / "questions"
    path.write_text(" one\n\n \nzwölf\r\n", encoding="utf-8")
    embedder = get_embedder("default")
    expected = [embedder.embed_query(text) for text in ("one", "zwölf")]
    assert np.array_equal(read_queries(path, Article), expected)


def test_questions_of_an_empty_file_are_none(tmp_path):
    path = tmp_path / "questions"
    path.touch()
    assert read_queries(path, Article) == []


def test_vectors_are_the_rows_of_an_array(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert [vector.tolist() for vector in read_queries(path, Article)] == [[1, 2, 3], [4, 5, 6]]


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("It was unpickled.",))


def test_vectors_in_a_pickle_are_refused(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError) as caught:
        read_queries(path, Article)
    assert str(caught.value) == (
        f"{path} must be a .npy of vectors: Object arrays cannot be loaded when allow_pickle=False"
    )


def test_vectors_of_what_is_no_array_are_refused(tmp_path):
    path = tmp_path / "vectors.npy"
    path.write_text("one two three")
    with pytest.raises(ValueError) as caught:
        read_queries(path, Article)
    assert str(caught.value).startswith(f"{path} must be a .npy of vectors: ")


def test_vectors_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError) as caught:
        read_queries(path, Article)
    assert str(caught.value) == f"{path} must hold a vector a row, got an array of shape (3,)."


def test_questions_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "questions"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError) as caught:
        read_queries(path, Article)
    assert str(caught.value) == f"{path} must be UTF-8 text with a question a line, or a .npy of vectors."


def test_questions_of_a_model_with_several_fields_need_its_name(tmp_path):
    with pytest.raises(ValueError, match="Pair"):
        read_queries(tmp_path / "questions", Pair)
