"""Effects become values: what a run reads, what it writes, in which order, and under which conditions."""

import numpy as np
import pytest

from tests.graph.rows import value
from tinyflow.core.dtypes import bool_, float32
from tinyflow.core.errors import DeadTensorError, ShapeError
from tinyflow.graph.evaluate import DEAD, alive, evaluate
from tinyflow.graph.node import toposort
from tinyflow.ops.control import AFTER, ASSIGN, GROUP, after, assign, group, merge, switch
from tinyflow.ops.leaf import placeholder, variable
from tinyflow.passes.state import conditions, effects


def run(roots, store, fed=None):
    """(values of the roots, store after the run) by the numpy meaning of what `effects` gives."""
    found = effects(roots)
    assert not {n.op for n in toposort([*found.values, *found.writes.values()])} & {AFTER, ASSIGN, GROUP}
    given = {**store, **(fed or {})}
    got = evaluate([*found.values, *found.writes.values()], given)
    return [got[n] for n in found.values], {**store, **{v: got[n] for v, n in found.writes.items()}}


@pytest.fixture
def variables():
    return variable(float32, (), "v"), variable(float32, (), "w")


def test_assign_is_its_value_and_writes_it(variables):
    v, _ = variables
    (got,), store = run([assign(v, v + 1.0)], {v: 2.0})
    assert (got, store[v]) == (3, 3)


def test_reads_see_what_a_variable_held_when_the_run_began(variables):
    v, w = variables
    write = assign(v, v * 10.0)
    (read, twice, _), store = run([v, v + v, write], {v: 2.0, w: 0.0})
    assert (read, twice, store[v]) == (2, 4, 20)


def test_swap(variables):
    v, w = variables
    _, store = run([group(assign(v, w), assign(w, v))], {v: 1.0, w: 2.0})
    assert (store[v], store[w]) == (2, 1)


def test_read_after_write(variables):
    v, w = variables
    write = assign(v, w + 1.0)
    (read, other), _ = run([after(v, write), after(w, write)], {v: 0.0, w: 6.0})
    assert (read, other) == (7, 6)


def test_what_is_computed_from_an_assign_reads_the_old_value_unless_asked(variables):
    v, _ = variables
    write = assign(v, v + 1.0)
    (plain, ordered), _ = run([write * 1.0 + v, write * 1.0 + after(v, write)], {v: 5.0})
    assert (plain, ordered) == (11, 12)


def test_writes_in_a_row(variables):
    """The second write reads what the first one wrote, by order; the last write stays."""
    v, _ = variables
    first = assign(v, v + 1.0)
    second = assign(v, after(v, first) * 10.0)
    (got,), store = run([after(v, second)], {v: 1.0})
    assert (got, store[v]) == (20, 20)


def test_group_runs_all_and_orders_all(variables):
    v, w = variables
    both = group(assign(v, v + 1.0), assign(w, w + 2.0))
    (a, b, nothing), store = run([after(v, both), after(w, both), both], {v: 1.0, w: 1.0})
    assert (a, b, nothing) == (2, 3, 0) and (store[v], store[w]) == (2, 3)


def test_a_graph_without_effects_is_itself(variables):
    v, _ = variables
    roots = [v + 1.0, v * 2.0]
    assert effects(roots) == (roots, {})


def test_after_nothing_is_the_node_itself(variables):
    assert after(variables[0]) is variables[0]


@pytest.mark.parametrize("p", [True, False])
def test_a_write_on_one_side_keeps_the_old_value_on_the_other(variables, p):
    v, _ = variables
    yes = placeholder(bool_, (), "yes")
    write = assign(v, switch(v + 1.0, yes, True))
    (got,), store = run([write], {v: 5.0}, {yes: p})
    assert store[v] == (6 if p else 5)
    assert (got == 6) if p else got is DEAD


@pytest.mark.parametrize("p", [True, False])
@pytest.mark.parametrize("q", [True, False])
def test_a_write_under_two_conditions(variables, p, q):
    v, _ = variables
    one, two = placeholder(bool_, (), "one"), placeholder(bool_, (), "two")
    write = assign(v, switch(switch(v + 1.0, one, True), two, False))
    _, store = run([write], {v: 5.0}, {one: p, two: q})
    assert store[v] == (6 if p and not q else 5)


def test_a_predicate_is_read_before_the_write(variables):
    v, _ = variables
    negative = v < 0.0
    write = assign(v, merge(negative, switch(v, negative, False), switch(-v, negative, True)))
    assert run([write], {v: -3.0})[1][v] == 3
    assert run([write], {v: 4.0})[1][v] == 4


# ------------------------------------------------------------------------------------------ conditions


def test_conditions_follow_data_and_end_at_merge():
    p, q = placeholder(bool_, (), "p"), placeholder(bool_, (), "q")
    x = placeholder(float32, (3,), "x")
    f, t = switch(x, p, False), switch(x, p, True)
    deep = switch(t * 2.0, q, True) + 1.0
    inner = merge(q, switch(t, q, False), deep)
    whole = merge(p, f, inner)
    found = conditions([whole, deep])
    assert found[x] == () and found[whole] == ()
    assert found[f] == ((p, False),)
    assert found[deep] == ((p, True), (q, True))
    assert found[inner] == ((p, True),)


def test_a_merge_whose_predicate_is_conditional_is_conditional():
    p, x = placeholder(bool_, (), "p"), placeholder(float32, (), "x")
    inside = switch(x, p, True)
    q = inside < 1.0
    m = merge(q, switch(inside, q, False), switch(inside * 2.0, q, True))
    assert conditions([m])[m] == ((p, True),)


@pytest.mark.parametrize("p, want", [(True, 4.0), (False, 9.0)])
def test_switch_and_merge(p, want):
    yes, x = placeholder(bool_, (), "yes"), placeholder(float32, (), "x")
    t, f = switch(x, yes, True) + 1.0, switch(x, yes, False) * 3.0
    fed = {yes: np.bool_(p), x: np.float32(3)}
    assert value(merge(yes, f, t), fed) == want
    dead = f if p else t
    assert value(dead, fed) is DEAD
    with pytest.raises(DeadTensorError, match=r"test_state\.py:\d+.*result of cond"):
        alive(dead, value(dead, fed))


def test_the_predicate_is_a_bool_scalar():
    x, p = placeholder(float32, (3,), "x"), placeholder(bool_, (3,), "p")
    with pytest.raises(ShapeError, match="scalar"):
        switch(x, p, True)
    with pytest.raises(ShapeError, match="bool scalar"):
        switch(x, placeholder(float32, (), "q"), True)
    with pytest.raises(ShapeError, match="variable of shape"):
        assign(variable(float32, (3,), "v"), placeholder(float32, (4,), "y"))
