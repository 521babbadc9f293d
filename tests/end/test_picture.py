"""Graphs as SVG, and the layout below it."""

import itertools
import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyflow.core.dtypes import float32
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.reduction import sum_
from tinyflow.tools.layered import layered, spaced
from tinyflow.tools.picture import svg

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[int, tuple[float, float]], list[tuple[int, int]]]:
    count = draw(st.integers(1, 24))
    sizes = {k: (draw(st.sampled_from([30.0, 80.0, 140.0])), draw(st.sampled_from([26.0, 43.0]))) for k in range(count)}
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return sizes, draw(st.lists(st.sampled_from(pairs), max_size=40)) if pairs else []


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_boxes_do_not_touch_and_wires_lead_down(
    graph: tuple[dict[int, tuple[float, float]], list[tuple[int, int]]],
) -> None:
    sizes, edges = graph
    places = layered(sizes, edges)
    for k, (x, y) in places.boxes.items():
        w, h = sizes[k]
        assert (
            -0.01 <= x - w / 2
            and x + w / 2 <= places.width + 0.01
            and -0.01 <= y - h / 2
            and y + h / 2 <= places.height + 0.01
        )
    for a, b in itertools.combinations(sizes, 2):
        (ax, ay), (bx, by) = places.boxes[a], places.boxes[b]
        apart_x, apart_y = (
            abs(ax - bx) - (sizes[a][0] + sizes[b][0]) / 2,
            abs(ay - by) - (sizes[a][1] + sizes[b][1]) / 2,
        )
        assert apart_x > 20 or apart_y > 20
    for a, b in edges:
        corners = [places.boxes[a], *places.wires[a, b], places.boxes[b]]
        assert all(p[1] < q[1] for p, q in itertools.pairwise(corners))


def test_places_are_as_near_as_the_order_allows() -> None:
    assert spaced([0, 10, 20], [1, 1, 1], [0, 5, 5]) == [0, 10, 20]
    assert spaced([10, 10], [1, 1], [0, 4]) == [8, 12]
    assert spaced([10, 10], [3, 1], [0, 4]) == [9, 13]


def test_a_chain_is_a_straight_line() -> None:
    places = layered(dict.fromkeys("abcd", (60.0, 40.0)), itertools.pairwise("abcd"))
    assert len({x for x, _ in places.boxes.values()}) == 1


def test_a_picture_is_valid_and_names_its_nodes() -> None:
    x, w = placeholder(float32, (8, 3), "x <1>"), variable(float32, (3, 4), "w")
    y = matmul(x, w)
    loss = sum_(e.relu(y) * 0.5 + y * 0.5)
    tree = ElementTree.fromstring(svg(loss, title="a & b"))
    text = ["".join(t.itertext()) for t in tree.iter(f"{SVG}text")]
    assert {"a & b", "x <1>", "placeholder · 8 × 3", "w", "variable · 3 × 4", "contractij,jk→ik"} <= set(text)
    width, height = (float(tree.attrib[k]) for k in ("width", "height"))
    for r in tree.iter(f"{SVG}rect"):
        assert (
            0 <= float(r.attrib["x"]) + 22
            and float(r.attrib["x"]) + float(r.attrib["width"]) + 22 <= width
            and float(r.attrib["y"]) < height
        )
    assert "href" not in svg(loss) and "script" not in svg(loss)


def test_what_is_not_highlighted_fades() -> None:
    x = placeholder(float32, (8, 3), "x")
    y, z = e.relu(x), e.exp(x)
    faded = re.findall(r'<g class="f"><rect[^>]*><rect[^>]*><text[^>]*>(\w+)', svg([y, z], highlight={x, y}))
    assert faded == ["exp"]
