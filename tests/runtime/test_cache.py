"""Compiled code on disk: damaged, unwritable, shared. Whatever happens to it, the code that runs is right."""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.kernels import finish, start
from tinyflow.core.config import config
from tinyflow.runtime import machine, objects
from tinyflow.runtime.machine import compile_ir

TEXT = "define i64 @answer() {\n  ret i64 42\n}\n"


def answer() -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(compile_ir(TEXT, "answer").address("answer"))())


def forget() -> None:
    machine.MEMORY.clear()


def only(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the modules that LLVM compiled."""
    names: list[str] = []
    build = machine.build

    def counted(source: machine.Source, target: machine.Target) -> objects.Object:
        names.append(source.name)
        return build(source, target)

    monkeypatch.setattr(machine, "build", counted)
    return names


def test_the_second_time_compiles_nothing(cache: Path, builds: list[str]) -> None:
    assert answer() == 42
    forget()
    assert answer() == 42
    assert builds == ["answer"]


def test_other_text_and_other_target_are_other_entries(cache: Path, builds: list[str]) -> None:
    answer()
    compile_ir(TEXT + ";", "answer")
    with config(TARGET={"x86_64": "sse2"}.get(machine.host_arch(), "")):
        answer()
    assert len(builds) == len(list(cache.iterdir())) == (3 if machine.host_arch() == "x86_64" else 2)


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda entry: entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :]


# fmt: off
DAMAGE = {
    "empty":              lambda entry: b"",
    "a header alone":     lambda entry: entry[:20],
    "half":               lambda entry: entry[: len(entry) // 2],
    "one byte short":     lambda entry: entry[:-1],
    "one byte long":      lambda entry: entry + b"\0",
    "flip in the magic":  flip(3),
    "flip in the digest": flip(len(objects.MAGIC) + 5),
    "flip in the names":  flip(len(objects.MAGIC) + objects.DIGEST),
    "flip in the code":   lambda entry: flip(len(entry) // 2)(entry),
    "flip at the end":    lambda entry: flip(len(entry) - 1)(entry),
    "garbage":            lambda entry: os.urandom(len(entry)),
    "zeros":              lambda entry: bytes(len(entry)),
    "another's entry":    lambda entry: objects.pack("another key", objects.Object(("answer",), b"code")),
}
# fmt: on


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(
    cache: Path, builds: list[str], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer()
    entry = only(cache)
    sound = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](sound))
    forget()
    with config(DEBUG=1):
        assert answer() == 42
    assert len(builds) == 2
    assert "is damaged" in capsys.readouterr().err
    assert objects.unpack(entry.name, entry.read_bytes()) == objects.unpack(entry.name, sound)
    forget()
    assert answer() == 42
    assert len(builds) == 2


def test_an_entry_that_is_a_folder_is_passed_over(cache: Path) -> None:
    answer()
    entry = only(cache)
    entry.unlink()
    entry.mkdir()
    forget()
    assert answer() == 42
    assert only(cache).is_dir()


@pytest.mark.parametrize("folder", ["0", "", "/proc/nothing/here", "/dev/null", "/dev/null/below"])
def test_no_place_to_keep_it(cache: Path, folder: str, builds: list[str]) -> None:
    for _ in range(2):
        forget()
        with config(CACHE=folder):
            assert answer() == 42
    assert len(builds) == 2
    assert not cache.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    assert answer() == 42
    cache.chmod(0o700)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("function", ["mkstemp", "fdopen", "replace"])
def test_a_full_disk(cache: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(objects.tempfile if function == "mkstemp" else objects.os, function, full)
    assert answer() == 42
    assert not list(cache.iterdir())


def test_processes_write_the_same_entries(tmp_path: Path) -> None:
    program = """
texts = [f"define i64 @f() {{ ret i64 {i} }}" for i in range(30)]
import ctypes
libraries = machine.compile_many([(text, "f") for text in texts])
print(sum(ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("f"))() for library in libraries))
"""
    processes = [start(program, tmp_path) for _ in range(4)]
    for process in processes:
        assert finish(process) == (0, f"{sum(range(30))}\n", "")
    names = sorted(path.name for path in (tmp_path / "kernels").iterdir())
    assert len(names) == 30
    assert all(objects.unpack(name, (tmp_path / "kernels" / name).read_bytes()) for name in names)


def test_without_a_home(tmp_path: Path) -> None:
    assert finish(start("check(2)", tmp_path, HOME="")) == (0, "", "")
