"""Verifies a GEMM at shapes: against the float64 reference, within its tolerance."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from petitgen.errors import EmulationError, PetitgenError, VerifyError
from petitgen.spec import Catalog, load_catalog
from petitgen.verify.case import Case
from petitgen.verify.checkpoints import SCHEMES
from petitgen.verify.compare import compare
from petitgen.verify.device import execute
from petitgen.verify.epilogue import apply, make_extra
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.limits import check_limits
from petitgen.verify.reference import evaluate
from petitgen.verify.shapes import MAX_PITCH, Shape, default_shapes, in_epilogues, in_slices
from petitgen.verify.targets import Target
from runtime.epilogue import Epilogue
from runtime.errors import RuntimeLibraryError
from runtime.manifest import Kernel
from runtime.packing import pack
from runtime.workspace import splits


@dataclass(frozen=True, slots=True)
class GemmCase(Case):
    """lda, ldc: row pitches in elements. inputs: the kinds of row (petitgen.verify.inputs) that met in the first wrong
    element."""

    lda: int
    ldc: int
    inputs: str

    @property
    def title(self) -> str:
        return f"{self.shape} (lda {self.lda}, ldc {self.ldc})"

    @property
    def findings(self) -> list[str]:
        wrong = f"{self.mismatch} ({self.inputs})" if self.mismatch else ""
        return [text for text in (self.error, wrong, *self.trespasses, *map(str, self.faults)) if text]


def plan(kernel: Kernel, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Shape, ...]:
    """The shapes for a kernel. VerifyError for one that it does not take."""
    if kernel.weights not in SCHEMES:
        raise VerifyError(f"{kernel.name}: no reference for {kernel.op} with {kernel.weights} weights")
    plan = tuple(shapes or default_shapes(kernel.tile, *shape_facts(kernel)))
    if slices:
        plan = tuple(replace(shape, slices=count) for shape in plan for count in slices)
    elif splits(kernel) and not shapes:
        plan += in_slices(plan)
    if not shapes and not slices and any(argument.name == "options" for argument in kernel.kernarg.args):
        plan += in_epilogues(kernel.tile, shape_facts(kernel)[0])
    for shape in plan:
        columns = shape.options.columns(shape.n)
        check_limits(kernel, shape.m, shape.n, shape.k, *pitches(kernel, shape), shape.slices, columns)
    return plan


def shape_facts(kernel: Kernel) -> tuple[int, int]:
    """The multiple of K, and the largest row pitch."""
    multiple = math.lcm(SCHEMES[kernel.weights].block, kernel.constraints["k_multiple"])
    return multiple, kernel.constraints.get("max_pitch", MAX_PITCH)


def pitches(kernel: Kernel, shape: Shape) -> tuple[int, int]:
    """lda and ldc of a shape, in elements, rounded up to what the kernel takes."""
    multiples = kernel.constraints
    return shape.lda(multiples.get("lda_multiple", 1)), shape.ldc(multiples.get("ldc_multiple", 1))


def case(target: Target, kernel: Kernel, shape: Shape, sanitize: bool) -> GemmCase:
    """Run a kernel at a shape and look at what it gave."""
    start = time.perf_counter()
    lda, ldc = pitches(kernel, shape)
    tolerance = kernel.bounds
    problem = make_problem(
        shape, kernel.activations, kernel.weights, whole_range=whole_range(kernel.name), out=kernel.out
    )
    weights = pack(kernel.weights, *problem.weights.tensors)
    rng = np.random.default_rng(zlib.crc32(str(shape).encode()))
    extra = make_extra(rng, shape.options, shape.m, shape.n, problem.out)
    try:
        done = execute(kernel, target.path, target.arch, problem.a, weights, lda, ldc, sanitize, shape.slices, extra, problem.row_scales)
    except (PetitgenError, RuntimeLibraryError) as error:
        faults = error.findings if isinstance(error, EmulationError) else ()
        return GemmCase(shape, str(error), None, (), 0, time.perf_counter() - start, faults, lda, ldc, "")
    reference = apply(evaluate(problem, flushes=flushes(target.arch), sums=tolerance.sums), extra, tolerance.accumulate)
    mismatch = compare(done.c, reference, tolerance, kernel.out)
    took = time.perf_counter() - start
    kinds = _kinds(problem, mismatch.index) if mismatch else ""
    return GemmCase(shape, "", mismatch, done.trespasses, done.instructions, took, done.faults, lda, ldc, kinds)


def _kinds(problem: Problem, index: tuple[int, int]) -> str:
    column = index[1] * (2 if problem.shape.options & Epilogue.SWIGLU else 1)
    return f"A row: {problem.a_kinds[index[0]]}, W row: {problem.w_kinds[column]}"


def flushes(arch: str) -> bool:
    """Do the matrix cores of `arch` flush subnormals (configs/archs.yaml)?"""
    return _catalog().archs[arch].mfma_flushes_denormals


def whole_range(name: str) -> bool:
    """Does the kernel promise to take activations of any size (configs/kernels/)? Not one that is in no spec."""
    return any(instance.name == name and instance.whole_range for instance in _catalog().tiled)


@lru_cache
def _catalog() -> Catalog:
    return load_catalog()
