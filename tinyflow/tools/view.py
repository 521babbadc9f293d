"""view: what is drawn of a graph, as plain data that JSON can hold; a page and a picture are two ways to lay it out.

    view   := title, item*, text*, stage*, run*
    item   := op, kind, name, attributes, type, shape, input*, user's line, ...   a node, or a symbolic graph's operation
    stage  := name, note, (number of an item)*, kernel*                           a graph on its way to machine code
    run    := name, (number of an item)*, stage*                                  what fetching one thing computes
    kernel := name, (number of an item)*, stores, loops, number of a text         a text is LLVM IR, which kernels may share

A node may be in several kernels: it is computed again in each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tinyflow import execute, ops
from tinyflow.core.errors import UNKNOWN, Where
from tinyflow.graph.node import Node, shape_text, toposort, with_dims
from tinyflow.graph.op import Op
from tinyflow.graph.show import attributes
from tinyflow.ops.control import AFTER, ASSIGN, GROUP
from tinyflow.ops.leaf import CONSTANT, SIZE, VARIABLE
from tinyflow.ops.movement import EXPAND, RESHAPE
from tinyflow.passes import pipeline
from tinyflow.tools.backward import backward, row_text

Data = dict[str, Any]
MOST_RUNS = 12
QUIET = ("elementwise", "movement", "leaf")  # kinds that a kernel is not called after

TABLES = [t for t in (getattr(ops, name) for name in ops.__all__) if isinstance(t, ModuleType)]
KINDS = {op: t.__name__.rpartition(".")[2] for t in TABLES for op in vars(t).values() if isinstance(op, Op)}
KINDS[VARIABLE] = "variable"
ORDERING: dict[Op, Callable[[int], bool]] = {AFTER: lambda k: k > 0, GROUP: lambda k: True, ASSIGN: lambda k: k == 0}


def kind(op: Op) -> str:
    """The table that an op is a row of; a variable is a kind of its own."""
    return KINDS.get(op, "elementwise")


def operation_kind(operation: Any) -> str:
    """That of the node it makes; where only a run can tell its shape there is none yet."""
    return kind(operation.node.op) if operation.node else "unknown" if operation.inputs else "leaf"


# ------------------------------------------------------------------------------------------ items


class Book:
    """Everything drawn is an item and has a number, once."""

    def __init__(self) -> None:
        self.items: list[Data] = []
        self.number: dict[Any, int] = {}
        self.rows: dict[Any, list[str]] = {}
        self.texts: dict[str, int] = {}  # LLVM IR: kernels of equal layers have equal texts

    def add(self, thing: Any, item: Data) -> int:
        self.number[thing] = len(self.items)
        self.items.append(item)
        return self.number[thing]

    def nodes(self, roots: Iterable[Node]) -> list[int]:
        """The numbers of all nodes below the roots."""
        return [self.number[n] if n in self.number else self.node(n) for n in toposort(roots)]

    def node(self, node: Node) -> int:
        ordering = ORDERING.get(node.op, lambda k: False)
        return self.add(node, {
            "op": node.op.name, "kind": kind(node.op), "name": node.attrs.get("name", ""), "label": node.label, "attributes": attributes(node),
            "dtype": str(node.dtype), "shape": shape_text(node.shape), "where": where(node.where), "row": self.row(node),
            "inputs": [self.number[x] for x in node.inputs],
            "ordering": [k for k in range(len(node.inputs)) if ordering(k)],
        })  # fmt: skip

    def row(self, node: Node) -> list[str]:
        """The gradient that the op's row brings; equal ones are worked out once."""
        key = node.op, tuple((x.dtype, x.shape) for x in node.inputs), tuple(node.attrs.items())
        if key not in self.rows:
            self.rows[key] = row_text(node)
        return self.rows[key]

    def operation(self, o: Any) -> int:
        """An operation of a symbolic graph, after those it needs."""
        node: Node | None = o.node
        inputs = [self.number[t.op] for t in o.inputs]
        control = [self.number[c] for c in o.control_inputs]
        return self.add(o, {
            "op": o.type, "kind": operation_kind(o), "name": o.name, "attributes": number(node),
            "dtype": str(node.dtype) if node else "", "shape": shape_text(node.shape) if node else "",
            "where": where(o.where), "row": [], "inputs": inputs + control, "nodes": [],
            "ordering": list(range(len(inputs), len(inputs) + len(control))),
        })  # fmt: skip

    def result(self, verb: str, name: str, node: Node) -> int:
        """The end of an edge that leaves the graph: a variable's new value, or what is fetched."""
        source = self.items[self.number[node]]
        same = {key: source[key] for key in ("dtype", "shape", "where")}
        item = {"op": verb, "kind": "result", "name": name, "attributes": "", "row": [], "inputs": [self.number[node]], "ordering": []}  # fmt: skip
        return self.number.get((verb, name, node)) or self.add((verb, name, node), item | same)


def number(node: Node | None) -> str:
    """The number that a node is full of, if it is so: of a constant or a size, stretched or not."""
    while node is not None and node.op in (EXPAND, RESHAPE):
        (node,) = node.inputs
    return attributes(node).removeprefix("size=") if node is not None and node.op in (CONSTANT, SIZE) else ""


def where(line: Where) -> Data:
    """A user's line. The file's name is relative to the working folder where it is below it."""
    if line.file.startswith("<frozen") or line is UNKNOWN:
        return {"file": "", "line": 0, "code": ""}
    path, here = Path(line.file), Path.cwd()
    return {
        "file": str(path.relative_to(here) if path.is_relative_to(here) else path),
        "line": line.line,
        "code": line.text,
    }


# ------------------------------------------------------------------------------------------ a graph as it was written


NOTES = {
    "operations": "The operations, as the user wrote and named them.",
    "nodes": "One dataflow graph: a node is an op, and the tensor that it makes.",
    "values": "What the run computes: an assignment is now the value that a variable gets.",
    "kernels": "What is compiled: a box is one pass of loops. Inside it all is fused; only what leaves a box is stored.",
}


def view(graph: Any, title: str = "", stages: Mapping[str, Sequence[Node]] | None = None) -> Data:
    """What is shown of roots, or of a symbolic graph. `stages` (name -> roots) stand in for what the passes make."""
    book = Book()
    symbolic = hasattr(graph, "get_operations")
    operations = list(graph.get_operations()) if symbolic else []
    nodes = (
        [n for o in operations for n in outputs(o)] if symbolic else [graph] if isinstance(graph, Node) else list(graph)
    )
    common = [stage("operations", [book.operation(o) for o in operations])] if symbolic else []
    if nodes or not symbolic:
        common.append(stage("nodes", book.nodes(nodes)))
    mark_operations(book, operations)
    mark_gradients(book, toposort(nodes))
    if stages is not None:
        runs = [{"name": "", "items": [], "stages": [stage(name, book.nodes(roots)) for name, roots in stages.items()]}]
    elif symbolic:
        runs = [run(book, o.name, fetched(o), computed_by(graph, o)) for o in ends(operations)]
    else:
        runs = [run(book, "", {n: n.label for n in nodes}, nodes)] if nodes else []
    return {"title": title, "items": book.items, "texts": list(book.texts), "stages": common, "runs": runs}


def stage(name: str, items: list[int], **more: Any) -> Data:
    return {"name": name, "note": NOTES.get(name, f"After the pass “{name}”."), "items": items, "kernels": [], **more}


def outputs(operation: Any) -> list[Node]:
    """The nodes of an operation's outputs; none while the rank of an input is not known."""
    return [n for n in operation.nodes or () if n is not None]


def nodes_of(operations: Sequence[Any]) -> dict[Any, list[Node]]:
    """Operation -> the nodes that it is made of: those that no operation before it had."""
    seen: set[Node] = set()
    found = {}
    for o in operations:
        new = [n for n in toposort(outputs(o), stop=seen.__contains__) if n not in seen]
        found[o] = new or outputs(o)
        seen.update(new)
    return found


def computed_by(graph: Any, *fetches: Any) -> set[Any]:
    """What running some tensors or operations of a symbolic graph computes: nodes, and the operations with a part in them.

    An operation that they are made of has none if none of its nodes is needed: a step needs the gradient, not the loss.
    """
    nodes = set(toposort(n for f in fetches for n in outputs(f.op)))
    parts = {o: [n for n in made if not number(n)] or made for o, made in nodes_of(graph.get_operations()).items()}
    return nodes | {o for o in needed(f.op for f in fetches) if any(n in nodes for n in parts[o])}


def needed(operations: Iterable[Any]) -> set[Any]:
    """All operations that some are made of, themselves included."""
    found = set(operations)
    stack = list(found)
    while stack:
        o = stack.pop()
        new = {*(t.op for t in o.inputs), *o.control_inputs} - found
        found |= new
        stack += new
    return found


def mark_operations(book: Book, operations: Sequence[Any]) -> None:
    """Each operation knows the nodes that it is made of, and each node its operation."""
    for o, nodes in nodes_of(operations).items():
        if nodes:
            book.items[book.number[o]] |= {"nodes": [book.number[n] for n in nodes], "node": book.number[o.node]}
        for n in nodes:
            book.items[book.number[n]].setdefault("operation", book.number[o])


def mark_gradients(book: Book, order: Sequence[Node]) -> None:
    """Each node knows its gradient, and the nodes that its op's row added to the graph for it."""
    for node, found in backward(order).items():
        made = [book.number[n] for n in found.made]
        book.items[book.number[node]]["gradient"] = {
            "loss": book.number[found.loss],
            "value": book.number[found.value],
            "made": made,
        }


# ------------------------------------------------------------------------------------------ what a run makes of it


def ends(operations: Sequence[Any]) -> list[Any]:
    """What a program is likely to run: the operations that no other one uses, the largest first."""
    used = {x for o in operations for x in (*(t.op for t in o.inputs), *o.control_inputs)}
    last = [o for o in operations if o not in used and o.node and o.node.inputs]
    return sorted(last, key=lambda o: -len(needed([o])))[:MOST_RUNS]


def fetched(operation: Any) -> dict[Node, str]:
    """The nodes that running an operation gives, with the names of its tensors; one without outputs gives nothing."""
    names = [t.name.removesuffix(":0") for t in operation.values()]
    found = {n: name for n, name in zip(operation.nodes, names, strict=False) if n is not None}
    return found or {operation.node: ""}


def is_fetched(root: Node, names: Mapping[Node, str]) -> bool:
    """Whether a root is run for its value, and not for what it does."""
    return bool(names[root]) and root.op not in (ASSIGN, GROUP)


class Result(NamedTuple):
    verb: str  # fetch, or store
    name: str  # of what is fetched, or of the variable
    node: Node


def run(book: Book, name: str, roots: Mapping[Node, str], part: Iterable[Any]) -> Data:
    """What one run computes, before and after each pass, and the kernels that it becomes. `roots` have their names."""
    runner = execute.compile(list(roots))
    new = runner.nodes[len(roots) :]
    results = [Result("fetch", roots[r], v) for r, v in zip(roots, runner.nodes, strict=False) if is_fetched(r, roots)]
    count = len(results)
    results += [Result("store", v.label, n) for v, n in zip(runner.written, new, strict=True)]
    origin = with_dims(roots, runner.equal)  # what each node is once sizes that must be equal have one name
    order = toposort(r.node for r in results)
    stages = [stage_of(book, "values", results, origin, dict(zip(order, order, strict=True)))]

    def watch(name: str, nodes: Sequence[Node]) -> None:
        image = dict(zip(order, nodes, strict=True))
        stages.append(stage_of(book, name, results, origin, image))

    final = dict(zip(order, pipeline.run(order, watch), strict=True))
    values = [final[r.node] for r in results]
    made = kernels(values[:count], dict(zip(runner.written_same, values[count:], strict=True)))
    stages.append(kernel_stage(book, made, stages[-1]))
    return {"name": name, "items": sorted(book.number[x] for x in part), "stages": stages}


def stage_of(
    book: Book, name: str, results: Sequence[Result], origin: Mapping[Node, Node], image: Mapping[Node, Node]
) -> Data:
    """The graph of the results' images; it knows what became of each node that the user made."""
    items = book.nodes(image[r.node] for r in results) + [book.result(r.verb, r.name, image[r.node]) for r in results]
    became = {n: image[first] for n, first in origin.items() if first in image}
    moved = {
        book.number[a]: book.number[b]
        for a, b in became.items()
        if a is not b and a in book.number and b in book.number
    }
    return stage(name, items, moved=moved)


# ------------------------------------------------------------------------------------------ kernels


class Kernel(NamedTuple):
    name: str
    nodes: list[
        Node
    ]  # what it computes, in topological order; a node may be in several kernels, computed again in each
    stores: list[Node]  # those of them that get a buffer
    loops: str
    ir: str


def kernels(outputs: Sequence[Node], writes: Mapping[Node, Node]) -> list[Kernel]:
    """What the compiler makes of a graph. What prepares an operand for a kernel is told together with it."""
    from tinyflow.compiler import loops  # loads LLVM, and only what is compiled has to
    from tinyflow.compiler import pipeline as compiler

    made = compiler.build(outputs, writes)
    prepares = [not any(isinstance(s.target.node, Node) for s in k.stores) for k in made.kernels]
    stored = {n for k, early in zip(made.kernels, prepares, strict=True) if not early for n in k.nodes}
    found: list[Kernel] = []
    texts: list[tuple[str, str]] = []
    for k, code, early in zip(made.kernels, made.codes, prepares, strict=True):
        texts.append((loops.show(k), code.text))
        if early:
            continue
        local = {getattr(s.target.node, "node", None) for s in k.stores}  # rows that live in a thread's own memory
        nodes = computed(k.nodes, stored)
        said = dict.fromkeys(n.op.name for n in nodes if n in k.nodes or kind(n.op) not in QUIET)
        told = ("\n\n".join(text) for text in zip(*texts, strict=True))
        found.append(Kernel(" ".join([k.name, *said]), nodes, [n for n in k.nodes if n not in local], *told))
        texts = []
    return found


def computed(nodes: Sequence[Node], stored: Collection[Node]) -> list[Node]:
    """What is computed for some nodes, and not read from a buffer."""
    own = set(nodes)

    def outside(n: Node) -> bool:
        return n not in own and (n in stored or n.op.kind == "leaf")

    return [n for n in toposort(nodes, stop=outside) if not outside(n)]


def kernel_stage(book: Book, made: Sequence[Kernel], before: Data) -> Data:
    book.nodes(n for k in made for n in k.nodes)
    inside = [kernel(book, k) for k in made]
    items = list(dict.fromkeys([*(i for k in inside for i in k["items"]), *before["items"]]))
    return stage("kernels", items, moved=before["moved"]) | {"kernels": inside}


def kernel(book: Book, k: Kernel) -> Data:
    items, stores = ([book.number[n] for n in nodes] for nodes in (k.nodes, k.stores))
    return {
        "name": k.name,
        "items": items,
        "stores": stores,
        "loops": k.loops,
        "ir": book.texts.setdefault(k.ir, len(book.texts)),
    }
