"""Which kernel for a problem, and how many workgroups share a tile of it along K: the same answer every time.

A table of measured choices (runtime/tuned.py) goes first. Where it has none, the kernel and number of slices with the
least estimated clocks (runtime/estimate.py) are taken; of equals the larger tile, then the fewer slices, then the first
name. That the table has nothing is logged once for each weight.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.descriptors import extent
from runtime.epilogue import NONE, Epilogue
from runtime.errors import OperandError, ShapeError
from runtime.estimate import Estimate, estimate, slice_counts
from runtime.formats import FORMATS
from runtime.manifest import GEMMS, Kernel
from runtime.memory import ITEM_BYTES, ITEM_SIZES, number
from runtime.tuned import Table
from runtime.workspace import partial_bytes, splits, tiles

_LOG = logging.getLogger(__name__)
MOST_SLICES = 1 << 10
PADDED = 4  # a measurement at more than four times the rows says little


@dataclass(frozen=True, slots=True)
class Problem:
    """One GEMM: C[m, n] = A[m, k] x W[n, k]^T, row pitches in elements. contract: gemm_nvfp4_bf16.

    options  of the epilogue (runtime/epilogue.py); ldr: row pitch of the residual
    """

    contract: str
    m: int
    n: int
    k: int
    lda: int
    ldc: int
    options: Epilogue = NONE
    ldr: int = 0

    @property
    def columns(self) -> int:
        """Of C."""
        return self.options.columns(self.n)

    @property
    def pitches(self) -> str:
        """Of x, out and, where there is one, the residual."""
        return " and ".join(str(pitch) for pitch in (self.lda, self.ldc, self.ldr) if pitch)

    def __str__(self) -> str:
        options = f" {self.options.name}" if self.options else ""
        return f"{self.contract} m={self.m} n={self.n} k={self.k} lda={self.lda} ldc={self.ldc}{options}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The kernel that is launched for a problem, why, and how many workgroups share a tile of C along K."""

    kernel: Kernel
    why: str
    slices: int = 1

    def __str__(self) -> str:
        return f"{self.kernel.name}{f' in {self.slices} slices' if self.slices > 1 else ''}: {self.why}"


# What the manifest may demand of a problem: whether it holds, and what is said if not.
_CONSTRAINTS: dict[str, tuple[Callable[[Problem, int], bool], str]] = {
    "k_multiple": (lambda p, v: p.k % v == 0, "K has to be a multiple of {v}, it is {p.k}"),
    "lda_multiple": (
        lambda p, v: p.lda % v == 0,
        "rows of A have to be a multiple of {v} elements apart, they are {p.lda} apart",
    ),
    "ldc_multiple": (
        lambda p, v: p.ldc % v == 0,
        "rows of C have to be a multiple of {v} elements apart, they are {p.ldc} apart",
    ),
    "max_pitch": (
        lambda p, v: max(p.lda, p.ldc, p.ldr) <= v,
        "rows may be at most {v} elements apart, these are {p.pitches}",
    ),
}


def problem_of(
    contract: Any, m: Any, n: Any, k: Any, lda: Any, ldc: Any, options: Epilogue = NONE, ldr: Any = None
) -> Problem:
    """A Problem of what a caller gave; pitches of None are as long as rows. OperandError for what are no sizes."""
    if not isinstance(contract, str):
        raise OperandError(f"contract is {contract!r:.60}: a name is needed, as in gemm_nvfp4_bf16")
    op, *types = contract.split("_")
    if op not in GEMMS or len(types) < 2:
        raise OperandError(f"contract is {contract!r:.60}, which is no GEMM with packed weights, as gemm_nvfp4_bf16 is:"
                           " lib.contracts has those there are kernels for")  # fmt: skip
    m, n, k = number(m, "m"), number(n, "n"), number(k, "k")
    columns = options.columns(n)
    lda, ldc = (k if lda is None else number(lda, "lda")), (columns if ldc is None else number(ldc, "ldc"))
    ldr = (ldc if ldr is None else number(ldr, "ldr")) if options & Epilogue.RESIDUAL else 0
    problem = Problem(contract, m, n, k, lda, ldc, options, ldr)
    if m < 0 or n < 1 or k < 1:
        raise OperandError(f"{problem}: sizes start at 1")
    if m > 1 and (lda < k or ldc < columns or (options & Epilogue.RESIDUAL and ldr < columns)):
        raise OperandError(
            f"{problem}: rows of x, out and a residual are {k}, {columns} and {columns} long, and cannot be nearer to each other"
            " than that (lda, ldc, ldr)"
        )
    return problem


def contract_of(kernel: Kernel) -> str:
    """What a kernel computes, by one name: gemm_nvfp4_bf16, gemm_fp8_fp8_bf16 where results have a type of their own."""
    out = "" if kernel.out == kernel.activations else kernel.out
    return "_".join(part for part in (kernel.op, kernel.weights, kernel.activations, out) if part)


def contracts(kernels: Iterable[Kernel]) -> tuple[str, ...]:
    """Of the GEMMs among kernels: what `choose` can be asked for."""
    return tuple(sorted({contract_of(kernel) for kernel in kernels if kernel.op in GEMMS}))


def computes(kernel: Kernel, problem: Problem) -> bool:
    """Whether a kernel is a GEMM of the problem's contract: other ops have no tiles to choose by."""
    return kernel.op in GEMMS and contract_of(kernel) == problem.contract


def refusal(kernel: Kernel, problem: Problem, slices: int = 1) -> str | None:
    """Why a kernel cannot take a problem in that many slices, or None."""
    for name, value in kernel.constraints.items():
        if name not in _CONSTRAINTS:
            return f"it has the constraint {name}, which this runtime does not know"
        holds, text = _CONSTRAINTS[name]
        if not holds(problem, value):
            return text.format(p=problem, v=value)
    extents = {
        "a": extent(problem.m, problem.k, problem.lda, ITEM_SIZES.get(kernel.activations, ITEM_BYTES)),
        "c": extent(problem.m, problem.columns, problem.ldc, ITEM_BYTES),
        "residual": extent(problem.m, problem.columns, problem.ldr, ITEM_BYTES),
    }
    if problem.options and not any(argument.name == "options" for argument in kernel.kernarg.args):
        return f"it cannot do more to a result than round it, {problem.options.name} is asked for"
    for argument in kernel.kernarg.args:
        size = extents.get(argument.name, 0)
        if size > argument.max_bytes:
            return f"{argument.name.upper()} takes {size} bytes, {argument.max_bytes} is the limit: split it along M"
    return _too_many(kernel, problem, slices)


def _too_many(kernel: Kernel, problem: Problem, slices: int) -> str | None:
    """Why not in so many slices, or None."""
    if slices == 1:
        return None
    if slices > MOST_SLICES:
        return f"no more than {MOST_SLICES} workgroups can share a tile"
    if not splits(kernel):
        return "its workgroups cannot share a tile: slices has to be 1"
    size = partial_bytes(kernel, problem.m, problem.n, slices)
    limit = min((argument.max_bytes for argument in kernel.kernarg.args if argument.name in ("p", "t")), default=0)
    if size > limit:
        return f"partial sums of {slices} slices take {size} bytes, {limit} is the limit: take fewer"
    return None


def choose(
    kernels: Iterable[Kernel], problem: Problem, arch: str, compute_units: int, table: Table | None = None
) -> Selection:
    """The table's choice, else the cheapest by the estimate. ShapeError if no kernel takes the problem, and why."""
    kernels = list(kernels)
    offered = {kernel.name: kernel for kernel in kernels if computes(kernel, problem)}
    able = _able(kernels, problem, arch)
    tuned = _tuned(offered, problem, compute_units, table) if table is not None else None
    return tuned or _cheapest(able, problem, arch, compute_units)


def force(kernel: Kernel, problem: Problem, arch: str, compute_units: int, slices: Any = None) -> Selection:
    """This kernel. slices: how many workgroups share a tile; None: as many as the estimate says. ShapeError if it does
    not take the problem, OperandError for what is no number of slices."""
    if not computes(kernel, problem):
        raise ShapeError(f"{kernel.name} does not compute {problem.contract}")
    if slices is not None:
        slices = number(slices, "slices")
        if not 1 <= slices <= MOST_SLICES:
            raise OperandError(f"slices is {slices}: from 1 to {MOST_SLICES} workgroups can share a tile")
    return _cheapest(_able([kernel], problem, arch, slices or 1), problem, arch, compute_units, slices)


def candidates(kernels: Iterable[Kernel], problem: Problem, arch: str, compute_units: int) -> list[Candidate]:
    """(estimate, kernel, slices) of all that take the problem, the cheapest first."""
    return _ranked(_able(kernels, problem, arch), problem, arch, compute_units)


def _able(kernels: Iterable[Kernel], problem: Problem, arch: str, slices: int = 1) -> list[Kernel]:
    kernels = list(kernels)
    looked = [(kernel, refusal(kernel, problem, slices)) for kernel in kernels if computes(kernel, problem)]
    able = [kernel for kernel, reason in looked if reason is None]
    if not able:
        raise ShapeError(_none_takes(problem, arch, [str(reason) for _, reason in looked], contracts(kernels)))
    return able


# ---- measured ---------------------------------------------------------------------------------------
def _tuned(kernels: Mapping[str, Kernel], problem: Problem, compute_units: int, table: Table) -> Selection | None:
    """What the table has for these rows, or for the next larger number; beyond its last, that one if it is enough to
    fill the device: more rows are then more of the same."""
    last = None
    for row in table.rows(problem.contract, problem.n, problem.k):
        kernel = kernels.get(row.kernel)
        if kernel is None:
            table.once(_LOG, f"{table} names {row.kernel}, which is not built: its rows are passed over")
            continue
        if row.m > problem.m * PADDED:
            break
        reason = refusal(kernel, problem, row.slices)
        if reason is not None:
            table.once(_LOG, f"{table} has {row.kernel} in {row.slices} slices for m={row.m} n={row.n} k={row.k}, which"
                             f" is passed over: {reason}")  # fmt: skip
            continue
        if row.m >= problem.m:
            return Selection(kernel, f"{row} ({table})", row.slices)
        last = row if row.slices == 1 and tiles(kernel, row.m, problem.n) >= compute_units else None
    else:
        if last is not None:
            return Selection(kernels[last.kernel], f"{last} and more rows are more of the same ({table})", 1)
    table.once(_LOG, f"{table} has nothing for {problem.contract} n={problem.n} k={problem.k} near m={problem.m}:"
                     " kernels are chosen by an estimate; petitgen tune finds better ones",
               (problem.contract, problem.n, problem.k))  # fmt: skip
    return None


# ---- estimated --------------------------------------------------------------------------------------
Candidate = tuple[Estimate, Kernel, int]


def _ranked(
    kernels: Iterable[Kernel], problem: Problem, arch: str, compute_units: int, slices: int | None = None
) -> list[Candidate]:
    """Of kernels that take the problem, the cheapest first."""
    m, n, k = problem.m, problem.n, problem.k
    found = [
        (estimate(kernel, m, n, k, count, arch, compute_units), kernel, count)
        for kernel in kernels
        for count in ([slices] if slices else slice_counts(kernel, m, n, k, compute_units))
        if _too_many(kernel, problem, count) is None
    ]
    return sorted(found, key=_order)


def _order(candidate: Candidate) -> tuple[float, int, int, str]:
    cost, kernel, slices = candidate
    return cost.clocks, -kernel.tile["m"] * kernel.tile["n"], slices, kernel.name


def _cheapest(
    kernels: Iterable[Kernel], problem: Problem, arch: str, compute_units: int, slices: int | None = None
) -> Selection:
    ranked = _ranked(kernels, problem, arch, compute_units, slices)
    cost, best, count = ranked[0]
    rows, columns = best.tile["m"], best.tile["n"]
    padding = 1 - problem.m * problem.n / (tiles(best, problem.m, problem.n) * rows * columns)
    text = (
        f"{cost.workgroups} workgroup{'s' * (cost.workgroups != 1)} of {rows} x {columns}"
        f" on {compute_units} compute units take {cost.rounds} round{'s' * (cost.rounds != 1)},"
        f" {padding:.0%} of what they compute is padding; estimated {cost.clocks:,.0f} clocks"
    )
    others = [other for other in ranked if other[1] is not best]
    if others:
        text += f", next is {others[0][1].name} with {others[0][0].clocks:,.0f}"
    return Selection(best, text, count)


# What to do instead where an architecture has no such kernels, by whether activations are FP8.
_INSTEAD = {
    ("gfx90a", True): "it has no FP8 matrix instructions; {weights} weights go with bf16 or fp16 activations there"
    " ({kind}: gemm_{weights}_bf16, gemm_{weights}_fp16)",
    ("gfx942", False): "FP8 weights go with FP8 activations there, at twice the rate (gemm_fp8_fp8_bf16: lib.gemm with x_scale)",
}


def _instead(weights: str, activations: str, arch: str) -> str:
    if weights not in FORMATS or "fp8" not in (weights, activations):
        return ""
    kind = "W8A16" if weights == "fp8" else "W4A16"
    return _INSTEAD.get((arch, activations == "fp8"), "").format(weights=weights, kind=kind)


def _none_takes(problem: Problem, arch: str, refused: Iterable[str], offered: Iterable[str]) -> str:
    reasons = sorted(set(refused))
    if reasons:
        return f"no kernel takes {problem}: {'; '.join(reasons)}"
    _, weights, activations, *_ = (*problem.contract.split("_"), "")  # other ops have one type at least
    instead = _instead(weights, activations, arch)
    if not instead:
        alike = [one for one in offered if one.split("_")[1] == weights]
        instead = "build one with petitgen build, or see lib.contracts"
        if alike:
            instead = f"for {weights} weights this library has {', '.join(alike)}; petitgen list --matrix has what can be built"
    return f"no kernel for {problem.contract} on {arch}: {instead}"
