"""Verifies a grouped GEMM: against the float64 reference of each expert, within its tolerance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from petitgen.errors import EmulationError, PetitgenError, VerifyError
from petitgen.verify.checkpoints import SCHEMES
from petitgen.verify.compare import Mismatch, compare
from petitgen.verify.gemm import GemmCase, flushes, pitches, shape_facts, whole_range
from petitgen.verify.grouped import GroupedProblem, evaluate_grouped, make_grouped
from petitgen.verify.grouped_device import execute_grouped
from petitgen.verify.grouped_shapes import GroupedShape, default_shapes, grouped, with_slices
from petitgen.verify.limits import check_limits
from petitgen.verify.reference import Reference
from petitgen.verify.shapes import Shape
from petitgen.verify.targets import Target
from runtime.epilogue import Epilogue
from runtime.errors import RuntimeLibraryError
from runtime.manifest import Kernel


def plan(kernel: Kernel, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[GroupedShape, ...]:
    """The problems for a kernel. VerifyError for one that it does not take."""
    if kernel.weights not in SCHEMES:
        raise VerifyError(f"{kernel.name}: no reference for {kernel.op} with {kernel.weights} weights")
    plan = grouped(shapes) if shapes else default_shapes(kernel.tile, *shape_facts(kernel))
    if slices:
        plan = with_slices(plan, slices)
    for shape in plan:
        lda, ldc = pitches(kernel, shape.plain)
        check_limits(kernel, shape.m, shape.n, shape.k, lda, ldc, shape.slices, shape.columns)
    return plan


def case(target: Target, kernel: Kernel, shape: GroupedShape, sanitize: bool) -> GemmCase:
    """Run a kernel at a problem and look at what it gave."""
    start = time.perf_counter()
    lda, ldc = pitches(kernel, shape.plain)
    tolerance = kernel.bounds
    problem = make_grouped(shape, kernel.activations, kernel.weights, whole_range(kernel.name))
    try:
        done = execute_grouped(kernel, target.path, target.arch, problem, lda, ldc, sanitize)
    except (PetitgenError, RuntimeLibraryError) as error:
        faults = error.findings if isinstance(error, EmulationError) else ()
        return GemmCase(shape, str(error), None, (), 0, time.perf_counter() - start, faults, lda, ldc, "")
    rows = np.flatnonzero(problem.written)
    whole = evaluate_grouped(problem, flushes(target.arch), tolerance)
    reference = Reference(whole.y[rows], whole.magnitude[rows], whole.underflow[rows], None if whole.free is None else whole.free[rows])
    mismatch = compare(done.c[rows], reference, tolerance, kernel.activations)
    if mismatch:
        mismatch = replace(mismatch, index=(int(rows[mismatch.index[0]]), mismatch.index[1]))
    took = time.perf_counter() - start
    kinds = _kinds(problem, mismatch) if mismatch else ""
    return GemmCase(shape, "", mismatch, done.trespasses, done.instructions, took, done.faults, lda, ldc, kinds)


def _kinds(problem: GroupedProblem, mismatch: Mismatch) -> str:
    shape, (row, column) = problem.shape, mismatch.index
    expert = int(problem.expert[row])
    a_row = row if shape.slots > 1 else row // shape.topk
    w_row = column * (2 if shape.options & Epilogue.SWIGLU else 1)
    w_kind = problem.w_kinds[problem.numbers.index(expert)][w_row]
    return f"expert {expert}, A row: {problem.a_kinds[a_row]}, W row: {w_kind}"
