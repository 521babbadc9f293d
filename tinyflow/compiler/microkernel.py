"""The register tile of a contraction, and the transposition that packing uses, as LLVM text.

    void tile(k, A, sm, sk, B, C, ldc, first)         C[r, j] = (first ? 0 : C[r, j]) + sum over p < k of A[r*sm + p*sk] * B[p, j]

A tile of rows x (vectors * lanes) results lives in registers. B is a panel, one row of the tile's width for each p; A is
read in place, one element broadcast at a time, so it needs strides and no packing.

Of few columns most lanes would hold nothing. Where rows of A are neighbours (sm = 1) lanes are rows instead, elements of B are
broadcast, and the tile is turned in the end. Where terms are (sk = 1) lanes are terms: a panel has `lanes` values of p for each
column, one column after the other, and each result is a vector that is added up in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinyflow.core.dtypes import DType

AHEAD = 16  # rows of B that are asked for, where it is no panel: a processor foresees no steps as long as a page
Stride = int | None  # None: known only when running, an argument


class Tile(NamedTuple):
    rows: int
    vectors: int
    lanes: int
    dtype: DType
    sm: Stride
    sk: Stride
    pairs: bool = False  # of bfloat16 in each element
    across: str = "columns"  # the lanes; or "rows", or "terms"
    columns: int = 0  # where lanes are not columns
    line: int = 0  # from one row of B to the next, where it is read in place

    @property
    def name(self) -> str:
        strides = "_".join("x" if s is None else str(s) for s in (self.sm, self.sk))
        few = "" if self.across == "columns" else f"_{self.columns}_{self.across}"
        few += f"_of_{self.line}" * bool(self.line)
        return f"tile_{self.rows}x{self.vectors}_{'pairs' if self.pairs else self.dtype.name}_{strides}{few}"

    @property
    def width(self) -> int:
        return self.vectors * self.lanes


def tile_text(t: Tile, attributes: str) -> str:
    """The function of one tile shape."""
    if t.across != "columns":
        return turned_text(t, attributes) if t.across == "rows" else added_text(t, attributes)
    e, v = t.dtype.llvm, f"<{t.lanes} x {t.dtype.llvm}>"
    places = [(r, j) for r in range(t.rows) for j in range(t.vectors)]
    sm = "%sm" if t.sm is None else str(t.sm)
    sk = "%sk" if t.sk is None else str(t.sk)
    out = [head(t, attributes), "entry:"]
    for r in range(t.rows):
        out += [
            f"  %ra{r} = mul i64 {sm}, {r}",
            f"  %A{r} = getelementptr {e}, ptr %A, i64 %ra{r}",
            f"  %rc{r} = mul i64 %ldc, {r}",
            f"  %C{r} = getelementptr {e}, ptr %C, i64 %rc{r}",
        ]
    out += ["  br i1 %first, label %zero, label %old", "zero:", "  br label %start", "old:"]
    for r, j in places:
        out += [
            f"  %q{r}_{j} = getelementptr {e}, ptr %C{r}, i64 {j * t.lanes}",
            f"  %o{r}_{j} = load {v}, ptr %q{r}_{j}, align {t.dtype.size}",
        ]
    out += ["  br label %start", "start:"]
    out += [f"  %s{r}_{j} = phi {v} [ zeroinitializer, %zero ], [ %o{r}_{j}, %old ]" for r, j in places]
    out += ["  br label %head", "head:", "  %p = phi i64 [ 0, %start ], [ %p1, %body ]"]
    out += [f"  %c{r}_{j} = phi {v} [ %s{r}_{j}, %start ], [ %n{r}_{j}, %body ]" for r, j in places]
    out += ["  %go = icmp slt i64 %p, %k", "  br i1 %go, label %body, label %done", "body:"]
    out += [
        f"  %bo = mul i64 %p, {t.line or t.width}",
        f"  %b = getelementptr {e}, ptr %B, i64 %bo",
        f"  %ao = mul i64 %p, {sk}",
    ]
    for j in range(t.vectors):
        out += [
            f"  %bp{j} = getelementptr {e}, ptr %b, i64 {j * t.lanes}",
            f"  %b{j} = load {v}, ptr %bp{j}, align {t.dtype.size if t.line else min(64, t.lanes * t.dtype.size)}",
        ]
        if t.line:
            out += [
                f"  %fp{j} = getelementptr {e}, ptr %bp{j}, i64 {AHEAD * t.line}",
                f"  call void @llvm.prefetch.p0(ptr %fp{j}, i32 0, i32 3, i32 1)",
            ]
    for r in range(t.rows):
        out += [f"  %ap{r} = getelementptr {e}, ptr %A{r}, i64 %ao", f"  %a{r} = load {e}, ptr %ap{r}, align {t.dtype.size}",
                f"  %i{r} = insertelement {v} poison, {e} %a{r}, i32 0", f"  %w{r} = shufflevector {v} %i{r}, {v} poison, <{t.lanes} x i32> zeroinitializer"]  # fmt: skip
        out += [line for j in range(t.vectors) for line in multiplied(t, v, r, j)]
    out += ["  %p1 = add i64 %p, 1", "  br label %head", "done:"]
    for r, j in places:
        out += [
            f"  %d{r}_{j} = getelementptr {e}, ptr %C{r}, i64 {j * t.lanes}",
            f"  store {v} %c{r}_{j}, ptr %d{r}_{j}, align {t.dtype.size}",
        ]
    return "\n".join([*out, "  ret void", "}"])


def head(t: Tile, attributes: str) -> str:
    given = "i64 %k, ptr noalias readonly %A, i64 %sm, i64 %sk, ptr noalias readonly %B, ptr noalias %C, i64 %ldc, i1 %first"
    return f"define internal void @{t.name}({given}) noinline {attributes} {{"


def turned_text(t: Tile, attributes: str) -> str:
    """The function of a tile of few columns, each a few vectors of rows."""
    e, v, size = t.dtype.llvm, f"<{t.lanes} x {t.dtype.llvm}>", t.dtype.size
    blocks = t.rows // t.lanes
    places = [(b, j) for b in range(blocks) for j in range(t.columns)]
    out = [head(t, attributes), "entry:", "  br label %head", "head:", "  %p = phi i64 [ 0, %entry ], [ %p1, %body ]"]
    out += [f"  %c{b}_{j} = phi {v} [ zeroinitializer, %entry ], [ %n{b}_{j}, %body ]" for b, j in places]
    out += ["  %go = icmp slt i64 %p, %k", "  br i1 %go, label %body, label %done", "body:"]
    out += [f"  %bo = mul i64 %p, {t.width}", f"  %b = getelementptr {e}, ptr %B, i64 %bo"]
    out += [f"  %ao = mul i64 %p, {'%sk' if t.sk is None else t.sk}", f"  %a = getelementptr {e}, ptr %A, i64 %ao"]
    for b in range(blocks):
        out += [
            f"  %ap{b} = getelementptr {e}, ptr %a, i64 {b * t.lanes}",
            f"  %a{b} = load {v}, ptr %ap{b}, align {size}",
            f"  %fp{b} = getelementptr {e}, ptr %ap{b}, i64 {t.rows}",
            f"  call void @llvm.prefetch.p0(ptr %fp{b}, i32 0, i32 3, i32 1)",
        ]
    for j in range(t.columns):
        out += [f"  %bp{j} = getelementptr {e}, ptr %b, i64 {j}", f"  %b{j} = load {e}, ptr %bp{j}, align {size}",
                f"  %i{j} = insertelement {v} poison, {e} %b{j}, i32 0", f"  %w{j} = shufflevector {v} %i{j}, {v} poison, <{t.lanes} x i32> zeroinitializer"]  # fmt: skip
        for b in range(blocks):
            out.append(f"  %n{b}_{j} = call {v} @{fma(t)}({v} %a{b}, {v} %w{j}, {v} %c{b}_{j})")
    out += ["  %p1 = add i64 %p, 1", "  br label %head", "done:"]
    for b in range(blocks):
        columns = [f"%c{b}_{j}" if j < t.columns else "zeroinitializer" for j in range(t.lanes)]
        lines, rows = transposed(columns, v, f"t{b}")
        out += lines
        for r, row in enumerate(rows, b * t.lanes):
            out += [f"  %at{r} = mul i64 %ldc, {r}", f"  %C{r} = getelementptr {e}, ptr %C, i64 %at{r}", f"  %was{r} = load {v}, ptr %C{r}, align {size}",
                    f"  %old{r} = select i1 %first, {v} zeroinitializer, {v} %was{r}", f"  %sum{r} = fadd {v} %old{r}, {row}",
                    f"  store {v} %sum{r}, ptr %C{r}, align {size}"]  # fmt: skip
    return "\n".join([*out, "  ret void", "}"])


def added_text(t: Tile, attributes: str) -> str:
    """The function of a tile of few columns, whose every result is a vector of sums over each so many-th term."""
    e, v, size = t.dtype.llvm, f"<{t.lanes} x {t.dtype.llvm}>", t.dtype.size
    mask = f"<{t.lanes} x i1>"
    places = [(r, j) for r in range(t.rows) for j in range(t.columns)]
    out = [head(t, attributes), "entry:", f"  %whole = sdiv i64 %k, {t.lanes}", f"  %rest = srem i64 %k, {t.lanes}",
           f"  %ahead = mul i64 {'%sm' if t.sm is None else t.sm}, {t.rows}"]  # fmt: skip
    for r in range(t.rows):
        out += [
            f"  %ra{r} = mul i64 {'%sm' if t.sm is None else t.sm}, {r}",
            f"  %A{r} = getelementptr {e}, ptr %A, i64 %ra{r}",
        ]

    def step(at: str, name: str, was: str, rows: Sequence[str]) -> list[str]:
        """One vector of terms of each row, times those of each column."""
        lines = [
            f"  %{name}o = mul i64 {at}, {t.columns * t.lanes}",
            f"  %{name}B = getelementptr {e}, ptr %B, i64 %{name}o",
        ]
        for j in range(t.columns):
            lines += [f"  %{name}p{j} = getelementptr {e}, ptr %{name}B, i64 {j * t.lanes}",
                      f"  %{name}b{j} = load {v}, ptr %{name}p{j}, align {size * t.lanes}"]  # fmt: skip
            lines += [
                f"  %{name}{r}_{j} = call {v} @{fma(t)}({v} {a}, {v} %{name}b{j}, {v} %{was}{r}_{j})"
                for r, a in enumerate(rows)
            ]
        return lines

    out += ["  br label %head", "head:", "  %p = phi i64 [ 0, %entry ], [ %p1, %body ]"]
    out += [f"  %c{r}_{j} = phi {v} [ zeroinitializer, %entry ], [ %n{r}_{j}, %body ]" for r, j in places]
    out += [
        "  %go = icmp slt i64 %p, %whole",
        "  br i1 %go, label %body, label %tail",
        "body:",
        f"  %at = mul i64 %p, {t.lanes}",
    ]
    for r in range(t.rows):
        out += [f"  %ap{r} = getelementptr {e}, ptr %A{r}, i64 %at", f"  %a{r} = load {v}, ptr %ap{r}, align {size}"]
    for r in range(t.rows):  # the rows of the next tile: each is too short for the processor to see where it goes on
        out += [
            f"  %fp{r} = getelementptr {e}, ptr %ap{r}, i64 %ahead",
            f"  call void @llvm.prefetch.p0(ptr %fp{r}, i32 0, i32 3, i32 1)",
        ]
    out += step("%p", "n", "c", [f"%a{r}" for r in range(t.rows)])
    out += [
        "  %p1 = add i64 %p, 1",
        "  br label %head",
        "tail:",
        "  %over = icmp eq i64 %rest, 0",
        "  br i1 %over, label %done, label %last",
        "last:",
    ]
    ramp = ", ".join(f"i64 {n}" for n in range(t.lanes))
    out += [f"  %ri = insertelement <{t.lanes} x i64> poison, i64 %rest, i32 0",
            f"  %rs = shufflevector <{t.lanes} x i64> %ri, <{t.lanes} x i64> poison, <{t.lanes} x i32> zeroinitializer",
            f"  %mask = icmp slt <{t.lanes} x i64> <{ramp}>, %rs", f"  %end = mul i64 %whole, {t.lanes}"]  # fmt: skip
    for r in range(t.rows):
        out += [f"  %ep{r} = getelementptr {e}, ptr %A{r}, i64 %end",
                f"  %e{r} = call {v} @{masked(t)}(ptr %ep{r}, i32 {size}, {mask} %mask, {v} zeroinitializer)"]  # fmt: skip
    out += step("%whole", "l", "c", [f"%e{r}" for r in range(t.rows)])
    out += ["  br label %done", "done:"]
    out += [f"  %s{r}_{j} = phi {v} [ %c{r}_{j}, %tail ], [ %l{r}_{j}, %last ]" for r, j in places]
    for r in range(t.rows):
        lines, total = summed([f"%s{r}_{j}" for j in range(t.columns)], t.lanes, v, f"h{r}")
        out += lines
        out += [f"  %cr{r} = mul i64 %ldc, {r}", f"  %C{r} = getelementptr {e}, ptr %C, i64 %cr{r}", f"  %was{r} = load {v}, ptr %C{r}, align {size}",
                f"  %old{r} = select i1 %first, {v} zeroinitializer, {v} %was{r}", f"  %sum{r} = fadd {v} %old{r}, {total}",
                f"  store {v} %sum{r}, ptr %C{r}, align {size}"]  # fmt: skip
    return "\n".join([*out, "  ret void", "}"])


def summed(columns: Sequence[str], lanes: int, vector: str, prefix: str) -> tuple[list[str], str]:
    """One vector: lane j is the sum of column j's lanes. In round h two columns become one, with half the lanes each."""
    text, out, h = [], [*columns, *["zeroinitializer"] * (lanes - len(columns))], 1
    while h < lanes:
        pairs = list(zip(out[::2], out[1::2], strict=True))
        out = []
        for k, (a, b) in enumerate(pairs):
            if a == b == "zeroinitializer":
                out.append(a)
                continue
            # lane i belongs to the column of its last bits; what differs in bit h is added up
            keep = [i if not i & h else lanes + i for i in range(lanes)]
            move = [i | h if not i & h else lanes + (i ^ h) for i in range(lanes)]
            names = [f"%{prefix}_{h}_{k}{x}" for x in ("a", "b", "")]
            for name, order in zip(names, (keep, move), strict=False):
                picks = ", ".join(f"i32 {i}" for i in order)
                text.append(f"  {name} = shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{picks}>")
            text.append(f"  {names[2]} = fadd {vector} {names[0]}, {names[1]}")
            out.append(names[2])
        h *= 2
    return text, out[0]


def transposed(rows: Sequence[str], vector: str, prefix: str) -> tuple[list[str], list[str]]:
    """The transposition of as many vectors as they have lanes, as lines and the names of its rows. In round h, lanes whose
    bit h differs change places between rows whose bit h differs."""
    text, out, lanes, h = [], list(rows), len(rows), 1
    while h < lanes:
        for i in range(lanes):
            if i & h:
                continue
            a, b = out[i], out[i | h]
            low = [lane if not lane & h else lanes + (lane ^ h) for lane in range(lanes)]
            high = [lane | h if not lane & h else lanes + lane for lane in range(lanes)]
            for place, order in ((i, low), (i | h, high)):
                out[place] = f"%{prefix}_{h}_{place}"
                picks = ", ".join(f"i32 {k}" for k in order)
                text.append(f"  {out[place]} = shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{picks}>")
        h *= 2
    return text, out


def fma(t: Tile) -> str:
    return f"llvm.fma.v{t.lanes}{'f32' if t.dtype.llvm == 'float' else 'f64'}"


def masked(t: Tile) -> str:
    return f"llvm.masked.load.v{t.lanes}{'f32' if t.dtype.llvm == 'float' else 'f64'}.p0"


def multiplied(t: Tile, v: str, r: int, j: int) -> list[str]:
    """One multiplication of a row's element with a vector of B, added to the sums."""
    if not t.pairs:
        return [f"  %n{r}_{j} = call {v} @{fma(t)}({v} %w{r}, {v} %b{j}, {v} %c{r}_{j})"]
    p = f"<{2 * t.lanes} x bfloat>"
    return [
        f"  %wp{r}_{j} = bitcast {v} %w{r} to {p}",
        f"  %bq{r}_{j} = bitcast {v} %b{j} to {p}",
        f"  %n{r}_{j} = call {v} @{DOT}({v} %c{r}_{j}, {p} %wp{r}_{j}, {p} %bq{r}_{j})",
    ]


DOT = "llvm.x86.avx512bf16.dpbf16ps.512"


def tile_declarations(t: Tile) -> list[str]:
    """Of the intrinsics that its text calls."""
    v = f"<{t.lanes} x {t.dtype.llvm}>"
    if t.pairs:
        return [f"declare {v} @{DOT}({v}, <{2 * t.lanes} x bfloat>, <{2 * t.lanes} x bfloat>)"]
    found = [f"declare {v} @{fma(t)}({v}, {v}, {v})"]
    if t.across == "rows" or t.line:
        found.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    if t.across == "terms":
        found.append(f"declare {v} @{masked(t)}(ptr, i32, <{t.lanes} x i1>, {v})")
        found.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    return found
