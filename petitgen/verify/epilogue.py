"""What an epilogue makes of a result, in float64, from the definitions in runtime/epilogue.py's sources; and the data for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify.floats import FloatType
from petitgen.verify.reference import F32_SMALLEST_SUBNORMAL, Reference
from runtime.epilogue import Epilogue

STEEPEST = 1.13  # of the three activations: what an error before them becomes at the most
FUNCTION = 16  # units of 2^-20 of its value that an activation may be wrong by: float32's exponent of e^-x^2 decides
F32_END = 2.0**128
FAINT = 2.0**-119  # what float32 makes zero of an activation: 2^-126, its smallest normal number, times 88, where e^-x is that
_ERFC = np.frompyfunc(math.erfc, 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Operands of an epilogue. bias [N], residual [M, columns] of the activation type; None: not added."""

    options: Epilogue
    bias: NDArray | None
    residual: NDArray | None


def make_extra(rng: Generator, options: Epilogue, m: int, n: int, t: FloatType) -> Extra:
    """Ordinary numbers, some of them large or zero."""

    def numbers(shape: tuple[int, ...]) -> NDArray:
        values = rng.standard_normal(shape) * rng.choice([0.0, 0.25, 1.0, 8.0, 100.0], shape)
        return values.astype(np.float32).astype(t.dtype)

    return Extra(
        options,
        numbers((n,)) if options & Epilogue.BIAS else None,
        numbers((m, options.columns(n))) if options & Epilogue.RESIDUAL else None,
    )


def apply(reference: Reference, extra: Extra, accumulate: float) -> Reference:
    """The reference of the result behind the epilogue: what was granted before it (`accumulate` as in the tolerance) is
    granted times its slope.

    Nothing is promised where the result may be inside or outside of float32 before the epilogue, nor for what is Inf times
    something that may be zero.
    """
    if not extra.options:
        return reference
    y, magnitude, underflow = reference.y, reference.magnitude, reference.underflow + F32_SMALLEST_SUBNORMAL
    with np.errstate(invalid="ignore", over="ignore"):
        if extra.bias is not None:
            bias = extra.bias.astype(np.float64)
            y, magnitude = y + bias, magnitude + np.abs(bias)
        free = np.isfinite(y) & (np.abs(np.abs(y) - F32_END) <= accumulate * magnitude + underflow)
        y = np.where(np.abs(y) < F32_END, y, y * np.inf)  # a float32 from here on; NaN stays
        activation = _ACTIVATIONS.get(extra.options & ~(Epilogue.BIAS | Epilogue.RESIDUAL))
        if activation is not None:
            y = activation(y)
            magnitude, underflow = STEEPEST * magnitude + FUNCTION * np.abs(y), STEEPEST * underflow + FAINT
        if extra.options & Epilogue.SWIGLU:
            y, magnitude, underflow, free = _gated(y, magnitude, underflow, free, accumulate)
        if extra.residual is not None:
            residual = extra.residual.astype(np.float64)
            y, magnitude = y + residual, magnitude + np.abs(residual)
    return Reference(y, magnitude, underflow, free)


_Floats = NDArray[np.float64]


def _gated(
    y: _Floats, magnitude: _Floats, underflow: _Floats, free: NDArray[np.bool_], accumulate: float
) -> tuple[_Floats, _Floats, _Floats, NDArray[np.bool_]]:
    gate, up = _silu(y[:, 0::2]), y[:, 1::2]
    product = gate * up
    slopes = STEEPEST * np.abs(up), np.abs(gate)
    grown = [slopes[0] * one[:, 0::2] + slopes[1] * one[:, 1::2] for one in (magnitude, underflow)]
    may_be_wrong_by = accumulate * magnitude + underflow
    vague = np.isinf(up) & (np.abs(gate) <= may_be_wrong_by[:, 0::2])
    vague |= np.isinf(gate) & (np.abs(up) <= may_be_wrong_by[:, 1::2])
    return (
        product,
        grown[0] + FUNCTION * np.abs(product),
        grown[1] + FAINT * np.abs(np.where(np.isfinite(up), up, 0)),
        free[:, 0::2] | free[:, 1::2] | vague,
    )


def _silu(y: NDArray[np.float64]) -> NDArray[np.float64]:
    return y / (1 + np.exp(-y))


def _gelu(y: NDArray[np.float64]) -> NDArray[np.float64]:
    return y * np.asarray(_ERFC(-y / math.sqrt(2)), np.float64) / 2


def _gelu_tanh(y: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)
    return y / (1 + np.exp(-2 * inner))  # (1 + tanh x) / 2 without cancellation


_ACTIVATIONS = {Epilogue.SILU: _silu, Epilogue.GELU: _gelu, Epilogue.GELU_TANH: _gelu_tanh}
