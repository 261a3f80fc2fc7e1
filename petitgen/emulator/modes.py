"""Floating-point modes other than the default: flushed denormals and directed rounding.

MODE[1:0] and [3:2] are the rounding of single and of half/double precision, [5:4] and [7:6] their denormal
modes: bit 0 of a denormal mode keeps denormal sources, bit 1 denormal results; rounding is 0 nearest even, 1
up, 2 down, 3 toward zero. source: CDNA3 ISA 3.4 "Mode register".
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.types import FLOAT_CLASS
from petitgen.errors import EmulationError

Array = NDArray[Any]

DX10_CLAMP, IEEE = 1 << 8, 1 << 9

# Operations whose float sources are inspected, not computed with.
_RAW_SOURCES = re.compile(r"v_cmpx?_class_|v_frexp_")
# Operations that round by MODE; every other one is exact or has a rounding of its own.
_ROUNDED = re.compile(
    r"v_(pk_)?(add|sub|subrev|mul|fma|fmac|mad|mac|fmamk|fmaak|madmk|madak|fma_mix|sqrt|div_fmas)_(co_)?f|v_fma_mix|"
    r"v_cvt_f(16|32)_(f64|f32|i32|u32)$"
)
# <fenv.h> values of up, down and toward zero; the same for MXCSR through fesetround.
_HOST_ROUNDING = {"x86_64": (0, 0x800, 0x400, 0xC00), "aarch64": (0, 0x400000, 0x800000, 0xC00000)}


def flushed(values: Any, type_: str, lanes: Array) -> Any:
    """Denormals become zeros of their sign, in the waves of `lanes` (n,) bool."""
    if not lanes.any():
        return values
    values = np.asarray(values)
    shape = (1, -1, 1) if type_.startswith("pk_f32") else (-1, 1, 1) if type_.startswith("pk_") else (-1, 1)
    tiny = np.abs(values) < np.finfo(values.dtype).tiny
    return np.where(tiny & lanes.reshape(shape), np.copysign(values.dtype.type(0), values), values)


def source_flusher(mnemonic: str, type_: str) -> Callable[[Any, Array], Any] | None:
    """What MODE does to a source of `type_`: a function of the values and the modes (n,), or None for
    nothing."""
    if type_ not in FLOAT_CLASS or _RAW_SOURCES.match(mnemonic):
        return None
    bit = np.uint32(1 << 4 + 2 * FLOAT_CLASS[type_])
    return lambda values, modes: flushed(values, type_, (modes & bit) == 0)


def result_flusher(type_: str) -> Callable[[Any, Array], Any] | None:
    """What MODE does to a result of `type_`."""
    if type_ not in FLOAT_CLASS:
        return None
    bit = np.uint32(2 << 4 + 2 * FLOAT_CLASS[type_])
    return lambda values, modes: flushed(values, type_, (modes & bit) == 0)


def rounded(mnemonic: str, type_: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under the rounding of MODE: called as f(modes, *args). EmulationError for a directed f16
    rounding."""
    if type_ not in FLOAT_CLASS or not _ROUNDED.match(mnemonic):
        return lambda modes, *args: function(*args)
    shift = np.uint32(2 * FLOAT_CLASS[type_])

    def run(modes: Array, *args: Any) -> Any:
        wanted = np.unique((modes >> shift) & 3)
        results = {int(w): _with_rounding(int(w), mnemonic, type_, function, args) for w in wanted}
        if len(results) == 1:
            return next(iter(results.values()))
        shape = (1, -1, 1) if type_ == "pk_f32" else (-1, 1)
        per_wave = ((modes >> shift) & 3).reshape(shape)
        return np.select([per_wave == w for w in results], list(results.values()))

    return run


def _with_rounding(
    direction: int, mnemonic: str, type_: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    if direction == 0:
        return function(*args)
    if type_ in ("f16", "pk_f16"):
        raise EmulationError(
            f"{mnemonic}: directed rounding of half precision (MODE.round 3:2 = {direction}) is not emulated"
        )
    values = _HOST_ROUNDING.get(platform.machine())
    if values is None:
        raise EmulationError(f"{mnemonic}: directed rounding is not emulated on {platform.machine()} hosts")
    libm = ctypes.CDLL("libm.so.6")
    libm.fesetround(values[direction])
    try:
        return function(*args)
    finally:
        libm.fesetround(0)


def clamp_float(values: Any, modes: Array, type_: str) -> Any:
    """Clamp to [0, 1]; with DX10_CLAMP a NaN becomes 0. source: CDNA3 ISA 6.3 (output modifiers)."""
    values = np.asarray(values)
    one = values.dtype.type(1)
    shape = (1, -1, 1) if type_ == "pk_f32" else (-1, 1, 1) if type_.startswith("pk_") else (-1, 1)
    to_zero = ((modes & np.uint32(DX10_CLAMP)) != 0).reshape(shape)
    clamped = np.minimum(np.maximum(values, values.dtype.type(0)), one)  # both keep NaN
    return np.where(np.isnan(clamped) & to_zero, values.dtype.type(0), clamped)


def output_modifier(omod: int, type_: str) -> Callable[[Any, Array], Any] | None:
    """omod: times 2, 4 or 0.5, only where result denormals are flushed and IEEE is off. source: CDNA3 ISA
    6.3."""
    if not omod or type_ not in FLOAT_CLASS:
        return None
    factor = {1: 2.0, 2: 4.0, 3: 0.5}[omod]
    forbidding = np.uint32(2 << 4 + 2 * FLOAT_CLASS[type_] | IEEE)

    def modify(values: Any, modes: Array) -> Any:
        allowed = ((modes & forbidding) == 0).reshape(-1, 1)
        values = np.asarray(values)
        return np.where(allowed, values * values.dtype.type(factor) + values.dtype.type(0), values)

    return modify
