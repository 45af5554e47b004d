"""django-safedelete: what was deleted softly is neither found, nor counted, nor embedded."""

import numpy as np
import pytest
from django.db import connection, models
from safedelete.config import DELETED_VISIBLE
from safedelete.managers import SafeDeleteManager
from safedelete.models import SafeDeleteModel
from safedelete.queryset import SafeDeleteQueryset

from pgembedding_django import EmbeddingField, EmbeddingQuerySet, HnswIndex

pytestmark = pytest.mark.django_db

VECTORS = np.random.default_rng(5).standard_normal((600, 3)).astype(np.float32)
QUERY = np.array([0.1, 0.2, -0.3], dtype=np.float32)
RANKED = np.argsort(np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)).tolist()
ALIVE = [i for i in RANKED if i % 2]


class TheirsFirst(SafeDeleteQueryset, EmbeddingQuerySet):
    pass


class OursFirst(EmbeddingQuerySet, SafeDeleteQueryset):
    pass


class Memo(SafeDeleteModel):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    theirs = SafeDeleteManager.from_queryset(TheirsFirst)(TheirsFirst)
    ours = SafeDeleteManager.from_queryset(OursFirst)(OursFirst)

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="memo_hnsw")]


@pytest.fixture(params=["theirs", "ours"])
def memos(request):
    """Every second memo is deleted softly; sorts are dear, so that the index shows."""
    Memo.theirs.bulk_load(Memo(title=str(i), embedding=vector) for i, vector in enumerate(VECTORS))
    Memo.theirs.filter(title__in=[str(i) for i in range(0, 600, 2)]).delete()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE neighbours_memo; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off")
    return getattr(Memo, request.param)


def ids(rows):
    return [int(row.title) for row in rows]


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_leaves_out_what_is_deleted(memos, exact):
    assert ids(memos.nearest(QUERY, 10, exact=exact)) == ALIVE[:10]
    assert ids(memos.filter(pk__gt=0).nearest(QUERY, 10, exact=exact)) == ALIVE[:10]


def test_nearest_goes_through_the_index(memos):
    assert "memo_hnsw" in memos.nearest(QUERY, 10, exact=False).explain()


def test_nearest_is_counted_and_selected_without_what_is_deleted(memos):
    assert memos.nearest(QUERY, 600).count() == len(ALIVE)
    near = memos.nearest(QUERY, 600, exact=False).values("pk")
    assert Memo.theirs.all(force_visibility=DELETED_VISIBLE).filter(pk__in=near).count() == len(ALIVE)


def test_nearest_finds_what_is_deleted_where_it_is_visible(memos):
    assert ids(memos.all(force_visibility=DELETED_VISIBLE).nearest(QUERY, 10)) == RANKED[:10]


def test_hybrid_leaves_out_what_is_deleted(memos):
    rows = memos.hybrid("12", 10, fields=["title"])
    assert len(rows) == rows.count() == 10
    assert all(i % 2 for i in ids(rows))


def test_embed_leaves_out_what_is_deleted(memos):
    Memo.theirs.all(force_visibility=DELETED_VISIBLE).update(embedding=None)
    assert memos.stale().count() == memos.embed().embedded == len(ALIVE)
