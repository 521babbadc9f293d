"""explain: a compiled function in words. Program, then its pieces with guards and graphs, then the cuts."""

from __future__ import annotations

from typing import Any

from tinyflow.graph.show import show
from tinyflow.jit.effects import words_of


def explain(compiled: Any) -> str:
    if compiled.program is None:
        return compiled.reason  # type: ignore[no-any-return]
    lines = [
        f"{compiled.function.__qualname__}, line {compiled.function.__code__.co_firstlineno}: {compiled.compilations} compiled"
    ]
    lines += program(compiled, compiled.program, "the program:")
    for line, reason in sorted(compiled.cuts):
        lines.append(f"cut at line {line}: {reason}")
    for line, text in sorted(compiled.notes):
        lines.append(f"line {line}: {text}")
    for child in compiled.followed:
        lines += ["", *explain(child).splitlines()]
    return "\n".join(lines)


def program(compiled: Any, p: Any, title: str) -> list[str]:
    lines = [title, *indented(p.text().splitlines())]
    used = p.text()
    meanings = getattr(compiled, "meanings", {})
    lines += [
        f"    # {name} is {text}"
        for name, text in meanings.items()
        if f"{name} " in used or f"{name})" in used or f"{name}:" in used
    ]
    names = p.names()
    for r in dict.fromkeys(p.block.regions()):
        lines += region(compiled, r, names[id(r)])
    return lines


def region(compiled: Any, r: Any, name: str) -> list[str]:
    if not r.variants:
        state = "runs as plain Python" if r.plain is not None else "not reached yet"
        return [f"{name}: {state}"]
    lines = []
    for k, v in enumerate(r.variants, 1):
        lines.append(f"{name}, variant {k}, while" if v.guards else f"{name}, variant {k}")
        lines += indented(g.words for g in v.guards)
        if v.piece is not None:
            lines += indented(f"{dim} stands for {source.words}" for dim, source in v.piece.dims.items())
            lines += ["  computes", *indented(show(v.piece.roots).splitlines() or ["nothing"])]
            effects = words_of(v.piece.effects, v.piece.inputs)
            lines += ["  and then", *indented(effects)] if effects else []
        else:
            lines += indented(program(compiled, v.program, "is cut; its program:"))
    return lines


def indented(lines: Any) -> list[str]:
    return [f"    {line}" for line in lines]
