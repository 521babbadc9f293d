"""Elementary functions on vectors, as LLVM text: no branches, no calls of a maths library, for any number of lanes.

    define("exp", "float32", 16)  ->  define internal <16 x float> @tf_exp_v16f32(<16 x float> %x) alwaysinline ...

One row of FUNCTIONS is one function: its recipe (vecmath_recipes), and how far its result may lie from the true value,
in units of the last place of the true value's float. All lane counts give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from tinyflow.compiler import vecmath_recipes as recipes
from tinyflow.compiler import vecmath_values as values
from tinyflow.compiler.vecmath_values import FORMATS, Code, Value


class Function(NamedTuple):
    arity: int
    recipe: Callable[..., Value]
    ulp: tuple[float, float]
    """The bound for float32 and for float64."""
    note: str = ""


SMALL_ANGLES = "|x| <= 2^45; beyond, the angle is lost, and sin and cos are some value in [-1, 1]"

# fmt: off
FUNCTIONS: dict[str, Function] = {
    #                    arity  recipe            float32 float64   where the bounds hold, if not everywhere
    "exp":       Function(1, recipes.exp,       (1.0,   1.25)),
    "exp2":      Function(1, recipes.exp2,      (1.0,   1.25)),
    "expm1":     Function(1, recipes.expm1,     (1.75,  1.75)),
    "log":       Function(1, recipes.log,       (1.1,   1.25)),
    "log2":      Function(1, recipes.log2,      (1.25,  1.25)),
    "log10":     Function(1, recipes.log10,     (1.25,  1.25)),
    "log1p":     Function(1, recipes.log1p,     (1.6,   1.5)),
    "pow":       Function(2, recipes.power,     (1.25,  1.25)),
    "tanh":      Function(1, recipes.tanh,      (1.75,  1.5)),
    "sigmoid":   Function(1, recipes.sigmoid,   (1.75,  1.75)),
    "softplus":  Function(1, recipes.softplus,  (2.0,   1.75)),
    "sinh":      Function(1, recipes.sinh,      (1.75,  1.5)),
    "cosh":      Function(1, recipes.cosh,      (1.5,   1.5)),
    "erf":       Function(1, recipes.erf,       (1.75,  1.25)),
    "erfc":      Function(1, recipes.erfc,      (0.501, 7.0)),
    "erfinv":    Function(1, recipes.erfinv,    (0.501, 4.5)),
    "sin":       Function(1, recipes.sin,       (1.75,  1.5), SMALL_ANGLES),
    "cos":       Function(1, recipes.cos,       (1.75,  1.5), SMALL_ANGLES),
    "tan":       Function(1, recipes.tan,       (0.501, 2.5), SMALL_ANGLES),
    "asin":      Function(1, recipes.asin,      (1.25,  1.25)),
    "acos":      Function(1, recipes.acos,      (1.25,  1.25)),
    "atan":      Function(1, recipes.atan,      (2.0,   2.25)),
    "atan2":     Function(2, recipes.atan2,     (2.0,   2.25)),
    "sqrt":      Function(1, values.sqrt,       (0.5,   0.5)),
    "rsqrt":     Function(1, recipes.rsqrt,     (1.5,   1.5)),
    "floor":     Function(1, values.floor,      (0.0,   0.0)),
    "ceil":      Function(1, values.ceil,       (0.0,   0.0)),
    "trunc":     Function(1, values.trunc,      (0.0,   0.0)),
    "round":     Function(1, values.rint,       (0.0,   0.0)),
    "abs":       Function(1, values.absolute,   (0.0,   0.0)),
}
# fmt: on


def symbol(fn: str, dtype: str, lanes: int) -> str:
    """The name of the function: tf_exp_v16f32, tf_exp_f64."""
    return f"tf_{fn}_{FORMATS[dtype].mangle(lanes)}"


@cache
def written(fn: str, dtype: str, lanes: int, machine: str) -> tuple[str, tuple[str, ...]]:
    """The text of one function, and the declarations that it needs."""
    row = FUNCTIONS[fn]
    code = Code(FORMATS[dtype], lanes, machine)
    arguments = [Value(code, code.format.element, name) for name in ("%x", "%y")[: row.arity]]
    result = row.recipe(*arguments)
    kind, parameters = code.type(code.format.element), ", ".join(a.typed for a in arguments)
    head = f"define internal {kind} @{symbol(fn, dtype, lanes)}({parameters}) alwaysinline nounwind {{"
    return "\n".join([head, *code.lines(), f"  ret {result.typed}", "}"]), tuple(code.declarations)


def define(fn: str, dtype: str, lanes: int, machine: str = "") -> str:
    """The text of one function on `lanes` numbers, without the declarations that it needs.

    `machine` names a row of runtime/target.py; it decides on instructions, never on a bit of the result.
    """
    return written(fn, dtype, lanes, machine)[0]


def declarations(used: Iterable[tuple[str, str, int]], machine: str = "") -> list[str]:
    """The declarations that functions (fn, dtype, lanes) of one module need, each once."""
    return list(dict.fromkeys(line for key in used for line in written(*key, machine)[1]))
