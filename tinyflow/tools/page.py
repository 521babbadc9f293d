"""page: a graph as one HTML file that opens without a network: its stages, its kernels, and what is known of every node."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyflow.graph.node import Node
from tinyflow.tools.view import view

HERE = Path(__file__).parent
PARTS = {
    "style": ["page.css"],
    "library": ["vendor/dagre.min.js.LEGAL.txt", "vendor/dagre.min.js"],
    "script": ["drawing.js", "page.js"],
}


def write_page(
    path: str | Path, graph: Any, title: str = "", stages: Mapping[str, Sequence[Node]] | None = None
) -> Path:
    """Write the page, and give its path.

    graph   a node, nodes, or a symbolic Graph
    title   what stands at its top; by default the file's name
    stages  name -> roots: what to show instead of what the passes and the compiler make of the graph
    """
    path = Path(path)
    path.write_text(page(graph, title or path.stem, stages), encoding="utf-8")
    return path


def page(graph: Any, title: str, stages: Mapping[str, Sequence[Node]] | None = None) -> str:
    """The text of the page."""
    return filled("page.html", PARTS, title, view(graph, title, stages))


def filled(template: str, parts: Mapping[str, Sequence[str]], title: str, data: Any) -> str:
    """A template with the files of its parts, and the data that its script reads."""
    texts = {name: "\n".join((HERE / f).read_text(encoding="utf-8") for f in files) for name, files in parts.items()}
    texts["title"] = html.escape(title)
    texts["data"] = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: texts[mark[1]], (HERE / template).read_text(encoding="utf-8"))
