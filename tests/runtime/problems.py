"""Problems with their float64 answers, from the verifier's inputs and reference: the runtime shares no code with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import runtime
from petitgen.verify.compare import compare
from petitgen.verify.epilogue import Extra, apply
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import evaluate
from petitgen.verify.shapes import Shape


@dataclass(frozen=True)
class Case:
    """x [M, K] of `activations`, a packed weight, and the check of a result."""

    problem: Problem
    activations: str
    weight: runtime.PackedWeight

    @property
    def x(self) -> np.ndarray:
        return self.problem.a

    def check(self, lib: Any, y: np.ndarray, extra: Extra | None = None) -> None:
        """Every element within the tolerance of the kernel that was taken. extra: what an epilogue did."""
        shape = self.problem.shape
        assert y.shape == (shape.m, extra.options.columns(shape.n) if extra else shape.n)
        assert y.dtype == self.x.dtype
        contract = f"gemm_{self.weight.format}_{self.activations}"
        tolerance = lib.select(contract, shape.m, shape.n, shape.k).kernel.tolerance
        reference = evaluate(self.problem, flushes=lib.arch == "gfx90a", sums=tolerance.sums)
        if extra:
            reference = apply(reference, extra, tolerance.accumulate)
        wrong = compare(y, reference, tolerance, self.activations)
        assert wrong is None, str(wrong)


def case(m: int, n: int, k: int, activations: str = "bf16", weights: str = "nvfp4") -> Case:
    problem = make_problem(Shape(m, n, k), activations, weights)
    return Case(problem, activations, runtime.pack(weights, *problem.weights.tensors))
