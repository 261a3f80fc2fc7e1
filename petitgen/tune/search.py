"""The fastest kernel and number of slices for a problem: the estimate names a handful, a measurement decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runtime.estimate import slice_counts
from runtime.manifest import Kernel
from runtime.select import Candidate, Problem, candidates

Measure = Callable[[Kernel, Problem, int], float]
"""(kernel, problem, slices) -> microseconds. PetitgenError or RuntimeLibraryError when it cannot be measured."""

MOST = 6  # kernels measured for a problem
HOPELESS = 3.0  # times the least estimate: not measured
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
) -> list[Try]:
    """What was measured, the best first. ShapeError if no kernel takes the problem.

    First the `most` kernels that the estimate likes, each with its best number of slices. Then the numbers next to that
    of the fastest, as long as they get faster: where the estimate errs it is in what slices cost.
    """
    found: dict[tuple[str, int], Try] = {}

    def run(kernel: Kernel, slices: int) -> None:
        key = kernel.name, slices
        if key not in found:
            found[key] = Try(*key, measure(kernel, problem, slices))

    for _, kernel, slices in shortlist(candidates(kernels, problem, arch, compute_units), most):
        run(kernel, slices)
    by_name = {kernel.name: kernel for kernel in kernels}
    while True:
        best, before = rank(found.values())[0], len(found)
        kernel = by_name[best.kernel]
        counts = list(slice_counts(kernel, problem.m, problem.n, problem.k, compute_units))
        for slices in _beside(best.slices, counts):
            run(kernel, slices)
        if len(found) == before:
            return rank(found.values())


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
