"""The drawing of recall against latency."""

from xml.etree import ElementTree

import pytest

from pgembedding_django.maintenance.recall.plots import HEIGHT, WIDTH, draw_recall, standalone
from pgembedding_django.maintenance.recall.sampling import Recall

SVG = "{http://www.w3.org/2000/svg}"


def measured(ef_search, recall, ms):
    return Recall(ef_search, recall, recall - 0.02, min(1.0, recall + 0.01), ms, 2 * ms, ())


POINTS = [measured(40, 0.9, 0.5), measured(None, 0.99, 2.0), measured(20, 0.8, 0.4)]


def parse(points=POINTS, **options):
    return ElementTree.fromstring(draw_recall(points, **{"title": "t", **options}))


def texts(drawing):
    return [element.text for element in drawing.iter(f"{SVG}text")]


def test_drawing_has_a_labelled_point_for_each_measurement():
    drawing = parse()
    assert [label for label in texts(drawing) if label.startswith(("ef", "nearest"))] == ["ef 20", "ef 40", "nearest()"]
    assert [circle.find(f"{SVG}title").text for circle in drawing.iter(f"{SVG}circle")] == [
        "ef 20: 0.800 (0.780 to 0.810) in 0.40 ms",
        "ef 40: 0.900 (0.880 to 0.910) in 0.50 ms",
        "nearest(): 0.990 (0.970 to 1.000) in 2.00 ms",
    ]


def test_drawing_puts_points_where_its_axes_say():
    # Across: 0 to 2 ms on 48 to 384. Up: 0.7 to 1 on 210 to 36.
    (curve,) = parse().iter(f"{SVG}polyline")
    assert curve.get("points") == "115.2,152.0 132.0,94.0"
    assert {"0", "0.5", "1", "1.5", "2", "0.70", "0.80", "0.90", "1.00"} <= set(texts(parse()))


def test_drawing_leaves_out_the_ring_of_nearest_from_its_curve():
    rings = [circle.get("fill") for circle in parse().iter(f"{SVG}circle")]
    assert rings[:2] != ["none", "none"]
    assert rings[2] == "none"


def test_drawing_shows_the_target():
    dashed = [line for line in parse(target=0.85).iter(f"{SVG}line") if line.get("stroke-dasharray")]
    assert [(line.get("y1"), line.get("y2")) for line in dashed] == [("123.0", "123.0")]
    assert not any(line.get("stroke-dasharray") for line in parse().iter(f"{SVG}line"))


def test_drawing_keeps_labels_of_close_points_apart():
    drawing = parse([measured(ef, 1.0, 0.5 + ef / 10000) for ef in (20, 40, 80)])
    labels = [text for text in drawing.iter(f"{SVG}text") if text.text.startswith("ef")]
    # Below to the right and to the left, then above.
    assert [(float(text.get("y")), text.get("text-anchor")) for text in labels] == [
        (52.0, "start"),
        (52.0, "end"),
        (28.0, "start"),
    ]


def test_drawing_leads_a_line_to_a_label_that_found_no_room_beside_its_point():
    crowded = parse([measured(ef, 1.0, 0.5 + ef / 100000) for ef in range(10, 100, 10)])
    texts_ = [text for text in crowded.iter(f"{SVG}text") if text.text.startswith("ef")]
    lines = [line for line in crowded.iter(f"{SVG}line") if line.get("stroke-opacity") == "0.4"]
    assert (len(texts_), len(lines)) == (9, 5)
    ends = {(float(line.get("x2")), float(line.get("y2"))) for line in lines}
    assert ends <= {(float(text.get("x")), float(text.get("y")) - 4.5) for text in texts_}


def test_drawing_leaves_out_labels_that_have_no_room_at_all():
    crowded = parse([measured(ef, 1.0, 0.5) for ef in range(1, 200)])
    places = [(text.get("x"), text.get("y")) for text in crowded.iter(f"{SVG}text") if text.text.startswith("ef")]
    assert len(set(places)) == len(places) < 199


@pytest.mark.parametrize("point", [measured(20, 1.0, 0.0), measured(None, 0.03, 12345.0), measured(20, 0.95, 0.0001)])
def test_drawing_of_one_point_stays_inside(point):
    drawing = parse([point], target=0.5)
    for text in drawing.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= WIDTH
        assert 0 <= float(text.get("y")) <= HEIGHT


def test_drawing_escapes_its_title():
    drawn = draw_recall(POINTS, title='<script>alert("1")</script>&')
    assert "<script" not in drawn
    assert ElementTree.fromstring(drawn).find(f"{SVG}title").text == '<script>alert("1")</script>&'


def test_drawing_has_no_style_or_script_of_its_own():
    assert not any("style" in element.attrib or element.tag == f"{SVG}style" for element in parse().iter())


def test_drawing_alone_follows_the_light_or_dark_of_the_system():
    drawing = ElementTree.fromstring(standalone(draw_recall(POINTS, title="a > b")))
    (style,) = drawing.iter(f"{SVG}style")
    assert "color-scheme:light dark" in style.text
