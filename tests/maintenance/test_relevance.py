"""Relevance of ways to search, beside figures that are worked out by hand."""

import io
import json
from math import log2
from statistics import mean
from xml.etree import ElementTree

import ir_measures
import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from scipy.stats import ttest_rel

from pgembedding_django.maintenance import measure_relevance, read_questions
from pgembedding_django.maintenance.relevance.measures import paired_p, score
from pgembedding_django.maintenance.relevance.plots import draw_relevance
from pgembedding_django.maintenance.relevance.questions import Question
from tests.models import Article, Memo, Tag

pytestmark = pytest.mark.django_db

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _scripted(scripted):
    """A text's vector is its length, its first letter and 0.5."""


@pytest.fixture
def articles(empty_index):
    """Ten articles whose titles have the letter "a" from one time to ten times."""
    return Article.objects.bulk_create(
        [Article(title="a" * size, embedding=[size, ord("a"), 0.5]) for size in range(1, 11)]
    )


@pytest.fixture
def write(tmp_path):
    def write(*entries):
        path = tmp_path / "questions.jsonl"
        path.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
        return path

    return write


def backwards(rows, text, k):
    return reversed(rows.nearest(text, k))


def run(*args, **options):
    out = io.StringIO()
    call_command("measure_relevance", *args, stdout=out, **options)
    return out.getvalue()


def test_measures_are_those_worked_out_by_hand():
    """Grades 3 and 1; found in second and first place, of the other question nothing."""
    questions = [Question("one", {7: 3, 8: 1}), Question("two", {9: 1})]
    found = score(questions, [[8, 7, 5], [4]], 3)
    ideal = 3 / log2(2) + 1 / log2(3)
    assert found["ndcg"] == pytest.approx(((1 / log2(2) + 3 / log2(3)) / ideal, 0))
    assert found["mrr"] == (1, 0)
    assert found["recall"] == (1, 0)


def test_measures_are_those_of_ir_measures_on_judgements_drawn_at_random():
    generator = np.random.default_rng(3)
    questions = [
        Question(str(i), {int(key): int(generator.integers(0, 4)) for key in generator.permutation(30)[:8]} | {99: 1})
        for i in range(20)
    ]
    answers = [generator.permutation(30)[:10].tolist() for _ in questions]
    qrels = {str(i): {str(key): grade for key, grade in q.grades.items()} for i, q in enumerate(questions)}
    ranked = {str(i): {str(key): 100 - place for place, key in enumerate(keys)} for i, keys in enumerate(answers)}
    measures = {"ndcg": ir_measures.nDCG @ 10, "mrr": ir_measures.RR @ 10, "recall": ir_measures.R @ 10}
    expected = ir_measures.calc_aggregate(measures.values(), qrels, ranked)
    found = score(questions, answers, 10)
    assert {name: mean(found[name]) for name in measures} == pytest.approx(
        {name: expected[measure] for name, measure in measures.items()}
    )


def test_report_compares_each_way_with_the_first(articles):
    questions = [Question("a" * size, {articles[size - 1].pk: 1}) for size in (3, 5, 8)]
    report = measure_relevance(Article, questions, {"near": lambda r, t, k: r.nearest(t, k), "far": backwards}, k=2)
    near, far = report.ways
    assert (near.ndcg, near.mrr, near.recall) == (1, 1, 1)
    assert (far.ndcg, far.mrr, far.recall) == pytest.approx((1 / log2(3), 0.5, 1))
    assert report.verdict() == ["far is worse than near (nDCG@2 0.631 and 1.000, p = 0.000)."]


def test_p_is_that_of_the_paired_t_test():
    one, two = [0.2, 0.5, 0.9, 0.4], [0.3, 0.9, 0.8, 0.7]
    assert paired_p(one, two) == pytest.approx(ttest_rel(two, one).pvalue)


@pytest.mark.parametrize(
    ("one", "two", "p"), [([0.5], [0.7], None), ([0.5, 0.2], [0.5, 0.2], 1), ([0.5, 0.2], [0.6, 0.3], 0)]
)
def test_p_without_scatter_needs_no_test(one, two, p):
    assert paired_p(one, two) == p


def test_command_prints_a_table_and_a_verdict(articles, write):
    path = write(
        {"question": "aaa", "answers": [articles[2].pk]}, "", {"question": "aaaaa", "answers": [articles[4].pk]}
    )
    far = f"{__name__}.backwards"
    first, _, head, near, other, _, verdict = run("tests.Article", path, way=["nearest exact=true", far]).splitlines()
    assert first == "tests.Article: 2 questions, 10 rows of each."
    assert head.split() == ["nDCG@10", "RR@10", "R@10", "p50"]
    assert near.startswith("nearest exact=true")
    assert near.split()[2:5] == ["1.000", "1.000", "1.000"]
    assert other.split()[:4] == [far, "0.289", "0.100", "1.000"]
    assert verdict == f"{far} is worse than nearest exact=true (nDCG@10 0.289 and 1.000, p = 0.000)."


@pytest.mark.pgvector
@pytest.mark.parametrize("way", ["hybrid fields=title config=simple", "rerank by=default candidates=4 of=title"])
def test_command_knows_the_ways_by_name(articles, write, way, settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "RERANKERS": {"default": {"BACKEND": f"{__name__}.shortest"}}}
    path = write({"question": "aaa", "answers": {str(articles[2].pk): 2}})
    assert json.loads(run("tests.Article", path, "--json", way=[way]))["ways"][0]["recall"] == 1


def shortest(question, texts):
    return [-len(text) for text in texts]


def test_command_as_json_has_every_number(articles, write):
    path = write({"question": "aaa", "answers": [articles[2].pk]})
    found = json.loads(run("tests.Article", path, "--json", "--k=1", way=["nearest", f"{__name__}.backwards"]))
    assert (found["model"], found["k"], found["questions"]) == ("tests.Article", 1, ["aaa"])
    assert found["ways"][0] == {
        "way": "nearest",
        "ndcg": 1,
        "mrr": 1,
        "recall": 1,
        "p50_ms": found["ways"][0]["p50_ms"],
        "p": None,
        "each": {"ndcg": [1], "mrr": [1], "recall": [1]},
    }
    assert found["verdict"] == [
        f"{__name__}.backwards and nearest differ by no more than chance may (nDCG@1 1.000 and 1.000)."
    ]


def test_command_searches_the_rows_that_a_filter_keeps(articles, write):
    Article.objects.filter(title="aaa").update(published=False)
    path = write({"question": "aaa", "answers": [articles[2].pk]})
    found = json.loads(run("tests.Article", path, "--json", filter=["published=true"]))
    assert found["ways"][0]["recall"] == 0


def test_command_takes_keys_of_another_field(articles, write):
    path = write({"question": 10 * "a", "answers": {10 * "a": 2, 9 * "a": 1, "a": 0}})
    assert json.loads(run("tests.Article", path, "--json", key="title"))["ways"][0]["ndcg"] == 1


def test_command_fails_below_the_least_that_is_wanted(articles, write):
    path = write({"question": 10 * "a", "answers": [articles[8].pk]})
    run("tests.Article", path, "--min=0.6")
    with pytest.raises(CommandError, match=r"^nearest has nDCG@10 0\.631, less than 0\.7\.$"):
        run("tests.Article", path, "--min=0.7")


def test_command_draws(articles, write, tmp_path):
    path = write({"question": 10 * "a", "answers": [articles[8].pk]})
    run("tests.Article", path, plot=tmp_path / "plot.svg")
    drawing = ElementTree.parse(tmp_path / "plot.svg")
    assert "0.631" in [text.text for text in drawing.iter(f"{SVG}text")]


def test_drawing_has_a_bar_as_long_as_each_measure(articles):
    questions = [Question(10 * "a", {articles[8].pk: 1})]
    report = measure_relevance(Article, questions, {"<near>": lambda rows, text, k: rows.nearest(text, k)})
    drawing = ElementTree.fromstring(draw_relevance(report))
    widths = [float(bar.get("width")) / 280 for bar in drawing.iter(f"{SVG}rect")]
    assert widths == pytest.approx([1 / log2(3), 0.5, 1], abs=0.001)
    assert "<near>" in [text.text for text in drawing.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 must be JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
        ("[1]", 'line 1 must be {"question": "...", "answers": [key, ...]} or '),
        ('{"question": " ", "answers": [1]}', 'line 1 must be {"question": '),
        ('{"question": "a", "answers": 1}', 'line 1 must be {"question": '),
        (
            '{"question": "a", "answers": []}',
            "line 1 must have an answer, and grades that are integers from 0, got [].",
        ),
        (
            '{"question": "a", "answers": {"1": 0.5}}',
            "line 1 must have an answer, and grades that are integers from 0, got {'1': 0.5}.",
        ),
        ('{"question": "a", "answers": ["x"]}', "line 1: 'x' is no pk of Article."),
        ('{"question": "a", "answers": [12345678]}', "line 1: no Article has pk 12345678."),
        ("", "questions.jsonl has no question. Write a line for each: "),
        (b"\xff", "questions.jsonl must be UTF-8 text, a line for each question: "),
    ],
)
def test_questions_that_cannot_be_read_say_where_and_why(tmp_path, line, message):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(line if isinstance(line, bytes) else line.encode())
    with pytest.raises(CommandError) as error:
        run("tests.Article", path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (["tests.Article.embedding"], {}, '"tests.Article.embedding" names a field. Write app.Model, and --way '),
        (["tests.Article"], {"way": ["neighbours"]}, "A way to search must be nearest, hybrid or rerank with "),
        (["tests.Article"], {"way": ["nearest 5"]}, 'must be name=value, got "5" in "nearest 5".'),
        (["tests.Article"], {"way": ["nearest f=5"]}, "unexpected keyword argument 'f'"),
        (["tests.Article"], {"way": ["no.such"]}, "No module named 'no'"),
        (["tests.Article"], {"key": "nothing"}, "key must name a field of Article, got 'nothing'."),
        (["tests.Article"], {"plot": "/no/folder/x.svg"}, "--plot needs a folder that is there, got /no/folder."),
        (["tests.Article"], {"k": 0}, "k must be an integer from 1 to 100,000, got 0."),
    ],
)
def test_command_of_what_cannot_be_measured_says_why(articles, write, args, options, message):
    path = write({"question": "aaa", "answers": [articles[2].pk]})
    if "plot" in options:
        options = {"plot": type(path)(options["plot"])}
    with pytest.raises(CommandError) as error:
        run(*args, path, **options)
    assert message in str(error.value)


def test_command_without_its_file_says_so(tmp_path):
    with pytest.raises(CommandError, match=r"none\.jsonl cannot be read: No such file or directory\.$"):
        run("tests.Article", tmp_path / "none.jsonl")


def test_command_that_cannot_draw_says_so(articles, write, tmp_path):
    path = write({"question": "aaa", "answers": [articles[2].pk]})
    with pytest.raises(CommandError, match=r"^--plot cannot write .*: Is a directory\.$"):
        run("tests.Article", path, plot=tmp_path)


def test_measure_without_questions_or_ways_is_refused():
    with pytest.raises(ValueError, match=r"^Relevance needs a question and a way, got 0 and 1\.$"):
        measure_relevance(Article, [])


def test_key_is_read_as_the_field_reads_it(write):
    tag = Tag.objects.create(name="x")
    (question,) = read_questions(write({"question": "a", "answers": [str(tag.pk).upper()]}), Tag)
    assert question.grades == {tag.pk: 1}


def test_model_without_an_embedding_manager_is_searched_by_a_function(django_user_model):
    user = django_user_model.objects.create(username="u")
    report = measure_relevance(django_user_model, [Question("u", {user.pk: 1})], {"all": lambda rows, text, k: rows})
    assert report.ways[0].recall == 1


def test_relevance_without_its_package_says_what_to_install(articles, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ir_measures", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "pgembedding-django\[relevance\]"$'):
        measure_relevance(Article, [Question("aaa", {articles[2].pk: 1})])


def test_compare_embeddings_says_which_is_better_by_questions(write):
    rows = Memo.objects.bulk_create(
        [Memo(title=str(i), embedding=[i, 97, 0.5], loud=[9 - i, 97, 0.5]) for i in range(1, 9)]
    )
    path = write(*({"question": "a" * i, "answers": [rows[i - 1].pk]} for i in (1, 2, 3)))
    out = io.StringIO()
    call_command("compare_embeddings", "tests.Memo", "embedding", "loud", questions=path, k=1, stdout=out)
    assert out.getvalue().splitlines()[-1] == (
        "By 3 questions: loud is worse than embedding (nDCG@1 0.000 and 1.000, p = 0.000)."
    )


def test_compare_embeddings_without_its_questions_says_so(tmp_path):
    Memo.objects.bulk_create([Memo(embedding=[i, 0, 1], loud=[i, 0, 1]) for i in range(3)])
    with pytest.raises(CommandError, match=r"cannot be read: No such file or directory\.$"):
        call_command("compare_embeddings", "tests.Memo", "embedding", "loud", questions=tmp_path / "none")
