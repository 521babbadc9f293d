"""layered: places for the boxes of a small directed graph, in rows from inputs to results.

The steps of Sugiyama, Tagawa and Toda (1981): rows by longest path, crossings reduced by barycentres, places by least
squares. The page leaves this to dagre, which is JavaScript. Here it must run where there is no browser, and no Python
package does it under a licence that fits beside numpy and llvmlite; for the 60 boxes of a picture this much is enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

Key = Hashable
Size = tuple[float, float]
Point = tuple[float, float]
SWEEPS, MOST_SWEEPS = 30, 400  # of the order; of the places, which converge slowly along chains


class Places(NamedTuple):
    boxes: dict[Key, Point]  # middles
    wires: dict[tuple[Key, Key], list[Point]]  # the corners between both ends
    width: float
    height: float


def layered(
    sizes: Mapping[Key, Size], edges: Iterable[tuple[Key, Key]], gap: float = 22, row_gap: float = 30
) -> Places:
    """Places for boxes of these sizes, given in topological order, each edge leading downwards."""
    edges = list(dict.fromkeys(e for e in edges if e[0] != e[1]))
    row = rows(list(sizes), edges)
    chains = {(a, b): [a, *((a, b, r) for r in range(row[a] + 1, row[b])), b] for a, b in edges}
    layers: list[list[Key]] = [[] for _ in range(max(row.values(), default=0) + 1)]
    for key, r in row.items():
        layers[r].append(key)
    for chain in chains.values():
        for corner in chain[1:-1]:
            layers[corner[2]].append(corner)  # type: ignore[index]
    links = [(a, b) for chain in chains.values() for a, b in pairwise(chain)]
    layers = ordered(layers, links)
    width = {key: sizes[key][0] if key in sizes else 0.0 for layer in layers for key in layer}
    x = columns(layers, links, width, gap)
    left = min((x[k] - width[k] / 2 for k in x), default=0.0)
    y, top = {}, 0.0
    for layer in layers:
        height = max((sizes[k][1] for k in layer if k in sizes), default=0.0)
        y.update(dict.fromkeys(layer, top + height / 2))
        top += height + row_gap
    place = {k: (x[k] - left, y[k]) for k in x}
    right = max((place[k][0] + width[k] / 2 for k in x), default=0.0)
    wires = {e: [place[k] for k in chain[1:-1]] for e, chain in chains.items()}
    return Places({k: place[k] for k in sizes}, wires, right, max(top - row_gap, 0.0))


def rows(keys: Sequence[Key], edges: Sequence[tuple[Key, Key]]) -> dict[Key, int]:
    """The row of each box: below all its inputs; then as near to its users as that makes its wires shorter."""
    inputs, users = defaultdict(list), defaultdict(list)
    for a, b in edges:
        inputs[b].append(a)
        users[a].append(b)
    row: dict[Key, int] = {}
    for k in keys:
        row[k] = max((row[a] + 1 for a in inputs[k]), default=0)
    for k in reversed(keys):
        if users[k] and len(users[k]) >= len(inputs[k]):
            row[k] = min(row[b] for b in users[k]) - 1
    return row


# ------------------------------------------------------------------------------------------ order within a row


def ordered(layers: Sequence[Sequence[Key]], links: Sequence[tuple[Key, Key]]) -> list[list[Key]]:
    """The rows, each in the order of the barycentres of its neighbours; of many sweeps the one with fewest crossings."""
    above, below = defaultdict(list), defaultdict(list)
    for a, b in links:
        above[b].append(a)
        below[a].append(b)
    now = [list(layer) for layer in layers]
    best, fewest = now, crossings(now, below)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for layer in now if down else reversed(now):
            at = {k: i for other in now for i, k in enumerate(other)}
            layer.sort(key=lambda k: sum(at[n] for n in near[k]) / len(near[k]) if near[k] else at[k])
        count = crossings(now, below)
        if count < fewest:
            best, fewest = [list(layer) for layer in now], count
    return best


def crossings(layers: Sequence[Sequence[Key]], below: Mapping[Key, Sequence[Key]]) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        at = {k: i for i, k in enumerate(lower)}
        ends = [sorted(at[b] for b in below.get(k, ())) for k in upper]
        flat = [e for some in ends for e in some]
        total += sum(a > b for i, a in enumerate(flat) for b in flat[i + 1 :])
    return total


# ------------------------------------------------------------------------------------------ place within a row


def columns(
    layers: Sequence[Sequence[Key]], links: Sequence[tuple[Key, Key]], width: Mapping[Key, float], gap: float
) -> dict[Key, float]:
    """The middle of each box: near the mean of its neighbours, in the row's order and without touching."""
    degree = Counter(k for link in links for k in link)
    near: dict[Key, list[tuple[Key, float]]] = defaultdict(list)
    for a, b in links:
        thin = sum(width[k] == 0 for k in (a, b))
        pull = (
            8.0 if thin == 2 else 4.0 if degree[a] <= 2 and degree[b] <= 2 else 1.0
        )  # what runs in one line is drawn as one
        near[a].append((b, pull))
        near[b].append((a, pull))
    apart = [[0.0, *((width[a] + width[b]) / 2 + gap for a, b in pairwise(layer))] for layer in layers]
    x = {
        k: at
        for layer, steps in zip(layers, apart, strict=True)
        for k, at in zip(layer, accumulate(steps), strict=True)
    }
    work = list(zip(layers, apart, strict=True))
    for sweep in range(MOST_SWEEPS):
        before = dict(x)
        for layer, steps in work if sweep % 2 == 0 else reversed(work):
            pulls = [[(x[n], p / (1 + abs(x[n] - x[k]))) for n, p in near[k]] or [(x[k], 0.1)] for k in layer]
            weight = [sum(p for _, p in some) for some in pulls]
            want = [sum(at * p for at, p in some) / w for some, w in zip(pulls, weight, strict=True)]
            x.update(zip(layer, spaced(want, weight, steps), strict=True))
        if all(abs(x[k] - before[k]) < 0.05 for k in x):
            break
    return x


def spaced(want: Sequence[float], weight: Sequence[float], apart: Sequence[float]) -> list[float]:
    """The x nearest to `want` with x[i] >= x[i-1] + apart[i]: isotonic regression, by pooling what would overlap."""
    offset = list(accumulate(apart))
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for w, m, o in zip(want, weight, offset, strict=True):
        pools.append((w - o, m, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m1, n1), (b, m2, n2) = pools[-2:]
            pools[-2:] = [((a * m1 + b * m2) / (m1 + m2), m1 + m2, n1 + n2)]
    level = [mean for mean, _, n in pools for _ in range(n)]
    return [v + o for v, o in zip(level, offset, strict=True)]
