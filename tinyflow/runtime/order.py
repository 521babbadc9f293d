"""order: in which order a program's steps run, so that temporaries live briefly.

    Touch := reads, writes                    the slots of a step
    order([Touch], sizes) -> numbers          of the steps; `sizes` has the bytes of each temporary

Steps that write only what one other step reads (a packing, a value computed again) are one cluster with it. A cluster that
leaves less memory in use than it found runs as soon as it can: a gradient's update, the sum over a gradient. The others
keep the order that they were written in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

SLACK = 64  # a cluster that leaves this part of the largest temporary more in use may run early, too


class Touch(NamedTuple):
    reads: frozenset[int]
    writes: frozenset[int]


def order(steps: Sequence[Touch], sizes: Mapping[int, int]) -> list[int]:
    """The better of the order found and the one given, by the most bytes in use at once."""
    before = list(range(len(steps)))
    if len(steps) < 3 or not sizes:
        return before
    found = [eager(steps, sizes, loosely) for loosely in (False, True)]
    return min((f for f in (before, *found) if len(f) == len(steps)), key=lambda f: peak(steps, f, sizes))


def peak(steps: Sequence[Touch], order: Sequence[int], sizes: Mapping[int, int]) -> int:
    """The most bytes of temporaries that are in use at one step: no arena can be smaller."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for at, k in enumerate(order):
        for s in (*steps[k].reads, *steps[k].writes):
            first.setdefault(s, at)
            last[s] = at
    change = [0] * (len(steps) + 1)
    for s, size in sizes.items():
        if s in first:
            change[first[s]] += size
            change[last[s] + 1] -= size
    most = now = 0
    for c in change:
        now += c
        most = max(most, now)
    return most


def eager(steps: Sequence[Touch], sizes: Mapping[int, int], loosely: bool) -> list[int]:
    """An order; not of all steps, if clusters made loosely wait for each other."""
    before = dependencies(steps)
    clusters = clustered(steps, before, sizes, loosely)
    home = {k: root for root, members in clusters.items() for k in members}
    waits = {root: {home[p] for k in ks for p in before[k]} - {root} for root, ks in clusters.items()}
    after: dict[int, list[int]] = {root: [] for root in clusters}
    for root, needed in waits.items():
        for p in needed:
            after[p].append(root)
    users: dict[int, dict[int, None]] = {}  # the clusters that a temporary is still for, its maker first
    for k, touch in enumerate(steps):
        for s in touch.reads | touch.writes:
            if s in sizes:
                users.setdefault(s, {})[home[k]] = None
    left = dict.fromkeys(clusters, 0)  # bytes in use after a cluster, less those before
    for s, mine in users.items():
        if len(mine) > 1:
            left[next(iter(mine))] += sizes[s]
    missing = {root: len(needed) for root, needed in waits.items()}
    slack = max(sizes.values()) // SLACK
    ready: list[int] = []
    soon: list[int] = []  # of the ready ones, those that leave little

    def offer(root: int) -> None:
        heappush(ready, root)
        if left[root] <= slack:
            heappush(soon, root)

    for root, n in missing.items():
        if n == 0:
            offer(root)
    found: list[int] = []
    done: set[int] = set()
    while ready or soon:
        root = heappop(soon or ready)
        if root in done:
            continue
        done.add(root)
        found += clusters[root]
        for s in {s for k in clusters[root] for s in steps[k].reads | steps[k].writes if s in users}:
            users[s].pop(root, None)
            if len(users[s]) == 1:  # whoever comes last lets go of it
                (last,) = users[s]
                left[last] -= sizes[s]
                if not missing[last] and left[last] <= slack:
                    heappush(soon, last)
        for other in after[root]:
            missing[other] -= 1
            if not missing[other]:
                offer(other)
    return found


def dependencies(steps: Sequence[Touch]) -> list[set[int]]:
    """For each step those that must run before it: who wrote what it touches, and who reads what it writes over."""
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    found: list[set[int]] = []
    for k, (reads, writes) in enumerate(steps):
        needed = {writer[s] for s in reads | writes if s in writer}
        for s in writes:
            needed.update(readers.get(s, ()))
            writer[s], readers[s] = k, []
        for s in reads:
            readers.setdefault(s, []).append(k)
        found.append(needed - {k})
    return found


def clustered(
    steps: Sequence[Touch], before: Sequence[set[int]], sizes: Mapping[int, int], loosely: bool
) -> dict[int, list[int]]:
    """Steps by the one that they are for, in their order. Loosely: though others must wait to write over what they read."""
    after: list[set[int]] = [set() for _ in steps]
    for k, needed in enumerate(before):
        for p in needed:
            if not loosely or not steps[p].writes.isdisjoint(steps[k].reads | steps[k].writes):
                after[p].add(k)
    clusters: dict[int, list[int]] = {}
    root = list(range(len(steps)))
    for k in reversed(range(len(steps))):
        if len(after[k]) == 1 and all(s in sizes for s in steps[k].writes):
            (only,) = after[k]
            root[k] = root[only]
    for k, r in enumerate(root):
        clusters.setdefault(r, []).append(k)
    return clusters
