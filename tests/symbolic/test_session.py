"""Sessions: what can be fetched and fed, what comes back, and what bad input gets."""

import collections
import gc
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

import tinyflow as tf

Pair = collections.namedtuple("Pair", "left right")


@pytest.fixture
def sess(graph: tf.Graph) -> Any:
    with tf.Session() as session:
        yield session


# ------------------------------------------------------------------------------------------ fetching


def test_nested_fetches(sess: tf.Session) -> None:
    a, b = tf.constant(1.0, name="a"), tf.constant([2.0, 3.0], name="b")
    v = tf.Variable(4.0)
    sess.run(v.initializer)
    assert sess.run(a) == 1 and type(sess.run(a)) is np.float32
    assert sess.run([a, [b, (v,)]])[1][1] == (4.0,)
    got = sess.run({"x": a, "y": [b, "a:0"], "z": Pair(a, v)})
    assert got["x"] == 1 and got["y"][0].tolist() == [2, 3] and got["y"][1] == 1 and got["z"] == Pair(1.0, 4.0)
    assert isinstance(got["z"], Pair)
    assert sess.run((a, b.op, "b")) == (1.0, None, None)
    assert sess.run([]) == [] and sess.run({}) == {} and sess.run(()) == ()
    ordered = sess.run(collections.OrderedDict([("p", a), ("q", b)]))
    assert list(ordered) == ["p", "q"]
    assert sess.run([a, a, v, v]) == [1, 1, 4, 4]


def test_the_same_plan_serves_again(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = x * 2.0
    for k in range(1, 4):
        assert sess.run([y, [x]], {x: np.ones(k)})[0].shape == (k,)
    assert len({id(p) for p in sess._plans.values()}) == 1


def test_what_is_fetched_is_the_callers_own(sess: tf.Session) -> None:
    v, x = tf.Variable([1.0, 2.0]), tf.placeholder(tf.float32, [2])
    c = tf.constant(np.arange(3.0))
    sess.run(v.initializer)
    fed = np.ones(2, np.float32)
    for fetch, feeds in ((v, {}), (v.value(), {}), (x, {x: fed}), (tf.identity(x), {x: fed}), (c, {})):
        got = sess.run(fetch, feeds)
        got[...] = 99
        assert 99 not in sess.run(fetch, feeds)
    assert 99 not in fed
    step, before = v.assign_add([1.0, 1.0]), sess.run(v)
    sess.run(step)
    assert before.tolist() == [1, 2]


@pytest.mark.parametrize("fetch", [None, [None], 3.0, object(), [[1]]])
def test_what_cannot_be_fetched(sess: tf.Session, fetch: Any) -> None:
    with pytest.raises(TypeError, match="cannot be fetched"):
        sess.run(fetch)


def test_names_that_are_not_there(sess: tf.Session) -> None:
    with pytest.raises(ValueError, match=r"'nothing:0' cannot be fetched: .*no operation 'nothing'"):
        sess.run("nothing:0")
    with pytest.raises(TypeError, match="cannot be fed"):
        sess.run(tf.constant(1.0), {"nothing:0": 1})
    with pytest.raises(TypeError, match="cannot be fed: it is an operation"):
        sess.run(tf.constant(1.0), {tf.constant(1.0).op: 1})


# ------------------------------------------------------------------------------------------ feeding


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3], [4, 5, 6]],
        ((1, 2, 3), (4, 5, 6)),
        np.arange(1, 7).reshape(2, 3),
        np.arange(1, 7, dtype=np.float64).reshape(2, 3),
        np.arange(1.0, 7, dtype=np.float32).reshape(3, 2, order="F").reshape(2, 3),
        np.arange(0.5, 7, 0.5, dtype=np.float32)[1::2].reshape(2, 3),
        np.asfortranarray(np.arange(1.0, 7, dtype=np.float32).reshape(2, 3)),
        np.arange(6, 0, -1, dtype=np.float32)[::-1].reshape(2, 3),
        np.arange(1, 7, dtype=np.uint8).reshape(2, 3),
        np.arange(1, 7, dtype=">f4").reshape(2, 3),
    ],
)
def test_any_array_can_be_fed(sess: tf.Session, value: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    want = np.asarray(value, np.float64)
    for _ in range(2):
        np.testing.assert_array_equal(sess.run(x * 2.0, {x: value}), want * 2)


def test_read_only_and_scalar_feeds(sess: tf.Session) -> None:
    x, n = tf.placeholder(tf.float32, [3]), tf.placeholder(tf.int64, [])
    value = np.ones(3, np.float32)
    value.setflags(write=False)
    assert sess.run(x + 1.0, {x: value}).tolist() == [2, 2, 2]
    for number in (5, 5.0, np.int32(5), np.array(5), True + 4):
        assert sess.run(n * 2, {n: number}) == 10


def test_any_tensor_can_be_fed(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    h = x * 2.0
    y = h + 1.0
    rate = tf.constant(2.0)
    other = tf.constant(2.0)
    default = tf.placeholder_with_default(tf.ones([2]), [None])
    assert sess.run(y, {h: [5.0, 6.0]}).tolist() == [6, 7]
    assert sess.run(y, {"x:0": [5.0]}).tolist() == [11]
    assert sess.run(rate * other, {rate: 10.0}) == 20, "an equal constant is another tensor"
    assert sess.run(default * 2.0).tolist() == [2, 2]
    assert sess.run(default * 2.0, {default: [3.0]}).tolist() == [6]
    gradient = tf.gradients(h * h, x)[0]
    assert sess.run(gradient, {x: [1.0], h: [10.0]}).tolist() == [40], "the gradient goes through what is fed"
    v = tf.Variable(1.0)
    assert sess.run(v * 3.0, {v: 5.0}) == 15


def test_a_tuple_of_tensors_takes_a_tuple_of_values(sess: tf.Session) -> None:
    """As the states of recurrent cells do."""
    state = tf.nn.rnn_cell.LSTMStateTuple(tf.zeros([2]), tf.zeros([2]))
    total = state.c + 10.0 * state.h
    for _ in range(2):
        assert sess.run(total, {state: tf.nn.rnn_cell.LSTMStateTuple([1, 2], [3, 4])}).tolist() == [31, 42]
    with pytest.raises(ValueError, match="2 tensors"):
        sess.run(total, {state: ([1, 2],)})


def test_sizes_of_zero(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    assert sess.run(x * 2.0, {x: np.zeros((0, 3))}).shape == (0, 3)
    assert sess.run(tf.reduce_sum(x), {x: np.zeros((0, 3))}) == 0


def test_symbolic_sizes_that_broadcast(sess: tf.Session) -> None:
    a, b = tf.placeholder(tf.float32, [None, 3], name="a"), tf.placeholder(tf.float32, [None, 3], name="b")
    total = tf.reduce_sum(a * b)
    da, db = tf.gradients(total, [a, b])
    for rows in ((4, 4), (4, 1), (1, 4), (1, 1), (4, 4)):
        one, two = (np.arange(3.0 * n).reshape(n, 3) + 1 for n in rows)
        got, ga, gb = sess.run([total, da, db], {a: one, b: two})
        assert got == (one * two).sum() and ga.shape == one.shape and gb.shape == two.shape
        np.testing.assert_allclose(
            gb, np.broadcast_to(one, (max(rows), 3)) if rows[1] > 1 or rows[0] == 1 else one.sum(0, keepdims=True)
        )
    with pytest.raises(ValueError, match=r"(?s)Mul 'mul'.*\(4, 3\) and \(2, 3\).*test_session.py"):
        sess.run(total, {a: np.ones((4, 3)), b: np.ones((2, 3))})


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("value", [np.ones((2, 4)), np.ones(3), 1.0, np.ones((2, 3, 1)), []])
def test_wrong_shape(sess: tf.Session, value: Any) -> None:
    x, v = tf.placeholder(tf.float32, [None, 3], name="images"), tf.Variable(0.0)
    sess.run(v.initializer)
    with pytest.raises(ValueError, match=r"'images:0' .*test_session\.py.*\(\?, 3\).*shape \("):
        sess.run(v.assign(tf.reduce_sum(x)), {x: value})
    assert sess.run(v) == 0, "nothing ran"


def test_feeds_that_are_no_dict(sess: tf.Session) -> None:
    with pytest.raises(TypeError, match="feed_dict is a dict"):
        sess.run(tf.constant(1.0), [3.0])


@pytest.mark.parametrize(
    "dtype, value, words",
    [
        (tf.int32, [0.5], "no integers"),
        (tf.float32, ["a"], "takes float32"),
        (tf.float32, [[1], [2, 3]], "different lengths"),
        (tf.float32, [1j], "complex"),
        (tf.float32, None, "object"),
        (tf.bool, [0.5], "no integers"),
    ],
)
def test_wrong_kind(sess: tf.Session, dtype: Any, value: Any, words: str) -> None:
    x = tf.placeholder(dtype, None, name="data")
    with pytest.raises(ValueError, match="'data:0'.*" + words):
        sess.run(tf.identity(x), {x: value})


def test_a_tensor_is_no_value(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    for value in (tf.constant(1.0), tf.Variable(1.0)):
        with pytest.raises(TypeError, match="'x:0' was fed with <tf"):
            sess.run(x, {x: value})


@pytest.mark.parametrize("shape", [[None, 3], None])
def test_unfed_placeholder(sess: tf.Session, shape: Any) -> None:
    x = tf.placeholder(tf.float32, shape, name="images")
    loss = tf.reduce_sum(tf.square(x * 2.0), name="loss")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"'images' \(.*test_session\.py.*float32.*loss <- Square <- mul <- images"
    ) as error:
        sess.run(loss)
    assert isinstance(error.value, ValueError) and error.value.op is x.op


def test_uninitialised_variable(sess: tf.Session) -> None:
    w = tf.Variable(1.0, name="weights")
    local = tf.Variable(1.0, name="local", collections=[tf.GraphKeys.LOCAL_VARIABLES])
    with pytest.raises(
        tf.errors.FailedPreconditionError, match=r"'weights' \(.*test_session\.py.*tf\.global_variables_initializer\(\)"
    ):
        sess.run(w * 2.0)
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"'local'.*tf\.local_variables_initializer\(\)"):
        sess.run(local)
    assert sess.run(tf.report_uninitialized_variables()).tolist() == [b"weights", b"local"]
    assert not sess.run(tf.is_variable_initialized(w))
    sess.run(tf.global_variables_initializer())
    assert sess.run(w * 2.0) == 2 and sess.run(tf.is_variable_initialized(w))
    assert sess.run(tf.report_uninitialized_variables()).tolist() == [b"local"]
    with pytest.raises(tf.errors.FailedPreconditionError):
        tf.Session().run(w)


def test_foreign_tensors(sess: tf.Session) -> None:
    with tf.Graph().as_default():
        foreign = tf.constant(1.0, name="foreign")
    with pytest.raises(ValueError, match="'foreign:0' is of another graph"):
        sess.run(foreign)
    with pytest.raises(TypeError, match="'foreign:0' is of another graph"):
        sess.run(tf.constant(1.0), {foreign: 1})


def test_closed_session() -> None:
    c = tf.constant(1.0)
    session = tf.Session()
    assert session.run(c) == 1
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(c)
    with tf.Session() as session:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        session.run(c)


def test_shapes_that_do_not_fit() -> None:
    """At once, where the operation is written; with the operation, and both shapes."""
    a, b = tf.ones([3, 4]), tf.ones([5, 6])
    for make, words in (
        (lambda: a + b, r"add.*\(3, 4\) and \(5, 6\)"),
        (lambda: tf.matmul(a, b), r"matmul.*\(3, 4\).*\(5, 6\)"),
        (lambda: tf.concat([a, b], 0), r"(?i)concat.*\(3, 4\).*\(5, 6\)"),
        (lambda: tf.reshape(a, [5, 5]), r"(?i)reshape.*\(3, 4\)"),
        (lambda: tf.matmul(a, tf.ones([4])), "two axes"),
        (lambda: tf.reduce_sum(a, 2), "axis 2"),
        (lambda: tf.Variable(a).assign(b), "does not fit"),
        (lambda: tf.log(tf.constant(1)), "float"),
        (lambda: tf.nn.softmax_cross_entropy_with_logits(a, b), "by name"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="int32"):
        a + tf.constant(1)


def test_gather_out_of_range(sess: tf.Session) -> None:
    i = tf.placeholder(tf.int32, [None])
    picked = tf.gather(tf.constant([1.0, 2.0, 3.0]), i)
    assert sess.run(picked, {i: [2, 0]}).tolist() == [3, 1]
    for bad in (3, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=str(bad)) as error:
            sess.run(picked, {i: [0, bad]})
        assert isinstance(error.value, IndexError)


def test_nan_flows() -> None:
    x = tf.placeholder(tf.float32, [2])
    got = tf.Session().run([tf.log(x), x / 0.0], {x: [-1.0, np.inf]})
    assert np.isnan(got[0][0]) and got[1][1] == np.inf


# ------------------------------------------------------------------------------------------ sessions


def test_default_sessions(graph: tf.Graph) -> None:
    c = tf.constant(3.0)
    assert tf.get_default_session() is None
    with pytest.raises(ValueError, match="no default session"):
        c.eval()
    with tf.Session() as sess:
        assert tf.get_default_session() is sess and c.eval() == 3
        v = tf.Variable(1.0)
        v.initializer.run()
        assert v.eval() == 1
        v.load(7.0, sess)
        assert sess.run(v) == 7
    assert tf.get_default_session() is None
    interactive = tf.InteractiveSession()
    assert c.eval() == 3
    interactive.close()
    assert tf.get_default_session() is None
    session = tf.Session()
    with session.as_default():
        assert c.eval() == 3
    assert session.run(c) == 3


def test_a_session_of_another_graph() -> None:
    graph = tf.Graph()
    with graph.as_default():
        c = tf.constant(5.0)
    with tf.Session(graph=graph) as sess:
        assert sess.run(c) == 5 and tf.get_default_graph() is graph
    assert sess.graph is graph
    with pytest.raises(TypeError, match="is a tf"):
        tf.Session(graph=c)


def test_sessions_hold_their_own_variables(graph: tf.Graph) -> None:
    v = tf.Variable(1.0)
    step = v.assign_add(1.0)
    one, two = tf.Session(), tf.Session()
    for sess in (one, two):
        sess.run(v.initializer)
    one.run(step)
    assert (one.run(v), two.run(v)) == (2, 1)


def test_strings(sess: tf.Session) -> None:
    assert sess.run(tf.constant("hello")) == b"hello"
    words, x = sess.run([tf.constant(["a", "b"]), tf.constant(1.0)])
    assert words.tolist() == [b"a", b"b"] and x == 1
    s = tf.placeholder(tf.string, [])
    assert sess.run(s, {s: "fed"}) == "fed"
    with pytest.raises(TypeError, match="string"):
        tf.square(tf.constant("hello"))


def test_printing(sess: tf.Session, capsys: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.Print(x * 2.0, [x, tf.shape(x)], "seen: ", summarize=2) + 1.0
    assert sess.run(y, {x: [1.0, 2.0, 3.0]}).tolist() == [3, 5, 7]
    assert capsys.readouterr().err == "seen: [1.0 2.0...][3]\n"
    with tf.control_dependencies([tf.Assert(tf.reduce_all(x > 0), [x])]):
        checked = tf.identity(x)
    assert sess.run(checked, {x: [1.0]}) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"assertion failed: \[-1.0\]"):
        sess.run(checked, {x: [-1.0]})


def test_make_callable(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [])
    assert sess.make_callable(x * 2.0, [x])(3.0) == 6


def test_options_are_accepted(sess: tf.Session) -> None:
    options, metadata = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
    assert sess.run(tf.constant(1.0), options=options, run_metadata=metadata) == 1


# ------------------------------------------------------------------------------------------ loops


def test_a_loop_that_grows_the_graph_is_warned_about_once(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [])
    with pytest.warns(UserWarning, match=r"the graph grows.*test_session.py:\d+: y = x \+ float\(k\)") as caught:
        for k in range(250):
            y = x + float(k)
            sess.run(y, {x: 0.0})
    assert len(caught) == 1


def test_equal_operations_do_not_count_as_growth(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(250):
            assert sess.run(x + 1.0, {x: 1.0}) == 2


def test_a_long_chain(sess: tf.Session) -> None:
    """No walk over the graph recurses."""
    x = tf.placeholder(tf.float32)
    y = x
    for _ in range(2000):
        y = y + 1.0
    assert sess.run(y, {x: 0.0}) == 2000


def test_importing_is_quick_and_loads_no_compiler() -> None:
    script = "import sys, tinyflow; assert 'llvmlite' not in sys.modules, 'llvmlite'; assert 'tinyflow.execute' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_graph_that_is_let_go_is_freed() -> None:
    import weakref

    with tf.Graph().as_default() as graph, tf.Session() as sess:
        v = tf.Variable(tf.random_normal([3]))
        sess.run(tf.global_variables_initializer())
        sess.run(v * 2.0)
    alive = weakref.ref(graph)
    del graph, sess, v
    gc.collect()
    assert alive() is None


def test_four_threads_run_one_session(sess: tf.Session) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x, v = tf.placeholder(tf.float32, [None, 8]), tf.Variable(tf.ones([8, 4]))
    y = tf.reduce_sum(tf.matmul(x, v), 1)
    sess.run(v.initializer)

    def work(k: int) -> bool:
        rows = np.full((k % 7 + 1, 8), k, np.float32)
        return bool((sess.run(y, {x: rows}) == 32 * k).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


def test_four_threads_compile_at_once(sess: tf.Session) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x, v = tf.placeholder(tf.float32, [None, 8]), tf.Variable(tf.ones([8, 5]))
    y = tf.reduce_sum(tf.matmul(x, v), 1)
    scaled = [y * float(k) for k in range(24)]
    sess.run(v.initializer)

    def work(k: int) -> bool:
        return bool((sess.run(scaled[k // 4], {x: np.full((k % 4 + 1, 8), k, np.float32)}) == 40 * k * (k // 4)).all())

    often, usual = 1e-6, sys.getswitchinterval()
    sys.setswitchinterval(often)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(96)))
    finally:
        sys.setswitchinterval(usual)
