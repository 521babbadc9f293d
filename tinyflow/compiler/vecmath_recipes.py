"""The recipes: each elementary function as a formula over `Value`, for float32 and float64 alike.

Most follow one pattern: reduce x to a small r, take a polynomial fitted to what is left (vecmath_fits), undo the
reduction. What is left is always the small part, so that the last addition is where nearly all rounding happens:

    exp x  = 2^n (1 + r + r^2 q(r))             x = n ln 2 + r
    log x  = e ln 2 + f + f^2 q(f)              x = 2^e (1 + f),  sqrt 1/2 <= 1 + f < sqrt 2
    sin x  = +-(r + r^3 q(r^2)) or +-cos        x = n pi/2 + r
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tinyflow.compiler.vecmath_fits import FITS, TABLES
from tinyflow.compiler.vecmath_machine import look_up, power_of_two, scaled
from tinyflow.compiler.vecmath_values import (
    FLOAT64,
    Operand,
    Value,
    absolute,
    at_least,
    at_most,
    bits,
    copysign,
    fma,
    horner,
    narrow,
    narrow_integer,
    poly,
    select,
    sqrt,
    to_float,
    trunc,
    unbits,
    widen,
)

INF, NAN = float("inf"), float("nan")
PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534")
LN2 = Fraction("0.69314718055994530941723212145817656807550013436025525412068000949339362196969471560586332699")
LN10 = Fraction("2.30258509299404568401799145468436420760110148862877297603332790096757260967735248023599720508")
SQRT_HALF = 0.7071067811865476


def fitted(name: str, x: Value) -> Value:
    return poly(x, FITS[name][x.format.name])


def in_double(recipe: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """The recipe in float64 whatever the dtype, for formulas whose roundings add up; rounded once at the end."""

    def recipe_in_double(x: Value) -> Value:
        return narrow(recipe(widen(x)))

    return recipe_in_double


def odd(name: str, x: Value) -> Value:
    """x + x^3 q(x^2)."""
    z = x * x
    return fma(x * z, fitted(name, z), x)


def two_product(a: Value, b: Operand) -> tuple[Value, Value]:
    p = a * b
    return p, fma(a, b, -p)


def two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """For |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def rsqrt(x: Value) -> Value:
    return 1.0 / sqrt(x)


# ---- exp


def reduce_exp(x: Value, offset: int) -> tuple[Value, Value, Value]:
    """x = n ln 2 + r with |r| <= ln 2 / 2: r, n, and n + offset in the low bits of an integer."""
    magic = x.format.magic + offset
    t = fma(x, 1 / float(LN2), magic)
    n = t - magic
    high, low = x.format.words(LN2, 2)
    return fma(n, -low, fma(n, -high, x)), n, bits(t)


def exp_of_reduced(r: Value) -> Value:
    return fma(r, poly(r, (1.0, *FITS["EXP"][r.format.name])), 1.0)


def expm1_of_reduced(r: Value) -> Value:
    return fma(r * r, fitted("EXP", r), r)


def saturating_exp(x: Value, low: Value | None = None, factor: Value | None = None, halvings: int = 0) -> Value:
    """factor exp(x + low) / 2^halvings, to infinity and through the denormals down to 0."""
    format = x.format
    x = at_most(at_least(x, format.exp_low), format.exp_high + 0.7 * halvings)
    r, n, i = reduce_exp(x, 2 * format.bias - halvings)
    p = exp_of_reduced(r if low is None else r + low)
    return scaled(p if factor is None else p * factor, n - halvings if halvings else n, i)


def exp(x: Value) -> Value:
    return saturating_exp(x)


def exp2(x: Value) -> Value:
    format = x.format
    x = at_most(at_least(x, format.exp_low * 1.45), format.exp_high * 1.45)
    magic = format.magic + 2 * format.bias
    t = x + magic
    n = t - magic
    return scaled(exp_of_reduced((x - n) * float(LN2)), n, bits(t))


def moderate_exp(x: Value) -> Value:
    """exp(x) where it is a normal number."""
    r, _, i = reduce_exp(x, x.format.bias)
    return exp_of_reduced(r) * power_of_two(i)


def expm1(x: Value) -> Value:
    """2^n p + (2^n - 1) with p = e^r - 1; n = 0 gives p itself. With half of 2^n, the largest n is not infinite yet."""
    format = x.format
    clamped = at_most(at_least(x, -0.7 * (format.digits + 3)), format.exp_high)
    r, _, i = reduce_exp(clamped, format.bias - 1)
    h = power_of_two(i)
    p = expm1_of_reduced(r)
    return copysign(select(absolute(x) < 0.34, p, 2.0 * fma(h, p, h - 0.5)), x)


def tanh(x: Value) -> Value:
    """As erf in float32. Else 1 - 2 / (e^2a + 1), a = |x|; below 0.6 that would cancel, and a polynomial is used."""
    if x.format is not FLOAT64:
        a = at_most(absolute(x), max(TABLES["TANH"][0]))
        return copysign(a * by_interval("TANH", a, bits(a + 1.0).shift_right(x.format.digits - 2)), x)
    a = at_most(absolute(x), 0.35 * (x.format.digits + 4))
    big = 1.0 - 2.0 / (moderate_exp(a + a) + 1.0)
    return copysign(select(a < 0.6, odd("TANH", a), big), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x) = 1 - t, or e^x / (1 + e^x) = e - e t for x < 0: t = e / (1 + e), e = e^-|x|."""
    e = saturating_exp(-absolute(x))
    y = select(x < 0.0, e, 1.0)
    return fma(-y, e / (1.0 + e), y)


def sinh(x: Value) -> Value:
    a = absolute(x)
    h = saturating_exp(a, halvings=1)
    return copysign(select(a < 1.0, odd("SINH", a), h - 0.25 / h), x)


def cosh(x: Value) -> Value:
    h = saturating_exp(absolute(x), halvings=1)
    return h + 0.25 / h


def by_interval(name: str, a: Value, i: Value) -> Value:
    """q(a - c), with c and the coefficients of q looked up: one short polynomial for all intervals."""
    c, *coefficients = (look_up(i, row) for row in TABLES[name])
    return horner(a - c, coefficients)


def erf(x: Value) -> Value:
    """a q(a), q by intervals, in float32. Else a + a q(a^2) below 1, 1 - exp(q(a - 1)) with q a fit of log erfc above."""
    if x.format is not FLOAT64:
        a = at_most(absolute(x), max(TABLES["ERF"][0]))
        return copysign(a * by_interval("ERF", a, bits(fma(a, 64 / 17, x.format.magic))), x)
    a = at_most(absolute(x), 6.0)
    small = fma(a, fitted("ERF", a * a), a)
    big = 1.0 - moderate_exp(fitted("ERF_TAIL", a - 1.0))
    return copysign(select(a < 1.0, small, big), x)


@in_double
def erfc(x: Value) -> Value:
    """e^(-a^2) q(s) / (a + 4), s = (a - 4) / (a + 4), a^2 in two words; 1 - erf x below 1/2, 2 - erfc a for x < 0."""
    a = at_most(absolute(x), 28.0)
    small = 1.0 - fma(x, fitted("ERF", x * x), x)
    d = a + 4.0
    square, square_low = two_product(a, a)
    tail = saturating_exp(-square, low=-square_low, factor=fitted("ERFC", (a - 4.0) / d) / d)
    return select(a < 0.5, small, select(x < 0.0, 2.0 - tail, tail))


@in_double
def erfinv(x: Value) -> Value:
    """x times a polynomial in w = -log(1 - x^2) below 5, in sqrt w above."""
    w = -log(fma(-x, x, 1.0))
    root = sqrt(w)
    tail = select(root < 4.0, fitted("ERFINV_TAIL", root - 3.0), fitted("ERFINV_FAR", root - 5.0))
    q = select(w < 5.0, fitted("ERFINV", w - 2.5), tail)
    return x * select(absolute(x).equals(1.0), INF, q)


# ---- log


def split_exponent(x: Value) -> tuple[Value, Value]:
    """x = 2^e m with sqrt 1/2 <= m < sqrt 2, for x > 0; denormals are made normal first."""
    format = x.format
    denormal, shift = x < format.smallest_normal, format.digits + 2
    i = bits(select(denormal, x * 2.0**shift, x))
    k = (i - format.bits(SQRT_HALF)) >> format.digits
    m = unbits(i - (k << format.digits))
    return m, to_float(k) - select(denormal, x.like(shift), 0.0)


def log_of_split(f: Value, e: Value) -> Value:
    """e ln 2 + log(1 + f)."""
    high, low = f.format.words(LN2, 2)
    return fma(e, high, fma(f * f, fitted("LOG", f), e * low) + f)


def log_limits(x: Value, y: Value) -> Value:
    """y = log x, with log 0 = -inf, log inf = inf, and NaN for x < 0."""
    y = select(x < INF, y, x)
    return select(x > 0.0, y, select(x.equals(0.0), x.like(-INF), NAN))


def log(x: Value) -> Value:
    m, e = split_exponent(x)
    return log_limits(x, log_of_split(m - 1.0, e))


def log_in_base(x: Value, base: Fraction) -> Value:
    """e log_b 2 + (f + f^2 q) log_b e, the constants in two words."""
    m, e = split_exponent(x)
    f = m - 1.0
    (two, two_low), (scale, scale_low) = x.format.words(LN2 / base, 2), x.format.words(1 / base, 2)
    tail = fma(f, scale_low, fma(f * f * fitted("LOG", f), scale, e * two_low))
    return log_limits(x, fma(e, two, fma(f, scale, tail)))


def log2(x: Value) -> Value:
    return log_in_base(x, LN2)


def log10(x: Value) -> Value:
    return log_in_base(x, LN10)


def log1p(x: Value) -> Value:
    """1 + x = 2^k (1 + f), where f = x 2^-k + (2^-k - 1) is rounded once: k is read off the rounded sum, x is not.

    The scale is kept as 2^(2 - k), which is normal for every k.
    """
    format = x.format
    k = (bits(x + 1.0) - format.bits(SQRT_HALF)) >> format.digits
    s = unbits(k.like(format.bits(4.0)) - (k << format.digits))
    y = log_of_split(fma(0.25 * x, s, fma(s, 0.25, -1.0)), to_float(k))
    y = select(absolute(x) < 2.0 ** -(format.digits + 2), x, select(x < INF, y, x))
    return select(x > -1.0, y, select(x.equals(-1.0), x.like(-INF), NAN))


def softplus(x: Value) -> Value:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return log1p(saturating_exp(-absolute(x))) + select(x > 0.0, x, 0.0)


# ---- pow


def log_in_two_words(x: Value) -> tuple[Value, Value]:
    """log x = e ln 2 + 2 s + s^3 (2/3 + w q(w)), s = (m - 1) / (m + 1), w = s^2; the first terms in two words."""
    m, e = split_exponent(x)
    f, d = m - 1.0, m + 1.0
    d_low = m - (d - 1.0)
    inverse = 1.0 / d
    s = f * inverse
    s_low = fma(-s, d_low, fma(-s, d, f)) * inverse
    w, w_low = two_product(s, s)
    w_low = fma(s + s, s_low, w_low)
    v, v_low = two_product(s, w)  # s^3
    v_low = v_low + fma(s, w_low, w * s_low)
    third, third_low = x.format.words(Fraction(2, 3), 2)
    c, c_low = two_sum(x.like(third), w * fitted("LOG_POW", w))
    t, t_low = two_product(v, c)
    t_low = t_low + fma(v, c_low + third_low, v_low * c)
    y, y_low = two_sum(s + s, t)
    ln2, ln2_low = x.format.words(LN2, 2)
    g, g_low = two_product(e, ln2)
    y, carry = two_sum(g, y)
    low = carry + (y_low + (fma(e, ln2_low, g_low) + fma(s_low, 2.0, t_low)))
    return two_sum(y, low)


def power(x: Value, y: Value) -> Value:
    """|x|^y = exp(y log |x|) with the logarithm in two words; the sign and the special cases as in IEEE 754."""
    a = absolute(x)
    size = at_most(at_least(y, -(2.0**66)), 2.0**66)  # as good as infinite, but 0 times it is 0
    high, low = log_in_two_words(a)
    high = select(a.equals(0.0), x.like(-INF), select(a < INF, high, a))
    p, p_low = two_product(size, high)
    p_low = select(absolute(p) < 2 * x.format.exp_high, fma(size, low, p_low), 0.0)
    result = saturating_exp(p, low=p_low)
    whole = trunc(y).equals(y)
    half = y * 0.5
    odd_power = whole & ~trunc(half).equals(half)
    negative = bits(x) < 0
    result = select(negative & odd_power, -result, result)
    result = select((x < 0.0) & (x > -INF) & ~whole, x.like(NAN), result)
    return select(x.equals(1.0) | y.equals(0.0), x.like(1.0), result)


# ---- trigonometry


def reduce_angle(a: Value) -> tuple[Value, Value]:
    """a = n pi/2 + r with |r| <= pi/4: r, and n in the low bits of an integer; a is a double, whatever the dtype.

    a - n P1 is exact for the first word P1 of pi/2, so what all its words lack is all that is lost.
    """
    t = fma(a, float(2 / PI), FLOAT64.magic)
    n = t - FLOAT64.magic
    for word in FLOAT64.words(PI / 2, 3 if a.code.format is FLOAT64 else 2):
        a = fma(n, -word, a)
    return a, bits(t)


def sine(a: Value, quarters: int) -> Value:
    """sin(a + quarters pi/2), by the sine or the cosine of the reduced angle."""
    wide, turns = reduce_angle(widen(a))
    r = at_most(at_least(narrow(wide), -0.79), 0.79)  # where a has too few bits, |sin| <= 1 still
    z, n = r * r, narrow_integer(turns) + quarters
    y = select((n & 1).equals(0), odd("SIN", r), fma(z, fitted("COS", z), 1.0))
    return unbits(bits(y) ^ ((n & 2) << (n.format.width - 2)))


def sin(x: Value) -> Value:
    return turn_sign(sine(absolute(x), 0), x)


def cos(x: Value) -> Value:
    return sine(absolute(x), 1)


@in_double
def tan(x: Value) -> Value:
    """tan r, or -1 / tan r after a quarter turn."""
    r, n = reduce_angle(absolute(x))
    t = odd("TAN", r)
    return turn_sign(select((n & 1).equals(0), t, -1.0 / t), x)


def turn_sign(y: Value, x: Value) -> Value:
    """y with its sign turned where x is negative."""
    return unbits(bits(y) ^ (bits(x) & bits(x.like(-0.0))))


def asin_parts(x: Value) -> tuple[Value, Value, Value]:
    """asin s = s + rest, with s = |x| below 1/2, else s = sqrt((1 - |x|) / 2): then asin |x| = pi/2 - 2 asin s."""
    a = absolute(x)
    big = a > 0.5
    z = select(big, fma(a, -0.5, 0.5), a * a)
    s = select(big, sqrt(z), a)
    return big, s, s * z * fitted("ASIN", z)


def asin(x: Value) -> Value:
    big, s, rest = asin_parts(x)
    half, half_low = x.format.words(PI / 2, 2)
    far, carry = two_sum(x.like(half), s * -2.0)
    return copysign(select(big, far + (carry - fma(rest, 2.0, -half_low)), s + rest), x)


def acos(x: Value) -> Value:
    """pi/2 - asin x; 2 asin s near 1, pi - 2 asin s near -1."""
    big, s, rest = asin_parts(x)
    half, half_low = x.format.words(PI / 2, 2)
    middle = half - (x - (half_low - copysign(rest, x)))
    near = 2.0 * (s + rest)
    far = fma(s, -2.0, 2 * half) - fma(rest, 2.0, -2 * half_low)
    return select(big, select(x > 0.0, near, far), middle)


def angle(y: Value, x: Value) -> Value:
    """The angle of (x, y) for x, y >= 0: atan(q) with q = min / max, or pi/2 - atan(q)."""
    steep = y > x
    low, high = select(steep, x, y), select(steep, y, x)
    q = low / select(high > 0.0, high, 1.0)
    q = select(low.equals(high) & (high > 0.0), 1.0, q)  # inf / inf
    half, half_low = x.format.words(PI / 2, 2)
    z = q * q
    rest = q * z * fitted("ATAN", z)
    return select(steep, (half - q) - (rest - half_low), q + rest)


def atan(x: Value) -> Value:
    return copysign(angle(absolute(x), x.like(1.0)), x)


def atan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), in (-pi, pi]; the sign of a zero counts."""
    t = angle(absolute(y), absolute(x))
    pi, pi_low = x.format.words(PI, 2)
    t = select(bits(x) < 0, pi - (t - pi_low), t)
    return copysign(select(x.equals(x) & y.equals(y), t, x + y), y)
