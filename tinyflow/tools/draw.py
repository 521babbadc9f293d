"""`tinyflow graph SCRIPT`: run a script, then draw the default graph that it leaves."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from types import TracebackType


def draw(script: Path, arguments: list[str], out: Path) -> int:
    """Write the page of the script's graph; 1 if the script failed or left nothing to draw.

    script     the program, run as if by `python script arguments...`
    arguments  its sys.argv[1:]
    out        the HTML page
    """
    import tinyflow as tf
    from tinyflow.tools.page import write_page

    if not script.is_file():
        print(f"tinyflow graph: there is no file {script}", file=sys.stderr)
        return 2
    failed = not run(script, arguments)
    graph = tf.get_default_graph()
    if not graph.get_operations():
        print(
            f"tinyflow graph: {script} left no node in the default graph; "
            f"one that it made itself is drawn by `graph.show('{out.name}')` in the script",
            file=sys.stderr,
        )
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(out, graph, title=script.name)
    print(f"{out}: {len(graph.get_operations())} operations{', up to where the script stopped' if failed else ''}")
    return int(failed)


def run(script: Path, arguments: list[str]) -> bool:
    """Run a script as the main program; whether it ended well. What it raised is printed from its own line on."""
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code in (None, 0)
    except (Exception, KeyboardInterrupt) as error:
        traceback.print_exception(type(error), error, from_script(error.__traceback__, str(script)))
        return False
    finally:
        sys.argv, sys.path[:] = argv, path
    return True


def from_script(trace: TracebackType | None, script: str) -> TracebackType | None:
    """The traceback without the frames above the script's."""
    at = trace
    while at is not None and at.tb_frame.f_code.co_filename != script:
        at = at.tb_next
    return at or trace
