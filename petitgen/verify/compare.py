"""Is a result right? The rule of docs/verification.md, elementwise, without exceptions for awkward values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from petitgen.verify.reference import Reference


class ToleranceFacts(Protocol):
    """|y - y64| <= unit * |y64| + accumulate * sum|a w|: spec.model.Tolerance, or what the manifest has."""

    @property
    def unit(self) -> float: ...
    @property
    def accumulate(self) -> float: ...


@dataclass(frozen=True, slots=True)
class OutputRange:
    """Where an output type ends: from `overflow` on values round to Inf; `subnormal` is its smallest."""

    overflow: float
    subnormal: float


OUTPUT_RANGES = {
    "bf16": OutputRange(overflow=2.0**128 - 2.0**119, subnormal=2.0**-133),
    "fp16": OutputRange(overflow=65520.0, subnormal=2.0**-24),
}

DOUBLE_ROUNDING = 1 + 2.0**-10  # a subnormal result is rounded to f32 first: just over half a place in all


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first element out of bounds in row-major order, and how many there are."""

    index: tuple[int, int]
    expected: float
    got: float
    bound: float
    count: int
    total: int

    def __str__(self) -> str:
        row, column = self.index
        return (
            f"C[{row}, {column}] is {self.got:.6g}, expected {self.expected:.6g} +- {self.bound:.2g}; "
            f"{self.count} of {self.total} elements are wrong"
        )


def compare(got: NDArray, reference: Reference, tolerance: ToleranceFacts, output: str) -> Mismatch | None:
    """None when every element of `got` [M, N] is within tolerance, else the first that is not.

    output: bf16 or fp16. NaN must stand exactly where the reference has it; Inf where the reference is
    infinite, or where the exact value rounds past the range of the type (when the bound straddles that edge,
    either is right).
    """
    limits = OUTPUT_RANGES[output]
    value, y = got.astype(np.float64), reference.y
    with np.errstate(invalid="ignore", over="ignore"):
        floor = limits.subnormal / 2 * DOUBLE_ROUNDING + reference.underflow
        bound = tolerance.unit * np.abs(y) + tolerance.accumulate * reference.magnitude + floor
        near = np.isfinite(value) & np.isfinite(y) & (np.abs(value - y) <= bound)
        overflowed = np.isfinite(y) & np.isinf(value) & (np.sign(value) * y + bound >= limits.overflow)
    good = near | overflowed | (value == y) & np.isinf(y) | np.isnan(value) & np.isnan(y)
    if reference.free is not None:
        good |= reference.free
    if good.all():
        return None
    row, column = (int(i) for i in np.argwhere(~good)[0])
    return Mismatch(
        index=(row, column),
        expected=float(y[row, column]),
        got=float(value[row, column]),
        bound=float(bound[row, column]),
        count=int((~good).sum()),
        total=good.size,
    )
