"""Verifies built kernels against references, on as many processes as there are cores or on any executor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from petitgen.errors import VerifyError
from petitgen.executors import each
from petitgen.verify import conversions, gemm, grouped_case, tokens
from petitgen.verify.case import Case, Op, Problem
from petitgen.verify.limits import NotTakenError, check_arch
from petitgen.verify.shapes import Shape
from petitgen.verify.targets import Target

OPS = MappingProxyType(
    {
        "gemm": Op(gemm.plan, gemm.case),
        "grouped": Op(grouped_case.plan, grouped_case.case),
        "quantize": Op(conversions.plan, conversions.quantize_case),
        "dequantize": Op(conversions.plan, conversions.dequantize_case),
        "amax": Op(conversions.amax_plan, conversions.amax_case),
        "rowquantize": Op(tokens.plan, tokens.case),
    }
)


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel at all its problems."""

    name: str
    arch: str
    cases: tuple[Case, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return bool(self.cases) and all(case.ok for case in self.cases)


@dataclass(frozen=True, slots=True)
class Report:
    """Every kernel of a run, in the order of the targets. skipped: why shapes were left out, that others took."""

    kernels: tuple[KernelReport, ...]
    seconds: float
    skipped: tuple[str, ...] = ()

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

    shapes      of GEMMs, in place of those each kernel's tile asks for
    jobs        processes; default: one a core this process may use. 1 stays in this process
    stop_early  leave a kernel at its first wrong case
    sanitize    look for faults that results do not show; they make a case wrong
    progress    called with each kernel's report as it is done
    slices      workgroups a tile: each shape with each of these. None given: 1, and with the kernel's own shapes
                2 or 3, too, if its workgroups can share a tile
    executor    in place of processes of its own (petitgen.executors)

    VerifyError when a target's files are missing or do not match the manifest, or a shape suits none of the targets. One that
    some do not take is left out for these, and they altogether when nothing is left.
    """
    start = time.perf_counter()
    targets, plans, skipped = _plans(targets, shapes, slices)
    # The kernels with most work start first: none is left over at the end.
    order = sorted(range(len(targets)), key=lambda i: -sum(problem.work for problem in plans[i]))
    tasks = [(targets[i], plans[i], stop_early, sanitize) for i in order]
    done: dict[int, KernelReport] = {}
    for index, report in each(verify_kernel, tasks, jobs=jobs, executor=executor):
        done[order[index]] = report
        if progress:
            progress(report)
    return Report(tuple(done[i] for i in range(len(targets))), time.perf_counter() - start, tuple(skipped))


def _plans(
    targets: Sequence[Target], shapes: Sequence[Shape] | None, slices: Sequence[int]
) -> tuple[list[Target], list[tuple[Problem, ...]], list[str]]:
    """Targets that have problems, these, and why others were left out."""
    plans: list[tuple[Problem, ...]] = [()] * len(targets)
    skipped: list[str] = []
    for shape, count in product(shapes or (None,), slices or (None,)):
        refused: list[NotTakenError] = []
        for i, target in enumerate(targets):
            try:
                plans[i] += _plan(target, [shape] if shape else None, [count] if count else ())
            except NotTakenError as error:
                refused.append(error)
        if refused and (len(refused) == len(targets) or not (shapes or slices)):
            raise refused[0]
        skipped += map(str, refused)
    kept = [i for i, plan in enumerate(plans) if plan or not skipped]
    return [targets[i] for i in kept], [plans[i] for i in kept], skipped


def _plan(target: Target, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Problem, ...]:
    """The problems for a target. Whatever prevents running it is found here, before any kernel runs."""
    kernel = target.kernel()
    if kernel.op not in OPS:
        raise VerifyError(f"{kernel.name}: no reference for the op {kernel.op}; there are for {', '.join(OPS)}")
    if not target.path.is_file():
        raise VerifyError(f"{target.path}: no such code object; build it with: petitgen build {kernel.name}")
    if target.code_object is None and hashlib.sha256(target.path.read_bytes()).hexdigest() != kernel.sha256:
        raise VerifyError(
            f"{target.path}: not the code object its manifest describes; run: petitgen build {kernel.name}"
        )
    check_arch(kernel, target.arch)
    return OPS[kernel.op].plan(kernel, shapes, slices)


def verify_kernel(
    target: Target, problems: Sequence[Problem], stop_early: bool = False, sanitize: bool = False
) -> KernelReport:
    """Verify one kernel at problems of its op, in this process."""
    start = time.perf_counter()
    kernel, cases = target.kernel(), []
    for problem in problems:
        cases.append(OPS[kernel.op].case(target, kernel, problem, sanitize))
        if stop_early and not cases[-1].ok:
            break
    return KernelReport(kernel.name, target.arch, tuple(cases), time.perf_counter() - start)
