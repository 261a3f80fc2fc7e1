"""Launches of the kernels that quantize rows to FP8, on memory by address: torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runtime.conversions import EIGHT, RowConversion
from runtime.convert import Device
from runtime.descriptors import extent
from runtime.errors import OperandError, ShapeError
from runtime.memory import ITEM_BYTES

_MOST = 1 << 31  # bytes of a launch
_LARGEST = float(np.finfo(np.float32).max)
FORM = "fp8"


@dataclass(frozen=True, slots=True)
class Matrix:
    """bf16 or fp16 [rows, columns] at an address, rows `pitch` elements apart."""

    address: int
    rows: int
    columns: int
    pitch: int


def quantize_rows(
    on: Device,
    dtype: str,
    x: Matrix,
    codes: int,
    scales: int,
    weight: int = 0,
    epsilon: float = 0.0,
    residual: Matrix | None = None,
    total: int = 0,
) -> None:
    """x to codes, E4M3FNUZ [rows, columns], and scales, float32 [rows]. docs/quantization.md, "FP8 a token".

    weight    of RMSNorm [columns], of the type of x; 0: no norm
    residual  of the size of x, added first; the sum, rounded to the type of x, goes to `total`, contiguous, which may be
              the memory of x or of the residual where that is contiguous
    Raises ShapeError for rows that are too long, OperandError, ClosedError, HipError.
    """
    kernel = on.kernel("rowquantize", FORM, dtype)
    if x.columns % EIGHT or x.pitch % EIGHT or (residual is not None and residual.pitch % EIGHT):
        raise ShapeError(f"rows of {x.columns} elements, {x.pitch} apart: multiples of {EIGHT} are needed, and of 16"
                         " for a GEMM of the codes")  # fmt: skip
    if x.columns > kernel.tile["most"]:
        raise ShapeError(f"x has {x.columns} columns: {kernel.name} keeps a row of {kernel.tile['most']} at most")
    if residual is not None and (residual.rows, residual.columns) != (x.rows, x.columns):
        raise OperandError(f"residual is [{residual.rows}, {residual.columns}], x [{x.rows}, {x.columns}]: one size is needed")
    _check_epsilon(epsilon)
    options = RowConversion(0)
    options |= RowConversion.NORM if weight else RowConversion(0)
    options |= RowConversion.RESIDUAL if residual is not None else RowConversion(0)
    other = residual or Matrix(0, 0, x.columns, 0)
    step = _MOST // max(x.pitch, other.pitch, 1) // ITEM_BYTES
    if not step:
        raise ShapeError(f"rows are {max(x.pitch, other.pitch)} elements apart: {_MOST} bytes is what a launch reaches")
    step -= step % 8 if step > 8 else 0  # the codes of a part are aligned
    for first in range(0, x.rows, step):
        rows = min(step, x.rows - first)
        done = first * x.columns
        size = rows * x.columns
        on.launch(
            kernel,
            {
                "x": (x.address + first * x.pitch * ITEM_BYTES, extent(rows, x.columns, x.pitch, ITEM_BYTES)),
                "codes": (codes + done, size),
                "scales": (scales + first * 4, rows * 4),
                "weight": (weight, x.columns * ITEM_BYTES if weight else 0),
                "residual": (
                    other.address + first * other.pitch * ITEM_BYTES,
                    extent(rows, x.columns, other.pitch, ITEM_BYTES) if residual else 0,
                ),
                "sum": (total + done * ITEM_BYTES if total else 0, size * ITEM_BYTES if residual else 0),
                "columns": x.columns,
                "ldx": x.pitch,
                "ldr": other.pitch,
                "epsilon": float(epsilon),
                "options": int(options),
            },
            {"rows": rows},
        )


def _check_epsilon(epsilon: object) -> None:
    known = isinstance(epsilon, int | float | np.floating | np.integer) and not isinstance(epsilon, bool)
    if not known or not 0 <= epsilon <= _LARGEST:  # type: ignore[operator]
        raise OperandError(f"eps is {epsilon!r:.60}: a number from 0 to {_LARGEST:.3g} is needed")
