"""Microseconds by the timing model."""

from __future__ import annotations

from pathlib import Path

from petitgen.profiler import profile_gemm
from runtime.manifest import Kernel
from runtime.select import Problem


class Model:
    """Measures on the modelled device of the kernels' architecture, with so many compute units."""

    def __init__(self, directory: Path, compute_units: int) -> None:
        self._directory, self._units = directory, compute_units

    def __call__(self, kernel: Kernel, problem: Problem, slices: int) -> float:
        profile = profile_gemm(
            kernel, self._directory, problem.m, problem.n, problem.k, slices=slices, compute_units=self._units
        )
        return profile.time_us
