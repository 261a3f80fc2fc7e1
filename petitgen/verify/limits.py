"""What a kernel takes, by its manifest: checked before anything is allocated."""

from __future__ import annotations

from petitgen.errors import VerifyError
from runtime.formats import BRICK_K, BRICK_N, FORMATS
from runtime.manifest import Kernel
from runtime.select import Problem, contract_of, refusal


class NotTakenError(VerifyError):
    """A kernel does not take a problem; others may."""


def check_limits(
    kernel: Kernel, m: int, n: int, k: int, lda: int, ldc: int, slices: int = 1, columns: int | None = None
) -> None:
    """NotTakenError, with the limit, when the kernel does not take a problem of this size.

    lda, ldc: elements. columns: of C, N unless an epilogue makes fewer of them.
    """
    for name, value in {"M": m, "N": n, "K": k, "slices": slices}.items():
        if value < 1:
            raise VerifyError(f"{kernel.name}: {name} = {value}; at least 1 is needed")
    for name, pitch, row in (("A", lda, k), ("C", ldc, n if columns is None else columns)):
        if pitch < row:
            raise VerifyError(f"{kernel.name}: rows of {name} are {row} elements, but only {pitch} apart")
    problem = Problem(contract_of(kernel), m, n, k, lda, ldc)
    reason = refusal(kernel, problem, slices) or _weights_refusal(kernel, n, k)
    if reason:
        raise NotTakenError(f"{kernel.name} at M = {m}, N = {n}, K = {k}: {reason}")


def check_arch(kernel: Kernel, arch: str) -> None:
    """VerifyError when the kernel was built for another architecture."""
    built_for = kernel.target.partition(":")[0]
    if arch != built_for:
        raise VerifyError(f"{kernel.name}: built for {built_for}, cannot run as {arch}")


def _weights_refusal(kernel: Kernel, n: int, k: int) -> str | None:
    """Why W, its scales or its outer scales are too large for the kernel, or None."""
    bricks = -(-n // BRICK_N) * -(-k // BRICK_K)
    fmt = FORMATS[kernel.weights]
    extents = {"w": bricks * fmt.brick_bytes, "s": bricks * BRICK_N * fmt.scales_per_brick, "o": 4 * n}
    for argument in kernel.kernarg.args:
        size = extents.get(argument.name, 0)
        if size > argument.max_bytes:
            return f"{argument.name.upper()} takes {size} bytes, {argument.max_bytes} is the limit: split it along N"
    return None
