"""Index arithmetic: whatever form an expression is brought to, it is the same number at every value of its atoms."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, float32
from tinyflow.core.expr import Index, add, at_least, bounds, floordiv, maximum, minimum, mod, mul, substitute, within
from tinyflow.ops.movement import flatten, split

QUICK = settings(max_examples=150, deadline=None, derandomize=True)
DIMS = [expr.dim(n) for n in ("n", "m")]
INDICES = [expr.index(e, h) for e, h in ((4, "i"), (28, "j"), (1, "u"), (DIMS[0], "r"), (DIMS[0] * 3, "s"), (7, "k"))]
ATOMS = DIMS + INDICES
DIVISORS = [2, 3, 7, 28, 112, DIMS[0], DIMS[1], DIMS[0] * 3, DIMS[0] * DIMS[1]]

Formula = tuple  # (operator, formula, formula) | atom | int: what is built in two ways
OPERATORS = {
    "+": (add, lambda a, b: a + b),
    "-": (lambda a, b: add(a, mul(b, -1)), lambda a, b: a - b),
    "*": (mul, lambda a, b: a * b),
    "//": (floordiv, lambda a, b: a // b),
    "%": (mod, lambda a, b: a % b),
    "max": (maximum, max),
    "min": (minimum, min),
}

leaves = st.one_of(st.sampled_from(ATOMS), st.integers(-60, 60))
polynomials = st.recursive(leaves, lambda f: st.tuples(st.sampled_from("+-*"), f, f), max_leaves=6)
positive = st.recursive(
    st.one_of(st.sampled_from(ATOMS), st.integers(0, 60)),
    lambda f: st.one_of(
        st.tuples(st.sampled_from("+*"), f, f), st.tuples(st.sampled_from(["//", "%"]), f, st.sampled_from(DIVISORS))
    ),
    max_leaves=6,
)
any_formula = st.recursive(
    leaves,
    lambda f: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "max", "min"]), f, f),
        st.tuples(st.sampled_from(["//", "%"]), f, st.sampled_from(DIVISORS)),
    ),
    max_leaves=6,
)


def built(formula):
    """The formula in canonical form."""
    if isinstance(formula, Formula):
        op, a, b = formula
        return OPERATORS[op][0](built(a), built(b))
    return formula


def computed(formula, values):
    """The formula's number, by Python's own arithmetic."""
    if isinstance(formula, Formula):
        op, a, b = formula
        return OPERATORS[op][1](computed(a, values), computed(b, values))
    return (
        formula
        if isinstance(formula, int)
        else expr.evaluate(formula, values)
        if formula not in values
        else values[formula]
    )


@st.composite
def values(draw):
    """Sizes of at least 1, and indices below their extents."""
    found = {d: draw(st.integers(1, 9)) for d in DIMS}
    for i in INDICES:
        found[i] = draw(st.integers(0, expr.evaluate(i.extent, found) - 1))
    return found


def check_sound(formula, at):
    """The canonical form is the formula's number, and lies within its bounds."""
    e, want = built(formula), computed(formula, at)
    assert expr.evaluate(e, at) == want
    low, high = bounds(e)
    assert low is None or expr.evaluate(low, at) <= want
    assert high is None or expr.evaluate(high, at) >= want


@QUICK
@given(polynomials, values())
def test_polynomials(formula, at):
    check_sound(formula, at)


@QUICK
@given(positive, values())
def test_division_of_what_is_not_negative(formula, at):
    check_sound(formula, at)


@QUICK
@given(any_formula, values())
def test_division_and_extrema_of_anything(formula, at):
    check_sound(formula, at)


@QUICK
@given(polynomials, polynomials)
def test_equal_polynomials_are_one_object(a, b):
    a, b = built(a), built(b)
    assert add(a, b) is add(b, a) or add(a, b) == add(b, a)
    left, right = mul(a, add(b, 3)), add(mul(a, b), mul(a, 3))
    assert left is right or left == right
    nothing = add(a, mul(a, -1))
    assert nothing == 0 and isinstance(nothing, int)


@QUICK
@given(any_formula, st.integers(-5, 5), values())
def test_what_is_told_of_sizes_is_so(formula, least, at):
    e, want = built(formula), computed(formula, at)
    if at_least(bounds(e)[0], least):
        assert want >= least
    for size in (28, DIMS[0], DIMS[0] * 3):
        if within(e, size):
            assert 0 <= want < expr.evaluate(size, at)


WIDE = [i for i in INDICES if isinstance(i.extent, int) and i.extent > 4]


@QUICK
@given(any_formula, values(), st.sampled_from(WIDE))
def test_substitution_of_an_atom_by_an_expression(formula, at, atom):
    """Replacing an atom by another, and that by its value, is replacing the atom by that value."""
    replaced = substitute(built(formula), {atom: INDICES[0]})
    assert expr.evaluate(replaced, at) == computed(formula, {**at, atom: at[INDICES[0]]})


@QUICK
@given(st.lists(st.sampled_from([1, 2, 3, 5, 7, DIMS[0], DIMS[1]]), min_size=1, max_size=4), st.data())
def test_splitting_a_flat_index_and_flattening_it_gives_it_back(shape, data):
    flat = expr.index(expr.product(shape), "f")
    parts = split(flat, tuple(shape))
    joined = flatten(parts, tuple(shape))
    if expr.product(shape) == 1:
        assert joined == 0
        return
    assert joined is flat
    at = {d: data.draw(st.integers(1, 5)) for d in DIMS}
    sizes = [expr.evaluate(n, at) for n in shape]
    total = expr.evaluate(flat.extent, at)
    number = data.draw(st.integers(0, total - 1))
    want = []
    for n in reversed(sizes):
        want.append(number % n)
        number //= n
    got = [expr.evaluate(p, {**at, flat: flat_of(want[::-1], sizes)}) for p in parts]
    assert got == want[::-1]


def flat_of(index, sizes):
    flat = 0
    for i, n in zip(index, sizes, strict=True):
        flat = flat * n + i
    return flat


# ------------------------------------------------------------------------------------------ by example

i, j = expr.index(30, "i"), expr.index(28, "j")
n, m = expr.dim("n"), expr.dim("m")
r = expr.index(n, "r")
# fmt: off
FORMS = [
    (lambda: floordiv(i * 28 + j, 28),             i),
    (lambda: mod(i * 28 + j, 28),                  j),
    (lambda: floordiv(i, 28) * 28 + mod(i, 28),    i),
    (lambda: floordiv(i * n + r, n),               i),
    (lambda: mod(i * n + r, n),                    r),
    (lambda: floordiv(floordiv(i, 4), 3),          floordiv(i, 12)),
    (lambda: mod(i * 56 + j, 28),                  j),
    (lambda: floordiv(n * m, m),                   n),
    (lambda: floordiv(n * 4, 4),                   n),
    (lambda: mod(n * 4 + 3, 4),                    3),
    (lambda: floordiv(i, 30),                      0),
    (lambda: mod(i, 30),                           i),
    (lambda: floordiv(i, 1),                       i),
    (lambda: mod(i, 1),                            0),
    (lambda: i * n - n * i,                        0),
    (lambda: (i + 1) * (i + -1) - i * i,           -1),
]
# fmt: on


@pytest.mark.parametrize("number", range(len(FORMS)))
def test_canonical_forms(number):
    made, want = FORMS[number]
    got = made()
    assert got == want and (got is want or isinstance(got, int))


def test_what_cannot_be_told_stays():
    assert isinstance(floordiv(i, 28), expr.Apply) and isinstance(mod(i + 1, 30), expr.Apply)
    assert not within(r, 28) and not within(i + n, n) and within(r, n) and within(r + 2, n + 2)
    assert not at_least(n - 2, 0) and at_least(n * m - 1, 0) and not at_least(None, 0)


def test_constants_tell_what_python_takes_for_equal():
    assert expr.const(0.0, float32) is not expr.const(-0.0, float32)
    assert expr.const(float("nan"), float32) is expr.const(float("nan"), float32)
    assert expr.const(1, bool_) is not expr.const(1) and expr.const(1, bool_).value is True


def test_names_of_fresh_sizes_and_indices_are_their_own():
    assert expr.fresh_dim("n") is not expr.fresh_dim("n") and expr.dim("n") is expr.dim("n")
    assert expr.index(3, "i") is not expr.index(3, "i")


def test_every_atom_pair_divides_soundly():
    """All small cases, without luck: (a*x + y + c) // d for each divisor."""
    at = {n: 3, m: 2}
    for x, y, a, c, d in itertools.product((i, r, n), (j, m), (1, 2, 28), (0, 5), (2, 3, 28, n, n * m)):
        for vx, vy in itertools.product((0, 1, 2), (0, 1)):
            here = {**at, **({x: vx} if isinstance(x, Index) else {}), **({y: vy} if isinstance(y, Index) else {})}
            formula = ("+", ("+", ("*", a, x), y), c)
            check_sound(("//", formula, d), here)
            check_sound(("%", formula, d), here)
