"""The benchmark: that it compares rightly, and says what it finds. No time is asserted here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tinyflow.torch as torch
from bench import __main__ as command
from bench.arithmetic import Meter
from bench.bars import BARS, against_best, dense, judged, share_of_floor
from bench.race import Crew, close, compare, faster
from bench.report import checked, columns, failures, kernels, quantity, step
from bench.sides import (
    BY_NAME,
    IMPORTS,
    PROGRAMS,
    SIDES,
    Missing,
    Side,
    load,
    program_of,
    require,
    shapes_of,
    sides_of,
    step_of,
)
from bench.worker import number
from bench.workloads import CONVS, STEPS, TABLE, weights_of
from tinyflow import programs

ROOT = Path(__file__).parent.parent.parent
OURS = ["tinyflow session", "tinyflow"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


# ------------------------------------------------------------------------------------------ programs and sides


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*/*.py")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_program_imports_its_framework_on_one_line(path: Path) -> None:
    """Nothing but that line may tell one side from another."""
    line, _ = IMPORTS[path.parent.name]
    text = path.read_text(encoding="utf-8")
    assert text.splitlines().count(line) == 1
    assert "tinyflow" not in text


def test_every_workload_has_what_it_is_compared_by() -> None:
    for row in TABLE.values():
        assert any(side.ours for side in sides_of(row)), row.name
    for row in STEPS:
        assert {"torch", "jax"} <= {side.family for side in sides_of(row)}, row.name


def test_batches_are_the_same_for_everyone() -> None:
    for row in (*STEPS, TABLE["tiny"]):
        one, other = row.batches(2)[1], row.batches(2)[1]
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True)), row.name
        assert row.batches(2)[0][0].tobytes() != row.batches(2)[1][0].tobytes()


def test_weights_are_the_same_for_everyone() -> None:
    shapes = shapes_of(TABLE["lenet"])
    assert shapes["0.weight"] == (32, 1, 5, 5) and len(shapes) == 8
    one, other = weights_of(shapes), weights_of(shapes)
    assert all(one[name].tobytes() == other[name].tobytes() for name in shapes)
    scale = weights_of({"norm.weight": (3,), "norm.bias": (3,), "zeros": (2, 2)})
    assert [float(w.mean()) for w in scale.values()] == [1.0, 0.0, 0.0]


def test_a_side_that_is_not_installed_says_how_to() -> None:
    side = Side("ghost", "torch", "ghost", False, False, ("ghost.parts",), "pip install ghost")
    with pytest.raises(Missing, match="ghost is not installed: pip install ghost"):
        require(side)


def test_a_fault_inside_a_side_is_not_taken_for_its_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError):
        require(Side("faulty", "torch", "faulty", False, False, ("faulty",), "nothing"))


def test_a_program_without_its_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "odd.py").write_text("import torch as t\n")
    monkeypatch.setattr("bench.sides.PROGRAMS", tmp_path)
    with pytest.raises(ValueError, match="does not have the line 'import torch'"):
        load(BY_NAME["tinyflow"], "odd")
    assert program_of(BY_NAME["tinyflow"], "odd").exists() and [s.name for s in sides_of(TABLE["softmax"])] == []


def test_the_work_of_a_step_is_counted_from_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "kept_or_compiled", programs.kept_or_compiled)  # the meter puts its own there
    meter = Meter()
    row = TABLE["mm32"]
    product = step_of(BY_NAME["tinyflow session"], row)
    product()
    assert meter.work(product) == (2 * 32**3, 3 * 32 * 32 * 4)
    row = TABLE["softmax"]
    train = step_of(BY_NAME["tinyflow session"], row)
    batch = row.batches(1)[0]
    train(*batch)
    flops, touched = meter.work(lambda: train(*batch))
    products_alone = 2 * 2 * 100 * 784 * 10  # forward, and the gradient of the weights
    assert products_alone < flops < 1.02 * products_alone
    fed, weights, results = 100 * (784 + 10) * 4, 784 * 10 * 4, 2 * 4
    assert fed + weights < touched <= fed + 2 * weights + results


# ------------------------------------------------------------------------------------------ comparing


def row_of(**losses: float) -> dict[str, Any]:
    return {"text": "a row", "sides": {name.replace("_", " "): {"loss": loss} for name, loss in losses.items()}}


def test_the_work_of_loops_and_of_sizes_that_data_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "kept_or_compiled", programs.kept_or_compiled)
    meter = Meter()
    x, w, mask = torch.ones(20, 8), torch.ones(8, 5), torch.arange(20)
    for picked in (3, 11):
        work = meter.work(lambda picked=picked: (x[mask < picked] @ w).sum().item())  # type: ignore[misc]
        assert 2 * picked * 8 * 5 < work.flops < 2 * picked * 8 * 5 + 300
    rnn, steps = torch.nn.RNN(4, 6), 30
    products = 2 * steps * (4 * 6 + 6 * 6)
    work = meter.work(lambda: rnn(torch.ones(steps, 1, 4))[0].sum().item())
    assert products < work.flops < 1.5 * products


def test_a_loss_that_differs_is_a_failure() -> None:
    row = row_of(tinyflow=1.0, torch=1.00005, numpy=0.9998)
    compare(row)
    assert row["reference"] == "torch"
    assert {name for name, entry in row["sides"].items() if "note" in entry} == {"numpy"}
    assert failures({"rows": {"softmax": row}}) == ["softmax by numpy: loss after 3 steps 0.9998, and 1.00005 by torch"]
    assert "tinyflow, torch agree\n  numpy: loss" in checked({"softmax": row})


def test_a_loss_that_is_no_number_is_a_failure() -> None:
    row = row_of(tinyflow=float("nan"), torch=1.0)
    compare(row)
    assert "note" in row["sides"]["tinyflow"]


def test_only_our_own_faults_fail_the_run() -> None:
    row = row_of(tinyflow=1.0)
    row["sides"]["torch"] = {"note": "no C++ compiler", "failed": True}
    row["sides"]["jax"] = {"note": "jax is not installed: pip install jax", "missing": True}
    assert failures({"rows": {"softmax": row}}) == []
    row["sides"]["tinyflow session"] = {"note": "TypeError: no", "failed": True}
    assert failures({"rows": {"softmax": row}}) == ["softmax by tinyflow session: TypeError: no"]


def timed_row() -> dict[str, Any]:
    row = row_of(tinyflow_session=1.0, tinyflow=1.0, torch=1.0, numpy=1.0)
    blocks = {"tinyflow session": [1.0, 2.0, 1.0], "tinyflow": [3.0] * 3, "torch": [4.0, 6.0, 3.0], "numpy": [1.0, 2.0, 2.0]}  # fmt: skip
    for name, times in blocks.items():
        entry = row["sides"][name]
        entry.update(seconds=sorted(times)[1], blocks=times, range=[min(times), max(times)], first=1.0, warm=0.5)
        entry["peak"] = {"bytes": 10**8, "imported": 10**7, "steps": 10**6 * len(name)}
    row["floors"] = [{"flops": rate, "bytes": 1.0} for rate in (2e9, 0.5e9, 4e9)]  # what disturbs a floor lowers it
    row["work"] = {"flops": 10**9, "bytes": 0}
    faster(row)
    return row


def test_ratios_are_of_blocks_beside_each_other() -> None:
    row = timed_row()
    assert row["best"] == "tinyflow session"
    assert row["sides"]["torch"]["ratio"] == 3.0 and row["sides"]["numpy"]["ratio"] == 1.0
    text = step("softmax", row)
    assert "best" in text and "3.00x" in text and "25%" in text
    assert share_of_floor(row, "tinyflow session") == 0.25 and share_of_floor(row, "torch") == 0.0625


def test_bars_say_what_is_short_and_by_how_much() -> None:
    rows = {"softmax": timed_row(), "resnet18": timed_row(), "mm256": timed_row(), "mm128": row_of(torch=1.0)}
    rows["3x3"] = timed_row()
    results = {"rows": rows, "growth": {"6": [2.0], "24": [3.0, 2.0, 4.0]}}
    found = {b["bar"]: b for b in judged(results)}
    assert not found["softmax, against the quickest framework"]["met"]
    assert found["training steps, against the best peer of each: geometric mean"]["value"] == 1.0
    short = found["softmax, against numpy by hand"]
    assert not short["met"] and short["short"] == pytest.approx(1 / 2)
    assert found["matrix products from 64 up, against torch"]["value"] == 3.0
    assert found["convolutions of 64 channels and more, three passes, of the floor"]["value"] == 0.25
    assert found["first step of resnet18, kernels on disk"]["value"] == 0.5
    assert found["memory of resnet18's steps, in torch's"]["value"] == len("tinyflow session") / len("torch")
    assert found["compiling 6, 12, 24 equal layers, longest in shortest"]["value"] == 1.5
    assert "import tinyflow" not in found  # it was not measured
    assert len({bar.text for bar in BARS}) == len(BARS)


def test_a_step_that_we_failed_counts_as_nothing() -> None:
    row = timed_row()
    failed = row_of(tinyflow=1.0, torch=2.0)
    failed["sides"]["torch"].update(seconds=1.0)
    assert against_best({"rows": {"softmax": row, "mlp": failed}}) == [1.0, 0.0]
    assert against_best({"rows": {"softmax": {"sides": {"torch": {"seconds": 1.0}}}}}) == []  # we were not asked


def test_kernels_are_shown_one_a_line() -> None:
    row = timed_row()
    row["sides"]["jax"] = {"note": "jax is not installed: pip install jax", "missing": True}
    text = kernels("squares", {"mm256": row})
    assert "mm256" in text and "3.00x" in text and "25%" in text and text.endswith("pip install jax")


def test_convolutions_of_few_channels_or_groups_have_no_bar() -> None:
    found = {w.name for w in CONVS if dense(w)}
    assert {"3x3", "1x1-strided", "3x3x3"} <= found
    assert not found & {"3x3-forward", "3x3-of-3", "3x3-grouped", "3x3x3-of-16", "3x3-depthwise"}


def test_the_work_of_a_strided_convolution_has_no_zeros_in_it() -> None:
    row = TABLE["3x3-strided"]
    assert row.flops == 3 * 2 * 8 * 16 * 16 * 128 * 64 * 3 * 3


# fmt: off
QUANTITIES = [
    (3.81e-5, "s", "38.1 us"), (0.25, "s", "250 ms"), (2e-9, "s", "0.002 us"), (12.0, "s", "12 s"), (0.0, "s", "0 us"),
    (2.5e8, "B", "250 MB"), (12, "B", "12 B"), (3.105, "x", "3.10x"), (9.996e-4, "s", "1000 us"),
]
# fmt: on


@pytest.mark.parametrize("value, unit, text", QUANTITIES)
def test_quantities(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_columns_are_aligned() -> None:
    assert columns([["a", "1"], ["bbb", "22"], ["c"]]) == "  a     1\n  bbb  22\n  c"


# ------------------------------------------------------------------------------------------ the command


def test_workers_that_die_or_fail_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TINYFLOW_TARGET", "abacus")
    with Crew([BY_NAME["tinyflow session"]], 1) as crew:
        entry = crew.run(TABLE["softmax"], 0.0)["sides"]["tinyflow session"]
        assert entry["failed"] and "'abacus' is not a machine" in entry["note"]
        crew.workers["tinyflow session"].process.kill()
        crew.workers["tinyflow session"].process.wait()
        entry = crew.run(TABLE["softmax"], 0.0)["sides"]["tinyflow session"]
        assert entry["failed"] and "ended with status -9" in entry["note"]


def test_check_compares_and_times_nothing() -> None:
    done = bench("softmax", "--check", "--sides", *OURS, "numpy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "softmax: tinyflow session, tinyflow, numpy agree" in done.stdout
    assert " us" not in done.stdout


SMALLEST = ["vector-matrix", "turned-both", "1x1-forward", "4x4-patches", "3-line-depthwise", "gpt-token"]


@pytest.mark.parametrize("name", SMALLEST)
def test_kernels_and_inference_agree_with_torch(name: str) -> None:
    """The least row of each kind: both sides run the same file."""
    row = TABLE[name]
    batches = row.batches(3)
    ours, theirs = (step_of(BY_NAME[side], row) for side in ("tinyflow", "torch"))
    for batch in batches:
        assert close(number(ours(*batch)), number(theirs(*batch)))


def test_one_program_serves_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values stand in arrays of one size: what is compiled for one symbol serves those after it."""
    built = []
    compiled = programs.compiled
    monkeypatch.setattr(programs, "compiled", lambda *graph: built.append(1) or compiled(*graph))
    row = TABLE["gpt-token"]
    step = step_of(BY_NAME["tinyflow"], row._replace(settings={**row.settings, "layers": 1, "width": 36}))
    (batch,) = row.batches(1)
    for _ in range(3):
        step(*batch)
    before = len(built)
    for _ in range(5):
        step(*batch)
    assert 0 < before == len(built)


def test_onnxruntime_is_asked_and_not_trained() -> None:
    rows = {
        name: {side.name for side in sides_of(TABLE[name])} for name in ("resnet18", "resnet18-1", "gpt-token", "mm16")
    }
    assert {name for name, sides in rows.items() if "onnxruntime" in sides} == {"resnet18-1", "gpt-token"}
    assert "jax" in rows["resnet18"] and "jax" not in rows["resnet18-1"]  # which has no file that asks


def test_a_run_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "results.json"
    done = bench("softmax", "--seconds", "0.05", "--threads", "1", "--sides", *OURS, "numpy", "tensorflow 1", "--json", str(out))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GFLOP/s of FMA" in done.stdout and "softmax, against numpy by hand" in done.stdout
    results = json.loads(out.read_text())
    sides = results["rows"]["softmax"]["sides"]
    assert set(sides) == {*OURS, "numpy", "tensorflow 1"} and len(sides["numpy"]["blocks"]) == 8
    assert (
        results["threads"] == 1 and results["floors"]["flops"] > 0 and results["rows"]["softmax"]["work"]["flops"] > 0
    )


def test_what_is_asked_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (["alexnet"], ["--sides", "caffe"], ["--threads", "0"], ["--seconds", "-1"]):
        with pytest.raises(SystemExit) as stopped:
            command.main(asked)
        assert stopped.value.code == 2
    assert "'alexnet' is none of softmax" in capsys.readouterr().err


def test_the_installed_peers_are_found_by_their_names() -> None:
    """A row's `needs` begin with what is installed: that name stands in the message."""
    for side in SIDES:
        assert side.needs[0].split(".")[0] in (side.module.split(".")[0], side.name)
