"""The fastest kernel and number of slices for a problem: the estimate names a handful, a measurement decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from petitgen.errors import PetitgenError
from runtime.errors import RuntimeLibraryError
from runtime.estimate import slice_counts
from runtime.manifest import Kernel
from runtime.select import Candidate, Problem, candidates, refusal

Measure = Callable[[Kernel, Problem, int], float]
"""(kernel, problem, slices) -> microseconds. PetitgenError or RuntimeLibraryError when it cannot be measured."""

MOST = 8  # kernels measured for a problem
HOPELESS = 2.5  # times the least estimate: not measured
CLIMBED = 3  # kernels for which other numbers of slices are tried
CLOSE = 1.005  # within this factor of the fastest, fewer slices are the better choice: less memory, fewer writes


@dataclass(frozen=True, slots=True)
class Try:
    """A measurement."""

    kernel: str
    slices: int
    us: float


def search(
    kernels: Sequence[Kernel],
    problem: Problem,
    arch: str,
    compute_units: int,
    measure: Measure,
    most: int = MOST,
    hints: Sequence[tuple[str, int]] = (),
    also: Sequence[tuple[str, int]] = (),
) -> tuple[list[Try], list[str]]:
    """What was measured, the best first; and what could not be, and why. ShapeError if no kernel takes the problem.

    First the `most` kernels that the estimate likes, each with its best number of slices. Then, for the fastest of
    these, the numbers next to the best one, as long as it gets faster: where the estimate errs it is in what slices
    cost. If nothing can be measured, the first reason is raised.

    hints: (kernel, slices) that were the best for a like problem. Then these, the two kernels that the estimate likes
    and the slices of the fastest are enough. also: (kernel, slices) to measure beside all that.
    """
    found: dict[tuple[str, int], Try] = {}
    errors: dict[str, Exception] = {}

    def run(kernel: Kernel, slices: int) -> None:
        key = kernel.name, slices
        if key not in found:
            try:
                us = measure(kernel, problem, slices)
            except (PetitgenError, RuntimeLibraryError) as error:
                errors[f"{kernel.name} in {slices} slices"] = error
                us = math.inf
            found[key] = Try(*key, us)

    by_name = {kernel.name: kernel for kernel in kernels}
    for name, slices in hints:
        if refusal(by_name[name], problem, slices) is None:
            run(by_name[name], slices)
    most, climbed = (min(most, 2), 1) if found else (most, CLIMBED)
    for _, kernel, slices in shortlist(candidates(kernels, problem, arch, compute_units), most):
        run(kernel, slices)
    for name, slices in also:
        if refusal(by_name[name], problem, slices) is None:
            run(by_name[name], slices)
    for start in rank(found.values())[:climbed]:
        kernel, best = by_name[start.kernel], start
        counts = list(slice_counts(kernel, problem.m, problem.n, problem.k, compute_units))
        while True:
            for slices in _beside(best.slices, counts):
                run(kernel, slices)
            better = min((one for one in found.values() if one.kernel == kernel.name), key=lambda one: one.us)
            if better is best:
                break
            best = better
    measured = [one for one in found.values() if one.us < math.inf]
    if not measured:
        raise next(iter(errors.values()))
    return rank(measured), [f"{what}: {error}" for what, error in errors.items()]


def shortlist(ranked: Sequence[Candidate], most: int) -> list[Candidate]:
    """The best of each kernel, at most so many, and none that is hopeless."""
    chosen: dict[str, Candidate] = {}
    for candidate in ranked:
        if len(chosen) < most and candidate[0].clocks <= HOPELESS * ranked[0][0].clocks:
            chosen.setdefault(candidate[1].name, candidate)
    return list(chosen.values())


def rank(tries: Iterable[Try]) -> list[Try]:
    """The best first: of those close to the fastest the one with the fewest slices."""
    ordered = sorted(tries, key=lambda one: (one.us, one.slices, one.kernel))
    close = [one for one in ordered if one.us <= CLOSE * ordered[0].us]
    best = min(close, key=lambda one: one.slices)
    return [best, *(one for one in ordered if one is not best)]


def _beside(slices: int, counts: Sequence[int]) -> list[int]:
    """The next smaller and the next larger number."""
    lower, higher = [c for c in counts if c < slices], [c for c in counts if c > slices]
    return lower[-1:] + higher[:1]
