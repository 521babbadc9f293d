"""What is made of weights alone is kept between runs, and never of old weights: whoever changes them, in whatever way."""

import ctypes
import gc
import threading

import numpy as np
import pytest

import tinyflow as tf
import tinyflow.torch as torch
from tinyflow.core.config import config
from tinyflow.core.errors import CompileError, OutOfMemory
from tinyflow.runtime import steady

RUNS = 12  # enough for a new watch to have looked twice
MANY = 2000  # for one that has been in vain before, too
M, K, N = 40, 160, 120  # weights large enough to lie in memory that is used again

F = torch.nn.functional


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept():
    for memory in steady.KEPT:
        memory.clear()


def kept():
    return [memory for memory in steady.KEPT if memory]


class Net(torch.nn.Module):
    """A product, a convolution and a normalisation, all of weights."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(K, N)
        self.conv = torch.nn.Conv1d(4, 16, 3, padding=1)
        self.bn = torch.nn.BatchNorm1d(16)

    def forward(self, x):  # (M, K)
        y = torch.relu(self.bn(self.conv(x.view(M // 4, 4, K))))
        return self.fc(x) + y.mean()


def plain(net):
    def step(k):
        with torch.no_grad():
            return net(torch.from_numpy(numbers(k, M, K))).numpy()

    return step


def compiled(net):
    ask = torch.compile(lambda x: net(x))

    def step(k):
        with torch.no_grad():
            return ask(torch.from_numpy(numbers(k, M, K))).numpy()

    return step


def expected(net, k):
    """By other tensors with the same values."""
    other = Net().eval()
    with config(REFERENCE=1), torch.no_grad():
        for theirs, ours in zip((*other.parameters(), *other.buffers()), (*net.parameters(), *net.buffers())):
            theirs.copy_(ours)
        return other(torch.from_numpy(numbers(k, M, K))).numpy()


def warmed(net, way):
    """A step that runs on what is kept."""
    net.eval()
    step, before = way(net), kept()
    for k in range(MANY):
        step(k % RUNS)
        if any(all(m is not b for b in before) for m in kept()):
            return step
    raise AssertionError("nothing is kept: the test would show nothing")


def agrees(net, step, k):
    np.testing.assert_allclose(step(k), expected(net, k), 1e-4, 1e-5)


NEW = numbers(99, N, K)


def copy_in_place(net):
    with torch.no_grad():
        net.fc.weight.copy_(torch.from_numpy(NEW))


def write_a_row(net):
    net.fc.weight.data[3] = 7.0


def write_by_view(net):
    with torch.no_grad():
        net.fc.weight[:, 5].fill_(2.0)


def replace_data(net):
    net.fc.weight.data = torch.from_numpy(NEW)


def replace_parameter(net):
    net.fc.weight = torch.nn.Parameter(torch.from_numpy(NEW))


def load_state(net):
    net.load_state_dict(Net().state_dict())


def write_by_numpy(net):
    net.fc.weight.detach().numpy()[...] = NEW


def write_by_data_numpy(net):
    np.asarray(net.fc.weight.data)[2] = 4.0


def write_by_address(net):
    address = net.fc.weight.data_ptr()
    ctypes.memmove(address, NEW.ctypes.data, NEW.nbytes)


def multiply(net):
    with torch.no_grad():
        net.conv.weight.mul_(3)


def draw(net):
    torch.nn.init.normal_(net.conv.weight)


def write_statistics(net):
    net.bn.running_var.fill_(9.0)


def train_statistics(net):
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(numbers(5, M, K)))
    net.eval()


def take_a_step(net):
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for k in range(3):
        optimizer.zero_grad()
        (net(torch.from_numpy(numbers(k, M, K))) ** 2).sum().backward()
        optimizer.step()


def take_a_compiled_step(net):
    optimizer = torch.optim.SGD(net.parameters(), 0.001, momentum=0.9)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = (net(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    for k in range(3):
        step(torch.from_numpy(numbers(k, M, K)))


CHANGES = [
    copy_in_place, write_a_row, write_by_view, replace_data, replace_parameter, load_state, write_by_numpy, write_by_data_numpy,
    write_by_address, multiply, draw, write_statistics, train_statistics, take_a_step, take_a_compiled_step,
]  # fmt: skip


@pytest.mark.parametrize("way", [plain, compiled])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(way, change):
    net = Net()
    step = warmed(net, way)
    agrees(net, step, 100)
    before = step(101)
    change(net)
    agrees(net, step, 101)
    assert not np.allclose(step(101), before), "nothing has changed: the test shows nothing"
    for k in range(3 * RUNS):  # until it is kept again
        step(k)
    agrees(net, step, 102)
    change(net)
    agrees(net, step, 103)


@pytest.mark.parametrize("way", [plain, compiled])
def test_a_view_that_was_there_before(way):
    """Memory that somebody sees is never relied on."""
    net = Net()
    view = net.fc.weight.detach().numpy()
    step = warmed(net, way)  # of the convolution's weights
    for k in range(3):
        view[k] = k
        agrees(net, step, k)


def test_memory_of_an_array():
    weight = numbers(0, N, K)
    w = torch.from_numpy(weight)
    with torch.no_grad():
        for k in range(RUNS):
            x = numbers(k, M, K)
            np.testing.assert_allclose(F.linear(torch.from_numpy(x), w).numpy(), x @ weight.T, 1e-4, 1e-4)
            weight += 1
    assert not kept()


@pytest.mark.parametrize("way", [plain, compiled])
def test_the_bits_are_the_same(way):
    net = Net().eval()
    fresh = [plain(net)(k) for k in range(2)]
    step = warmed(net, way)
    for k in range(2):
        np.testing.assert_array_equal(step(k), fresh[k])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads):
    net = Net()
    with config(THREADS=2):
        want = warmed(net, plain)(7)
    with config(THREADS=threads):
        np.testing.assert_array_equal(plain(net)(7), want)


def test_two_models_of_one_structure():
    nets = [Net().eval() for _ in range(2)]
    steps = [warmed(net, plain) for net in nets]
    for k in range(RUNS):
        for net, step in zip(nets, steps):
            agrees(net, step, k)


def test_a_step_writes_what_is_not_kept():
    """Weights stay, a state changes at every run."""
    torch.manual_seed(0)
    w, state = torch.nn.Parameter(torch.randn(K, K) / 20), torch.zeros(M, K)
    with torch.no_grad():
        want = np.zeros((M, K), np.float32)
        for k in range(RUNS):
            x = numbers(k, M, K)
            state.copy_(torch.tanh(state @ w + torch.from_numpy(x)))
            want = np.tanh(want @ w.detach().tolist() + x).astype(np.float32)
            np.testing.assert_allclose(state.tolist(), want, 1e-4, 1e-4)
    assert kept()


def test_training_keeps_nothing():
    """Forward and update are programs of their own, and the weights change in between."""
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.001)
    for k in range(3 * RUNS):
        optimizer.zero_grad()
        loss = (net(torch.from_numpy(numbers(k, M, K))) ** 2).sum()
        loss.item()
        loss.backward()
        optimizer.step()
        assert not kept()


def test_memory_goes_with_the_weights():
    net = Net()
    step = warmed(net, plain)
    copy_in_place(net)
    flush = torch.zeros(3) + 1
    assert flush.sum().item() == 3
    assert not kept()
    net = Net()
    step = warmed(net, plain)
    del net, step
    gc.collect()
    assert flush.sum().item() == 3
    assert not kept()


def test_no_more_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(steady, "MOST", 1)
    nets = [Net() for _ in range(3)]
    steps = [warmed(net, plain) for net in nets]
    assert len(kept()) == 1
    for k in range(RUNS):
        for net, step in zip(nets, steps):
            agrees(net, step, k)


@pytest.mark.parametrize("error", [CompileError, OutOfMemory])
def test_a_program_that_cannot_be_split_runs_whole(monkeypatch, error):
    def fail(*_):
        raise error("no")

    monkeypatch.setattr(steady, "keep", fail)
    net = Net().eval()
    step = plain(net)
    for k in range(RUNS):
        agrees(net, step, k)


def test_a_run_that_is_writing():
    """While another thread may be writing to variables, nothing is kept."""
    net = Net().eval()
    step = plain(net)
    steady.WRITERS.append(None)
    try:
        for k in range(RUNS):
            agrees(net, step, k)
        assert not kept()
    finally:
        steady.WRITERS.pop()
    warmed(net, plain)


# ------------------------------------------------------------------------------------------ sessions


@pytest.fixture
def session():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, K])
        w = tf.get_variable("w", [K, N])
        y = tf.matmul(x, w)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            yield sess, x, w, y


def ask(sess, x, y, k, rows=M):
    return sess.run(y, {x: numbers(k, rows, K)})


def assign(sess, w):
    sess.run(w.assign(NEW.T))


def assign_add(sess, w):
    sess.run(tf.assign_add(w, tf.ones([K, N])))


def load(sess, w):
    w.load(NEW.T, sess)


def descend(sess, w):
    sess.run(tf.train.GradientDescentOptimizer(0.5).minimize(tf.reduce_sum(w * w)))


def start_anew(sess, w):
    sess.run(w.assign(w.read_value() * 2))


@pytest.mark.parametrize("change", [assign, assign_add, load, descend, start_anew])
def test_a_session_sees_a_change(session, change):
    sess, x, w, y = session
    for k in range(RUNS):
        ask(sess, x, y, k, rows=M + k)  # one program for all lengths
    assert kept()
    for again in range(2):
        before = sess.run(w)
        change(sess, w)
        value = sess.run(w)
        if not again:
            assert not np.array_equal(value, before)
        for k in range(3 * RUNS):
            rows = 30 + k
            np.testing.assert_allclose(ask(sess, x, y, k, rows), numbers(k, rows, K) @ value, 1e-4, 1e-4)
        assert kept()


def test_what_a_session_gives_is_the_users(session):
    sess, x, w, y = session
    for k in range(RUNS):
        ask(sess, x, y, k)
    value = sess.run(w)
    value[...] = 0
    assert np.any(sess.run(w)) and np.any(ask(sess, x, y, 0))


def test_two_sessions(session):
    sess, x, w, y = session
    with tf.Session() as other:
        other.run(w.assign(NEW.T))
        for k in range(3 * RUNS):
            for s in (sess, other):
                np.testing.assert_allclose(ask(s, x, y, k), numbers(k, M, K) @ s.run(w), 1e-4, 1e-4)


def test_python_threads(session):
    sess, x, _, y = session
    want = [ask(sess, x, y, k % 4) for k in range(RUNS)]
    assert kept()
    wrong = []

    def asking():
        for _ in range(20):
            wrong.extend(k for k in range(4) if not np.array_equal(ask(sess, x, y, k), want[k]))

    threads = [threading.Thread(target=asking) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_fed_arrays_stay_the_users():
    a, b = numbers(0, M, K), numbers(1, K, N)
    with tf.Graph().as_default(), tf.Session() as sess:
        x, w = tf.placeholder(tf.float32, [M, K]), tf.placeholder(tf.float32, [K, N])
        y = tf.matmul(x, w)
        for _ in range(RUNS):
            np.testing.assert_allclose(sess.run(y, {x: a, w: b}), a @ b, 1e-4, 1e-4)
            b += 1  # neither sealed nor kept
