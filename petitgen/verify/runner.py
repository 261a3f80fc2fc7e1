"""Verifies built kernels against the float64 reference, on as many processes as there are cores or on any executor."""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from petitgen.emulator.sanitizer import Finding
from petitgen.errors import EmulationError, PetitgenError, VerifyError
from petitgen.executors import each
from petitgen.spec import Catalog, load_catalog
from petitgen.verify.checkpoints import SCHEMES
from petitgen.verify.compare import Mismatch, compare
from petitgen.verify.device import execute
from petitgen.verify.epilogue import apply, make_extra
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.limits import check_arch, check_limits
from petitgen.verify.reference import evaluate
from petitgen.verify.shapes import MAX_PITCH, Shape, default_shapes, in_epilogues, in_slices
from petitgen.verify.targets import Target
from runtime.epilogue import Epilogue
from runtime.errors import RuntimeLibraryError
from runtime.manifest import Kernel
from runtime.packing import pack
from runtime.workspace import splits


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one shape. Right when nothing is wrong in it.

    error         the emulator stopped, or the kernel could not be launched: its message
    mismatch      a wrong result
    inputs        the kinds of row (petitgen.verify.inputs) that met in its first element
    trespasses    memory changed that the kernel must not touch
    instructions  wave-instructions executed
    faults        what the sanitizer found, if it was on
    """

    shape: Shape
    lda: int
    ldc: int
    error: str
    mismatch: Mismatch | None
    inputs: str
    trespasses: tuple[str, ...]
    instructions: int
    seconds: float
    faults: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not (self.error or self.mismatch or self.trespasses or self.faults)

    @property
    def findings(self) -> list[str]:
        """What is wrong, a line each."""
        wrong = f"{self.mismatch} ({self.inputs})" if self.mismatch else ""
        return [text for text in (self.error, wrong, *self.trespasses, *map(str, self.faults)) if text]


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel at all its shapes."""

    name: str
    arch: str
    cases: tuple[Case, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return bool(self.cases) and all(case.ok for case in self.cases)


@dataclass(frozen=True, slots=True)
class Report:
    """Every kernel of a run, in the order of the targets."""

    kernels: tuple[KernelReport, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return bool(self.kernels) and all(kernel.ok for kernel in self.kernels)


def run(
    targets: Sequence[Target],
    *,
    shapes: Sequence[Shape] | None = None,
    jobs: int | None = None,
    stop_early: bool = False,
    sanitize: bool = False,
    progress: Callable[[KernelReport], None] | None = None,
    slices: Sequence[int] = (),
    executor: Executor | None = None,
) -> Report:
    """Verify kernels. A wrong result is a finding in the report, not an exception.

    shapes      in place of those each kernel's tile asks for
    jobs        processes; default: one a core this process may use. 1 stays in this process
    stop_early  leave a kernel at its first wrong case
    sanitize    look for faults that results do not show; they make a case wrong
    progress    called with each kernel's report as it is done
    slices      workgroups a tile: each shape with each of these. None given: 1, and with the kernel's own shapes
                2 or 3, too, if its workgroups can share a tile
    executor    in place of processes of its own (petitgen.executors)

    VerifyError when a target's files are missing or do not match the manifest, or a shape does not suit it.
    """
    start = time.perf_counter()
    plans = [_plan(target, shapes, slices) for target in targets]
    # The kernels with most work start first: none is left over at the end.
    order = sorted(range(len(targets)), key=lambda i: -sum(s.m * s.n * s.k for s in plans[i]))
    tasks = [(targets[i], plans[i], stop_early, sanitize) for i in order]
    done: dict[int, KernelReport] = {}
    for index, report in each(verify_kernel, tasks, jobs=jobs, executor=executor):
        done[order[index]] = report
        if progress:
            progress(report)
    return Report(tuple(done[i] for i in range(len(targets))), time.perf_counter() - start)


def _plan(target: Target, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Shape, ...]:
    """The shapes for a target. Whatever prevents running it is found here, before any kernel runs."""
    kernel = target.kernel()
    if kernel.op != "gemm" or kernel.weights not in SCHEMES:
        raise VerifyError(f"{kernel.name}: no reference for {kernel.op} with {kernel.weights} weights")
    if not target.path.is_file():
        raise VerifyError(f"{target.path}: no such code object; build it with: petitgen build {kernel.name}")
    if target.code_object is None and hashlib.sha256(target.path.read_bytes()).hexdigest() != kernel.sha256:
        raise VerifyError(
            f"{target.path}: not the code object its manifest describes; run: petitgen build {kernel.name}"
        )
    check_arch(kernel, target.arch)
    plan = tuple(shapes or default_shapes(kernel.tile, *_shape_facts(kernel)))
    if slices:
        plan = tuple(replace(shape, slices=count) for shape in plan for count in slices)
    elif splits(kernel) and not shapes:
        plan += in_slices(plan)
    if not shapes and not slices and any(argument.name == "options" for argument in kernel.kernarg.args):
        plan += in_epilogues(kernel.tile, _shape_facts(kernel)[0])
    for shape in plan:
        columns = shape.options.columns(shape.n)
        check_limits(kernel, shape.m, shape.n, shape.k, *_pitches(kernel, shape), shape.slices, columns)
    return plan


def _shape_facts(kernel: Kernel) -> tuple[int, int]:
    """The multiple of K, and the largest row pitch."""
    multiple = math.lcm(SCHEMES[kernel.weights].block, kernel.constraints["k_multiple"])
    return multiple, kernel.constraints.get("max_pitch", MAX_PITCH)


def _pitches(kernel: Kernel, shape: Shape) -> tuple[int, int]:
    """lda and ldc of a shape, in elements, rounded up to what the kernel takes."""
    multiples = kernel.constraints
    return shape.lda(multiples.get("lda_multiple", 1)), shape.ldc(multiples.get("ldc_multiple", 1))


def verify_kernel(
    target: Target, shapes: Sequence[Shape], stop_early: bool = False, sanitize: bool = False
) -> KernelReport:
    """Verify one kernel in this process."""
    start = time.perf_counter()
    kernel, cases = target.kernel(), []
    for shape in shapes:
        cases.append(_case(target, kernel, shape, sanitize))
        if stop_early and not cases[-1].ok:
            break
    return KernelReport(kernel.name, target.arch, tuple(cases), time.perf_counter() - start)


def _case(target: Target, kernel: Kernel, shape: Shape, sanitize: bool) -> Case:
    start = time.perf_counter()
    lda, ldc = _pitches(kernel, shape)
    sums = kernel.tolerance.sums
    problem = make_problem(shape, kernel.activations, kernel.weights, whole_range=_whole_range(kernel.name))
    weights = pack(kernel.weights, *problem.weights.tensors)
    rng = np.random.default_rng(zlib.crc32(str(shape).encode()))
    extra = make_extra(rng, shape.options, shape.m, shape.n, problem.float_type)
    try:
        done = execute(kernel, target.path, target.arch, problem.a, weights, lda, ldc, sanitize, shape.slices, extra)
    except (PetitgenError, RuntimeLibraryError) as error:
        faults = error.findings if isinstance(error, EmulationError) else ()
        return Case(shape, lda, ldc, str(error), None, "", (), 0, time.perf_counter() - start, faults)
    reference = apply(evaluate(problem, flushes=_flushes(target.arch), sums=sums), extra)
    mismatch = compare(done.c, reference, kernel.tolerance, kernel.activations)
    took = time.perf_counter() - start
    kinds = _kinds(problem, mismatch.index) if mismatch else ""
    return Case(shape, lda, ldc, "", mismatch, kinds, done.trespasses, done.instructions, took, done.faults)


def _kinds(problem: Problem, index: tuple[int, int]) -> str:
    column = index[1] * (2 if problem.shape.options & Epilogue.SWIGLU else 1)
    return f"A row: {problem.a_kinds[index[0]]}, W row: {problem.w_kinds[column]}"


def _flushes(arch: str) -> bool:
    """Do the matrix cores of `arch` flush subnormals (configs/archs.yaml)?"""
    return _catalog().archs[arch].mfma_flushes_denormals


def _whole_range(name: str) -> bool:
    """Does the kernel promise to take activations of any size (configs/kernels/)? Not one that is in no spec."""
    return any(instance.name == name and instance.whole_range for instance in _catalog().instances)


@lru_cache
def _catalog() -> Catalog:
    return load_catalog()
