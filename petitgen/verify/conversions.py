"""Verifies kernels that quantize, dequantize and look for the largest magnitude: they give the bits of the definition."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from petitgen.errors import EmulationError, PetitgenError, VerifyError
from petitgen.verify import quantized
from petitgen.verify.arrays import Done, execute
from petitgen.verify.case import Case
from petitgen.verify.floats import FLOAT_TYPES
from petitgen.verify.shapes import Shape
from petitgen.verify.targets import Target
from runtime.conversions import Conversion, View
from runtime.errors import RuntimeLibraryError
from runtime.formats import FORMATS
from runtime.manifest import Kernel

NEAREST, ROWS, SQUARE = Conversion(0), Conversion.IN_ROWS, Conversion.SQUARE
RANDOM = Conversion.STOCHASTIC
OLD = 0x5A  # what buffers hold that are written


@dataclass(frozen=True, slots=True)
class Problem:
    """A tensor [slabs, rows, columns] and how it is quantized.

    data   "in order" or "mixed": values of 16 bits one after the other from 0 on, or shuffled, NaN and Inf among them;
           "peaks": random, the largest of each block one value after the other;
           "spread": random, of a size of its own in each row, some blocks with zeros, NaN or Inf; "tiny" and "huge": the
           same near the ends of the type
    outer  the outer scale; 0: that of the tensor. offset, seed: of random words
    """

    slabs: int
    rows: int
    columns: int
    options: Conversion
    data: str = "spread"
    outer: float = 0.0
    seed: int = 0
    offset: int = 0

    @property
    def work(self) -> int:
        return self.slabs * self.rows * self.columns * (8 if self.options & RANDOM else 2)

    def view(self, block: int) -> View:
        return View(self.slabs, self.rows, self.columns, block, self.options)

    def __str__(self) -> str:
        how = (self.options.name or "NEAREST").lower()
        outer = f", outer {self.outer:g}" if self.outer else ""
        return f"{self.slabs}x{self.rows}x{self.columns} {self.data}, {how}{outer}"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first byte or number of a buffer that is wrong."""

    buffer: str
    index: tuple[int, ...]
    expected: str
    got: str
    count: int
    size: int

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        return f"{self.buffer}[{place}] is {self.got}, expected {self.expected}; {self.count} of {self.size} are wrong"


# ---- problems ---------------------------------------------------------------------------------------
SHAPES_OF_ROWS = ((1, 2), (3, 16), (5, 18), (33, 64), (7, 98), (2, 520))
SHAPES_OF_COLUMNS = ((1, 2, 1), (2, 16, 8), (1, 34, 30), (3, 18, 136), (1, 66, 8), (1, 30, 264))
SQUARES_IN_ROWS = ((1, 1, 2), (2, 17, 48), (1, 33, 34), (2, 15, 136))
NOTHING = 1e-44  # an outer scale that makes 0 of the smallest inner scale, so that zeros become 0/0
# An outer scale for which 1.625 times powers of two, divided by it and by 6, is just below a tie of two inner scales. Divided
# by the product of both it is above, and so it is if one is not divided by but multiplied with the reciprocal of.
NEAR_A_TIE = 0.22807018
# Powers of two divided by this, times powers of two, are nearly as near to one float32 as to the next.
ALL_ONES = 2 - 2.0**-23
LATE = 2**64 - 3  # an offset from which the counter of a few elements wraps


def plan(kernel: Kernel, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Problem, ...]:
    """All 65536 values, in order and mixed; tails along each axis; random words of any place; outer scales given."""
    refuse_shapes(kernel, shapes, slices)
    if kernel.op == "quantize" and kernel.tile["axis"] == 3:
        return _of_rows()
    return _of_columns() if kernel.op == "quantize" else (*_of_rows(False), *_of_columns(False))


def refuse_shapes(kernel: Kernel, shapes: object, slices: object) -> None:
    """VerifyError for what only a GEMM has."""
    if shapes or slices:
        raise VerifyError(f"{kernel.name}: --shape and --slices are of GEMMs; name some, as in 'gemm_*'")


def _of_rows(random: bool = True) -> tuple[Problem, ...]:
    outers = cycle((0.0, 3e-5, 1.0))
    every = [Problem(1, 64, 1024, ROWS, data, outer) for data, outer in (("in order", 1.0), ("mixed", 0.0), ("mixed", 2.0**-12))]
    tails = [Problem(1, *shape, ROWS, outer=outer) for shape, outer in zip(SHAPES_OF_ROWS, outers, strict=False)]
    extremes = [Problem(1, 16, 64, ROWS, "mixed", outer) for outer in (1e-38, 1e36)]
    extremes += [Problem(1, 5, 64, ROWS, outer=NOTHING)]
    extremes += [Problem(1, 16, 64, how, data) for data in ("tiny", "huge") for how in (ROWS, ROWS | RANDOM)]
    peaks = [Problem(1, 64, 1024, ROWS, "peaks", outer) for outer in (1.0, NEAR_A_TIE, ALL_ONES)]
    words = [
        Problem(1, 9, 64, ROWS | RANDOM, seed=2**63 + 5, offset=7),
        Problem(1, 9, 18, ROWS | RANDOM, seed=9, offset=LATE),
        Problem(1, 3, 514, ROWS | RANDOM, "mixed", 1.0, seed=2**32, offset=2**32 - 2),
    ]
    return (*every, *tails, *extremes, *((*peaks, *words) if random else ()))


def _of_columns(random: bool = True) -> tuple[Problem, ...]:
    outers = cycle((0.0, 3e-5, 1.0))
    every = [Problem(1, 256, 256, NEAREST, "in order", 1.0), Problem(2, 128, 256, SQUARE, "mixed")]
    tails = [
        Problem(*shape, options, outer=outer)
        for options, shapes in ((NEAREST, SHAPES_OF_COLUMNS), (SQUARE, SHAPES_OF_COLUMNS), (SQUARE | ROWS, SQUARES_IN_ROWS))
        for shape, outer in zip(shapes, outers, strict=False)
    ]
    words = [
        Problem(2, 18, 64, RANDOM, seed=2**63 + 5, offset=7),
        Problem(2, 18, 21, RANDOM, seed=9, offset=LATE),
        Problem(1, 34, 40, RANDOM | SQUARE, seed=2**32, offset=2**32 - 2),
        Problem(2, 17, 38, RANDOM | SQUARE | ROWS, seed=11, offset=5),
    ]
    return (*every, *tails, *(words if random else ()))


_SIZES: dict[str, Callable[[Any], tuple[int, int]]] = {
    "spread": lambda info: (-14, 10),
    "tiny": lambda info: (info.minexp, info.minexp + 30),
    "huge": lambda info: (info.maxexp - 30, info.maxexp - 3),
}


def values(problem: Problem, dtype: np.dtype) -> NDArray:
    """The tensor of a problem."""
    shape = problem.slabs, problem.rows, problem.columns
    rng = np.random.default_rng(zlib.crc32(str(problem).encode()))
    if problem.data in _SIZES:
        low, high = _SIZES[problem.data](ml_dtypes.finfo(dtype))
        x = rng.standard_normal(shape) * 2.0 ** rng.integers(low, high, (*shape[:2], 1))
        x[rng.random(shape) < 0.05] = 0
        x[:, rng.integers(shape[1])] = rng.choice([0.0, -0.0], shape[2])
        odd = rng.random(shape) < 0.004
        x[odd] = rng.choice([np.nan, np.inf, -np.inf], int(odd.sum()))
        with np.errstate(over="ignore"):
            return x.astype(np.float32).astype(dtype)
    if problem.data == "peaks":
        return _peaks(shape, rng, dtype)
    bits = np.arange(1 << 16, dtype=np.uint16)
    if problem.data == "mixed":
        bits = rng.permutation(bits)
    return np.resize(bits, shape).view(dtype)


def _peaks(shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype) -> NDArray:
    """The first of sixteen is the largest: 2^-15 to 2^17 in bf16, all finite ones of 7 bits in fp16; others are a part of it,
    the second a power of two."""
    start, step = (0x3800, 1) if dtype == ml_dtypes.bfloat16 else (0, 8)
    bits = np.resize(np.arange(start, start + 4096 * step, step), (shape[-1] * shape[-2] // 16, 1))
    bits = np.where(bits < 0x7C00, bits, 0).astype(np.uint16)
    peaks = bits.view(dtype).astype(np.float32)
    x = peaks * rng.uniform(-1, 1, (len(bits), 16)).astype(np.float32)
    x[:, :1] = peaks * rng.choice([-1, 1], peaks.shape)
    x[:, 1:2] = 2.0 ** (np.frexp(peaks)[1] - rng.integers(1, 8, peaks.shape))
    return x.astype(dtype).reshape(shape)


# ---- quantize ---------------------------------------------------------------------------------------
def quantize_case(target: Target, kernel: Kernel, problem: Problem, sanitize: bool) -> Case:
    """Run a kernel that quantizes and compare every byte."""
    x = values(problem, FLOAT_TYPES[kernel.activations].dtype)
    wide = x.astype(np.float32)
    view = problem.view(FORMATS[kernel.weights].block)
    outer = given = None
    if FORMATS[kernel.weights].outer_scale:
        outer = np.float32(problem.outer) if problem.outer else quantized.outer_of(kernel.weights, wide)
        given = outer if problem.outer else np.abs(wide[np.isfinite(wide)]).max(initial=np.float32(0))
    words = quantized.philox(problem.seed, problem.offset, view.size) if problem.options & RANDOM else None
    codes, scales = quantized.quantize(kernel.weights, wide, view, outer, words)
    expected: dict[str, NDArray] = {"codes": codes, "scales": scales, "used": np.array([OLD] * 4, np.uint8).view(np.float32)}
    options = problem.options
    if outer is not None and not problem.outer:
        options |= Conversion.AMAX
        expected["used"] = np.array([outer], np.float32)
    buffers: dict[str, NDArray] = {"x": x, "outer": np.array([given or 0], np.float32)}
    buffers |= _blank(expected)
    scalars = {**_sizes(view), "options": int(options)}
    for name, value in (("seed", problem.seed), ("offset", problem.offset)):
        scalars |= {f"{name}_low": value & 0xFFFFFFFF, f"{name}_high": value >> 32}
    return check(target, kernel, problem, buffers, scalars, view.dimensions("quantize"), expected, sanitize)


def _sizes(view: View) -> dict[str, int]:
    return {"slabs": view.slabs, "rows": view.rows, "columns": view.columns}


def _blank(expected: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Buffers for results, of bytes that are none of theirs."""
    return {name: np.full(data.nbytes, OLD, np.uint8) for name, data in expected.items()}


# ---- dequantize -------------------------------------------------------------------------------------
def dequantize_case(target: Target, kernel: Kernel, problem: Problem, sanitize: bool) -> Case:
    """Run a kernel that dequantizes bytes of any value, and compare every number."""
    view = problem.view(FORMATS[kernel.weights].block)
    rng = np.random.default_rng(zlib.crc32(str(problem).encode()))
    codes = np.resize(rng.permutation(256), view.codes).astype(np.uint8)
    scales = np.resize(rng.permutation(256), view.scales).astype(np.uint8)
    outer = np.float32(problem.outer or 0.3) if FORMATS[kernel.weights].outer_scale else None
    wide = quantized.dequantize(kernel.weights, codes, scales, view, outer)
    with np.errstate(all="ignore"):
        expected = {"y": wide.astype(FLOAT_TYPES[kernel.activations].dtype)}
    buffers: dict[str, NDArray] = {"codes": codes, "scales": scales, "outer": np.array([outer or 0], np.float32)}
    buffers |= _blank(expected)
    scalars = {**_sizes(view), "options": int(problem.options)}
    return check(target, kernel, problem, buffers, scalars, view.dimensions("dequantize"), expected, sanitize)


# ---- the largest magnitude --------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Count:
    """`count` elements. data: "in order", "mixed", or "nothing finite". before: the largest magnitude found so far."""

    count: int
    data: str = "mixed"
    before: float = 0.0

    @property
    def work(self) -> int:
        return self.count

    def __str__(self) -> str:
        return f"{self.count} {self.data}{f', {self.before:g} before' if self.before else ''}"


def amax_plan(kernel: Kernel, shapes: Sequence[Shape] | None, slices: Sequence[int]) -> tuple[Count, ...]:
    """Tails of each length, several workgroups, and results that were there before."""
    refuse_shapes(kernel, shapes, slices)
    items = kernel.grid.x[1] * 8 if not isinstance(kernel.grid.x, int) else 8
    tails = [Count(count) for count in (1, 2, 7, 8, 9, 63, 515, 4095, items - 1, items + 9)]
    return (*tails, Count(1 << 16, "in order"), Count(1 << 16), Count(77, "nothing finite"), Count(3, before=2.0**20))


def amax_case(target: Target, kernel: Kernel, problem: Count, sanitize: bool) -> Case:
    """Run a kernel that looks for the largest finite magnitude."""
    dtype = FLOAT_TYPES[kernel.activations].dtype
    # Magnitudes rise with the place, in order: the last finite one is the largest, wherever it lies.
    if problem.data == "nothing finite":
        x = np.resize(np.array([np.nan, np.inf, -np.inf], dtype), problem.count)
    else:
        rng = np.random.default_rng(problem.count)
        bits = np.arange(1 << 16, dtype=np.uint16)
        bits = bits if problem.data == "in order" else rng.permutation(bits[bits % 0x8000 < 0x4000])
        x = np.resize(bits, problem.count).view(dtype)
        if problem.data == "mixed":
            x[-1] = -float(ml_dtypes.finfo(dtype).max) if problem.count % 2 else 2.5
    wide = x.astype(np.float32)
    largest = max(np.abs(wide[np.isfinite(wide)]).max(initial=np.float32(0)), np.float32(problem.before))
    buffers = {"x": x, "largest": np.array([problem.before], np.float32)}
    expected = {"largest": np.array([largest], np.float32)}
    dimensions = {"items": -(-problem.count // 8)}
    return check(target, kernel, problem, buffers, {"count": problem.count}, dimensions, expected, sanitize)


# ---- all of them ------------------------------------------------------------------------------------
def check(
    target: Target,
    kernel: Kernel,
    problem: Any,
    buffers: Mapping[str, NDArray],
    scalars: Mapping[str, float],
    dimensions: Mapping[str, int],
    expected: Mapping[str, NDArray],
    sanitize: bool,
    look: Callable[[Done], Difference | None] | None = None,
) -> Case:
    """Launch, and compare what was written with what is expected, bit for bit but for the payload of NaN.

    look: in place of that, for codes and scales
    """
    start = time.perf_counter()
    try:
        done = execute(kernel, target.path, target.arch, buffers, scalars, dimensions, sanitize)
    except (PetitgenError, RuntimeLibraryError) as error:
        faults = error.findings if isinstance(error, EmulationError) else ()
        return Case(problem, str(error), None, (), 0, time.perf_counter() - start, faults)
    exact = {name: data for name, data in expected.items() if look is None or name not in ("codes", "scales")}
    wrong = next(filter(None, (difference(done, name, data) for name, data in exact.items())), None)
    if wrong is None and look is not None:
        wrong = look(done)
    return Case(problem, "", wrong, done.trespasses, done.instructions, time.perf_counter() - start, done.faults)


def difference(done: Done, name: str, expected: NDArray) -> Difference | None:
    """Where a buffer is not what is expected; None if it is."""
    got = done.written[name].view(expected.dtype).reshape(expected.shape)
    whole = np.dtype(f"u{expected.dtype.itemsize}")
    differs = got.view(whole) != expected.view(whole)
    if expected.dtype != np.uint8:
        differs &= ~(np.isnan(got.astype(np.float64)) & np.isnan(expected.astype(np.float64)))
    if not differs.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(differs)), differs.shape))
    return Difference(name, index, str(expected[index]), str(got[index]), int(differs.sum()), differs.size)
