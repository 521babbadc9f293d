"""What runs, and when: cond, switches and merges, control dependencies, assignments."""

from typing import Any

import numpy as np
import pytest

import tinyflow as tf
from tinyflow.core.config import config


@pytest.fixture(params=[0, 1], ids=["compiled", "by numpy"])
def sess(request: Any, graph: tf.Graph) -> Any:
    with config(REFERENCE=request.param), tf.Session() as session:
        yield session


# ------------------------------------------------------------------------------------------ cond


def test_the_slides_cond(sess: tf.Session, graph: tf.Graph) -> None:
    x, y, z = (tf.placeholder(tf.float32, [], name=n) for n in "xyz")
    r = tf.cond(x < y, lambda: tf.add(x, z), lambda: tf.square(y))
    gradients = tf.gradients(r, [x, y, z])
    assert sess.run([r, *gradients], {x: 1.0, y: 2.0, z: 5.0}) == [6, 1, 0, 1]
    assert sess.run([r, *gradients], {x: 3.0, y: 2.0, z: 5.0}) == [4, 0, 4, 0]
    types = [op.type for op in graph.get_operations()]
    assert types.count("Merge") == 1 and types.count("Switch") == 3
    assert r.name == "cond/Merge:0" and graph.get_operation_by_name("cond/Add").type == "Add"


def test_the_side_not_taken_is_not_computed(sess: tf.Session) -> None:
    """A gather there has an index out of range, and nobody minds."""
    table, i = tf.constant([1.0, 2.0, 3.0]), tf.placeholder(tf.int32, [])
    safe = tf.cond(i < 3, lambda: tf.gather(table, i), lambda: tf.constant(-1.0))
    assert sess.run(safe, {i: 2}) == 3
    assert sess.run(safe, {i: 99}) == -1
    both = tf.where(i < 3, tf.gather(table, i), -1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="99"):
        sess.run(both, {i: 99})


def test_fetching_the_dead_side(sess: tf.Session, graph: tf.Graph) -> None:
    p, x = tf.placeholder(tf.bool, [], name="p"), tf.constant(1.0)
    tf.cond(p, lambda: tf.square(x, name="yes"), lambda: tf.negative(x, name="no"))
    assert sess.run("cond/yes:0", {p: True}) == 1 and sess.run("cond/no:0", {p: False}) == -1
    for name, taken in (("cond/yes:0", False), ("cond/no:0", True), ("cond/Switch:1", False)):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=f"'{name}'.*switch that was not taken.*test_control.py"
        ):
            sess.run(name, {p: taken})
        with pytest.raises(tf.errors.InvalidArgumentError, match=name):
            sess.run([x, name], {p: taken})
        assert sess.run(graph.get_operation_by_name(name[:-2]), {p: taken}) is None


def test_nested_results(sess: tf.Session) -> None:
    p, x = tf.placeholder(tf.bool, []), tf.constant([1.0, 2.0])
    r = tf.cond(p, lambda: {"a": x, "b": [x * 2.0, 3.0]}, lambda: {"a": -x, "b": [x, 4.0]})
    assert sess.run(r, {p: True})["b"][0].tolist() == [2, 4] and sess.run(r["b"][1], {p: False}) == 4
    assert sess.run(r["a"], {p: False}).tolist() == [-1, -2]


def test_nested_conds(sess: tf.Session) -> None:
    p, q, x = tf.placeholder(tf.bool, []), tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [])
    r = tf.cond(
        p, lambda: tf.cond(q, lambda: x * 2.0, lambda: x * 3.0), lambda: tf.cond(q, lambda: x * 5.0, lambda: x * 7.0)
    )
    g = tf.gradients(r, x)[0]
    for a in (True, False):
        for b in (True, False):
            want = {(1, 1): 2, (1, 0): 3, (0, 1): 5, (0, 0): 7}[a, b]
            assert sess.run([r, g], {p: a, q: b, x: 10.0}) == [10 * want, want]


def test_variables_in_a_branch(sess: tf.Session) -> None:
    p, v, w = tf.placeholder(tf.bool, []), tf.Variable(1.0), tf.Variable(0.0)
    r = tf.cond(p, lambda: v.assign_add(10.0), lambda: v + 0.5)
    step = tf.cond(p, lambda: tf.group(w.assign(7.0)), lambda: tf.no_op())
    sess.run(tf.global_variables_initializer())
    assert sess.run(r, {p: False}) == 1.5 and sess.run(v) == 1
    assert sess.run(r, {p: True}) == 11 and sess.run(v) == 11
    sess.run(step, {p: False})
    assert sess.run(w) == 0
    sess.run(step, {p: True})
    assert sess.run(w) == 7
    assert sess.run(tf.gradients(tf.cond(p, lambda: v * v, lambda: v), v)[0], {p: True}) == 22


def test_case(sess: tf.Session) -> None:
    x = tf.placeholder(tf.int32, [])
    r = tf.case(
        [(x < 0, lambda: tf.constant(-1)), (tf.equal(x, 0), lambda: tf.constant(0))], default=lambda: tf.constant(1)
    )
    assert [sess.run(r, {x: k}) for k in (-5, 0, 5)] == [-1, 0, 1]


def test_random_numbers_in_a_branch(sess: tf.Session) -> None:
    p = tf.placeholder(tf.bool, [])
    r = tf.cond(p, lambda: tf.random_uniform([2], seed=1), lambda: tf.zeros([2]))
    assert sess.run(r, {p: False}).tolist() == [0, 0] and (sess.run(r, {p: True}) > 0).all()


def test_cond_of_unknown_rank(sess: tf.Session) -> None:
    p, x = tf.placeholder(tf.bool), tf.placeholder(tf.float32)
    r = tf.cond(p, lambda: x * 2.0, lambda: x - 1.0)
    assert sess.run(r, {p: True, x: [1.0, 2.0]}).tolist() == [2, 4]
    assert sess.run(r, {p: False, x: [[1.0]]}).tolist() == [[0]]


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda x: tf.cond(True, lambda: x, lambda: x), TypeError, "Python bool"),
        (lambda x: tf.cond(x, lambda: x, lambda: x), TypeError, "float32"),
        (lambda x: tf.cond(x > 0, x, x), TypeError, "two functions"),
        (lambda x: tf.cond(x > 0, lambda: x, lambda: 1), TypeError, "int32"),
        (lambda x: tf.cond(x > 0, lambda: None, lambda: x), ValueError, "returned nothing"),
        (lambda x: tf.cond(x > 0, lambda: [x, x], lambda: x), ValueError, "different structures"),
        (lambda x: tf.cond([True, False], lambda: x, lambda: x), ValueError, "scalar"),
    ],
)
def test_conds_that_cannot_be(make: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make(tf.constant(1.0))


def test_the_old_argument_names(sess: tf.Session) -> None:
    assert sess.run(tf.cond(tf.constant(True), fn1=lambda: tf.constant(1), fn2=lambda: tf.constant(2))) == 1


# ------------------------------------------------------------------------------------------ order


def test_reading_after_writing(sess: tf.Session) -> None:
    v = tf.Variable(1.0)
    before = v + 0.0
    step = v.assign_add(1.0)
    with tf.control_dependencies([step]):
        after, read, again = v * 10.0, tf.identity(v), v.read_value()
        second = v.assign(v * 3.0)
    with tf.control_dependencies([second]):
        last = v + 0.5
    sess.run(v.initializer)
    assert sess.run([before, after, read, again]) == [1, 20, 2, 2]
    assert sess.run(v) == 2
    assert sess.run(last) == 9.5 and sess.run(v) == 9
    assert sess.run(before) == 9 and sess.run(v) == 9, "what was made outside the block waits for nothing"


def test_what_is_made_in_a_block_runs_the_block_first(sess: tf.Session) -> None:
    v, x = tf.Variable(0.0), tf.placeholder(tf.float32, [])
    with tf.control_dependencies([v.assign_add(1.0)]):
        y = x * 2.0
        z = y + 1.0
        nothing = tf.no_op()
        with tf.control_dependencies(None):
            free = x * 3.0
    sess.run(v.initializer)
    assert sess.run(y, {x: 4.0}) == 8 and sess.run(v) == 1
    assert sess.run(z, {x: 4.0}) == 9 and sess.run(v) == 2
    sess.run(nothing)
    assert sess.run(v) == 3
    assert sess.run(free, {x: 4.0}) == 12 and sess.run(v) == 3
    assert y.op.control_inputs and not z.op.control_inputs, "z waits through y"
    assert sess.run(tf.gradients(z, x)[0], {x: 4.0}) == 2


def test_updates_take_turns(sess: tf.Session) -> None:
    v = tf.Variable(1.0)
    one, two, three = v.assign_add(1.0), v.assign_add(1.0), v.assign_sub(0.25)
    sess.run(v.initializer)
    assert sess.run([one, two, three]) == [2, 3, 2.75]
    sess.run(tf.group(one, three))
    assert sess.run(v) == 3.5


def test_groups_and_tuples(sess: tf.Session) -> None:
    v, w = tf.Variable(1.0), tf.Variable(2.0)
    both = tf.group(v.assign(5.0), [w.assign(6.0)], name="both")
    assert both.name == "both" and both.type == "NoOp"
    sess.run(tf.global_variables_initializer())
    assert sess.run(both) is None and sess.run([v, w]) == [5, 6]
    a, _ = tf.tuple([v * 2.0, w * 2.0], control_inputs=[v.assign(0.0)])
    assert sess.run(a) == 10 and sess.run(v) == 0
    with pytest.raises(TypeError, match="group takes operations"):
        tf.group(3.0)


def test_assignment(sess: tf.Session) -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    sess.run(v.initializer)
    assert sess.run(tf.assign(v, [5, 6])).tolist() == [5, 6]
    assert sess.run(v.assign_sub([1.0, 1.0])).tolist() == [4, 5]
    with pytest.raises(ValueError, match=r"'v:0' .*test_control.py.*\(2,\).*\(3,\)"):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="int32"):
        v.assign(tf.constant([1, 2]))
    with pytest.raises(ValueError, match="only a variable"):
        tf.assign(tf.constant(1.0), 2.0)


def test_variables_from_variables(sess: tf.Session) -> None:
    v = tf.Variable(tf.random_normal([3]), name="v")
    twice = tf.Variable(v.initialized_value() * 2.0)
    by_function = tf.Variable(lambda: tf.ones([2]))
    sess.run(tf.global_variables_initializer())
    a, b, c = sess.run([v, twice, by_function])
    np.testing.assert_array_equal(a * 2, b)
    assert c.tolist() == [1, 1]
    sess.run(v.assign([1.0, 2.0, 3.0]))
    sess.run(twice.initializer)
    assert sess.run(twice).tolist() == [2, 4, 6]


def test_a_variable_is_like_a_tensor(sess: tf.Session) -> None:
    v = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="v")
    assert (v.name, v.dtype, v.shape.as_list(), v.op.name) == ("v:0", tf.float32, [2, 2], "v")
    sess.run(v.initializer)
    assert sess.run(v[1]).tolist() == [3, 4] and sess.run(-v)[0, 0] == -1 and sess.run(2 * v)[0, 0] == 2
    assert sess.run(v @ v).tolist() == [[7, 10], [15, 22]] and sess.run(np.ones((2, 2)) - v)[1, 1] == -3
    assert sess.run(tf.concat([v, v], 0)).shape == (4, 2)
    with pytest.raises(TypeError):
        bool(v)
    with pytest.raises(ValueError, match="initial_value"):
        tf.Variable()


def test_names_of_variables(graph: tf.Graph) -> None:
    with tf.name_scope("scope"):
        names = [tf.Variable(1.0, name="v").name for _ in range(3)]
    assert names == ["scope/v:0", "scope/v_1:0", "scope/v_2:0"]
    assert tf.Variable(1.0).name == "Variable:0"
    assert {"scope/v", "scope/v/Assign", "scope/v/read", "scope/v/initial_value"} <= {
        op.name for op in graph.get_operations()
    }


def test_a_branch_that_returns_a_list_of_one():
    with tf.Graph().as_default(), tf.Session() as sess:
        p = tf.placeholder(tf.bool)
        one = tf.cond(p, lambda: [tf.constant(1)], lambda: [tf.constant(2)])
        kept = tf.cond(p, lambda: [tf.constant(1)], lambda: [tf.constant(2)], strict=True)
        case = tf.case([(p, lambda: (tf.constant(3),))], default=lambda: (tf.constant(4),))
        assert isinstance(one, tf.Tensor) and isinstance(case, tf.Tensor) and isinstance(kept, list) and len(kept) == 1
        assert sess.run([one, kept[0], case], {p: True}) == [1, 1, 3]
        assert sess.run([one, kept[0], case], {p: False}) == [2, 2, 4]
