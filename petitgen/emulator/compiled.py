"""Scalar Python turned into numpy ufuncs by numba, on first use.

    @compiled("u4(u4,u4,u4)")
    def and_or(a, b, c):
        return (a & b) | c

Nothing is compiled at import. The first call (or `.ufunc`) compiles, or loads what an earlier process left in
numba's cache (beside the source, or in the user's cache directory where that is read-only; without either it
compiles every time). A ufunc costs about 0.1 s to compile and 0.03 s to load.

numba's cache watches only the file of the compiled function, not what it calls: after a change to the helpers
below, touch the files that use them.

`fused` is IEEE fusedMultiplyAdd: one rounding. The f16 helpers work on bit patterns, because numba has no
half type on the CPU; they are exact and need no hardware support.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic


class LazyUfunc:
    """A ufunc that is compiled the first time it is needed."""

    def __init__(self, signature: str, scalar: Callable[..., Any]) -> None:
        self._signature = signature
        self._scalar = scalar
        self._ufunc: np.ufunc | None = None
        self.__doc__ = scalar.__doc__
        self.__name__ = scalar.__name__

    @property
    def ufunc(self) -> np.ufunc:
        if self._ufunc is None:
            self._ufunc = self._compile()
        return self._ufunc

    def _compile(self) -> np.ufunc:
        try:
            return numba.vectorize([self._signature], cache=True)(self._scalar).ufunc
        except RuntimeError as error:  # numba finds no directory that it may write its cache to
            if "cache" not in str(error):
                raise
            return numba.vectorize([self._signature])(self._scalar).ufunc

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.ufunc(*arguments, **options)


def loops(function: Callable[..., Any]) -> Any:
    """Decorator: a function of whole arrays, compiled at its first call and cached as the ufuncs are."""
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        return numba.njit(error_model="numpy")(function)


def compiled(signature: str) -> Callable[[Callable[..., Any]], LazyUfunc]:
    """Decorator: a scalar function as an element-wise ufunc. `signature` is numba's: "f4(f4,f4,f4)", u4, i4,
    f8, b1 ...
    """
    return lambda scalar: LazyUfunc(signature, scalar)


def _bitcast(source: Any, target: Any) -> Any:
    @intrinsic
    def cast(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return cast


bits32 = _bitcast(types.float32, types.uint32)
float32_of = _bitcast(types.uint32, types.float32)
bits64 = _bitcast(types.float64, types.uint64)
float64_of = _bitcast(types.uint64, types.float64)


def _fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding; the three have one float type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, b, c), generate


fused: Any = intrinsic(_fused)


@numba.njit(inline="always")
def half_to_float(half: Any) -> Any:
    """float32 of the f16 bit pattern in the low 16 bits (exact; a NaN stays as it is)."""
    h = np.uint32(half)
    magnitude = np.uint32(np.uint32(h & np.uint32(0x7FFF)) << np.uint32(13))
    # Multiplying by 2**112 moves the exponent's bias from 15 to 127 and makes f16's denormals normal.
    scaled = bits32(np.float32(float32_of(magnitude) * np.float32(2.0**112)))
    special = np.uint32(magnitude | np.uint32(0x7F800000))
    result = special if magnitude >= np.uint32(0x7C00 << 13) else scaled
    return float32_of(np.uint32(result | np.uint32(np.uint32(h & np.uint32(0x8000)) << np.uint32(16))))


@numba.njit(inline="always")
def float_to_half(value: Any) -> Any:
    """f16 bit pattern of a float32, rounded to nearest even; NaN becomes quiet and keeps its high payload
    bits.
    """
    bits = bits32(np.float32(value))
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    odd = np.uint32((magnitude >> np.uint32(13)) & np.uint32(1))
    normal = np.uint32(np.uint32(magnitude + np.uint32(0xC8000FFF) + odd) >> np.uint32(13))
    # Adding 0.5 lets the float32 adder round at f16's smallest denormal, 2**-24, which is one ulp of 0.5.
    denormal = np.uint32(bits32(np.float32(float32_of(magnitude) + np.float32(0.5))) - np.uint32(0x3F000000))
    nan = np.uint32(np.uint32(0x7E00) | np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(0x1FF)))
    result = denormal if magnitude < np.uint32(0x38800000) else normal
    result = np.uint32(0x7C00) if magnitude >= np.uint32(0x47800000) else result
    result = nan if magnitude > np.uint32(0x7F800000) else result
    return np.uint16(result | np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000)))


@numba.njit(inline="always")
def odd_sum(a: Any, b: Any) -> Any:
    """a + b of two float32, rounded to odd: rounding that to 22 bits or fewer gives the rounded exact sum."""
    total = np.float32(a + b)
    part = np.float32(total - a)
    error = np.float32(np.float32(a - np.float32(total - part)) + np.float32(b - part))
    bits = bits32(total)
    inexact = (error < np.float32(0)) | (error > np.float32(0))
    away = (error > np.float32(0)) == (bits < np.uint32(0x80000000))
    step = np.uint32(1) if away else np.uint32(0xFFFFFFFF)
    odd = np.uint32(bits + step) if inexact & ((bits & np.uint32(1)) == np.uint32(0)) else bits
    return float32_of(odd)
