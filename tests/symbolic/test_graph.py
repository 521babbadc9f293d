"""Graphs, names, scopes and collections."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tinyflow as tf


def test_unique_names(graph: tf.Graph) -> None:
    a, b = tf.constant(1.0), tf.constant(2.0)
    assert [t.name for t in (a, b, tf.add(a, b), tf.add(a, b), a + b, a + b)] == [
        "Const:0",
        "Const_1:0",
        "Add:0",
        "Add_1:0",
        "add:0",
        "add_1:0",
    ]
    assert tf.placeholder(tf.float32, [3], name="x").name == "x:0"
    assert tf.placeholder(tf.float32, [3], name="x").name == "x_1:0"
    names = [op.name for op in graph.get_operations()]
    assert len(names) == len(set(names))


def test_constants_of_an_operation_bear_its_name(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    y = x * 2.0
    assert y.name == "mul:0" and [t.name for t in y.op.inputs] == ["x:0", "mul/y:0"]


def test_equal_operations_share_a_node_and_not_a_name(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [3])
    a, b = tf.square(x), tf.square(x)
    assert a.node is b.node and a is not b and a.name != b.name
    assert a != b and len({a, b}) == 2


def test_name_scopes(graph: tf.Graph) -> None:
    with tf.name_scope("layer") as scope:
        assert scope == "layer/"
        assert tf.constant(1.0, name="c").name == "layer/c:0"
        with tf.name_scope("inner"):
            assert tf.constant(1.0, name="c").name == "layer/inner/c:0"
    with tf.name_scope("layer"):
        assert tf.constant(1.0, name="c").name == "layer_1/c:0"
    with tf.name_scope(scope):
        assert tf.constant(1.0, name="d").name == "layer/d:0"
    with tf.name_scope(None, default_name="other"):
        assert tf.Variable(1.0, name="v").name == "other/v:0"


def test_finding_by_name(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.square(x, name="y")
    assert graph.get_tensor_by_name("y:0") is y
    assert graph.get_operation_by_name("y") is y.op
    with pytest.raises(KeyError, match="there is y"):
        graph.get_tensor_by_name("yy:0")
    with pytest.raises(KeyError, match="1 outputs"):
        graph.get_tensor_by_name("y:1")
    with pytest.raises(ValueError, match="name:0"):
        graph.get_tensor_by_name("y")


def test_an_operation(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.square(x, name="y")
    op = y.op
    assert (op.name, op.type, op.inputs, op.outputs, op.control_inputs, op.graph) == (
        "y",
        "Square",
        (x,),
        [y],
        (),
        graph,
    )
    assert op.node is y.node
    assert "test_graph.py" in str(op.where)
    assert y.consumers() == [] and x.consumers() == [op]


def test_tensors_are_not_values(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    for use, hint in (
        (bool, "tf.cond"),
        (iter, "tf.unstack"),
        (len, "get_shape"),
        (float, "sess.run"),
        (np.asarray, "numpy"),
    ):
        with pytest.raises(TypeError, match=hint) as error:
            use(x)
        assert "'x:0'" in str(error.value)
    with pytest.raises(TypeError):
        if x > 0:
            pass
    assert str(x) == "<tf.Tensor 'x:0' shape=(2,) dtype=float32>"


def test_shapes(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    shape = x.get_shape()
    assert shape.as_list() == [None, 3] and shape.ndims == 2 and len(shape) == 2
    assert shape[1] == 3 and shape[0].value is None and int(shape[1]) == 3
    assert str(shape) == "(?, 3)" and not shape.is_fully_defined() and shape.num_elements() is None
    assert [d.value for d in shape] == [None, 3]
    assert tf.TensorShape([None, 3]) == shape and shape[1:] == [3]
    assert tf.TensorShape([2, 3]).num_elements() == 6 and (tf.TensorShape([2, 3])[0] * 2).value == 4
    assert shape.merge_with([5, None]).as_list() == [5, 3]
    with pytest.raises(ValueError, match="fit"):
        shape.merge_with([5, 4])
    unknown = tf.placeholder(tf.float32).shape
    assert unknown.ndims is None and unknown.dims is None
    with pytest.raises(ValueError, match="unknown rank"):
        unknown.as_list()
    assert (tf.zeros([4, shape[1]]) + tf.zeros(shape[1:])).shape.as_list() == [4, 3]


def test_set_shape(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    x.set_shape([None, 4])
    assert x.shape.as_list() == [None, 4]
    assert tf.matmul(x, tf.ones([4, 2])).shape.as_list() == [None, 2]
    late = tf.placeholder(tf.float32)
    late.set_shape([2, 3])
    assert tf.square(late).shape.as_list() == [2, 3]
    with pytest.raises(ValueError, match="fit"):
        late.set_shape([2, 4])
    with tf.Session() as sess:
        assert sess.run(tf.reduce_sum(x), {x: np.ones((2, 4))}) == 8
        assert sess.run(tf.reduce_sum(late), {late: np.ones((2, 3))}) == 6


def test_collections(graph: tf.Graph) -> None:
    v = tf.Variable(1.0, name="a/v")
    w = tf.Variable(1.0, name="b/w", trainable=False)
    local = tf.Variable(1.0, collections=[tf.GraphKeys.LOCAL_VARIABLES])
    assert tf.global_variables() == [v, w] and tf.trainable_variables() == [v, local]
    assert tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="b") == [w]
    tf.add_to_collection("mine", 3)
    assert tf.get_collection("mine") == [3] and tf.get_collection("other") == []


def test_default_graphs() -> None:
    one, two = tf.Graph(), tf.Graph()
    with one.as_default():
        a = tf.constant(1.0)
        with two.as_default():
            b = tf.constant(1.0)
        assert tf.get_default_graph() is one
    assert a.graph is one and b.graph is two
    with pytest.raises(ValueError, match="different graphs"):
        a + b


def test_reset_default_graph() -> None:
    with pytest.raises(AssertionError, match="as_default"):
        tf.reset_default_graph()
    script = "import tinyflow as tf; a = tf.constant(1); tf.reset_default_graph(); assert not tf.get_default_graph().get_operations()"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_finalized_graph_takes_nothing(graph: tf.Graph) -> None:
    x = tf.constant(1.0)
    graph.finalize()
    with pytest.raises(RuntimeError, match="finalized"):
        tf.square(x)
    assert tf.Session().run(x) == 1


def test_contexts_without_effect(graph: tf.Graph) -> None:
    with tf.device("/gpu:0"), tf.container("c"), tf.colocate_with(tf.constant(1.0)):
        assert tf.Session(config=tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))).run(tf.constant(2)) == 2
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    assert config.gpu_options.allow_growth is True


def test_variable_scopes(graph: tf.Graph) -> None:
    with tf.variable_scope("a") as scope:
        w = tf.get_variable("w", [2, 3])
        assert w.name == "a/w:0" and tf.square(w).name == "a/Square:0"
        with tf.variable_scope("b"):
            assert tf.get_variable("w", [1]).name == "a/b/w:0"
            assert tf.get_variable_scope().name == "a/b"
    with tf.variable_scope("a", reuse=True):
        assert tf.get_variable("w") is w
        with tf.variable_scope("b"):
            assert tf.get_variable("w").name == "a/b/w:0"
    with tf.variable_scope(scope, reuse=True):
        assert tf.get_variable("w", [2, 3]) is w
    with tf.variable_scope("a", reuse=tf.AUTO_REUSE):
        assert tf.get_variable("w", [2, 3]) is w and tf.get_variable("new", [1]).name == "a/new:0"
    with tf.variable_scope("a"):
        tf.get_variable_scope().reuse_variables()
        assert tf.get_variable("w") is w
    with tf.variable_scope(None, default_name="d"):
        assert tf.get_variable("w", [1]).name == "d/w:0"
    with tf.variable_scope(None, default_name="d"):
        assert tf.get_variable("w", [1]).name == "d_1/w:0"


@pytest.mark.parametrize(
    "how, words",
    [
        (dict(name="w", shape=[2, 3]), "exists already.*test_graph.py.*AUTO_REUSE"),
        (dict(name="v", shape=None), "all its sizes"),
        (dict(name="v", shape=[None, 3]), "all its sizes"),
    ],
)
def test_variables_that_cannot_be_made(how: Any, words: str) -> None:
    tf.get_variable("w", [2, 3])
    with pytest.raises(ValueError, match=words):
        tf.get_variable(**how)


def test_variables_that_cannot_be_shared() -> None:
    tf.get_variable("w", [2, 3])
    with tf.variable_scope("", reuse=True):
        with pytest.raises(ValueError, match="no variable 'v'"):
            tf.get_variable("v", [2])
        with pytest.raises(ValueError, match="shape"):
            tf.get_variable("w", [3, 3])
        with pytest.raises(ValueError, match="type"):
            tf.get_variable("w", [2, 3], tf.float64)


def test_initializers_and_regularizers(graph: tf.Graph) -> None:
    with tf.variable_scope(
        "s", initializer=tf.constant_initializer(3.0), regularizer=tf.contrib.layers.l2_regularizer(0.5)
    ):
        a = tf.get_variable("a", [2])
        b = tf.get_variable("b", initializer=tf.ones([3]))
    c = tf.get_variable("c", [2], tf.int32)
    d = tf.get_variable(
        "d", [2, 2], initializer=lambda shape, dtype, partition_info=None: tf.fill(shape, tf.constant(7.0))
    )
    e = tf.get_variable("e", initializer=4.0)
    f = tf.get_variable("f", [2], initializer=tf.ones_initializer)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert [np.ravel(v).tolist() for v in sess.run([a, b, c, d, e, f])] == [
            [3, 3],
            [1, 1, 1],
            [0, 0],
            [7, 7, 7, 7],
            [4],
            [1, 1],
        ]
        assert sess.run(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == [4.5, 0.75]


def test_what_is_not_built_says_so() -> None:
    with pytest.raises(AttributeError, match=r"tf\.sparse_placeholder is of TensorFlow 1, and is not built"):
        tf.sparse_placeholder  # noqa: B018
    with pytest.raises(AttributeError, match=r"tf\.nn\.nce_loss.*not built"):
        tf.nn.nce_loss  # noqa: B018
    with pytest.raises(AttributeError, match="tf has no 'squrae'"):
        tf.squrae  # noqa: B018


def test_the_tutorials_reader() -> None:
    from tinyflow.examples.tutorials.mnist import input_data

    assert tf.examples.tutorials.mnist.input_data.read_data_sets is input_data.read_data_sets


def test_dtypes() -> None:
    assert tf.as_dtype("float32") is tf.float32 and tf.as_dtype(np.int64) is tf.int64 and tf.as_dtype(bool) is tf.bool
    assert tf.float32.name == "float32" and tf.float32.as_numpy_dtype is np.float32 and tf.float32.is_floating
    with pytest.raises(TypeError, match="complex"):
        tf.as_dtype(complex)
