"""The page of a graph, opened in a browser and clicked through."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end.conftest import Page
from tinyflow.core.dtypes import float32
from tinyflow.core.expr import dim
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.control import assign
from tinyflow.ops.functions import softmax
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.ops.reduction import mean, sum_
from tinyflow.passes.gradient import gradients
from tinyflow.passes.pipeline import PIPELINE
from tinyflow.tools.page import write_page
from tinyflow.tools.view import view

PASSES = [name for name, _ in PIPELINE]


def regression() -> list[Node]:
    """The lecture's training step, and its loss."""
    n = dim("n")
    x, y_ = placeholder(float32, (n, 784), "x"), placeholder(float32, (n, 10), "y_")
    W = variable(float32, (784, 10), "W")
    y = softmax(matmul(x, W))
    loss = mean(-sum_(y_ * e.log(y), 1))
    (W_grad,) = gradients([loss], [W])
    assert W_grad is not None
    return [assign(W, W - 0.5 * W_grad), loss]


# ------------------------------------------------------------------------------------------ what the page is made of


def test_stages_follow_the_path_to_machine_code() -> None:
    data = view(regression())
    assert [s["name"] for s in data["stages"]] == ["nodes"]
    assert [s["name"] for s in data["runs"][0]["stages"]] == ["values", *PASSES, "kernels"]
    kernels = data["runs"][0]["stages"][-1]["kernels"]
    assert kernels and all(
        k["loops"] and "define void @kernel" in data["texts"][k["ir"]] and set(k["stores"]) <= set(k["items"])
        for k in kernels
    )
    inside = {i for k in kernels for i in k["items"]}
    computed = {
        i for i in data["runs"][0]["stages"][-1]["items"] if data["items"][i]["kind"] not in ("variable", "result")
    }
    assert {data["items"][i]["op"] for i in computed - inside} == {"placeholder"}


def test_a_node_knows_the_nodes_of_its_gradient() -> None:
    items = view(regression())["items"]
    exp = next(i for i in items if i["op"] == "exp")
    assert exp["row"] == ["dx = g * y"]
    assert [items[k]["op"] for k in exp["gradient"]["made"]] == ["mul"]
    assert items.index(exp) in items[exp["gradient"]["made"][0]]["inputs"]
    assert items[exp["gradient"]["loss"]]["shape"] == "()"


def test_all_is_in_one_file(tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", regression(), title="a </script> title").read_text(encoding="utf-8")
    assert (
        not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
        and "@import" not in text
        and "sourceMappingURL" not in text
    )
    assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert text.count("</script>") == 3
    assert "Permission is hereby granted" in text  # the licence of the library that the page carries


def symbolic() -> Any:
    """The same step in the symbolic style: operations with names and scopes, and more than one thing to run."""
    import tinyflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 784], name="x")
        W = tf.Variable(tf.zeros([784, 10]), name="W")
        y = tf.nn.softmax(tf.matmul(x, W))
        y_ = tf.placeholder(tf.float32, [None, 10], name="y_")
        loss = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
        tf.assign(W, W - 0.5 * tf.gradients(loss, [W])[0], name="step")
        tf.initialize_all_variables()
        unknown = tf.placeholder(tf.float32, name="unknown")
        tf.add(unknown, unknown)
    return graph


def test_a_symbolic_graph_keeps_its_names() -> None:
    data = view(symbolic())
    items, (operations, nodes) = data["items"], data["stages"]
    by_name = {items[i]["name"]: items[i] for i in operations["items"]}
    assert {"x", "W", "W/Assign", "W/read", "Softmax", "gradients", "step", "init", "unknown"} <= set(by_name)
    assert [items[k]["op"] for k in by_name["Softmax"]["nodes"]][-3:] == ["reshape", "expand", "div"]
    assert by_name["unknown"]["nodes"] == [] and by_name["unknown"]["kind"] == "leaf"
    assert {"contract", "exp"} <= {items[i]["op"] for i in nodes["items"]}
    runs = {r["name"]: r for r in data["runs"]}
    assert set(runs) == {"step", "init"}
    part = {items[i]["name"] for i in runs["step"]["items"] if i in operations["items"]}
    assert {"x", "W", "MatMul", "Softmax", "gradients", "step"} <= part  # the loss itself is not needed for a step
    assert not part & {"Log", "Mean", "init", "W/Assign"}
    assert {items[i]["name"] for i in runs["init"]["stages"][-1]["items"] if items[i]["kind"] == "result"} == {"W"}


def test_all_outputs_of_an_operation_are_fetched() -> None:
    import tinyflow as tf

    with tf.Graph().as_default() as graph:
        x, w = tf.placeholder(tf.float32, [3, 1], name="x"), tf.Variable(tf.ones([2, 3]), name="w")
        tf.gradients(tf.reduce_sum(tf.nn.relu(tf.matmul(w, x))), [w, x])
    run = view(graph)["runs"][0]
    assert run["name"] == "gradients"
    results = [i for i in view(graph)["items"] if i["kind"] == "result" and i["op"] == "fetch"]
    assert {(i["name"], i["shape"]) for i in results} >= {("gradients", "(2, 3)"), ("gradients:1", "(3, 1)")}


# ------------------------------------------------------------------------------------------ in a browser


@pytest.fixture
def page(open_page: Callable[[Path], Page], tmp_path: Path, request: pytest.FixtureRequest) -> Page:
    """The page of what the test asks for."""
    graph = getattr(request, "param", regression)()
    return open_page(write_page(tmp_path / "page.html", graph, title="softmax regression"))


@pytest.mark.browser
def test_nodes_are_drawn_and_a_click_tells_of_one(page: Page) -> None:
    assert page.browser.title == page.one("#title").text == "softmax regression"
    assert len(page.all(".box")) >= 40 and len(page.all(".wire")) >= 45
    drawn = {b.get_attribute("aria-label") for b in page.all(".box")}
    assert {"x placeholder · n × 784", "W variable · 784 × 10", "exp n × 10", "expand n × 10"} <= drawn
    page.box("exp n").click()
    assert (page.fact("op"), page.fact("shape"), page.fact("dtype")) == ("exp", "(n, 10)", "float32")
    assert (
        re.search(r"test_page\.py:\d+$", page.fact("line")) and "y = softmax(matmul(x, W))" in page.one("#panel").text
    )
    assert page.fact("row") == "dx = g * y"
    assert len(page.all(".box.self")) == 1 and len(page.all(".wire.in")) == 1 and len(page.all(".wire.out")) == 3
    assert {b.get_attribute("aria-label") for b in page.all(".box.gradient")} == {"expand n × 10", "mul n × 10"}
    page.one("#panel .links button").click()  # its input
    assert page.fact("op") == "sub"
    page.keys("body", "\ue00c")  # Escape
    assert page.all(".box.self") == [] and page.one("#panel h2").text == "nodes"


@pytest.mark.browser
def test_a_line_of_code_shows_its_nodes(page: Page) -> None:
    next(b for b in page.all("#panel [data-line]") if "matmul" in b.text).click()
    assert {b.get_attribute("aria-label").split()[0] for b in page.all(".box.line")} >= {
        "contract",
        "max",
        "exp",
        "sum",
        "div",
    }


@pytest.mark.browser
def test_search_finds_and_centres(page: Page) -> None:
    page.keys("body", "/")
    page.keys("#search", "assign")
    found = page.all("#found [data-item]")
    assert 2 <= len(found) <= 5  # the op, and what its line made: an equal node that lives elsewhere has its own line
    page.keys("#search", "\ue007")  # Enter
    assert page.fact("op") == "assign"
    page.settled()
    middle = page.js("const c = svg.getBoundingClientRect(), b = document.querySelector('.box.self').getBoundingClientRect();"
                     "return [b.x + b.width / 2 - c.x - c.width / 2, b.y + b.height / 2 - c.y - c.height / 2]")  # fmt: skip
    assert all(abs(d) < 2 for d in middle)
    page.keys("body", "/")
    page.keys("#search", "no such node")
    assert "nothing here" in page.one("#found").text
    page.keys("#search", "\ue00c")


@pytest.mark.browser
def test_stages_switch_and_the_chosen_node_follows(page: Page) -> None:
    assert [t.get_attribute("data-stage") for t in page.all("#tabs button")] == ["nodes", "values", *PASSES, "kernels"]
    page.box("log").click()
    page.stage("stabilise")
    assert page.one('#tabs [aria-selected="true"]').get_attribute("data-stage") == "stabilise"
    assert page.fact("op") == "sub"  # log of softmax has become x - log of the sum
    assert "new" in page.one("#note").text and page.all(".box .new")
    page.keys("body", "1")
    assert page.fact("op") == "log"


@pytest.mark.browser
def test_kernels_are_boxes_that_fold(page: Page) -> None:
    page.stage("kernels")
    kernels, boxes = page.all(".group.kernel"), len(page.all(".box"))
    assert len(kernels) >= 3
    page.js("document.querySelector('.group.kernel > text').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert "contract" in page.fact("loops") and "LLVM IR" in page.one("#panel").text
    page.js(
        "document.querySelectorAll('.group.kernel .fold')[1].dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert len(page.all(".group.kernel")) == len(kernels) - 1 and len(page.all(".box")) < boxes
    page.js("document.querySelector('.box.folded .fold').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert len(page.all(".box")) == boxes
    page.box("exp n").click()
    assert "exp" in page.fact("loops")


@pytest.mark.browser
def test_zoom_pan_and_fit(page: Page) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    seen = [page.view()]
    page.one("#zoom [data-do=in]").click()
    seen.append(page.view())
    ActionChains(page.browser).scroll_from_origin(ScrollOrigin.from_element(page.one("#graph")), 0, 300).perform()
    seen.append(page.settled())
    ActionChains(page.browser).move_to_element_with_offset(
        page.one("#graph"), -400, -200
    ).click_and_hold().move_by_offset(60, 40).release().perform()
    seen.append(page.settled())
    assert len(set(seen)) == 4
    assert page.all(".box.self") == []  # a drag is no click
    page.keys("body", "f")
    page.settled()
    assert page.js(
        "const c = svg.getBoundingClientRect(), w = world.getBoundingClientRect(); return w.top >= c.top && w.bottom <= c.bottom && w.left >= c.left && w.right <= c.right"
    )


@pytest.mark.browser
@pytest.mark.parametrize("page", [symbolic], indirect=True)
def test_operations_stand_in_their_scopes_and_a_run_lights_its_part(page: Page) -> None:
    assert [g.get_attribute("data-group") for g in page.all(".group")] == ["W"]
    page.js("const run = document.getElementById('run'); run.value = 1; run.onchange()")
    lit = {b.get_attribute("aria-label").split()[0] for b in page.all(".box.part")}
    assert lit == {"zeros", "W", "Assign", "init"}
    page.box("Softmax").click()
    next(b for b in page.all("#panel .there") if b.text.startswith("exp n")).click()
    assert page.one('#tabs [aria-selected="true"]').get_attribute("data-stage") == "nodes" and page.fact("op") == "exp"
    assert len(page.all(".box.gradient")) == 2
    page.one("#panel .there").click()  # its operation
    assert page.fact("name") == "Softmax"


def chain() -> Node:
    y = placeholder(float32, (4,), "x")
    for k in range(3000):
        y = e.sin(y) if k % 2 else y + 1.5
    return y


@pytest.mark.browser
@pytest.mark.parametrize("page", [chain], indirect=True)
def test_a_large_graph_shows_a_part_and_says_so(page: Page) -> None:
    assert "too many for one drawing" in page.one("#notice").text
    assert 100 <= len(page.all(".box")) <= 200
    page.keys("body", "/")
    page.keys("#search", "placeholder\ue007")
    assert page.fact("name") == "x" and len(page.all(".box.self")) == 1


def hostile() -> Node:
    return e.exp(placeholder(float32, (2,), '<img src=x onerror="document.title=1"></script><b>'))


@pytest.mark.browser
@pytest.mark.parametrize("page", [hostile], indirect=True)
def test_names_are_text_not_markup(page: Page) -> None:
    page.box("<img").click()
    assert (
        page.fact("name").startswith("<img src=x")
        and page.all("img") == []
        and page.browser.title == "softmax regression"
    )
