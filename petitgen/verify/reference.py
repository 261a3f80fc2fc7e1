"""What C must be, in float64, from the checkpoint tensors.

Written from the format definitions (NVFP4: E2M1 codes, an E4M3FN scale for 16 values along K, an outer scale; MXFP4:
E2M1 codes, an E8M0 scale for 32; AMD-FP4: as NVFP4, with UE5M3 scales; FP8: E4M3FNUZ codes, an outer scale) on the tables of
ml_dtypes, which has all but UE5M3. It shares nothing with packing or templates: an error there cannot repeat itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from petitgen.verify.checkpoints import Checkpoint
from petitgen.verify.inputs import Problem

E2M1 = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
E4M3FN = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
E4M3FNUZ = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fnuz).astype(np.float64)
E8M0 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
_EXPONENTS, _MANTISSAS = np.divmod(np.arange(256), 8)
UE5M3 = np.where(_EXPONENTS == 0, _MANTISSAS * 2.0**-17, (8 + _MANTISSAS) * 2.0 ** (_EXPONENTS - 18.0))
UE5M3[0xFF] = np.nan
MX_FLOOR = 2.0**-133  # an MXFP4 scale of this times the column's largest, or less, counts as zero (docs/formats.md)

F32_SMALLEST_NORMAL = 2.0**-126
F32_SMALLEST_SUBNORMAL = 2.0**-149
FEW = 64  # terms, of whose sum `accumulate` of a tolerance is said
COLUMNS_AT_ONCE = 512  # bounds the memory that large problems take


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """All f64 [M, N].

    y          the exact result, before rounding to the output type
    magnitude  sum over k of |a w|, outer scale included, times what sums of K terms err more than those of 64: sqrt(K / 64)
    underflow  what f32 accumulation may lose below its smallest numbers (docs/verification.md)
    free       bool: elements of which nothing is promised; None: there are none
    """

    y: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    underflow: NDArray[np.float64]
    free: NDArray[np.bool_] | None = None


def dequantize(weights: Checkpoint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """W without the outer scale, f64 [N, K], NaN where the block scale is NaN; and the outer scale, f64 [N]. Exact.

    MXFP4 has no outer scale. The largest scale of each row is taken for one, as float32 sums do in effect: what is
    small beside it loses bits, or counts as zero from MX_FLOOR down.
    """
    if weights.format == "fp8":
        return E4M3FNUZ[weights.weight], weights.weight_scale.astype(np.float64)
    low, high = weights.weight & 0xF, weights.weight >> 4
    codes = np.stack([low, high], axis=-1).reshape(weights.weight.shape[0], -1)
    scales, outer = _SCALES[weights.format](weights)
    return E2M1[codes] * np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1), outer


def _nvfp4_scales(weights: Checkpoint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert weights.weight_scale_2 is not None
    return E4M3FN[weights.weight_scale], weights.weight_scale_2.astype(np.float64)


def _mxfp4_scales(weights: Checkpoint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scales = E8M0[weights.weight_scale]
    outer = np.nan_to_num(scales, nan=0.0).max(axis=1)
    outer[outer == 0] = 1.0  # every scale is NaN
    relative = scales / outer[:, None]
    relative[relative <= MX_FLOOR] = 0.0
    return relative, outer


def _amdfp4_scales(weights: Checkpoint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert weights.weight_scale_2 is not None
    return UE5M3[weights.weight_scale], weights.weight_scale_2.astype(np.float64)


_SCALES = {"nvfp4": _nvfp4_scales, "mxfp4": _mxfp4_scales, "amdfp4": _amdfp4_scales}


def evaluate(problem: Problem, flushes: bool, sums: float = 2.0**-8) -> Reference:
    """The reference of a problem. Only `underflow` depends on the kernel:

    flushes  the matrix cores of the architecture flush subnormals (gfx90a)
    sums     the power of two that sums may be carried times (the manifest's tolerance)
    """
    a, (m, n) = problem.a.astype(np.float64), (problem.shape.m, problem.shape.n)
    y, magnitude, underflow = (np.empty((m, n)) for _ in range(3))
    growth = max(1.0, math.sqrt(a.shape[1] / FEW))
    for first in range(0, n, COLUMNS_AT_ONCE):
        part = slice(first, first + COLUMNS_AT_ONCE)
        w, outer = dequantize(problem.weights.rows(part))
        with np.errstate(invalid="ignore", over="ignore"):
            y[:, part] = _product(a, w) * outer
            magnitude[:, part] = (np.abs(a) @ np.abs(w).T) * (np.abs(outer) * growth)
            underflow[:, part] = _underflow(problem, a, w, flushes, sums) * np.abs(outer)
    if problem.row_scales is not None:
        rows = problem.row_scales.astype(np.float64)[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            y, magnitude, underflow = y * rows, magnitude * np.abs(rows), underflow * np.abs(rows)
    return Reference(y, magnitude, underflow)


def _product(a: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """a @ w.T with IEEE 754's rules for Inf and NaN spelled out, so that no BLAS shortcut decides them."""
    finite_a, finite_w = np.nan_to_num(a, nan=0.0, posinf=0.0, neginf=0.0), np.nan_to_num(w, nan=0.0)
    y = finite_a @ finite_w.T
    infinite = np.isinf(a).any(axis=1)
    y[infinite] = _infinite(a[infinite], finite_w, y[infinite])
    y[np.isnan(a).any(axis=1), :] = np.nan
    y[:, np.isnan(w).any(axis=1)] = np.nan
    return y


def _infinite(
    a: NDArray[np.float64], w: NDArray[np.float64], finite: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows of the product that have an infinite factor. finite: what the other factors give; w has no NaN."""
    signs = np.sign(np.where(np.isinf(a), a, 0.0))
    upward, downward = np.maximum(signs, 0), np.maximum(-signs, 0)
    above, below = (w > 0).astype(float).T, (w < 0).astype(float).T
    rises = upward @ above + downward @ below > 0
    falls = upward @ below + downward @ above > 0
    invalid = np.abs(signs) @ (w == 0).astype(float).T > 0
    y = np.where(rises, np.inf, np.where(falls, -np.inf, finite))
    y[rises & falls | invalid] = np.nan
    return y


def _underflow(
    problem: Problem, a: NDArray[np.float64], w: NDArray[np.float64], flushes: bool, sums: float
) -> NDArray[np.float64]:
    """Absolute loss where f32 ends, outer scale not included: K roundings at the last subnormal place.

    Where subnormals are flushed: K products and K sums at the smallest normal number, and subnormal bf16
    activations (which have the exponents of f32) count as zero.
    """
    k = a.shape[1]
    if not flushes:
        return np.full((a.shape[0], w.shape[0]), k * F32_SMALLEST_SUBNORMAL / sums)
    loss = np.full((a.shape[0], w.shape[0]), 2 * k * F32_SMALLEST_NORMAL / sums)
    if problem.float_type.name == "bf16":
        subnormal = np.where(np.abs(a) < F32_SMALLEST_NORMAL, np.abs(a), 0.0)
        loss += subnormal @ np.nan_to_num(np.abs(w)).T
    return loss
