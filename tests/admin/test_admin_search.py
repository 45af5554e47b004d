"""The box of a list of rows that searches by meaning."""

from functools import partial

import numpy as np
import pytest

from pgembedding_django.embedders import get_embedder
from tests.admin import ARTICLES, embed_with, messages, serve, staff, text
from tests.models import Article, Pair, Section

pytestmark = pytest.mark.django_db

PAIRS = "/admin/tests/pair/"

#: A page that shows rows in the order of their titles unless they are ranked.
ORDINARY = {"list_display": ["title"], "ordering": ["title"], "search_fields": ["title"], "list_filter": ["published"]}


@pytest.fixture
def register(settings):
    return partial(serve, settings, Article)


def titles(answer):
    return [row.title for row in answer.context["cl"].result_list]


def make(count):
    """Create articles a0, a1, ... with random vectors."""
    vectors = np.random.default_rng(7).normal(size=(count, 3))
    Article.objects.bulk_create(Article(title=f"a{i:03}", embedding=vector) for i, vector in enumerate(vectors))


def ranking(question, rows):
    """Return the titles of rows by their distance to a question, by numpy."""
    query = get_embedder().embed_query(question).astype(float)
    return [row.title for row in sorted(rows, key=lambda row: np.linalg.norm(row.embedding.astype(float) - query))]


def test_search_ranks_the_rows_by_distance(register, admin_client):
    register(**ORDINARY)
    make(30)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese"})
    assert titles(answer) == ranking("cheese", Article.objects.all())
    assert "The 30 nearest, the best first" in text(answer)


def test_search_shows_the_distance_beside_the_name(register, admin_client):
    register(**ORDINARY)
    Article.objects.create(title="a", embedding=get_embedder().embed_query("cheese"))
    page = text(admin_client.get(ARTICLES, {"_meaning": "cheese"}))
    assert '<td class="field-distance_column">0.0000</td>' in page
    assert page.index("field-title") < page.index("field-distance_column")


def test_search_shows_the_box_with_what_was_asked(register, admin_client):
    register()
    page = text(admin_client.get(ARTICLES, {"_meaning": 'a "<script>"'}))
    assert 'name="_meaning" value="a &quot;&lt;script&gt;&quot;" id="meaningbar"' in page
    assert "<script>&quot;" not in page


def test_search_has_pages_that_are_disjoint_and_complete(register, admin_client):
    register(**ORDINARY, list_per_page=7, list_max_show_all=20)
    make(50)
    found = []
    for page in (1, 2, 3):
        found += titles(admin_client.get(ARTICLES, {"_meaning": "cheese", "p": page}))
    assert found == ranking("cheese", Article.objects.all())[:20]


def test_search_links_to_the_next_page_of_the_same_question(register, admin_client):
    register(list_per_page=7)
    make(20)
    assert 'href="?_meaning=cheese&amp;p=2"' in text(admin_client.get(ARTICLES, {"_meaning": "cheese"}))


def test_search_ranks_what_words_and_filters_keep(register, admin_client):
    register(**ORDINARY)
    make(30)
    Article.objects.filter(title__lt="a015").update(published=False)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese", "q": "a01", "published__exact": "1"})
    assert titles(answer) == ranking("cheese", Article.objects.filter(title__in=[f"a01{i}" for i in range(5, 10)]))


def test_search_through_a_filter_that_repeats_rows_shows_each_once(register, admin_client):
    register(list_filter=["section__article__published"])
    section = Section.objects.create(name="s")
    Article.objects.create(title="a", section=section, embedding=[1, 0, 0])
    Article.objects.create(title="b", section=section, embedding=[0, 1, 0])
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese", "section__article__published__exact": "1"})
    assert sorted(titles(answer)) == ["a", "b"]


def test_search_leaves_out_what_the_person_may_not_see(settings, admin_client):
    serve(settings, Article, get_queryset=lambda self, request: Article.objects.filter(title="a001"))
    make(5)
    assert titles(admin_client.get(ARTICLES, {"_meaning": "cheese"})) == ["a001"]


def test_search_sorted_by_a_column_keeps_the_rows_that_are_near(register, admin_client):
    register(**ORDINARY, list_max_show_all=5, list_per_page=5)
    make(30)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese", "o": "-1"})
    assert titles(answer) == sorted(ranking("cheese", Article.objects.all())[:5], reverse=True)


def test_search_form_keeps_filters_and_not_the_order(register, admin_client):
    register(**ORDINARY)
    page = text(admin_client.get(ARTICLES, {"published__exact": "1", "o": "-1"}))
    form = page[page.index("pgembedding-search") : page.index("</form>", page.index("pgembedding-search"))]
    assert '<input type="hidden" name="published__exact" value="1">' in form
    assert 'name="o"' not in form


def test_words_form_keeps_the_question(register, admin_client):
    register(**ORDINARY)
    page = text(admin_client.get(ARTICLES, {"_meaning": "cheese"}))
    assert '<input type="hidden" name="_meaning" value="cheese">' in page


def test_search_counts_facets_of_what_is_near(register, admin_client):
    register(**ORDINARY)
    make(4)
    page = text(admin_client.get(ARTICLES, {"_meaning": "cheese", "_facets": "True"}))
    assert "Yes (4)" in page


def test_action_on_what_was_found_by_meaning_takes_the_selected_rows(register, admin_client):
    register(**ORDINARY)
    make(5)
    pk = Article.objects.get(title="a003").pk
    data = {"action": "delete_selected", "_selected_action": [pk], "post": "yes", "index": "0"}
    admin_client.post(f"{ARTICLES}?_meaning=cheese", data)
    assert Article.objects.count() == 4


@pytest.mark.parametrize("question", ["", "   "])
def test_search_for_nothing_is_the_ordinary_list(register, admin_client, question):
    register(**ORDINARY)
    make(5)
    answer = admin_client.get(ARTICLES, {"_meaning": question})
    assert titles(answer) == ["a000", "a001", "a002", "a003", "a004"]
    assert "field-distance_column" not in text(answer)


def test_search_whose_embedder_fails_says_why_and_shows_the_ordinary_list(register, admin_client, settings):
    embed_with(settings, "tests.admin.AwayEmbedder")
    register(**ORDINARY)
    make(3)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese"})
    assert titles(answer) == ["a000", "a001", "a002"]
    assert messages(answer) == ["Article.embedding: <script>The server is away.</script>"]
    assert "<script>The server" not in text(answer)


def test_list_of_a_model_whose_embedder_is_not_configured_has_no_box(register, admin_client, settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    register(**ORDINARY)
    make(2)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese"})
    assert titles(answer) == ["a000", "a001"]
    assert "meaningbar" not in text(answer)


def test_list_of_a_model_with_two_vectors_lets_one_choose(settings, admin_client):
    embed_with(settings, "pgembedding_django.embedders.dummy.DummyEmbedder", dimensions=2)
    serve(settings, Pair)
    query = get_embedder().embed_query("cheese")
    near, far = Pair.objects.bulk_create([Pair(one=-query, two=query), Pair(one=query, two=-query)])
    by_default = admin_client.get(PAIRS, {"_meaning": "cheese"})
    assert [row.pk for row in by_default.context["cl"].result_list] == [far.pk, near.pk]
    by_two = admin_client.get(PAIRS, {"_meaning": "cheese", "_meaning_field": "two"})
    assert [row.pk for row in by_two.context["cl"].result_list] == [near.pk, far.pk]
    assert '<option value="two" selected>Two</option>' in text(by_two)


def test_list_of_a_model_whose_embedder_makes_another_length_has_no_box(register, admin_client, settings):
    embed_with(settings, "pgembedding_django.embedders.dummy.DummyEmbedder", dimensions=256)
    register(**ORDINARY)
    make(2)
    answer = admin_client.get(ARTICLES, {"_meaning": "cheese"})
    assert titles(answer) == ["a000", "a001"]
    assert messages(answer) == []
    assert "meaningbar" not in text(answer)


def test_list_leaves_out_the_field_that_its_embedder_does_not_fit(settings, admin_client, monkeypatch):
    embed_with(settings, "pgembedding_django.embedders.dummy.DummyEmbedder", dimensions=2)
    monkeypatch.setattr(Pair._meta.get_field("one"), "dimensions", 3)
    serve(settings, Pair)
    assert [field.name for field in admin_client.get(PAIRS).context["cl"].meaning_fields] == ["two"]


def test_list_prefers_the_field_whose_embedder_is_known_to_fit(settings, admin_client, monkeypatch):
    known = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 2}}
    embedders = {"default": {"BACKEND": "tests.admin.AwayEmbedder"}, "known": known}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}
    monkeypatch.setattr(Pair._meta.get_field("two"), "embedder", "known")
    serve(settings, Pair)
    assert [field.name for field in admin_client.get(PAIRS).context["cl"].meaning_fields] == ["two", "one"]


def test_search_whose_embedder_cannot_be_made_says_why(register, admin_client, settings):
    embed_with(settings, "tests.admin.NoEmbedder")
    register(**ORDINARY)
    (message,) = messages(admin_client.get(ARTICLES, {"_meaning": "cheese"}))
    assert message.startswith("Article.embedding cannot be searched by text: ")


def test_search_by_who_may_only_view_works(register):
    register(**ORDINARY)
    make(3)
    assert len(titles(staff("view_article").get(ARTICLES, {"_meaning": "cheese"}))) == 3


def test_list_with_a_template_of_the_project_keeps_it(register, admin_client, settings, tmp_path):
    (tmp_path / "mine.html").write_text(
        '{% extends "admin/change_list.html" %}{% block content_title %}Mine{% endblock %}'
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    register(change_list_template="mine.html")
    page = text(admin_client.get(ARTICLES))
    assert "Mine" in page
    assert "meaningbar" in page
