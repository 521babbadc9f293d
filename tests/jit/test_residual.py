"""The residual program: Python that a user can read, with pieces in it; and what explain says."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from tinyflow import jit, torch


def middle(x, W):
    h = torch.tanh(x @ W)
    s = h.sum()
    print("in the middle")
    if s > 0:
        y = h * 2
    else:
        y = h - 1
    return y.sum()


def test_static_then_dynamic_then_static(capsys: pytest.CaptureFixture[str]) -> None:
    f = jit.compile(middle)
    x, W = torch.ones(2, 4), torch.ones(4, 3)
    for v in (x, -x, x, -x):
        assert f(v, W).item() == middle(v, W).item()
        assert capsys.readouterr().out == "in the middle\n" * 2
    text = f.program.text()
    ast.parse(text)
    assert [line.split(" = ")[-1].split("(")[0].strip() for line in text.splitlines()[1:]] == [
        "piece_1", "print", "piece_2", "if t1:", "piece_3", "else:", "piece_4", "return piece_5",
    ]  # fmt: skip
    assert ast.unparse(ast.parse("h, s = piece_1(W, x)")) in text
    assert f.compilations == 5


def test_a_side_is_compiled_when_it_is_first_taken() -> None:
    f = jit.compile(middle)
    x, W = torch.ones(2, 4), torch.ones(4, 3)
    f(x, W)
    assert "piece_4: not reached yet" in f.explain() and f.compilations == 4
    f(-x, W)
    assert "not reached yet" not in f.explain() and f.compilations == 5


def test_explain_says_why_and_where() -> None:
    f = jit.compile(middle)
    f(torch.ones(2, 4), torch.ones(4, 3))
    line = middle.__code__.co_firstlineno
    text = jit.explain(f)
    assert f"cut at line {line + 3}: calls print, which stays in Python" in text
    assert f"cut at line {line + 4}: branches on a tensor's value" in text
    assert "argument x is a float32 tensor of 2 dims" in text
    assert "x.shape[0] == 2" in text
    assert "ij,jk->ik" in text and "tanh" in text  # the listing of the first piece
    assert "# t1 is s > 0" in text


def test_loops_on_data_stay_loops() -> None:
    @jit.compile
    def f(x):
        while x.norm() > 1:
            x = x * 0.5
        return x + 1

    x = torch.full((3,), 8.0)
    assert f(x).tolist() == f.function(x).tolist()
    text = f.program.text()
    assert "while x.norm() > 1:\n        x = piece_1(x)\n    return piece_2(x)" in text


def shown(v, what):
    w = v * 2
    print(what, w.sum().item())
    return w + 1


def test_functions_that_are_cut_keep_their_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    @jit.compile
    def f(x):
        return shown(x + 1, "a").sum()

    assert f(torch.ones(2)).item() == 10
    assert capsys.readouterr().out == "a 8.0\n"
    assert "compiled(shown)(t1, 'a')" in f.program.text()
    (child,) = f.followed
    assert child.function is shown and child.compilations == 2
    assert "shown, line" in f.explain()


def test_errors_name_the_users_line() -> None:
    def f(x):
        y = x * 2
        return y + torch.ones(5)

    compiled = jit.compile(f)
    with pytest.raises(RuntimeError) as info:
        compiled(torch.ones(3))
    assert any(t.path.name == "test_residual.py" and t.lineno == f.__code__.co_firstlineno + 1 for t in info.traceback)


def test_nodes_name_the_users_line() -> None:
    f = jit.compile(middle)
    f(torch.ones(2, 4), torch.ones(4, 3))
    (tanh,) = [n for n in f.variants[0].piece.nodes if n.op.name == "tanh"]
    assert tanh.where.file == __file__ and tanh.where.line == middle.__code__.co_firstlineno + 1


def test_a_loop_over_python_values_is_written_out() -> None:
    @jit.compile
    def f(x):
        for k in range(4):
            x = x * k + 1
        return x

    assert f(torch.ones(1)).item() == f.function(torch.ones(1)).item()
    assert f.program.text() == "def f(x):\n    return piece_1(x)"
    assert sum(n.op.name == "mul" for n in f.variants[0].piece.nodes) == 4


def test_what_has_no_source_says_so() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x): return x + 1", scope)
    f = jit.compile(scope["f"])
    assert f(torch.ones(1)).item() == 2
    assert f.explain() == "f has no source text: it runs as plain Python"


def test_functions_that_look_at_local_names_run_plain() -> None:
    @jit.compile
    def f(x):
        y = x + 1
        return sorted(locals()), y

    assert f(torch.ones(1))[0] == ["x", "y"]
    assert "looks at local names" in f.explain()
