"""The native side of running a program, as LLVM IR: threads, barriers and the interpreter of step tables.

    Control := lock go arrived epoch done          five events, each in cache lines of its own
               table slots dims first last         the run in progress
               closing stop
    event   := value sleepers haste                whoever changes the value wakes the sleepers
    table   := row*
    row     := function args flags nguards guards
    guards  := (slot value)*                       the step is skipped unless each byte slots[slot][0] is its value
    flags   := BARRIER | SERIAL | ENTER | AGAIN | LEAVE | owner << OWNER       a serial step is done by its owner alone

Steps can be done over and over. ENTER, AGAIN and LEAVE have no function, but args := counter count target width:

    ENTER   counter := 0; on to the target if count is 0, or a guard forbids it
    LEAVE   on to the target if a guard forbids to go on
    AGAIN   counter := counter + 1; back to the target while it is below count

Each thread counts for itself: from the first ENTER on its table of dims begins at dims + tid * width.

A function is `void kernel(ptr slots, ptr dims, ptr args, i64 tid, i64 nthreads)`. Every thread walks the whole table.
Thread 0 is whoever called `run`; the others are parked in `work` until `go` changes, whose upper 16 bits say how many
threads take part. All waiting is alike: look some thousand times, then yield the processor, then sleep.
"""

from __future__ import annotations

from string import Template
from typing import NamedTuple

BARRIER, SERIAL, ENTER, AGAIN, LEAVE = (1 << i for i in range(5))
OWNER = 8
JUMPING, LOOPING = ENTER | LEAVE, ENTER | LEAVE | AGAIN
EVENT = 128  # bytes: two cache lines, as processors fetch them in pairs
LOCK, GO, ARRIVED, EPOCH, DONE = (EVENT * i for i in range(5))
TABLE, SLOTS, DIMS, FIRST, LAST, CLOSING, STOP = (EVENT * 5 + 8 * i for i in range(7))
CONTROL_BYTES = EVENT * 6

LOOKS = 1000  # 20 to 50 microseconds; halved `haste` times
MOST_HASTE = 6
AWAKE = 300_000  # nanoseconds of yielding before sleep: waking up takes 100 microseconds
# How long a yield lasts tells who else wanted the core, in nanoseconds: up to ALONE nobody; up to OURS a thread of
# this crew, which we kept from working by looking; longer, another process, and a sleeper gets the core back sooner.
ALONE, OURS = 1_500, 100_000

FUTEX_WAIT, FUTEX_WAKE, EVERYONE = 128, 129, 2**31 - 1


class Waiting(NamedTuple):
    """How a processor waits a moment, and the number of Linux's call to sleep on a word of memory."""

    pause: str
    declared: str
    futex: int


WAITING = {
    "x86_64": Waiting("void @llvm.x86.sse2.pause()", "void @llvm.x86.sse2.pause()", 202),
    "aarch64": Waiting("void @llvm.aarch64.hint(i32 1)", "void @llvm.aarch64.hint(i32)", 98),
}

CLOCK = """
declare i32 @clock_gettime(i32, ptr)

; Nanoseconds since some moment in the past.
define internal i64 @now() nounwind {
  %time = alloca { i64, i64 }
  %asked = call i32 @clock_gettime(i32 $CLOCK_NUMBER, ptr %time)
  %part.at = getelementptr { i64, i64 }, ptr %time, i64 0, i32 1
  %seconds = load i64, ptr %time
  %part = load i64, ptr %part.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %part
  ret i64 %sum
}
"""

AWAIT = """
declare $PAUSE_DECLARED
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
declare i32 @usleep(i32)

; Return when the event's value is no longer %old.
define internal void @await(ptr %event, i64 %old) noinline nounwind {
entry:
  %sleepers = getelementptr i8, ptr %event, i64 8
  %haste.at = getelementptr i8, ptr %event, i64 64
  %haste = load atomic i64, ptr %haste.at monotonic, align 8
  %most = lshr i64 $LOOKS, %haste
  br label %look
look:
  %looks = phi i64 [ 0, %entry ], [ %looks.next, %pause ]
  %seen = load atomic i64, ptr %event acquire, align 8
  %same = icmp eq i64 %seen, %old
  br i1 %same, label %pause, label %out
pause:
  call $PAUSE
  %looks.next = add i64 %looks, 1
  %again = icmp ult i64 %looks.next, %most
  br i1 %again, label %look, label %looked
looked:
  %start = call i64 @now()
  br label %yield
yield:
  %before = phi i64 [ %start, %looked ], [ %after, %yielded ]
  %yielding = call i32 @sched_yield()
  %seen.yield = load atomic i64, ptr %event acquire, align 8
  %same.yield = icmp eq i64 %seen.yield, %old
  %after = call i64 @now()
  %took = sub i64 %after, %before
  br i1 %same.yield, label %yielded, label %learn
yielded:
  %total = sub i64 %after, %start
  %ours = icmp slt i64 %took, $OURS
  %early = icmp slt i64 %total, $AWAKE
  %yield.again = and i1 %ours, %early
  br i1 %yield.again, label %yield, label %sleep
learn:
  %shared = icmp sgt i64 %took, $ALONE
  %change = select i1 %shared, i64 1, i64 -1
  %wanted = add i64 %haste, %change
  %foreign = icmp sgt i64 %took, $OURS
  %wrong = icmp ugt i64 %wanted, $MOST_HASTE
  %keep = or i1 %foreign, %wrong
  br i1 %keep, label %out, label %learned
learned:
  store atomic i64 %wanted, ptr %haste.at monotonic, align 8
  br label %out
sleep:
  %more = atomicrmw add ptr %sleepers, i64 1 seq_cst
  %low = trunc i64 %old to i32
  $SLEEP
  %fewer = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  %seen.sleep = load atomic i64, ptr %event acquire, align 8
  %same.sleep = icmp eq i64 %seen.sleep, %old
  br i1 %same.sleep, label %sleep, label %out
out:
  ret void
}

; To be called after a sequentially consistent change of the value: a sleeper counts itself first, and the
; kernel looks at the value once more, so that either we see the sleeper or it sees the change.
define internal void @wake(ptr %event) nounwind {
entry:
  %sleepers = getelementptr i8, ptr %event, i64 8
  %asleep = load atomic i64, ptr %sleepers seq_cst, align 8
  %none = icmp eq i64 %asleep, 0
  br i1 %none, label %out, label %rouse
rouse:
  $WAKE
  br label %out
out:
  ret void
}
"""

BARRIERS = """
define internal void @acquire(ptr %control) nounwind {
entry:
  %lock = getelementptr i8, ptr %control, i64 $LOCK
  br label %try
try:
  %pair = cmpxchg ptr %lock, i64 0, i64 1 seq_cst seq_cst
  %ours = extractvalue { i64, i1 } %pair, 1
  br i1 %ours, label %out, label %taken
taken:
  call void @await(ptr %lock, i64 1)
  br label %try
out:
  ret void
}

define internal void @release(ptr %control) nounwind {
  %lock = getelementptr i8, ptr %control, i64 $LOCK
  %old = atomicrmw xchg ptr %lock, i64 0 seq_cst
  call void @wake(ptr %lock)
  ret void
}

define internal void @barrier(ptr %control, i64 %n) nounwind {
entry:
  %arrived = getelementptr i8, ptr %control, i64 $ARRIVED
  %epoch = getelementptr i8, ptr %control, i64 $EPOCH
  %now = load atomic i64, ptr %epoch acquire, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %last = icmp eq i64 %count, %n
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %old = atomicrmw add ptr %epoch, i64 1 seq_cst
  call void @wake(ptr %epoch)
  ret void
wait:
  call void @await(ptr %epoch, i64 %now)
  ret void
}
"""

STEPS = """
%Row = type { ptr, ptr, i64, i64, ptr }
%Guard = type { i64, i64 }

define internal i1 @allowed(ptr %slots, ptr %guards, i64 %count) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %check ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %check, label %yes
check:
  %slot.at = getelementptr %Guard, ptr %guards, i64 %i, i32 0
  %value.at = getelementptr %Guard, ptr %guards, i64 %i, i32 1
  %slot = load i64, ptr %slot.at
  %value = load i64, ptr %value.at
  %buffer.at = getelementptr ptr, ptr %slots, i64 %slot
  %buffer = load ptr, ptr %buffer.at
  %byte = load i8, ptr %buffer
  %wide = zext i8 %byte to i64
  %i.next = add i64 %i, 1
  %equal = icmp eq i64 %wide, %value
  br i1 %equal, label %next, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define internal void @steps(ptr %control, ptr %table, ptr %slots, ptr %dims, i64 %first, i64 %last, i64 %tid, i64 %n) nounwind {
entry:
  %together = icmp ugt i64 %n, 1
  %leader = icmp eq i64 %tid, 0
  br label %next
next:
  %i = phi i64 [ %first, %entry ], [ %i.next, %advance ], [ %i.target, %jump ]
  %own = phi ptr [ %dims, %entry ], [ %own.next, %advance ], [ %own.kept, %jump ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %meet, label %out
meet:
  %function.at = getelementptr %Row, ptr %table, i64 %i, i32 0
  %args.at = getelementptr %Row, ptr %table, i64 %i, i32 1
  %flags.at = getelementptr %Row, ptr %table, i64 %i, i32 2
  %nguards.at = getelementptr %Row, ptr %table, i64 %i, i32 3
  %guards.at = getelementptr %Row, ptr %table, i64 %i, i32 4
  %flags = load i64, ptr %flags.at
  %meeting = trunc i64 %flags to i1
  %meet.now = and i1 %meeting, %together
  br i1 %meet.now, label %barrier, label %guard
barrier:
  call void @barrier(ptr %control, i64 %n)
  br label %guard
guard:
  %nguards = load i64, ptr %nguards.at
  %guards = load ptr, ptr %guards.at
  %allowed = call i1 @allowed(ptr %slots, ptr %guards, i64 %nguards)
  %args = load ptr, ptr %args.at
  br i1 %allowed, label %kind, label %barred
barred:
  %jumping.bits = and i64 %flags, $JUMPING
  %jumping = icmp ne i64 %jumping.bits, 0
  br i1 %jumping, label %jump, label %advance
kind:
  %looping.bits = and i64 %flags, $LOOPING
  %looping = icmp ne i64 %looping.bits, 0
  br i1 %looping, label %loop, label %divide
loop:
  %enter.bit = and i64 %flags, $ENTER
  %entering = icmp ne i64 %enter.bit, 0
  br i1 %entering, label %enter, label %stay
enter:
  %width.at = getelementptr i64, ptr %args, i64 3
  %width = load i64, ptr %width.at
  %row = mul i64 %tid, %width
  %own.row = getelementptr i64, ptr %dims, i64 %row
  br label %count
stay:
  %again.bit = and i64 %flags, $AGAIN
  %repeating = icmp ne i64 %again.bit, 0
  br i1 %repeating, label %count, label %advance
count:
  %own.counting = phi ptr [ %own.row, %enter ], [ %own, %stay ]
  %number = load i64, ptr %args
  %limit.at = getelementptr i64, ptr %args, i64 1
  %limit = load i64, ptr %limit.at
  %counter = getelementptr i64, ptr %own.counting, i64 %number
  %done = load i64, ptr %counter
  %more.done = add i64 %done, 1
  %new = select i1 %entering, i64 0, i64 %more.done
  store i64 %new, ptr %counter
  %below = icmp slt i64 %new, %limit
  %turn = xor i1 %below, %entering
  br i1 %turn, label %jump, label %advance
jump:
  %own.kept = phi ptr [ %own, %barred ], [ %own.counting, %count ]
  %target.at = getelementptr i64, ptr %args, i64 2
  %i.target = load i64, ptr %target.at
  br label %next
divide:
  %function = load ptr, ptr %function.at
  %serial.bit = and i64 %flags, $SERIAL
  %serial = icmp ne i64 %serial.bit, 0
  br i1 %serial, label %alone, label %shared
alone:
  %owner = lshr i64 %flags, $OWNER
  %owns = icmp eq i64 %tid, %owner
  br i1 %owns, label %lead, label %advance
lead:
  call void %function(ptr %slots, ptr %own, ptr %args, i64 0, i64 1)
  br label %advance
shared:
  call void %function(ptr %slots, ptr %own, ptr %args, i64 %tid, i64 %n)
  br label %advance
advance:
  %own.next = phi ptr [ %own, %barred ], [ %own, %stay ], [ %own.counting, %count ], [ %own, %alone ], [ %own, %lead ], [ %own, %shared ]
  %i.next = add i64 %i, 1
  br label %next
out:
  ret void
}
"""

WORK = """
; Thread %tid of a crew, from its making (`go` is 0) until it is let go.
define void @work(ptr %control, i64 %tid) nounwind {
entry:
$FIELDS
  br label %park
park:
  %last.go = phi i64 [ 0, %entry ], [ %now, %called ], [ %now, %part ]
  call void @await(ptr %go, i64 %last.go)
  %now = load atomic i64, ptr %go acquire, align 8
  %stop = load atomic i64, ptr %stop.at acquire, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %out, label %called
called:
  %n = lshr i64 %now, 48
  %wanted = icmp ult i64 %tid, %n
  br i1 %wanted, label %part, label %park
part:
  %table = load ptr, ptr %table.at
  %slots = load ptr, ptr %slots.at
  %dims = load ptr, ptr %dims.at
  %first = load i64, ptr %first.at
  %last = load i64, ptr %last.at
  call void @steps(ptr %control, ptr %table, ptr %slots, ptr %dims, i64 %first, i64 %last, i64 %tid, i64 %n)
  %count = atomicrmw add ptr %done, i64 1 seq_cst
  call void @wake(ptr %done)
  br label %park
out:
  ret void
}
"""

RUN = """
; 0: the program has run; 1: this crew is closing, ask another.
define internal i64 @run(ptr %control, ptr %table, ptr %slots, ptr %dims, i64 %first, i64 %last, i64 %n) nounwind {
entry:
  %single = icmp ult i64 %n, 2
  br i1 %single, label %alone, label %together
alone:
  call void @steps(ptr null, ptr %table, ptr %slots, ptr %dims, i64 %first, i64 %last, i64 0, i64 1)
  ret i64 0
together:
$FIELDS
  call void @acquire(ptr %control)
  %closing = load atomic i64, ptr %closing.at acquire, align 8
  %open = icmp eq i64 %closing, 0
  br i1 %open, label %call.up, label %refuse
refuse:
  call void @release(ptr %control)
  ret i64 1
call.up:
  store ptr %table, ptr %table.at
  store ptr %slots, ptr %slots.at
  store ptr %dims, ptr %dims.at
  store i64 %first, ptr %first.at
  store i64 %last, ptr %last.at
  store atomic i64 0, ptr %done monotonic, align 8
  call void @announce(ptr %go, i64 %n)
  call void @steps(ptr %control, ptr %table, ptr %slots, ptr %dims, i64 %first, i64 %last, i64 0, i64 %n)
  %others = sub i64 %n, 1
  br label %gather
gather:
  %count = load atomic i64, ptr %done acquire, align 8
  %all = icmp eq i64 %count, %others
  br i1 %all, label %finish, label %wait
wait:
  call void @await(ptr %done, i64 %count)
  br label %gather
finish:
  call void @release(ptr %control)
  ret i64 0
}

define internal void @announce(ptr %go, i64 %n) nounwind {
  %old = load atomic i64, ptr %go monotonic, align 8
  %count = add i64 %old, 1
  %low = and i64 %count, 281474976710655
  %high = shl i64 %n, 48
  %new = or i64 %low, %high
  %was = atomicrmw xchg ptr %go, i64 %new seq_cst
  call void @wake(ptr %go)
  ret void
}

; From now on no run begins. Whether one is still going on shows in the lock.
define void @refuse(ptr %control) nounwind {
  %closing.at = getelementptr i8, ptr %control, i64 $CLOSING
  %old = atomicrmw xchg ptr %closing.at, i64 1 seq_cst
  ret void
}

; Let the parked threads go.
define void @dismiss(ptr %control) nounwind {
  %stop.at = getelementptr i8, ptr %control, i64 $STOP
  %go = getelementptr i8, ptr %control, i64 $GO
  %old = atomicrmw xchg ptr %stop.at, i64 1 seq_cst
  call void @announce(ptr %go, i64 0)
  ret void
}
"""

# Calling through ctypes would convert seven numbers in 900 ns; this takes 100. The arguments are Python integers.
PYTHON = """
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyErr_Occurred()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

define ptr @python_run(ptr %self, ptr %arguments, i64 %count) nounwind {
$ARGUMENTS
  %error = call ptr @PyErr_Occurred()
  %wrong = icmp ne ptr %error, null
  br i1 %wrong, label %fail, label %go
go:
  %state = call ptr @PyEval_SaveThread()
  %result = call i64 @run(ptr %p0, ptr %p1, ptr %p2, ptr %p3, i64 %v4, i64 %v5, i64 %v6)
  call void @PyEval_RestoreThread(ptr %state)
  %object = call ptr @PyLong_FromLongLong(i64 %result)
  ret ptr %object
fail:
  ret ptr null
}
"""

ARGUMENT = """
  %at$i = getelementptr ptr, ptr %arguments, i64 $i
  %o$i = load ptr, ptr %at$i
  %v$i = call i64 @PyLong_AsLongLong(ptr %o$i)
  %p$i = inttoptr i64 %v$i to ptr"""

# fmt: off
FIELDS = {
    "go": GO, "done": DONE, "table.at": TABLE, "slots.at": SLOTS, "dims.at": DIMS, "first.at": FIRST,
    "last.at": LAST, "closing.at": CLOSING, "stop.at": STOP,
}
# fmt: on


def clock(system: str) -> str:
    """The number of the clock that only ever advances."""
    return "6" if system == "darwin" else "1"


def text(arch: str, system: str) -> str:
    """The module for a processor family and an operating system, both in Python's words."""
    waiting = WAITING[arch]
    sleep, wake = "%slept = call i32 @usleep(i32 50)", ""
    if system == "linux":
        futex = f"call i64 (i64, ...) @syscall(i64 {waiting.futex}, ptr %event, "
        sleep = f"%slept = {futex}i32 {FUTEX_WAIT}, i32 %low, ptr null)"
        wake = f"%woken = {futex}i32 {FUTEX_WAKE}, i32 {EVERYONE})"
    values = {
        "CLOCK_NUMBER": clock(system),
        "PAUSE": waiting.pause,
        "PAUSE_DECLARED": waiting.declared,
        "SLEEP": sleep,
        "WAKE": wake,
        "FIELDS": "\n".join(f"  %{name} = getelementptr i8, ptr %control, i64 {at}" for name, at in FIELDS.items()),
        "ARGUMENTS": "".join(Template(ARGUMENT).substitute(i=i) for i in range(7)),
    }
    constants = globals()  # the numbers above, by their names
    return Template("".join((CLOCK, AWAIT, BARRIERS, STEPS, WORK, RUN, PYTHON))).substitute(constants | values)
