"""What happens to the threads when the process forks, is interrupted, or ends."""

import os
import signal
from pathlib import Path

import pytest

from tests.runtime.kernels import finish, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")

FORK = """
import os, sys
check(2)
child = os.fork()
check(3)
if child == 0:
    grandchild = os.fork()
    check(2)
    if grandchild:
        assert os.waitpid(grandchild, 0)[1] == 0
    sys.exit(0)
status = os.waitpid(child, 0)[1]
check(2)
sys.exit(7 if status == 0 else 1)
"""

FORK_AMID_RUNS = """
import os, sys, threading
stop = threading.Event()
def work():
    while not stop.is_set():
        check(2)
def compiling():
    i = 0
    while not stop.is_set():
        i += 1
        machine.compile_ir(f"define i64 @f() {{ ret i64 {i} }}", "f")
threads = [threading.Thread(target=work), threading.Thread(target=compiling)]
for thread in threads:
    thread.start()
for i in range(20):
    child = os.fork()
    if child == 0:
        machine.compile_ir(f"define i64 @g() {{ ret i64 {i} }}", "g")
        check(2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
sys.exit(7)
"""

PARKED = """
import sys
check(4)
sys.exit(7)
"""

PARKED_LONG_AGO = """
import sys, time
check(4)
time.sleep(0.2)
check(4)
time.sleep(0.2)
sys.exit(7)
"""

IN_A_RUN = """
import sys, threading, time
world = World()
world.dims[0] = {count}
def work():
    while True:
        world.run([world.step("add", 1), world.step("count", barrier=True), world.step("total", barrier=True)], {nthreads})
threading.Thread(target=work, daemon=True).start()
while not world.cells[0]:
    time.sleep(0.001)
sys.exit(7)
"""

RUN_AT_EXIT = """
import atexit, sys
world = World()
def last():
    world.run([world.step("add", 1), world.step("total", barrier=True)], 2)  # by one thread, if need be
    assert world.cells[0] == 1 and world.totals[0] == world.cells.sum()
atexit.register(last)
check(3)
sys.exit(7)
"""

WITH_AN_ERROR = """
check(2)
raise SystemExit(7)
"""

INTERRUPTED = """
import sys, threading
check(2)
world = World()
world.dims[0] = 100_000_000
steps = [world.step("add", 1), world.step("count", barrier=True), world.step("total", barrier=True)]
interrupted = 0
try:
    print("ready", flush=True)
    while True:
        world.run(steps, 2)
except KeyboardInterrupt:
    interrupted = 1
assert world.cells[0] == world.cells[1] and world.totals[0] == world.totals[1]
check(2)
check(3)
sys.exit(7 if interrupted else 1)
"""

INTERRUPTED_ANYWHERE = """
import signal, sys
from tinyflow.core.config import config
armed, interrupts = False, 0

def interrupt(*_):
    global armed, interrupts
    if armed:
        armed, interrupts = False, interrupts + 1
        raise KeyboardInterrupt

check(2)
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
try:
    for i in range(400):
        try:
            armed = True
            config.THREADS = 2 + i // 3 % 3
            check(2 + i % 4, 3)
            armed = False
        except KeyboardInterrupt:
            armed = False
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
for n in range(2, 6):
    check(n)
sys.exit(7 if interrupts else 1)
"""

PROGRAMS = {
    "fork": FORK,
    "fork amid runs": FORK_AMID_RUNS,
    "parked": PARKED,
    "parked long ago": PARKED_LONG_AGO,
    "in short runs": IN_A_RUN.format(count=10_000, nthreads=2),
    "in longer runs": IN_A_RUN.format(count=100_000_000, nthreads=2),
    "in an endless run": IN_A_RUN.format(count=2**62, nthreads=2),
    "in an endless run of one thread": IN_A_RUN.format(count=2**62, nthreads=1),
    "a run at exit": RUN_AT_EXIT,
    "an error": WITH_AN_ERROR,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_process_ends_with_its_own_status(name: str, tmp_path: Path) -> None:
    assert finish(start(PROGRAMS[name], tmp_path)) == (7, "", "")


def test_an_interrupt_leaves_the_pool_usable(tmp_path: Path) -> None:
    process = start(INTERRUPTED, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert finish(process) == (7, "", "")


def test_interrupts_anywhere(tmp_path: Path) -> None:
    status, _, errors = finish(start(INTERRUPTED_ANYWHERE, tmp_path))
    assert status == 7, errors  # Python itself reports an interrupt that falls into a weak reference's callback


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    assert finish(start("check(2)", tmp_path))[0] == 0
    status, _, log = finish(start("check(2)", tmp_path, TINYFLOW_DEBUG="1"))
    assert status == 0
    assert log.count("0 compiled") == log.count("modules:") == 2
