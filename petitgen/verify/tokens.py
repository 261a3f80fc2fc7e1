"""Verifies kernels that quantize rows to FP8: without a norm bit for bit, with one within what float32 loses."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from petitgen.verify.arrays import Done
from petitgen.verify.case import Case
from petitgen.verify.conversions import OLD, Difference, check, refuse_shapes
from petitgen.verify.floats import FLOAT_TYPES
from petitgen.verify.shapes import Shape
from petitgen.verify.targets import Target
from runtime.conversions import RowConversion
from runtime.manifest import Kernel

PLAIN, NORM, RESIDUAL = RowConversion(0), RowConversion.NORM, RowConversion.RESIDUAL
MOST, FLOOR = np.float32(224), np.float32(1) / np.float32(224 * 512)
NAN_GAP = 0xFF  # between rows: NaN
# Of a normed number: the sum of up to 65536 squares in float32, a root, a quotient and two products. Of a scale half of it.
LOST = 2.0**-19


@dataclass(frozen=True, slots=True)
class Rows:
    """A matrix and what is done. pad: elements of gap between rows of x and of the residual."""

    rows: int
    columns: int
    options: RowConversion
    data: str = "spread"
    pad: int = 0
    epsilon: float = 1e-6

    @property
    def work(self) -> int:
        return self.rows * max(self.columns, 4096)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}{f'+{self.pad}' if self.pad else ''} {self.data}, {self.options.name or 'PLAIN'}".lower()


def plan(kernel: Kernel, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Rows, ...]:
    """All 65536 values, ends of a wave and of what a workgroup loads at once, the longest row."""
    refuse_shapes(kernel, shapes, slices)
    step, most = kernel.block * 8, kernel.tile["most"]
    plain = [Rows(64, 1024, PLAIN, data) for data in ("in order", "mixed")]
    plain += [Rows(2, columns, PLAIN) for columns in (8, 16, 504, 520, step - 8, step, step + 8, 2 * step + 8)]
    plain += [Rows(3, 24, PLAIN, pad=8), Rows(3, 40, PLAIN, pad=24), Rows(1, most, PLAIN)]
    others = [
        Rows(3, columns, options, pad=pad)
        for options in (RESIDUAL, NORM, NORM | RESIDUAL)
        for columns, pad in ((8, 0), (40, 8), (520, 0), (step + 8, 0))
    ]
    return (*plain, *others, Rows(1, most - 8, NORM | RESIDUAL), Rows(2, 64, NORM, epsilon=0.5))


def case(target: Target, kernel: Kernel, problem: Rows, sanitize: bool) -> Case:
    """Run a kernel and compare."""
    dtype = FLOAT_TYPES[kernel.activations].dtype
    rng = np.random.default_rng(zlib.crc32(str(problem).encode()))
    x = _values(problem, rng, dtype)
    residual = _values(problem, rng, dtype) if problem.options & RESIDUAL else np.zeros((0, 0), dtype)
    weight = (rng.standard_normal(problem.columns) + 1).astype(np.float32).astype(dtype)
    with np.errstate(all="ignore"):
        rows = (x.astype(np.float32) + residual.astype(np.float32)).astype(dtype) if residual.size else x
    expected = _expected(rows, problem, residual.size > 0)
    pitch = problem.columns + problem.pad
    buffers = {
        "x": _pitched(x, pitch),
        "residual": _pitched(residual, pitch) if residual.size else residual,
        "weight": weight if problem.options & NORM else np.zeros(0, dtype),
        **{name: np.full(data.nbytes, OLD, np.uint8) for name, data in expected.items()},
    }
    scalars = {
        "columns": problem.columns,
        "ldx": pitch,
        "ldr": pitch if residual.size else 0,
        "epsilon": problem.epsilon,
        "options": int(problem.options),
    }
    look = _Normed(rows, weight, problem.epsilon) if problem.options & NORM else None
    return check(target, kernel, problem, buffers, scalars, {"rows": problem.rows}, expected, sanitize, look)


def _values(problem: Rows, rng: np.random.Generator, dtype: np.dtype) -> NDArray:
    shape = problem.rows, problem.columns
    if problem.data != "spread":
        bits = np.arange(1 << 16, dtype=np.uint16)
        if problem.data == "mixed":
            bits = rng.permutation(bits[bits % 0x8000 < 0x7C00])  # finite, for both types
        return np.resize(bits, shape).view(dtype)
    x = (rng.standard_normal(shape) * 2.0 ** rng.integers(-14, 6, (shape[0], 1))).astype(np.float32)
    if shape[0] > 2:
        x[rng.integers(shape[0]), rng.integers(shape[1])] = rng.choice([np.nan, np.inf])
    x[rng.random(shape) < 0.05] = -0.0
    return x.astype(dtype)


def _pitched(x: NDArray, pitch: int) -> NDArray[np.uint8]:
    """Rows `pitch` elements apart, NaN between them, cut after the last element."""
    wide = np.full((len(x), pitch), NAN_GAP, np.uint16)
    wide[:, : x.shape[1]] = x.view(np.uint16)
    return wide.reshape(-1)[: (len(x) - 1) * pitch + x.shape[1]].view(np.uint8)


def _expected(rows: NDArray, problem: Rows, added: bool) -> dict[str, NDArray]:
    """What is written; with a norm, codes and scales of the right sizes alone."""
    codes, scales = quantize(rows.astype(np.float32))
    return {"codes": codes, "scales": scales, "sum": rows if added else np.zeros(0, rows.dtype)}


def quantize(y: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes and scales of rows. Source: docs/quantization.md."""
    with np.errstate(all="ignore"):
        amax = np.abs(y).max(1)
        broken = ~np.isfinite(amax)
        scales = np.where(broken, np.float32(np.nan), np.maximum(amax / MOST, FLOOR)).astype(np.float32)
        v = np.clip(y / scales[:, None], -MOST, MOST)
        codes = np.where(broken[:, None], 0, v).astype(np.float32).astype(ml_dtypes.float8_e4m3fnuz).view(np.uint8)
    return codes, scales


@dataclass(frozen=True, slots=True, eq=False)
class _Normed:
    """Looks at codes and scales of normed rows: the order of float32 sums is the kernel's own."""

    rows: NDArray
    weight: NDArray
    epsilon: float

    def __call__(self, done: Done) -> Difference | None:
        h = self.rows.astype(np.float64)
        with np.errstate(all="ignore"):
            y = h / np.sqrt((h * h).mean(1, keepdims=True) + self.epsilon) * self.weight.astype(np.float64)
        broken = ~np.isfinite(y).all(1)
        y[broken] = 0
        scale = np.where(broken, np.nan, np.maximum(np.abs(y).max(1) / MOST, FLOOR))
        got = done.written["scales"].view(np.float32).astype(np.float64)
        wrong = ~(np.abs(got - scale) <= LOST * scale) & ~(broken & np.isnan(got))
        if wrong.any():
            return _difference("scales", wrong, scale, got)
        codes = done.written["codes"].reshape(y.shape)
        made = codes.view(ml_dtypes.float8_e4m3fnuz).astype(np.float64)
        v = np.where(broken[:, None], 0, np.clip(y / np.where(broken, 1, got)[:, None], -float(MOST), float(MOST)))
        best = v.astype(np.float32).astype(ml_dtypes.float8_e4m3fnuz).astype(np.float64)
        wrong = ~(np.abs(made - v) <= np.abs(best - v) + LOST * np.abs(v)) | (codes == 0x80)
        return _difference("codes", wrong, best, made) if wrong.any() else None


def _difference(buffer: str, wrong: NDArray[np.bool_], expected: NDArray, got: NDArray) -> Difference:
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    return Difference(buffer, index, str(expected[index]), str(got[index]), int(wrong.sum()), wrong.size)
