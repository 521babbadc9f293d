"""The `tinyflow` command: one row a subcommand, one function each, imported when it is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "tinyflow-dl"


def version() -> str:
    """The installed version, or that there is none."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed: running from its source folder)"


def demo(options: argparse.Namespace) -> int:
    from tinyflow.tools.demo import demo

    return demo(options.steps, options.out)


def doctor(options: argparse.Namespace) -> int:
    from tinyflow.tools.doctor import doctor

    return doctor()


def graph(options: argparse.Namespace) -> int:
    from tinyflow.tools.draw import draw

    return draw(options.script, options.rest, options.out)


def profile(options: argparse.Namespace) -> int:
    from tinyflow.tools.profile import profile

    return profile(options.script, options.rest, options.out)


def cache(options: argparse.Namespace) -> int:
    from tinyflow.tools.cache import clear, contents

    return clear() if options.clear else contents()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tinyflow", description="A deep-learning framework in pure Python.")
    top.add_argument("--version", action="version", version=f"tinyflow {version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    of_demo = commands.add_parser("demo", help="learn handwritten digits, and draw the graph that does it")
    of_demo.add_argument("--steps", type=positive, default=1000, help="batches of 100 to learn from (%(default)s)")
    of_demo.add_argument("-o", "--out", type=Path, help="the HTML page to write (demo.html in the cache folder)")
    of_demo.set_defaults(run=demo)

    of_doctor = commands.add_parser("doctor", help="versions, processor, flags, cache, and a self-check")
    of_doctor.set_defaults(run=doctor)

    of_graph = commands.add_parser(
        "graph",
        help="run a script and draw the default graph that it leaves",
        usage="tinyflow graph [-h] [-o OUT] SCRIPT [-- ARGUMENT ...]",
        epilog="What follows -- are the script's own arguments.",
    )
    of_graph.add_argument("-o", "--out", type=Path, default=Path("graph.html"), help="the HTML page (%(default)s)")
    of_graph.add_argument("script", type=Path, metavar="SCRIPT")
    of_graph.set_defaults(run=graph)

    of_profile = commands.add_parser(
        "profile",
        help="run a script and show when each thread ran which kernel, and what memory was for",
        usage="tinyflow profile [-h] [-o OUT] SCRIPT [-- ARGUMENT ...]",
        epilog="What follows -- are the script's own arguments. A trace for Perfetto lies beside the page.",
    )
    of_profile.add_argument("-o", "--out", type=Path, default=Path("profile.html"), help="the HTML page (%(default)s)")
    of_profile.add_argument("script", type=Path, metavar="SCRIPT")
    of_profile.set_defaults(run=profile)

    of_cache = commands.add_parser("cache", help="what is kept on disk")
    of_cache.add_argument("--clear", action="store_true", help="remove the compiled kernels (downloaded data stays)")
    of_cache.set_defaults(run=cache)
    return top


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of steps; give 1 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options = parser().parse_args(given[:cut])
    options.rest = given[cut + 1 :]
    try:
        status: int = options.run(options)
    except ImportError as error:
        print(f"tinyflow: a part of this installation is missing: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
