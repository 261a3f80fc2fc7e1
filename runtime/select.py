"""Which kernel for a problem: from the manifest's facts and the number of compute units, the same answer every time.

The rule estimates clocks. A workgroup of tile m x n does, for each element of K,

    tile.m * tile.n / MACS         matrix instructions, padding included
    tile.n * BYTES_W / HBM         its weights, which nobody else reads, from memory
    tile.m * BYTES_A / L2          activations, which its neighbours read too, from the L2 cache

and a device with C compute units works through its workgroups in ceil(workgroups / C) rounds. The first two overlap, so
the larger counts. Cost = rounds * (max(matrix, weights) + activations) * K. Big tiles win by their last term, until they
leave compute units idle or compute rows that are not there. Of equals the larger tile, then the first name.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.descriptors import extent
from runtime.errors import OperandError, ShapeError
from runtime.manifest import Kernel
from runtime.memory import ITEM_BYTES, number

# Multiply-adds a clock and compute unit: four SIMDs, a 16x16x16 MFMA in 16 clocks (gfx942) or 32 (gfx90a).
# Source: AMD matrix instruction calculator, v_mfma_f32_16x16x16_f16.
MACS: Mapping[str, int] = types.MappingProxyType({"gfx90a": 512, "gfx942": 1024})
# Bytes a clock and compute unit. HBM: 1.6 TB/s, 110 CUs, 1.7 GHz (one MI250X die) and 5.3 TB/s, 304 CUs, 2.1 GHz
# (MI300X) both give 8. L2: 64, CDNA3 white paper.
HBM, L2 = 8.0, 64.0
BYTES_W, BYTES_A = 0.5 + 1 / 16, 2.0  # a 4-bit code and its share of a scale; bf16 or fp16


@dataclass(frozen=True, slots=True)
class Problem:
    """One GEMM: C[m, n] = A[m, k] x W[n, k]^T, row pitches in elements. contract: gemm_nvfp4_bf16."""

    contract: str
    m: int
    n: int
    k: int
    lda: int
    ldc: int

    def __str__(self) -> str:
        return f"{self.contract} m={self.m} n={self.n} k={self.k} lda={self.lda} ldc={self.ldc}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The kernel that is launched for a problem, and why."""

    kernel: Kernel
    why: str

    def __str__(self) -> str:
        return f"{self.kernel.name}: {self.why}"


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
        lambda p, v: max(p.lda, p.ldc) <= v,
        "rows may be at most {v} elements apart, these are {p.lda} and {p.ldc}",
    ),
}


def problem_of(contract: Any, m: Any, n: Any, k: Any, lda: Any, ldc: Any) -> Problem:
    """A Problem of what a caller gave; pitches of None are K and N. OperandError for what are no sizes."""
    if not isinstance(contract, str):
        raise OperandError(f"contract is {contract!r:.60}: a name is needed, as in gemm_nvfp4_bf16")
    m, n, k = number(m, "m"), number(n, "n"), number(k, "k")
    lda, ldc = (k if lda is None else number(lda, "lda")), (n if ldc is None else number(ldc, "ldc"))
    problem = Problem(contract, m, n, k, lda, ldc)
    if m < 0 or n < 1 or k < 1:
        raise OperandError(f"{problem}: sizes start at 1")
    if m > 1 and (lda < k or ldc < n):
        raise OperandError(f"{problem}: rows of x and out are {k} and {n} long, and cannot be nearer to each other")
    return problem


def contract_of(kernel: Kernel) -> str:
    """What a kernel computes, by one name: gemm_nvfp4_bf16."""
    return f"{kernel.op}_{kernel.weights}_{kernel.activations}"


def refusal(kernel: Kernel, problem: Problem) -> str | None:
    """Why a kernel cannot take a problem, or None."""
    for name, value in kernel.constraints.items():
        if name not in _CONSTRAINTS:
            return f"it has the constraint {name}, which this runtime does not know"
        holds, text = _CONSTRAINTS[name]
        if not holds(problem, value):
            return text.format(p=problem, v=value)
    extents = {
        "a": extent(problem.m, problem.k, problem.lda, ITEM_BYTES),
        "c": extent(problem.m, problem.n, problem.ldc, ITEM_BYTES),
    }
    for argument in kernel.kernarg.args:
        size = extents.get(argument.name, 0)
        if size > argument.max_bytes:
            return f"{argument.name.upper()} takes {size} bytes, {argument.max_bytes} is the limit: split it along M"
    return None


def choose(kernels: Iterable[Kernel], problem: Problem, arch: str, compute_units: int) -> Selection:
    """The cheapest kernel by the rule above. ShapeError if none takes the problem; its text says why.

    The seam for measured choices: a table that knows this problem goes before the estimate, here and nowhere else.
    """
    offered = [kernel for kernel in kernels if contract_of(kernel) == problem.contract]
    refused = {kernel.name: refusal(kernel, problem) for kernel in offered}
    able = [kernel for kernel in offered if refused[kernel.name] is None]
    if not able:
        raise ShapeError(_none_takes(problem, arch, refused))
    ranked = sorted(able, key=lambda kernel: _order(kernel, problem, arch, compute_units))
    return Selection(ranked[0], _why(ranked, problem, arch, compute_units))


def workgroups(kernel: Kernel, problem: Problem) -> int:
    x, y, z = kernel.grid.size(m=problem.m, n=problem.n, k=problem.k)
    return x * y * z


def cost(kernel: Kernel, problem: Problem, arch: str, compute_units: int) -> float:
    """Estimated clocks, good for comparing kernels only."""
    m, n = kernel.tile["m"], kernel.tile["n"]
    rounds = -(-workgroups(kernel, problem) // compute_units)
    step = max(m * n / MACS[arch], n * BYTES_W / HBM) + m * BYTES_A / L2
    return rounds * step * problem.k


def _order(kernel: Kernel, problem: Problem, arch: str, compute_units: int) -> tuple[float, int, str]:
    return cost(kernel, problem, arch, compute_units), -kernel.tile["m"] * kernel.tile["n"], kernel.name


def _why(ranked: list[Kernel], problem: Problem, arch: str, compute_units: int) -> str:
    best = ranked[0]
    m, n = best.tile["m"], best.tile["n"]
    groups = workgroups(best, problem)
    rounds = -(-groups // compute_units)
    padding = 1 - problem.m * problem.n / (-(-problem.m // m) * m * -(-problem.n // n) * n)
    text = (
        f"{groups} workgroup{'s' * (groups != 1)} of {m} x {n} on {compute_units} compute units take"
        f" {rounds} round{'s' * (rounds != 1)}, {padding:.0%} of what they compute is padding;"
        f" estimated {cost(best, problem, arch, compute_units):,.0f} clocks"
    )
    if len(ranked) > 1:
        second = ranked[1]
        text += f", next is {second.name} with {cost(second, problem, arch, compute_units):,.0f}"
    return text


def _none_takes(problem: Problem, arch: str, refused: Mapping[str, str | None]) -> str:
    if not refused:
        return f"no kernel for {problem.contract} on {arch}: build one with petitgen build, or see lib.contracts"
    reasons = sorted({str(reason) for reason in refused.values()})
    return f"no kernel takes {problem}: {'; '.join(reasons)}"
