"""Sums of absolute differences, byte averages and cube map coordinates of the vector ALU.

source: CDNA3 ISA 12.11. Bytes are taken lowest first. The clamped forms saturate where the ISA gives them
clamp. v_screen_partition_4se_b32 has no published table and therefore no semantics.
"""

from __future__ import annotations

import numba
import numpy as np

from petitgen.emulator.compiled import compiled
from petitgen.emulator.registry import alias, clamped, op

U32, U64, I64, F32 = np.uint32, np.uint64, np.int64, np.float32


@numba.njit(inline="always")
def _difference(a, b, masked):
    """Sum over the bytes of |a - b|; masked: without the bytes where b is 0."""
    total = np.int64(0)
    for at in (0, 8, 16, 24):
        x, y = (np.int64(a) >> at) & 0xFF, (np.int64(b) >> at) & 0xFF
        total += 0 if masked and y == 0 else abs(x - y)
    return total


@compiled("i8(u4,u4)")
def _sad(a, b):
    return _difference(a, b, False)


@compiled("i8(u4,u4)")
def _sad_high(a, b):
    return _difference(a, b, False) << 16


@compiled("i8(u4,u4)")
def _msad(a, reference):
    return _difference(a, reference, True)


def _wide(c):
    return np.asarray(c).astype(I64)


def _sum(difference):
    """difference(a, b) + c: wrapping and saturating."""
    return (
        lambda a, b, c: (difference(a, b) + c).astype(U32),
        lambda a, b, c: np.minimum(difference(a, b) + c, 0xFFFFFFFF).astype(U32),
    )


alias("v_sad_u8", *_sum(_sad))
alias("v_sad_hi_u8", *_sum(_sad_high))
alias("v_sad_u16", *_sum(lambda a, b: np.abs(_wide(a) - _wide(b)).sum(axis=-1)))
alias("v_sad_u32", *_sum(lambda a, b: np.abs(_wide(a) - _wide(b))))
alias("v_msad_u8", *_sum(_msad))


def _quad(difference, a, b):
    """difference of b with each of the four 32-bit windows of a (b64) that start at bytes 0 to 3."""
    return [difference((a >> U64(8 * byte)).astype(U32), b) for byte in range(4)]


def _quad_u16(difference):
    """Four sums with the four u16 of c, packed in a b64: wrapping and saturating."""

    def pack(a, b, c, finish):
        result = U64(0)
        for byte, total in enumerate(_quad(difference, a, b)):
            part = finish(total + ((c >> U64(16 * byte)) & U64(0xFFFF)).astype(I64))
            result = result | part.astype(U64) << U64(16 * byte)
        return result

    return (
        lambda a, b, c: pack(a, b, c, lambda total: total & 0xFFFF),
        lambda a, b, c: pack(a, b, c, lambda total: np.minimum(total, 0xFFFF)),
    )


alias("v_qsad_pk_u16_u8", *_quad_u16(_sad))
alias("v_mqsad_pk_u16_u8", *_quad_u16(_msad))


@op
def v_mqsad_u32_u8(a, b, c):
    """Four sums with the four registers of c."""
    return np.stack(
        [(total + register).astype(U32) for total, register in zip(_quad(_msad, a, b), c, strict=True)]
    )


@clamped("v_mqsad_u32_u8")
def _(a, b, c):
    sums = (total + register for total, register in zip(_quad(_msad, a, b), c, strict=True))
    return np.stack([np.minimum(total, 0xFFFFFFFF).astype(U32) for total in sums])


@compiled("u4(u4,u4,u4)")
def _lerp(a, b, c):
    result = np.int64(0)
    for at in (0, 8, 16, 24):
        x, y = (np.int64(a) >> at) & 0xFF, (np.int64(b) >> at) & 0xFF
        result |= ((x + y + ((np.int64(c) >> at) & 1)) >> 1) << at
    return np.uint32(result)


alias("v_lerp_u8", _lerp)


def _cube(on_z, on_y, on_x):
    """Choose by the major axis of (x, y, z); z wins ties, then y."""

    def select(x, y, z):
        ax, ay, az = np.abs(x), np.abs(y), np.abs(z)
        return np.where(
            (az >= ax) & (az >= ay), on_z(x, y, z), np.where(ay >= ax, on_y(x, y, z), on_x(x, y, z))
        ).astype(F32)

    return select


alias(
    "v_cubeid_f32",
    _cube(
        lambda x, y, z: np.where(z < 0, 5, 4),
        lambda x, y, z: np.where(y < 0, 3, 2),
        lambda x, y, z: np.where(x < 0, 1, 0),
    ),
)
alias(
    "v_cubesc_f32",
    _cube(lambda x, y, z: np.where(z < 0, -x, x), lambda x, y, z: x, lambda x, y, z: np.where(x < 0, z, -z)),
)
alias(
    "v_cubetc_f32",
    _cube(lambda x, y, z: -y, lambda x, y, z: np.where(y < 0, -z, z), lambda x, y, z: -y),
)
alias(
    "v_cubema_f32", _cube(lambda x, y, z: z * F32(2), lambda x, y, z: y * F32(2), lambda x, y, z: x * F32(2))
)
