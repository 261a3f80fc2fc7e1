"""Sums of absolute differences, byte averages and cube map coordinates of the vector ALU.

source: CDNA3 ISA 12.11. Bytes are taken lowest first. The clamped forms saturate where the ISA gives them
clamp. v_screen_partition_4se_b32 has no published table and therefore no semantics.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.registry import alias, clamped, op

U16, U32, U64, I64, F32 = np.uint16, np.uint32, np.uint64, np.int64, np.float32
_BYTE_SHIFTS = np.arange(0, 32, 8, dtype=U32)


def _bytes(a):
    """The four bytes of a b32 on a new last axis, int64."""
    return ((np.asarray(a)[..., None] >> _BYTE_SHIFTS) & U32(0xFF)).astype(I64)


def _sad(a, b):
    """Sum over the bytes of |a - b|, int64."""
    return np.abs(_bytes(a) - _bytes(b)).sum(axis=-1)


def _msad(a, reference):
    """The same, leaving out the bytes where the reference is 0."""
    r = _bytes(reference)
    return np.where(r == 0, 0, np.abs(_bytes(a) - r)).sum(axis=-1)


def _wide(c):
    return np.asarray(c).astype(I64)


def _sum(difference):
    """difference(a, b) + c: wrapping and saturating."""
    return (
        lambda a, b, c: (difference(a, b) + _wide(c)).astype(U32),
        lambda a, b, c: np.minimum(difference(a, b) + _wide(c), 0xFFFFFFFF).astype(U32),
    )


alias("v_sad_u8", *_sum(_sad))
alias("v_sad_hi_u8", *_sum(lambda a, b: _sad(a, b) << 16))
alias("v_sad_u16", *_sum(lambda a, b: np.abs(_wide(a) - _wide(b)).sum(axis=-1)))
alias("v_sad_u32", *_sum(lambda a, b: np.abs(_wide(a) - _wide(b))))
alias("v_msad_u8", *_sum(_msad))


def _windows(a):
    """The four 32-bit windows of a b64 that start at bytes 0 to 3, on a new last axis."""
    shifts = np.arange(0, 32, 8, dtype=U64)
    return ((np.asarray(a)[..., None] >> shifts) & U64(0xFFFFFFFF)).astype(U32)


def _quad(difference, a, b):
    """difference of each window of a with b, int64 on the last axis."""
    return difference(_windows(a), np.asarray(b)[..., None])


_HALF_SHIFTS = np.arange(0, 64, 16, dtype=U64)


def _quad_u16(difference):
    """Four sums with the four u16 of c, packed in a b64: wrapping and saturating."""

    def sums(a, b, c):
        return _quad(difference, a, b) + ((np.asarray(c)[..., None] >> _HALF_SHIFTS) & U64(0xFFFF)).astype(
            I64
        )

    def pack(fields):
        return np.bitwise_or.reduce(fields.astype(U64) << _HALF_SHIFTS, axis=-1)

    return lambda a, b, c: pack(sums(a, b, c) & 0xFFFF), lambda a, b, c: pack(
        np.minimum(sums(a, b, c), 0xFFFF)
    )


alias("v_qsad_pk_u16_u8", *_quad_u16(_sad))
alias("v_mqsad_pk_u16_u8", *_quad_u16(_msad))


@op
def v_mqsad_u32_u8(a, b, c):
    """Four sums with the four registers of c."""
    return np.moveaxis(_quad(_msad, a, b), -1, 0).astype(U32) + c


@clamped("v_mqsad_u32_u8")
def _(a, b, c):
    return np.minimum(np.moveaxis(_quad(_msad, a, b), -1, 0) + _wide(c), 0xFFFFFFFF).astype(U32)


@op
def v_lerp_u8(a, b, c):
    """(a + b + lowest bit of c) >> 1 in each byte."""
    fields = ((_bytes(a) + _bytes(b) + (_bytes(c) & 1)) >> 1).astype(U32)
    return np.bitwise_or.reduce(fields << _BYTE_SHIFTS, axis=-1)


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
