import io

import pytest
from django.core.management import CommandError, call_command

from pgembedding_django.maintenance.recall.comparison import compare
from tests.models import Memo

pytestmark = pytest.mark.django_db


def test_comparison_of_a_field_with_itself_is_whole(scripted):
    Memo.objects.bulk_create([Memo(title=f"t{i}", embedding=[i, 0, 1], loud=[i, 0, 1]) for i in range(5)])
    found = compare(Memo, "embedding", "loud", k=2, using="default")
    assert (found.mean, found.k, found.candidates, len(found.overlaps)) == (1.0, 2, 5, 5)


def test_comparison_counts_the_rows_that_both_find():
    """Of row 0, L2 finds 1 and 2 by one vector and 2 and 3 by the other."""
    one, two = [0, 1, 2, 10, 20], [0, 50, 1, 2, 60]
    rows = Memo.objects.bulk_create([Memo(embedding=[a, 0, 0], loud=[b, 0, 0]) for a, b in zip(one, two, strict=True)])
    found = compare(Memo, "embedding", "loud", k=2, using="default")
    assert found.overlaps[rows[0].pk] == 0.5
    assert found.worst(1)[0][1] == min(found.overlaps.values())


def test_comparison_takes_rows_with_both_vectors_only(scripted):
    Memo.objects.bulk_create([Memo(embedding=[i, 0, 1], loud=[i, 0, 1]) for i in range(3)])
    Memo.objects.create(embedding=[0, 0, 1])
    found = compare(Memo, "embedding", "loud", sample=2, using="default")
    assert (found.candidates, found.k, len(found.overlaps)) == (3, 2, 2)


def test_command_says_how_many_are_the_same(scripted):
    Memo.objects.bulk_create([Memo(embedding=[i, 0, 1], loud=[i, 0, 1]) for i in range(3)])
    out = io.StringIO()
    call_command("compare_embeddings", "tests.Memo", "embedding", "loud", stdout=out)
    first, *rows = out.getvalue().splitlines()
    assert first == (
        "tests.Memo: of the 2 nearest rows, 100% are the same by embedding and by loud (3 rows drawn of 3 that have "
        "both)."
    )
    assert len(rows) == 3


def test_command_counts_one_row_as_one(scripted):
    Memo.objects.create(embedding=[0, 0, 1], loud=[0, 0, 1])
    with pytest.raises(
        CommandError, match=r"^Memo has 1 row with both embedding and loud, so nothing can be compared\.$"
    ):
        call_command("compare_embeddings", "tests.Memo", "embedding", "loud")
    Memo.objects.create(embedding=[1, 0, 1], loud=[1, 0, 1])
    out = io.StringIO()
    call_command("compare_embeddings", "tests.Memo", "embedding", "loud", sample=1, stdout=out)
    assert "of the 1 nearest row, 100% are the same" in out.getvalue()
    assert "(1 row drawn of 2 that have both)" in out.getvalue()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["tests.Memo", "embedding", "loud"],
            "Memo has 0 rows with both embedding and loud, so nothing can be compared.",
        ),
        (
            ["tests.Nothing", "embedding", "loud"],
            '"tests.Nothing" names no model. Write app.Model or app.Model.field, such as blog.Article.',
        ),
        (
            ["tests.Memo.loud", "embedding", "loud"],
            '"tests.Memo.loud" names a field. Write app.Model, and after it the two fields.',
        ),
        (["tests.Memo", "embedding", "title"], "tests.Memo has no EmbeddingField title; it has embedding, loud."),
        (["tests.Memo", "loud", "loud"], "Two fields are compared, got loud twice."),
        (["tests.Memo", "embedding", "loud", "--k=0"], "k must be an integer from 1 to 100,000, got 0."),
        (["tests.Memo", "embedding", "loud", "--sample=-1"], "sample must be an integer from 1 to 100,000, got -1."),
    ],
)
def test_command_of_what_cannot_be_compared_says_why(args, message):
    with pytest.raises(CommandError) as error:
        call_command("compare_embeddings", *args)
    assert str(error.value) == message
