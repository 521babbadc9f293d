"""Prints the reference of ops from the tables: `python docs/make_ops.py > docs/ops.md`."""

import inspect

from tinyflow.ops import (
    TABLE,
    contraction,
    cumulative,
    elementwise,
    functions,
    indexing,
    movement,
    pooling,
    random,
    reduction,
    sorting,
)

MODULES = {
    "Elementwise": elementwise,
    "Reductions": reduction,
    "Movement": movement,
    "Contraction": contraction,
    "Indexing": indexing,
    "Order": sorting,
    "Running folds": cumulative,
    "Pooling": pooling,
    "Random": random,
}


def rows() -> None:
    print("# Ops\n\nPrinted from the tables by `docs/make_ops.py`.\n")
    print("| op | operands | kind | gradient | types tested |\n|---|---|---|---|---|")
    for op in TABLE.values():
        types = sorted({i[1].name for s in op.samples for i in s.inputs})
        arity = {len(s.inputs) for s in op.samples}
        kind = "elementwise" if op.elementwise else op.kind
        print(
            f"| {op.name} | {', '.join(map(str, sorted(arity))) or '-'} | {kind} | {'yes' if op.grad else '-'} | {', '.join(types) or '-'} |"
        )


def made_of_ops() -> None:
    print("\n# Functions made of ops\n\n| function | what it is |\n|---|---|")
    for name, f in sorted(vars(functions).items()):
        if inspect.isfunction(f) and f.__module__ == functions.__name__ and f.__doc__:
            print(f"| `{name}{inspect.signature(f)}` | {' '.join(f.__doc__.split())} |".replace("|x|", "abs x"))


rows()
made_of_ops()
