"""The model by which a way of computing a contraction is chosen: its order, and that what is chosen is what is done."""

import itertools

import numpy as np
import pytest

from bench.ways import SHAPES, choosing
from tests.compiler.native import THREADS
from tinyflow import execute
from tinyflow.compiler import contraction, cost
from tinyflow.compiler.blocks import K_BLOCK
from tinyflow.compiler.schedule import Schedule
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import elementwise as e
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import placeholder
from tinyflow.runtime.target import TARGETS, current

SIZES = (1, 3, 17, 100, 512)
JOB = cost.Job(1, 1, 1, 1, 1, 1, 4, 16, "columns", in_place=True, upright=False, direct=True)


def job(batch, rows, columns, depth, **options):
    blocks = -(-depth // K_BLOCK)
    sizes = dict(batch=batch, rows=rows, columns=columns, depth=depth, blocks=blocks, line=columns)
    return JOB._replace(**{**sizes, **options})


def least(j, t):
    return cost.cycles(cost.best(j, t), j, t)


@pytest.mark.parametrize("t", TARGETS, ids=lambda t: t.name)
def test_twice_the_work_is_never_cheaper(t):
    """Of one kind: where panels become whole because there are more columns, it may be."""
    for sizes in itertools.product((1, 5), SIZES, SIZES, SIZES):
        j = job(*sizes, lanes=t.lanes(float32), line=0, direct=False)
        for k in range(4):
            twice = job(*(n * (1 + (d == k)) for d, n in enumerate(sizes)), lanes=j.lanes, line=0, direct=False)
            assert least(twice, t) >= least(j, t) > 0


@pytest.mark.parametrize("t", TARGETS, ids=lambda t: t.name)
def test_what_hinders_is_never_cheaper(t):
    """Each of these takes something that is left out otherwise; where it is a choice, there is one less."""
    for sizes in itertools.product((1, 5), SIZES, SIZES, SIZES):
        j = job(*sizes, lanes=t.lanes(float32))
        for worse in (
            dict(in_place=False),
            dict(direct=False),
            dict(line=0),
            dict(packing=cost.COMPUTED),
            dict(alone=False),
        ):
            assert least(j._replace(**worse), t) >= least(j, t)


def test_only_ways_that_there_are():
    t = current()
    for sizes in itertools.product((1, 5), SIZES, SIZES, SIZES):
        found = list(cost.ways(job(*sizes, lanes=16), t))
        assert found and len(set(found)) == len(found)
        for w in found:
            assert w.height * w.vectors + w.vectors + 1 <= t.vector_registers
            assert w.right != "in place" or sizes[2] % (w.vectors * 16) == 0
            assert w.right != "alone" or sizes[0] == 1


def recipe(node):
    """The tiles of a product, and what they were chosen by."""
    asked, best = [], cost.best

    def noted(j, t):
        asked.append((j, best(j, t)))
        return asked[-1][1]

    cost.best = noted
    try:
        schedule = Schedule([node], contraction.has_recipe)
        (group,) = (g for g in schedule.groups if g.core is not None)
        kernels = contraction.lower(group, schedule.buffered, {n: [] for n in group.stores}, "k")
    finally:
        cost.best = best
    return kernels, *asked[0]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_what_is_chosen_is_done(shape):
    kernels, j, way = recipe(shape.make()[0])
    tiles = kernels[-1].recipe
    assert way == min(cost.ways(j, current()), key=lambda w: cost.cycles(w, j, current()))
    assert (tiles.vectors, tiles.group, tiles.tile_by_tile) == (way.vectors, way.group, way.tile_by_tile)
    assert tiles.rows[0] <= way.height
    assert (tiles.right is not None) == (way.right == "in place")
    assert (tiles.packing is not None) == (way.right == "alone")
    assert len(kernels) == 1 + (way.right == "shared")


PRODUCTS = [(33, 800, 128, (False, False)), (20, 385, 48, (True, False)), (5, 30, 33, (False, True))]


@pytest.mark.parametrize("m, k, n, turned", PRODUCTS)
def test_no_way_changes_a_bit(m, k, n, turned):
    """Whatever is chosen, terms are added in one order; so the choice may know the machine, and threads need not agree."""
    a = placeholder(float32, (k, m) if turned[0] else (m, k), "a")
    b = placeholder(float32, (n, k) if turned[1] else (k, n), "b")
    y = matmul(a, b, *turned)
    y = y if n % 16 else e.tanh(y + 1.0)
    rng = np.random.default_rng(0)
    fed = {x: rng.uniform(-1, 1, x.shape).astype(np.float32) for x in (a, b)}
    _, j, _ = recipe(y)
    got = []
    for way, threads in zip(cost.ways(j, current()), itertools.cycle(THREADS)):
        with choosing(lambda j, t, way=way: way), config(THREADS=threads):
            got.append(execute.compile([y])(fed, {})[0].tobytes())
    assert len(got) > 1 and len(set(got)) == 1
