"""The page and the trace of a profile: what they are made of, and the page clicked through in a browser."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end.conftest import Page
from tinyflow import execute, programs
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.runtime import floors, profile
from tinyflow.runtime.floors import Floor
from tinyflow.tools.profile import trace, view, write

LAYERS = 5


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few equal layers that have run on two threads, and a smaller program."""
    monkeypatch.setattr(floors, "known", lambda threads: Floor(1e11 * threads, 1e10))
    monkeypatch.setattr(profile, "RECORDS", {})
    monkeypatch.setattr(programs, "_programs", {})
    x = placeholder(float32, (200, 200), "<b>x</b>")
    h = x
    for _ in range(LAYERS):
        h = e.tanh(matmul(h, x))
    feeds = {x: np.eye(200, dtype="f")}
    with config(PROFILE=1, THREADS=2):
        for _ in range(3):
            execute.compile([h])(feeds, {})
        execute.compile([x + 1])(feeds, {})
    yield


def test_programs_are_shown_by_their_time(profiled: None) -> None:
    data = view("a title")
    big, small = data["programs"]
    assert (big["runs"], small["runs"]) == (3, 1) and len(small["kernels"]) == 1
    assert big["total"] >= small["total"]
    for k in big["kernels"]:
        assert k["loops"] and "\tret" in data["texts"][k["text"]] and "test_profile_page.py:" in k["where"]
        assert all(0 <= a <= b <= big["ns"] for _, a, b in k["spans"])
    assert len(data["texts"]) < len(big["kernels"])  # equal layers share their code
    for a in big["memory"]:
        assert 0 <= a["start"] < a["end"] <= big["bytes"] and a["first"] <= a["last"] < len(big["kernels"])
        for b in big["memory"]:
            apart = a["last"] < b["first"] or b["last"] < a["first"] or a["end"] <= b["start"] or b["end"] <= a["start"]
            assert a is b or apart


def test_the_trace_has_what_perfetto_wants(profiled: None) -> None:
    data = json.loads(json.dumps(trace()))
    spans = [event for event in data["traceEvents"] if event["ph"] == "X"]
    names = {event["tid"]: event["args"]["name"] for event in data["traceEvents"] if event["ph"] == "M"}
    assert names == {0: "programs", 1: "thread 0", 2: "thread 1"}
    assert all(event["ts"] >= 0 and event["dur"] >= 0 and event["tid"] in names for event in spans)
    runs = [event for event in spans if event["tid"] == 0]
    assert len(runs) == 4
    for span in spans:
        assert any(r["ts"] <= span["ts"] and span["ts"] + span["dur"] <= r["ts"] + r["dur"] + 1e-3 for r in runs)


@pytest.fixture
def page(profiled: None, open_page: Callable[[Path], Page], tmp_path: Path) -> Page:
    write(tmp_path / "profile.html", tmp_path / "profile.trace.json", "layers")
    return open_page(tmp_path / "profile.html")


def click(page: Page, css: str) -> None:
    page.js(f"document.querySelector('{css}').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")


@pytest.mark.browser
def test_a_click_tells_of_a_kernel(page: Page) -> None:
    assert page.browser.title == page.one("#title").text == "layers"
    kernels = view("")["programs"][0]["kernels"]
    assert len(page.all("#kernels tbody tr")) == len(kernels)
    spans = [(int(s.get_attribute("data-kernel")), int(s.get_attribute("data-thread"))) for s in page.all(".span")]
    assert sorted(spans) == sorted((i, t) for i, k in enumerate(kernels) for t, _, _ in k["spans"])
    click(page, f'.span[data-kernel="{LAYERS - 1}"]')
    assert page.one("#panel h2").text == kernels[LAYERS - 1]["name"]
    assert page.fact("loops").startswith(kernels[LAYERS - 1]["name"]) and "ret" in page.fact("code")
    assert re.search(r"GFLOP/s", page.fact("arithmetic")) and "of the run" in page.fact("time")
    assert page.one("#kernels tr.self td").text == kernels[LAYERS - 1]["name"]
    page.all("#kernels tbody tr")[0].click()
    assert page.one("#panel h2").text == page.one("#kernels tr.self td").text
    page.keys("body", "\ue00c")  # Escape
    assert page.all(".self") == [] and page.one("#panel h2").text == "kernels"


@pytest.mark.browser
def test_memory_shows_what_lies_where(page: Page) -> None:
    from selenium.webdriver import ActionChains

    buffers = view("")["programs"][0]["memory"]
    assert len(page.all(".life")) == len(buffers) > 2

    def kilobytes(i: int) -> str:
        return f"{(buffers[i]['end'] - buffers[i]['start']) / 1e3:.0f} KB"

    widest = max(range(len(buffers)), key=lambda i: buffers[i]["end"] - buffers[i]["start"])
    ActionChains(page.browser).move_to_element(page.one(f'.life[data-buffer="{widest}"]')).perform()
    assert page.one("#hint").is_displayed()
    assert page.one("#hint").text.startswith(f"{buffers[widest]['label']}: {kilobytes(widest)} at ")
    assert "test_profile_page.py" in page.one("#hint").text
    click(page, f'.life[data-buffer="{widest}"]')
    chosen = view("")["programs"][0]["kernels"][buffers[widest]["first"]]["name"]
    assert page.one("#panel h2").text == chosen
    assert f"at most {max_live(buffers)} of" in page.one("#memory").text


def max_live(buffers: list[Any]) -> str:
    steps = range(max(b["last"] for b in buffers) + 1)
    most = max(sum(b["end"] - b["start"] for b in buffers if b["first"] <= k <= b["last"]) for k in steps)
    return f"{most / 1e3:.0f} KB"


@pytest.mark.browser
def test_the_timeline_zooms_and_programs_switch(page: Page) -> None:
    def ticks() -> list[str]:
        return [t.text for t in page.all("#timeline text") if t.text.endswith("us")]

    before = ticks()
    page.js(
        "document.getElementById('timeline').dispatchEvent(new WheelEvent('wheel', {deltaY: -500, clientX: 600, cancelable: true}))"
    )
    assert ticks() != before
    page.js("const p = document.getElementById('program'); p.value = 1; p.dispatchEvent(new Event('change'))")
    assert len(page.all("#kernels tbody tr")) == 1 and len(page.all(".life")) == 0
    assert "1 kernels" in page.one("#facts").text
