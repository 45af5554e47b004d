"""What a measurement advises, from numbers made by hand."""

from dataclasses import replace

import pytest

from pgembedding_django.maintenance.indexes.report import BuiltIndex, RecallReport
from pgembedding_django.maintenance.recall.sampling import Recall


def measured(ef_search, recall):
    return Recall(ef_search, recall, recall - 0.01, min(1.0, recall + 0.01), 1.0, 2.0, (10,))


def report(default, rows, *, m=16, ef_construction=64, declared_m=None, ef_search=None, explained=None, builder=""):
    graph, declared = ({"m": each, "ef_construction": ef_construction} for each in (m, declared_m or m))
    declared["ef_search"] = ef_search or 16
    return RecallReport(
        model="app.Model",
        field="embedding",
        index=BuiltIndex("public", "a_hnsw", graph, declared, ef_search, ("a_hnsw",), builder),
        filters="",
        size=100,
        k=10,
        queries=(1,),
        default=measured(None, default),
        reads_index=explained is None,
        explained=explained or "Index scan: so.",
        rows=tuple(measured(*row) for row in rows),
    )


REACHED = "ef_search=40 is the smallest measured that reaches a recall of 0.95."
MISSED = "No ef_search measured reaches a recall of 0.95: 40 finds 0.900."
EXACT = "nearest() by itself reads every row here, so its answers are exact."
REBUILD = [
    "Rebuild the index, which deletes and updates wear out: manage.py rebuild_hnsw_indexes a_hnsw",
    "If it stays short, declare a larger m; manage.py tune_hnsw app.Model finds one.",
]


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (report(0.99, [(20, 0.9), (40, 0.96)]), [REACHED]),
        (report(0.99, [(20, 0.9), (40, 0.96)], m=8), [REACHED]),
        (
            report(0.9, [(20, 0.9), (40, 0.96)]),
            [REACHED, "nearest() by itself finds 0.900, short of 0.95: declare ef_search=40 in a_hnsw, or pass it."],
        ),
        (
            report(0.99, [(20, 0.8), (40, 0.9)]),
            [MISSED, "Recall still rises with ef_search: measure up to 160.", *REBUILD],
        ),
        (report(0.99, [(40, 0.9)]), [MISSED, "Recall still rises with ef_search: measure up to 160.", *REBUILD]),
        (
            report(0.9, [(20, 0.895), (40, 0.9)]),
            [MISSED, "nearest() by itself finds 0.900, short of 0.95.", *REBUILD],
        ),
        (
            report(0.99, [(20, 0.895), (40, 0.9)], m=2, declared_m=16),
            [
                MISSED,
                "a_hnsw was built with m=2, and the model declares m=16: migrate, or where no migration is left to "
                "run, drop it. Then run: manage.py rebuild_hnsw_indexes --repair",
            ],
        ),
        (
            report(0.99, [(20, 0.895), (40, 0.9)], m=4),
            [MISSED, "The graph is thin: a_hnsw was built with m=4. Declare m=16, and migrate."],
        ),
        (
            report(0.9, [(40, 0.9)], ef_search=40),
            [
                MISSED,
                "Declare a larger ef_search in a_hnsw and migrate.",
                "nearest() by itself finds 0.900, short of 0.95.",
                *REBUILD,
            ],
        ),
        (report(1.0, [(40, 0.96)], explained="Exact scan: so."), [REACHED, f"{EXACT} Exact scan: so."]),
    ],
)
def test_advice_follows_from_what_was_measured(found, advice):
    assert found.advice(0.95) == advice


def test_advice_does_not_ask_for_more_candidates_than_there_can_be():
    advice = report(0.9, [(500, 0.8), (1000, 0.9)]).advice(0.95)
    assert advice[0] == "No ef_search measured reaches a recall of 0.95: 1000 finds 0.900."
    assert not any("still rises" in sentence for sentence in advice)


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (
            report(0.9, [(20, 0.9), (40, 0.96)], builder="make"),
            [
                REACHED,
                "nearest() by itself finds 0.900, short of 0.95. Call make(m=16, ef_construction=64, ef_search=40). It "
                "keeps the graph. Or pass ef_search.",
            ],
        ),
        (
            report(0.9, [(20, 0.895), (40, 0.9)], m=8, ef_construction=16, builder="make"),
            [
                MISSED,
                "nearest() by itself finds 0.900, short of 0.95.",
                "The graph is thin: a_hnsw was built with m=8 and ef_construction=16. Call make(m=16, "
                "ef_construction=64, ef_search=16).",
            ],
        ),
        (
            report(0.99, [(20, 0.895), (40, 0.9)], builder="make"),
            [
                MISSED,
                REBUILD[0],
                "If it stays short, build a larger graph. Call make(m=32, ef_construction=128, ef_search=16).",
            ],
        ),
        (
            report(0.99, [(40, 0.9)], ef_search=40, builder="make"),
            [
                MISSED,
                "Call make(m=16, ef_construction=64, ef_search=80).",
                REBUILD[0],
                "If it stays short, build a larger graph. Call make(m=32, ef_construction=128, ef_search=40).",
            ],
        ),
    ],
)
def test_advice_for_an_index_that_no_model_declares_names_the_call(found, advice):
    assert found.advice(0.95) == advice


@pytest.mark.parametrize(("precision", "finer"), [("binary", 'precision="half", or none'), ("half", "none")])
def test_advice_names_the_precision_where_it_is_the_cause(precision, finer):
    coarse = replace(report(0.1, [(20, 0.1), (40, 0.1)]), precision=precision, ceiling=0.12)
    assert coarse.advice(0.95)[1:] == [
        f'precision="{precision}" is the cause: its candidates hold 0.120 of the nearest rows even if the graph '
        "loses none. "
        f"Declare {finer}, and migrate; manage.py tune_hnsw app.Model tries them.",
        "nearest() by itself finds 0.100, short of 0.95.",
    ]


def test_advice_leaves_the_precision_alone_where_the_graph_is_the_cause():
    found = replace(report(0.9, [(20, 0.895), (40, 0.9)]), precision="binary", ceiling=0.96)
    assert found.advice(0.95)[2:] == REBUILD
