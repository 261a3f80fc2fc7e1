"""Reciprocals, roots, exponentials, logarithms and trigonometry of the vector ALU.

source: CDNA3 ISA 12.8. The hardware is accurate to 1 ulp (2**29 ulp for f64 rcp, rsq and sqrt) and its exact
bits are not published: here the result is computed in float64 and rounded once, which is within half an ulp
up to the error of the host's float64 library. The f32 forms of exp, log, rcp, rsq and sqrt flush denormal
operands and results, as the ISA says.
"""

from __future__ import annotations

import numba
import numpy as np

from petitgen.emulator.compiled import compiled
from petitgen.emulator.ops.valu_half import in_f32
from petitgen.emulator.registry import alias

F16, F32, F64 = np.float16, np.float32, np.float64
TINY = F32(2.0**-126)


def flush(a):
    """f32 with denormals replaced by zeros of their sign."""
    return np.where(np.abs(a) < TINY, np.copysign(F32(0), a), a)


def _flushing(compute):
    """compute in float64 on flushed operands, rounded to f32 and flushed."""
    return lambda a: flush(compute(flush(a).astype(F64)).astype(F32))


def _half(compute):
    """compute in float64, rounded to f16."""
    return lambda a: compute(np.asarray(a).astype(F64)).astype(F16)


def _rcp(a):
    return 1.0 / a


def _rsq(a):
    return 1.0 / np.sqrt(a)


def _rcp_half(a):
    return np.float32(1) / a


def _rsq_half(a):
    return np.float32(1) / np.sqrt(a)


@numba.njit(inline="always")
def _flushed(a):
    return np.copysign(np.float32(0), a) if abs(a) < np.float32(2.0**-126) else a


@compiled("f4(f4)")
def _rcp_f32(a):
    return _flushed(np.float32(1.0 / np.float64(_flushed(a))))


@compiled("f4(f4)")
def _rsq_f32(a):
    return _flushed(np.float32(1.0 / np.sqrt(np.float64(_flushed(a)))))


@compiled("f4(f4)")
def _sqrt_f32(a):
    return np.float32(np.sqrt(np.float64(_flushed(a))))


def sin_turns(a):
    """sin(2 pi a), exact at multiples of a quarter; +0 for whole turns but for a itself zero."""
    turn = a - np.rint(a)  # exact, in [-1/2, 1/2]
    folded = np.where(np.abs(turn) > 0.25, np.copysign(0.5, turn) - turn, turn)
    result = np.where(np.abs(folded) == 0.25, np.sign(folded), np.sin(2 * np.pi * folded))
    return np.where((folded == 0) & (a != 0), 0.0, np.where(a == 0, a, result))


def cos_turns(a):
    """cos(2 pi a), exact at multiples of a quarter."""
    turn = np.abs(a - np.rint(a))
    # cos(2 pi t) = sin(2 pi (1/4 - t)), and 1/4 - t is in [-1/4, 1/4].
    return np.where(np.isfinite(a), sin_turns(0.25 - turn), np.nan)


def _f32(compute):
    return lambda a: compute(np.asarray(a).astype(F64)).astype(F32)


# In float32, which leaves an f16 result within one rounding of the exact one.
for _name, _function in (
    ("rcp", _rcp_half),
    ("rsq", _rsq_half),
    ("sqrt", np.sqrt),
    ("exp", np.exp2),
    ("log", np.log2),
):
    alias(f"v_{_name}_f16", in_f32(_function))
for _name, _function in (("sin", sin_turns), ("cos", cos_turns)):
    alias(f"v_{_name}_f32", _f32(_function))
    alias(f"v_{_name}_f16", _half(_function))
for _name, _function in (("rcp", _rcp), ("rsq", _rsq), ("sqrt", np.sqrt)):
    alias(f"v_{_name}_f64", _function)
alias("v_rcp_f32", _rcp_f32)
alias("v_rcp_iflag_f32", _rcp_f32)
alias("v_rsq_f32", _rsq_f32)
alias("v_sqrt_f32", _sqrt_f32)
alias("v_exp_f32", _flushing(np.exp2))
alias("v_exp_legacy_f32", _flushing(np.exp2))
alias("v_log_f32", _flushing(np.log2))
alias("v_log_legacy_f32", _flushing(np.log2))
