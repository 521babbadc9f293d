"""`tinyflow profile SCRIPT`: run a script, and show where its time went: a page, and a trace that Perfetto opens.

page    := title, floors, program*, text*         programs by the time of all their runs; a text is machine code
program := runs, ns, kernel*, buffer*             one of its runs, the middle one in time of those kept
kernel  := name, label, line, loops, number of a text, ns, flops, bytes, share of the floor, (thread, start, end)*
buffer  := label, line, bytes, where it lies in the arena, and from which step to which
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

from tinyflow.core.config import config
from tinyflow.tools.draw import run as run_script
from tinyflow.tools.page import filled

Data = dict[str, Any]
MOST_PROGRAMS = 12
PARTS = {"style": ["page.css", "profile.css"], "script": ["profile.js"]}


def profile(script: Path, arguments: list[str], out: Path) -> int:
    """Write the page and the trace of what a script ran; 1 if it failed or ran nothing.

    script     the program, run as if by `python script arguments...`
    arguments  its sys.argv[1:]
    out        the HTML page; the trace lies beside it, with the suffix .trace.json
    """
    if not script.is_file():
        print(f"tinyflow profile: there is no file {script}", file=sys.stderr)
        return 2
    with config(PROFILE=1):
        failed = not run_script(script, arguments)
    from tinyflow.runtime.profile import RECORDS

    if not RECORDS:
        why = "the flag REFERENCE is set" if config.REFERENCE else "it computed nothing"
        print(f"tinyflow profile: {script} ran no program: {why}", file=sys.stderr)
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".trace.json")
    write(out, beside, script.name)
    print(f"{out}: {sum(r.count for r in RECORDS.values())} runs of {len(RECORDS)} programs{', up to where the script stopped' if failed else ''}")  # fmt: skip
    print(f"{beside}: the same for https://ui.perfetto.dev")
    return int(failed)


def write(page: Path, beside: Path, title: str) -> None:
    """The page and the trace of all that ran under the flag PROFILE in this process."""
    page.write_text(filled("profile.html", PARTS, title, view(title)), encoding="utf-8")
    beside.write_text(json.dumps(trace()), encoding="utf-8")


def view(title: str) -> Data:
    from tinyflow.runtime import floors
    from tinyflow.runtime.profile import RECORDS

    records = sorted(RECORDS.values(), key=lambda r: -r.ns)[:MOST_PROGRAMS]
    texts: dict[str, int] = {}
    programs = [program(record, texts) for record in records]
    threads = max(p["threads"] for p in programs)
    floor = floors.known(threads)._asdict()
    return {"title": title, "programs": programs, "texts": [machine_code(t) for t in texts], "floors": floor}


def program(record: Any, texts: dict[str, int]) -> Data:
    from tinyflow.runtime.profile import lines

    run = sorted(record.last, key=lambda r: r.ns)[len(record.last) // 2]
    kernels = []
    for call, line, stamps in zip(run.calls, lines(run), run.stamps.tolist(), strict=True):
        kernels.append(
            {
                "name": call.name, "label": call.label, "where": call.where, "loops": call.loops,
                "text": texts.setdefault(call.text, len(texts)), "ns": line.ns, "flops": line.flops, "bytes": line.bytes,
                "share": line.share,
                "spans": [[tid, start - run.start, end - run.start] for tid, (start, end) in enumerate(stamps) if start],
            }
        )  # fmt: skip
    return {
        "runs": record.count, "total": record.ns, "ns": run.ns, "threads": run.threads, "bytes": run.bytes,
        "kernels": kernels, "memory": list(memory(run)),
    }  # fmt: skip


def memory(run: Any) -> Iterable[Data]:
    """The arena: what lies where, from the step that writes it to the last one that reads it."""
    from tinyflow.runtime.items import Call
    from tinyflow.runtime.layout import lifetimes

    lives = lifetimes(run.steps)
    calls = list(accumulate((isinstance(s, Call) for s in run.steps), initial=0))  # before each step
    for s, (start, end) in sorted(run.ranges.items(), key=lambda item: item[1]):
        slot = run.program.slots[s]
        first, last = lives[s]
        yield {
            "label": slot.label, "where": str(slot.where), "start": start, "end": end, "first": calls[first],
            "last": max(calls[last + 1] - 1, calls[first]),
        }  # fmt: skip


def machine_code(text: str) -> str:
    """A kernel's assembly, without what is meant for the assembler alone."""
    from tinyflow.runtime import machine

    return "\n".join(x for x in machine.assembly(text).splitlines() if not x.startswith(("\t.", ".Lfunc_end")) and x)


def trace() -> Data:
    """The kept runs as trace events: microseconds since the first of them."""
    from tinyflow.runtime.profile import RECORDS

    runs = [(k, run) for k, record in enumerate(RECORDS.values()) for run in record.last if run.start]
    first = min((run.start for _, run in runs), default=0)
    threads = max((run.threads for _, run in runs), default=0)
    events: list[Data] = [{"ph": "M", "pid": 1, "tid": 0, "name": "thread_name", "args": {"name": "programs"}}]
    events += [
        {"ph": "M", "pid": 1, "tid": t + 1, "name": "thread_name", "args": {"name": f"thread {t}"}}
        for t in range(threads)
    ]
    for k, run in runs:
        events.append(event(f"program {k}", 0, run.start - first, run.ns, {"bytes of temporaries": run.bytes}))
        for call, stamps in zip(run.calls, run.stamps.tolist(), strict=True):
            facts = {"computes": call.label, "line": call.where}
            events += [event(call.name, t + 1, a - first, b - a, facts) for t, (a, b) in enumerate(stamps) if a]
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def event(name: str, thread: int, start: int, ns: int, facts: Data) -> Data:
    return {"ph": "X", "pid": 1, "tid": thread, "name": name, "ts": start / 1e3, "dur": ns / 1e3, "args": facts}
