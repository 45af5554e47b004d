"""What the page of a row shows of its vectors."""

from functools import partial

import numpy as np
import pytest

from pgembedding_django.admin.charts import draw_vector
from tests.admin import ARTICLES, embed_with, messages, serve, staff, text
from tests.models import Article, Loose, Pair, Section

pytestmark = pytest.mark.django_db


@pytest.fixture
def register(settings):
    return partial(serve, settings, Article)


def page_of(client, row):
    return client.get(f"/admin/tests/{row._meta.model_name}/{row.pk}/change/")


def similar(answer):
    (panel,) = answer.context["vector_panels"]
    return [(neighbour.row.title, neighbour.distance) for neighbour in panel.similar]


def test_page_lists_the_similar_rows_with_links_and_distances(register, admin_client):
    register()
    article = Article.objects.create(title="a", embedding=[0, 0, 0])
    far = Article.objects.create(title="far", embedding=[3, 4, 0])
    Article.objects.create(title="near", embedding=[1, 0, 0])
    answer = page_of(admin_client, article)
    assert similar(answer) == [("near", "1.0000"), ("far", "5.0000")]
    assert f'<a href="{ARTICLES}{far.pk}/change/">far</a>' in text(answer)


def test_page_lists_eight_similar_rows_at_most(register, admin_client):
    register()
    rows = Article.objects.bulk_create(Article(title=f"{i}", embedding=[i, 0, 0]) for i in range(12))
    assert [title for title, _ in similar(page_of(admin_client, rows[0]))] == [f"{i}" for i in range(1, 9)]


def test_page_leaves_out_similar_rows_that_the_person_may_not_see(settings, admin_client):
    serve(settings, Article, get_queryset=lambda self, request: Article.objects.exclude(title="secret"))
    article = Article.objects.create(title="a", embedding=[0, 0, 0])
    Article.objects.create(title="secret", embedding=[0, 0, 0])
    Article.objects.create(title="b", embedding=[1, 0, 0])
    assert similar(page_of(admin_client, article)) == [("b", "1.0000")]


def test_page_escapes_the_names_of_similar_rows(register, admin_client):
    register()
    article = Article.objects.create(title="a", embedding=[0, 0, 0])
    Article.objects.create(title="<script>alert(1)</script>", embedding=[1, 0, 0])
    page = text(page_of(admin_client, article))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page


def test_page_for_who_may_only_view_has_the_panel(register):
    register()
    article = Article.objects.create(title="a", embedding=[1, 2, 3])
    assert "pgembedding-chart" in text(page_of(staff("view_article"), article))


def test_page_tells_the_embedder_without_its_options(register, admin_client, settings):
    embed_with(settings, "tests.admin.AwayEmbedder", api_key="sk-secret")
    register()
    page = text(page_of(admin_client, Article.objects.create(title="a", embedding=[1, 2, 3])))
    assert "Embedder: default (AwayEmbedder)" in page
    assert "sk-secret" not in page


def test_page_without_an_embedder_names_none(register, admin_client, settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    register()
    answer = page_of(admin_client, Article.objects.create(title="a", embedding=[1, 2, 3]))
    assert "Embedder:" not in text(answer)
    assert answer.status_code == 200


def test_page_of_a_row_without_a_vector_says_so(register, admin_client):
    register()
    page = text(page_of(admin_client, Article.objects.create(title="a")))
    assert "Not embedded yet" in page
    assert "pgembedding-chart" not in page


def test_page_with_two_vectors_has_a_panel_for_each(settings, admin_client):
    serve(settings, Pair)
    pair = Pair.objects.create(one=[1, 0], two=[1, 0])
    Pair.objects.create(one=[0, 1], two=[3, 0])
    panels = page_of(admin_client, pair).context["vector_panels"]
    # By cosine and by L1, as their indexes are.
    assert [[each.distance for each in panel.similar] for panel in panels] == [["1.0000"], ["2.0000"]]


def test_page_of_a_vector_without_direction_lists_nothing(settings, admin_client):
    serve(settings, Pair)
    pair = Pair.objects.create(two=[1, 0])
    Pair.objects.filter(pk=pair.pk).update(one=None)
    assert page_of(admin_client, pair).context["vector_panels"][0].similar == []


def test_page_of_a_vector_of_any_length_lists_nothing(settings, admin_client):
    serve(settings, Loose)
    loose = Loose.objects.create(embedding=[1, 2])
    (panel,) = page_of(admin_client, loose).context["vector_panels"]
    assert panel.similar == []
    assert "pgembedding-chart" in panel.chart


def test_page_to_add_a_row_has_no_panel(register, admin_client):
    register()
    assert "pgembedding-panel" not in text(admin_client.get(f"{ARTICLES}add/"))


def test_page_of_a_row_that_is_not_there_leads_back(register, admin_client):
    register()
    assert admin_client.get(f"{ARTICLES}0/change/").status_code == 302


def test_chart_has_a_bar_for_each_number_up_or_down_from_the_middle():
    chart = draw_vector(np.array([1, -0.5, 0], np.float32))
    assert 'd="M1.5 24V1.0 M4.5 24V35.5 M7.5 24V24.0"' in chart
    assert 'aria-label="The 3 numbers of the vector"' in chart


def test_chart_of_a_long_vector_shows_the_largest_of_several():
    vector = np.zeros(3072, np.float32)
    vector[1], vector[25] = 0.5, -1
    chart = draw_vector(vector)
    assert chart.count("V") == 128
    assert 'd="M1.5 24V12.5 M4.5 24V47.0 M7.5 24V24.0' in chart
    assert "each bar the largest of about 24 numbers" in chart


def test_chart_of_zeros_is_flat():
    chart = draw_vector(np.zeros(1, np.float32))
    assert 'd="M1.5 24V24.0"' in chart
    assert 'aria-label="The only number of the vector"' in chart


def test_page_of_a_model_without_vectors_is_as_ever(settings, admin_client):
    serve(settings, Section)
    section = Section.objects.create(name="s")
    page = text(page_of(admin_client, section))
    assert "pgembedding-panel" not in page
    assert "meaningbar" not in text(admin_client.get("/admin/tests/section/"))


# The remedy


def save_and_embed(client, row, title):
    return client.post(f"{ARTICLES}{row.pk}/change/", {"title": title, "_embed": "Save and embed"}, follow=True)


def test_page_offers_to_embed_a_row_without_a_vector(register, admin_client):
    register()
    page = text(page_of(admin_client, Article.objects.create(title="a")))
    assert '<input type="submit" name="_embed" value="Save and embed">' in page
    # Enter in a field presses the first button of a form.
    assert page.index('name="_save"') < page.index('name="_embed"')


def test_page_offers_to_embed_a_stale_row_and_not_a_fresh_one(register, admin_client):
    register()
    article = Article.objects.create(title="a")
    Article.objects.embed()
    assert 'name="_embed"' not in text(page_of(admin_client, article))
    Article.objects.update(title="b")
    assert 'name="_embed"' in text(page_of(admin_client, article))


def test_page_offers_nothing_to_who_may_only_view(register):
    register()
    assert 'name="_embed"' not in text(page_of(staff("view_article"), Article.objects.create(title="a")))


def test_page_offers_nothing_where_no_text_makes_the_vector(settings, admin_client):
    serve(settings, Pair)
    assert 'name="_embed"' not in text(page_of(admin_client, Pair.objects.create()))


@pytest.mark.django_db(transaction=True)
def test_row_is_saved_and_embedded_and_its_page_shown_again(register, admin_client):
    register()
    article = Article.objects.create(title="a")
    answer = save_and_embed(admin_client, article, "new")
    assert answer.redirect_chain == [(f"{ARTICLES}{article.pk}/change/", 302)]
    article.refresh_from_db()
    assert (article.title, Article.objects.stale().count()) == ("new", 0)
    assert article.embedding is not None
    assert messages(answer) == ["Article.embedding: 1 embedded, 0 fresh already, 0 without text, 0 failed."]


@pytest.mark.django_db(transaction=True)
def test_row_whose_embedder_fails_is_saved_and_the_reason_shown(register, admin_client, settings):
    embed_with(settings, "tests.admin.AwayEmbedder")
    register()
    article = Article.objects.create(title="a")
    answer = save_and_embed(admin_client, article, "new")
    article.refresh_from_db()
    assert article.title == "new"
    assert "&lt;script&gt;The server is away.&lt;/script&gt;" in text(answer)


@pytest.mark.django_db(transaction=True)
def test_row_with_an_invalid_form_is_neither_saved_nor_embedded(register, admin_client):
    register()
    article = Article.objects.create(title="a")
    answer = save_and_embed(admin_client, article, "")
    assert answer.status_code == 200
    article.refresh_from_db()
    assert (article.title, article.embedding) == ("a", None)


def test_other_buttons_of_the_page_do_what_they_did(register, admin_client):
    register()
    article = Article.objects.create(title="a")
    answer = admin_client.post(f"{ARTICLES}{article.pk}/change/", {"title": "b", "_save": "Save"})
    assert answer.headers["Location"] == ARTICLES
    assert Article.objects.stale().count() == 1


def test_page_of_a_vector_without_direction_lists_nothing_similar(settings, admin_client):
    serve(settings, Pair)
    Pair.objects.create(one=[1, 2])
    answer = page_of(admin_client, Pair.objects.create(one=[0, 0]))
    assert [panel.similar for panel in answer.context["vector_panels"]] == [[], []]
