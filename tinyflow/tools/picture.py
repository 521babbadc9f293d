"""picture: a graph as an SVG that needs nothing to be shown: for a README, for slides.

    picture := panel*                       side by side
    panel   := title, box*, wire*           a box is a few lines of text on the colour of its kind

Its colours are those of the page, light or dark as the reader's system has it.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from tinyflow.graph.node import Node, toposort
from tinyflow.graph.show import attributes
from tinyflow.ops.leaf import SIZE
from tinyflow.tools.layered import Places, Point, layered
from tinyflow.tools.view import ORDERING, kind, nodes_of, number, operation_kind

# fmt: off
#          kind           on white    on black
COLOURS = {"leaf":        ("#0d9488", "#2dd4bf"),
           "variable":    ("#d97706", "#fbaf3c"),
           "elementwise": ("#2f7bf0", "#6ea8ff"),
           "reduction":   ("#7c4ddb", "#b194ff"),
           "movement":    ("#8592a6", "#9aa7ba"),
           "contraction": ("#e0364c", "#ff7384"),
           "indexing":    ("#0891b2", "#38cdee"),
           "random":      ("#5f9a0c", "#a3d94b"),
           "control":     ("#9a6234", "#d79a66"),
           "result":      ("#475569", "#cbd5e1"),
           "unknown":     ("#475569", "#cbd5e1"),
           "kernel":      ("#2563eb", "#7aa7ff")}
# fmt: on
SANS = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
MONO = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
STYLE = f"""
text {{ font: 12px {SANS}; fill: #66707f; text-anchor: middle }}
.t {{ font-weight: 600; font-size: 13px; fill: #1b2330 }} .m {{ font: 11px {MONO} }} .h {{ font-weight: 600; font-size: 15px; fill: #1b2330 }}
.c {{ font: 11px {MONO}; fill: #1b2330; text-anchor: start; white-space: pre }}
rect {{ fill: #fff }} rect.u {{ stroke: #d62fc0; stroke-width: 1.4 }} .w {{ fill: none; stroke: #a3adbb; stroke-width: 1.2 }} .o {{ stroke-dasharray: 4 4 }} .f {{ opacity: .25 }} .a {{ fill: #a3adbb }}
"""
DARK = "text { fill: #929cab } .t, .h, .c { fill: #e4e8ef } rect { fill: #161a21 } rect.u { stroke: #f06fe0 } .w { stroke: #566072 } .a { fill: #566072 }"


class Box(NamedTuple):
    title: str
    more: str  # after the title, quieter
    under: Sequence[str]  # further lines
    kind: str
    unfolded: bool = False  # a node of an operation that is not drawn itself


class Wire(NamedTuple):
    start: Any
    end: Any
    ordering: bool = False  # says only what runs first


class Panel(NamedTuple):
    width: float
    height: float
    body: str


# ------------------------------------------------------------------------------------------ from a graph to boxes and wires


def svg(
    graph: Any, highlight: Collection[Any] = (), title: str = "", unfold: Collection[Any] = (), movement: bool = True
) -> str:
    """The picture of a node, nodes, or a symbolic Graph.

    highlight  nodes or operations: all else fades, if there is one
    unfold     operations drawn as the nodes that they are made of: all that tf.gradients makes is one operation
    movement   whether nodes that only move elements (reshape, expand, ...) are drawn too
    """
    return picture([panel(graph, highlight, title, unfold, movement)])


def panel(
    graph: Any, highlight: Collection[Any] = (), title: str = "", unfold: Collection[Any] = (), movement: bool = True
) -> Panel:
    """The same, to be set beside others."""
    sketch = Sketch(movement)
    if hasattr(graph, "get_operations"):
        for o, nodes in nodes_of(graph.get_operations()).items():
            sketch.unfolded(nodes, True) if o in unfold else sketch.operation(o, nodes)
    else:
        sketch.unfolded(toposort([graph] if isinstance(graph, Node) else graph))
    boxes, wires = beside_users(sketch.boxes, list(dict.fromkeys(sketch.wires)))
    lit = {key for key in boxes if not highlight or (key[0] if isinstance(key, tuple) else key) in highlight}
    return drawn(boxes, wires, lit, title)


class Sketch:
    """Boxes and wires, drawn from inputs to results. `home` is the box that a node is in."""

    def __init__(self, movement: bool) -> None:
        self.boxes: dict[Any, Box] = {}
        self.wires: list[Wire] = []
        self.home: dict[Node, Any] = {}
        self.movement = movement

    def operation(self, o: Any, nodes: Sequence[Node]) -> None:
        for n in nodes:
            self.home.setdefault(n, o)
        self.boxes[o] = operation_box(o)
        self.wires += [Wire(t.op if t.op in self.boxes else self.home[t.op.nodes[t.value_index]], o) for t in o.inputs]
        self.wires += [Wire(c, o, True) for c in o.control_inputs if c in self.boxes]

    def unfolded(self, nodes: Sequence[Node], mark: bool = False) -> None:
        numbers = [n for n in nodes if number(n)]
        for n in nodes:
            if kind(n.op) == "movement" and not self.movement and not number(n):
                self.home[n] = self.start(n.inputs[0])
            elif not number(n):
                ordering = ORDERING.get(n.op, lambda k: False)
                self.wires += [Wire(self.start(x), n, ordering(k)) for k, x in enumerate(n.inputs)]
                self.boxes[n], self.home[n] = node_box(n)._replace(unfolded=mark), n
        if len(numbers) == len(nodes):
            self.boxes.update((n, node_box(n)) for n in numbers[-1:])

    def start(self, x: Node) -> Any:
        """Where a wire from x begins: a number gets a box when it is first used, stretched or not."""
        if number(x):
            self.boxes.setdefault(x, node_box(x))
            return x
        return self.home[x]


def beside_users(boxes: Mapping[Any, Box], wires: Sequence[Wire]) -> tuple[dict[Any, Box], list[Wire]]:
    """A number is drawn once beside each of its users: long wires to it say nothing."""
    users: dict[Any, list[Any]] = {}
    for w in wires:
        users.setdefault(w.start, []).append(w.end)
    copied = {
        key
        for key in boxes
        if len(users.get(key, ())) > 1 and (number(key) if isinstance(key, Node) else key.type == "Const")
    }
    new: dict[Any, Box] = {}
    for key, box in boxes.items():
        new.update({(key, user): box for user in users[key]} if key in copied else {key: box})
    return new, [w._replace(start=(w.start, w.end)) if w.start in copied else w for w in wires]


def node_box(node: Node) -> Box:
    size = size_text(node)
    if number(node):
        return Box("?" if node.op is SIZE else number(node), size if node.inputs else "", (), "leaf")
    if "name" in node.attrs:
        return Box(str(node.attrs["name"]), "", (f"{node.op.name} · {size}",), kind(node.op))
    if kind(node.op) == "movement":
        return Box(node.op.name, size, (), "movement")
    return Box(node.op.name, attributes(node).replace("->", "→"), (size,), kind(node.op))


def operation_box(operation: Any) -> Box:
    value = number(operation.node)
    if operation.type == "Const" and value and not operation.node.shape:
        return Box(value, "", (), "leaf")
    said = re.sub(r"_\d+$", "", operation.name.split("/")[-1]).lower() == operation.type.lower()  # MatMul_1 is a MatMul
    under = [
        *([] if said else [operation.type]),
        *([value] if value else []),
        *([size_text(operation.node)] if operation.node else []),
    ]
    return Box(operation.name, "", (" · ".join(under),) if under else (), operation_kind(operation))


def size_text(node: Node) -> str:
    dims = " × ".join("?" if not isinstance(d, int) else str(d) for d in node.shape) or "scalar"
    return dims if node.dtype.name == "float32" else f"{node.dtype} {dims}"


# ------------------------------------------------------------------------------------------ from boxes and wires to SVG


def drawn(boxes: Mapping[Any, Box], wires: Sequence[Wire], lit: Collection[Any], title: str = "") -> Panel:
    """The panel of some boxes, in topological order; those that are not lit fade."""
    sizes = {key: size_of(box) for key, box in boxes.items()}
    places = layered(sizes, [(w.start, w.end) for w in wires])
    lines = [wire_svg(w, places, sizes, w.start in lit and w.end in lit) for w in wires]
    rects = [box_svg(box, *places.boxes[key], *sizes[key], key in lit) for key, box in boxes.items()]
    body = "".join(lines + rects)
    wide = max(places.width, text_width(title, 16))
    if title:
        shifted = f'<g transform="translate({(wide - places.width) / 2:.1f} 0)">{body}</g>'
        body = f'<text class="h" x="{wide / 2:.1f}" y="-18">{escaped(title)}</text>{shifted}'
    return Panel(wide, places.height, body)


def code(text: str, title: str = "") -> Panel:
    """Lines of text, as a panel."""
    lines = text.splitlines()
    body = "".join(f'<text class="c" x="0" y="{16 * k + 12}">{escaped(line)}</text>' for k, line in enumerate(lines))
    width = max((6.65 * len(line) for line in lines), default=0)
    head = f'<text class="h" x="{width / 2:.1f}" y="-18">{escaped(title)}</text>' if title else ""
    return Panel(width, 16 * len(lines), head + body)


def picture(panels: Sequence[Panel], margin: float = 22, gap: float = 56) -> str:
    """Panels side by side, each on the colours that the reader's system prefers."""
    top = 30 if any('class="h"' in p.body for p in panels) else 0
    width = sum(p.width for p in panels) + gap * (len(panels) - 1) + 2 * margin
    height = max(p.height for p in panels) + top + 2 * margin
    x, groups = margin, []
    for p in panels:
        groups.append(f'<g transform="translate({x:.1f} {margin + top:.1f})">{p.body}</g>')
        x += p.width + gap
    light = "".join(f".{k} {{ fill: {a}1c; stroke: {a}a0 }} " for k, (a, _) in COLOURS.items())
    dark = "".join(f".{k} {{ fill: {b}2a; stroke: {b}90 }} " for k, (_, b) in COLOURS.items())
    style = f"<style>{STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {DARK} {dark} }}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">{style}{"".join(groups)}</svg>\n'


def box_svg(box: Box, x: float, y: float, width: float, height: float, lit: bool) -> str:
    radius = 9 if box.under else 12
    frame = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}"'
    more = f'<tspan class="m" dx="6">{escaped(box.more)}</tspan>' if box.more else ""
    first = y - height / 2 + 18
    text = f'<text class="t" x="{x:.1f}" y="{first:.1f}">{escaped(box.title)}{more}</text>'
    text += "".join(
        f'<text x="{x:.1f}" y="{first + 16 * (k + 1):.1f}">{escaped(line)}</text>' for k, line in enumerate(box.under)
    )
    return f'<g{"" if lit else FADED}><rect {frame}/><rect class="{box.kind}{" u" if box.unfolded else ""}" {frame}/>{text}</g>'


FADED = ' class="f"'


def wire_svg(wire: Wire, places: Places, sizes: Mapping[Any, tuple[float, float]], lit: bool) -> str:
    """A line that is vertical at its corners, with a head. It ends on the box's upper edge, towards where it comes from."""
    (x0, y0), (x1, y1) = places.boxes[wire.start], places.boxes[wire.end]
    corners = places.wires.get((wire.start, wire.end), [])
    room = sizes[wire.end][0] / 2 - 12
    start = (x0, y0 + sizes[wire.start][1] / 2)
    end = (x1 + max(-room, min(room, ((corners[-1][0] if corners else x0) - x1) * 0.12)), y1 - sizes[wire.end][1] / 2)
    points = [start, *corners, (end[0], end[1] - 5)]
    head = f'<path class="a" d="M{end[0]:.1f} {end[1]:.1f}l-3.4-7 3.4 1.6 3.4-1.6z"/>'
    line = f'<path class="w{" o" if wire.ordering else ""}" d="{smooth(points)}"/>'
    return line + head if lit else f"<g{FADED}>{line}{head}</g>"


def smooth(points: Sequence[Point]) -> str:
    d = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (px, py), (qx, qy) in itertools.pairwise(points):
        middle = (py + qy) / 2
        d += (
            f"L{qx:.1f} {qy:.1f}"
            if abs(px - qx) < 0.5
            else f"C{px:.1f} {middle:.1f} {qx:.1f} {middle:.1f} {qx:.1f} {qy:.1f}"
        )
    return d


def size_of(box: Box) -> tuple[float, float]:
    title = text_width(box.title, 13) * 1.06 + (6 + 6.7 * len(box.more) if box.more else 0)
    width = max(title, *(text_width(line, 12) for line in box.under), 10.0)
    return max(width + 22, 64 if box.under else 30), 26 + 17 * len(box.under)


NARROW, WIDE = set("iIjl.,:;'|!()[]/ ·ft"), set("mwMW→×@%")


def text_width(text: str, size: float) -> float:
    """About what a sans-serif font takes: no font is at hand to ask."""
    return size * sum(0.34 if c in NARROW else 0.88 if c in WIDE else 0.68 if c.isupper() else 0.57 for c in text)


def escaped(text: str) -> str:
    return html.escape(text, quote=False)
