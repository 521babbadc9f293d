"""Programs on disk: found again by another process, and only where nothing that they depend on has changed."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import tinyflow
from tinyflow.runtime.functions import Functions

PROGRAM = """
import numpy as np
import tinyflow.torch as torch
torch.manual_seed(0)
x = torch.randn({n}, 8)
w = torch.randn(8, 8).requires_grad_()
loss = (torch.softmax(x @ w, -1)[torch.tensor([0, {index}])] ** 2).sum()
loss.backward()
print(loss.item(), w.grad.sum().item())
"""


SIZES = """
import numpy as np
import tinyflow as tf
import tinyflow.torch as torch
x = tf.placeholder(tf.float32, [None, 3, None])
y = tf.reshape(tf.nn.softmax(x), [tf.shape(x)[0] * 3, -1])
with tf.Session() as s:
    for shape in ((4, 3, 5), ({n}, 3, 7), (0, 3, 2)):
        print(s.run(tf.matmul(y, y, transpose_b=True), {{x: np.ones(shape, "f4")}}).sum(), s.run(y, {{x: np.ones(shape, "f4")}}).shape)
t = torch.arange(12.0).reshape(6, 2)
for limit in (3.0, {index}, 99.0):
    picked = t[t[:, 0] > limit]
    print(picked.shape, (picked @ t.t()).sum().item())
"""


def run(folder, n=5, index=1, program=PROGRAM, **more):
    """(what it printed, what it told of caches)"""
    code = program.format(n=n, index=index)
    (folder / "script.py").write_text(code)
    home = str(Path(tinyflow.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": home, "TINYFLOW_CACHE": str(folder / "cache"), "TINYFLOW_DEBUG": "1", **more}
    done = subprocess.run([sys.executable, folder / "script.py"], env=env, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def kept(folder):
    return sorted((folder / "cache" / "programs").glob("*"))


def test_a_program_from_disk_does_without_the_compiler(tmp_path):
    program = PROGRAM + 'import sys\nprint("tinyflow.compiler.pipeline" in sys.modules)\n'
    assert [run(tmp_path, program=program)[0].split()[-1] for _ in range(2)] == ["True", "False"]


def test_a_second_process_compiles_nothing(tmp_path):
    first, told = run(tmp_path)
    assert "found on disk" not in told and len(kept(tmp_path)) > 1
    second, told = run(tmp_path)
    assert second == first and "found on disk" in told and ", 0 compiled" in told and "modules: 0 from" not in told


def test_sizes_known_only_when_running(tmp_path):
    first, told = run(tmp_path, program=SIZES)
    assert first and "found on disk" not in told
    second, told = run(tmp_path, program=SIZES)
    assert second == first and "found on disk" in told and ", 0 compiled" in told and "modules: 0 from" not in told
    other, told = run(tmp_path, n=9, index=5, program=SIZES)  # the same programs serve them
    assert other != first and ", 0 compiled" in told
    assert other == run(tmp_path, n=9, index=5, program=SIZES, TINYFLOW_CACHE="0")[0]


def test_another_size_line_or_option_is_another_program(tmp_path):
    run(tmp_path)
    before = len(kept(tmp_path))
    for change in ({"n": 6}, {"index": 0, "TINYFLOW_CHECKPOINT": "0"}):
        _, told = run(tmp_path, **change)
        assert len(kept(tmp_path)) > before, told
        before = len(kept(tmp_path))


def test_errors_are_told_on_the_users_line(tmp_path):
    run(tmp_path)
    out, told = run(tmp_path, index=9)
    assert not out and "found on disk" in told
    assert "index 9 is out of range for 5 entries" in told and "script.py:7" in told.replace('", line ', ":")


@pytest.mark.parametrize("harm", ["cut", "changed", "empty"])
def test_damage_is_compiled_over(tmp_path, harm):
    first, _ = run(tmp_path)
    for path in kept(tmp_path):
        body = path.read_bytes()
        path.write_bytes({"cut": body[:-7], "changed": body[:-3] + b"abc", "empty": b""}[harm])
    second, told = run(tmp_path)
    assert second == first and "found on disk" not in told
    assert "found on disk" in run(tmp_path)[1]


def test_nothing_is_kept_where_that_is_asked(tmp_path):
    first, _ = run(tmp_path)
    again, told = run(tmp_path, TINYFLOW_CACHE="0")
    assert again == first and "found on disk" not in told


def test_addresses_stay_in_their_process():
    functions = Functions(["text"], ["name"])
    assert pickle.loads(pickle.dumps(functions)).texts == ["text"]
    functions.texts.clear()  # as they are once there is machine code
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(functions)
