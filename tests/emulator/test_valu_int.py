"""Integer, logic, shift, byte and comparison operations against plain Python integers."""

from __future__ import annotations

import operator

import pytest

from petitgen.emulator import registry

from . import valu_cases as cases


def u(value: int, bits: int = 32) -> int:
    """value modulo 2**bits."""
    return value & ((1 << bits) - 1)


def s(value: int, bits: int = 32) -> int:
    """value modulo 2**bits, signed."""
    value = u(value, bits)
    return value - (1 << bits) if value >> (bits - 1) else value


def limit(value: int, bits: int, signed: bool) -> int:
    """value saturated."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def fields(value: int, width: int, total: int = 32) -> list[int]:
    return [value >> at & ((1 << width) - 1) for at in range(0, total, width)]


def join(parts: list[int], width: int) -> int:
    return sum(part << (width * at) for at, part in enumerate(parts))


def permuted(high: int, low: int, selectors: int) -> int:
    data = fields(high << 32 | low, 8, 64)

    def byte(selector: int) -> int:
        if selector >= 13:
            return 0xFF
        if selector == 12:
            return 0
        if selector >= 8:
            return 0xFF if data[2 * (selector - 8) + 1] & 0x80 else 0
        return data[selector]

    return join([byte(selector) for selector in fields(selectors, 8)], 8)


def leading(value: int) -> int:
    return u(-1) if value == 0 else 32 - value.bit_length()


def sign_run(value: int) -> int:
    bits = f"{u(value):032b}"
    return -1 if len(set(bits)) == 1 else len(bits) - len(bits.lstrip(bits[0]))


def sad(a: int, b: int, masked: bool = False) -> int:
    return sum(abs(x - y) for x, y in zip(fields(a, 8), fields(b, 8), strict=True) if y or not masked)


def quad(a: int, b: int, masked: bool) -> list[int]:
    return [sad(a >> 8 * at & 0xFFFFFFFF, b, masked) for at in range(4)]


def lerp(*operands: int) -> int:
    """The average of the bytes of two operands; the lowest bit of the third's bytes rounds."""
    return join([x + y + z % 2 >> 1 for x, y, z in zip(*(fields(v, 8) for v in operands), strict=True)], 8)


def quad_u16(masked: bool, finish):
    """Four sums in 16 bits each, packed; `finish` cuts or saturates them."""

    def expected(a: int, b: int, c: int) -> int:
        sums = map(operator.add, quad(a, b, masked), fields(c, 16, 64))
        return join([finish(total, 16) for total in sums], 16)

    return expected


def quad_u32(finish):
    return lambda a, b, c: tuple(finish(total, 32) for total in map(operator.add, quad(a, b, True), c))


def limit_unsigned(value: int, bits: int) -> int:
    return limit(value, bits, False)


# What the result is before it is cut to the destination's width.
EXACT = {
    "v_add_u32": lambda a, b: a + b,
    "v_sub_u32": lambda a, b: a - b,
    "v_subrev_u32": lambda a, b: b - a,
    "v_add_i32": lambda a, b: a + b,
    "v_sub_i32": lambda a, b: a - b,
    "v_add_u16": lambda a, b: a + b,
    "v_sub_u16": lambda a, b: a - b,
    "v_subrev_u16": lambda a, b: b - a,
    "v_add_i16": lambda a, b: a + b,
    "v_sub_i16": lambda a, b: a - b,
    "v_mul_lo_u16": lambda a, b: a * b,
    "v_mad_u16": lambda a, b, c: a * b + c,
    "v_mad_i16": lambda a, b, c: a * b + c,
    "v_mad_legacy_u16": lambda a, b, c: a * b + c,
    "v_mad_legacy_i16": lambda a, b, c: a * b + c,
    "v_mad_u32_u24": lambda a, b, c: u(a, 24) * u(b, 24) + c,
    "v_mad_i32_i24": lambda a, b, c: s(a, 24) * s(b, 24) + c,
    "v_mad_u32_u16": lambda a, b, c: a * b + c,
    "v_mad_i32_i16": lambda a, b, c: a * b + c,
    "v_sad_u8": lambda a, b, c: sad(a, b) + c,
    "v_sad_hi_u8": lambda a, b, c: (sad(a, b) << 16) + c,
    "v_sad_u16": lambda a, b, c: abs(a[0] - b[0]) + abs(a[1] - b[1]) + c,
    "v_sad_u32": lambda a, b, c: abs(a - b) + c,
    "v_msad_u8": lambda a, b, c: sad(a, b, masked=True) + c,
    "v_dot2_i32_i16": lambda a, b, c: a[0] * b[0] + a[1] * b[1] + c,
    "v_dot2_u32_u16": lambda a, b, c: a[0] * b[0] + a[1] * b[1] + c,
    "v_dot4_i32_i8": lambda a, b, c: (
        sum(s(x, 8) * s(y, 8) for x, y in zip(fields(a, 8), fields(b, 8), strict=True)) + c
    ),
    "v_dot4_u32_u8": lambda a, b, c: sum(map(operator.mul, fields(a, 8), fields(b, 8))) + c,
    "v_dot8_i32_i4": lambda a, b, c: (
        sum(s(x, 4) * s(y, 4) for x, y in zip(fields(a, 4), fields(b, 4), strict=True)) + c
    ),
    "v_dot8_u32_u4": lambda a, b, c: sum(map(operator.mul, fields(a, 4), fields(b, 4))) + c,
}
EXACT |= {
    f"v_{accumulating}": EXACT[f"v_{accumulating.replace('c_', '_')}"]
    for accumulating in ("dot2c_i32_i16", "dot4c_i32_i8", "dot8c_i32_i4")
}
PACKED = {
    "v_pk_add_u16": lambda a, b: a + b,
    "v_pk_sub_u16": lambda a, b: a - b,
    "v_pk_add_i16": lambda a, b: a + b,
    "v_pk_sub_i16": lambda a, b: a - b,
    "v_pk_mul_lo_u16": lambda a, b: a * b,
    "v_pk_mad_u16": lambda a, b, c: a * b + c,
    "v_pk_mad_i16": lambda a, b, c: a * b + c,
}
# Results that need no cutting, or are cut here.
PLAIN = {
    "v_mov_b32": lambda a: a,
    "v_mov_b64": lambda a: a,
    "v_accvgpr_read_b32": lambda a: a,
    "v_accvgpr_write_b32": lambda a: a,
    "v_accvgpr_mov_b32": lambda a: a,
    "v_not_b32": lambda a: u(~a),
    "v_and_b32": lambda a, b: a & b,
    "v_or_b32": lambda a, b: a | b,
    "v_xor_b32": lambda a, b: a ^ b,
    "v_xnor_b32": lambda a, b: u(~(a ^ b)),
    "v_and_or_b32": lambda a, b, c: a & b | c,
    "v_or3_b32": lambda a, b, c: a | b | c,
    "v_xad_u32": lambda a, b, c: u((a ^ b) + c),
    "v_add3_u32": lambda a, b, c: u(a + b + c),
    "v_lshl_add_u32": lambda a, n, c: u((a << n % 32) + c),
    "v_add_lshl_u32": lambda a, b, n: u(a + b << n % 32),
    "v_lshl_or_b32": lambda a, n, c: u(a << n % 32) | c,
    "v_lshl_add_u64": lambda a, n, c: u((a << (n % 8 if n % 8 <= 4 else 0)) + c, 64),
    "v_lshlrev_b32": lambda n, a: u(a << n % 32),
    "v_lshrrev_b32": lambda n, a: a >> n % 32,
    "v_ashrrev_i32": lambda n, a: a >> n % 32,
    "v_lshlrev_b64": lambda n, a: u(a << n % 64, 64),
    "v_lshrrev_b64": lambda n, a: a >> n % 64,
    "v_ashrrev_i64": lambda n, a: a >> n % 64,
    "v_lshlrev_b16": lambda n, a: u(a << n % 16, 16),
    "v_lshrrev_b16": lambda n, a: a >> n % 16,
    "v_ashrrev_i16": lambda n, a: a >> n % 16,
    "v_mul_lo_u32": lambda a, b: u(a * b),
    "v_mul_hi_u32": lambda a, b: a * b >> 32,
    "v_mul_hi_i32": lambda a, b: a * b >> 32,
    "v_mul_u32_u24": lambda a, b: u(u(a, 24) * u(b, 24)),
    "v_mul_i32_i24": lambda a, b: s(s(a, 24) * s(b, 24)),
    "v_mul_hi_u32_u24": lambda a, b: u(a, 24) * u(b, 24) >> 32,
    "v_mul_hi_i32_i24": lambda a, b: s(a, 24) * s(b, 24) >> 32,
    "v_add_co_u32": lambda a, b: (u(a + b), a + b >= 2**32),
    "v_sub_co_u32": lambda a, b: (u(a - b), a < b),
    "v_subrev_co_u32": lambda a, b: (u(b - a), b < a),
    "v_addc_co_u32": lambda a, b, c: (u(a + b + c), a + b + c >= 2**32),
    "v_subb_co_u32": lambda a, b, c: (u(a - b - c), a - b - c < 0),
    "v_subbrev_co_u32": lambda a, b, c: (u(b - a - c), b - a - c < 0),
    "v_mad_u64_u32": lambda a, b, c: (u(a * b + c, 64), a * b + c >= 2**64),
    "v_mad_i64_i32": lambda a, b, c: (s(a * b + c, 64), a * b + c < 0),
    "v_bfe_u32": lambda a, at, width: a >> at % 32 & ((1 << width % 32) - 1),
    "v_bfe_i32": lambda a, at, width: s(a >> at % 32, width % 32) if width % 32 else 0,
    "v_bfi_b32": lambda m, a, b: m & a | u(~m) & b,
    "v_bfm_b32": lambda width, at: u(((1 << width % 32) - 1) << at % 32),
    "v_bfrev_b32": lambda a: int(f"{a:032b}"[::-1], 2),
    "v_alignbit_b32": lambda a, b, n: u((a << 32 | b) >> n % 32),
    "v_alignbyte_b32": lambda a, b, n: u((a << 32 | b) >> 8 * (n % 4)),
    "v_perm_b32": permuted,
    "v_ffbh_u32": leading,
    "v_ffbl_b32": lambda a: u(-1) if a == 0 else (a & -a).bit_length() - 1,
    "v_ffbh_i32": sign_run,
    "v_bcnt_u32_b32": lambda a, b: u(a.bit_count() + b),
    "v_cndmask_b32": lambda a, b, choose: b if choose else a,
    "v_swap_b32": lambda a, old: (a, old),
    "v_lerp_u8": lerp,
    "v_qsad_pk_u16_u8": quad_u16(False, u),
    "v_mqsad_pk_u16_u8": quad_u16(True, u),
    "v_mqsad_u32_u8": quad_u32(u),
    "v_sat_pk_u8_i16": lambda a: limit(a[0], 8, False) | limit(a[1], 8, False) << 8,
    "v_pk_mov_b32": lambda a, b: (a[0], b[0]),
    "v_pk_lshlrev_b16": lambda n, a: tuple(u(x << y % 16, 16) for x, y in zip(a, n, strict=True)),
    "v_pk_lshrrev_b16": lambda n, a: tuple(x >> y % 16 for x, y in zip(a, n, strict=True)),
    "v_pk_ashrrev_i16": lambda n, a: tuple(x >> y % 16 for x, y in zip(a, n, strict=True)),
    "v_cvt_pk_u16_u32": lambda a, b: (limit(a, 16, False), limit(b, 16, False)),
    "v_cvt_pk_i16_i32": lambda a, b: (limit(a, 16, True), limit(b, 16, True)),
    "v_pack_b32_f16": lambda a, b: (a, b),
}  # fmt: skip
for _kind in ("u32", "i32", "u16", "i16"):
    PLAIN |= {
        f"v_min_{_kind}": min,
        f"v_max_{_kind}": max,
        f"v_min3_{_kind}": min,
        f"v_max3_{_kind}": max,
        f"v_med3_{_kind}": lambda *values: sorted(values)[1],
    }
for _kind in ("u16", "i16"):
    PLAIN |= {
        f"v_pk_{_name}_{_kind}": lambda a, b, f=_function: tuple(map(f, a, b))
        for _name, _function in (("min", min), ("max", max))
    }
COMPARE = {
    "f": lambda a, b: False, "lt": operator.lt, "eq": operator.eq, "le": operator.le, "gt": operator.gt,
    "ne": operator.ne, "ge": operator.ge, "t": lambda a, b: True,
}  # fmt: skip
for _prefix in ("v_cmp", "v_cmpx"):
    for _kind in ("u16", "i16", "u32", "i32", "u64", "i64"):
        PLAIN |= {f"{_prefix}_{_name}_{_kind}": _compare for _name, _compare in COMPARE.items()}
SATURATING_CARRY = {
    "v_add_co_u32": lambda a, b: (limit(a + b, 32, False), a + b >= 2**32),
    "v_sub_co_u32": lambda a, b: (limit(a - b, 32, False), a < b),
    "v_subrev_co_u32": lambda a, b: (limit(b - a, 32, False), b < a),
    "v_addc_co_u32": lambda a, b, c: (limit(a + b + c, 32, False), a + b + c >= 2**32),
    "v_subb_co_u32": lambda a, b, c: (limit(a - b - c, 32, False), a - b - c < 0),
    "v_subbrev_co_u32": lambda a, b, c: (limit(b - a - c, 32, False), b - a - c < 0),
    "v_qsad_pk_u16_u8": quad_u16(False, limit_unsigned),
    "v_mqsad_pk_u16_u8": quad_u16(True, limit_unsigned),
    "v_mqsad_u32_u8": quad_u32(limit_unsigned),
}  # fmt: skip


def destination(mnemonic: str) -> tuple[int, bool]:
    """Bits of an element of the destination, and whether it is signed."""
    kind = cases.ROWS[mnemonic].dst[0]
    return cases.bits_of(kind), "i" in kind


def cut(mnemonic: str):
    bits, signed = destination(mnemonic)
    return lambda *arguments: (s if signed else u)(EXACT[mnemonic](*arguments), bits)


@pytest.mark.parametrize("mnemonic", EXACT)
def test_wraps(mnemonic: str) -> None:
    cases.check(mnemonic, cut(mnemonic))


@pytest.mark.parametrize("mnemonic", EXACT)
def test_saturates(mnemonic: str) -> None:
    cases.check(
        mnemonic, lambda *arguments: limit(EXACT[mnemonic](*arguments), *destination(mnemonic)), clamp=True
    )


@pytest.mark.parametrize("mnemonic", PACKED)
@pytest.mark.parametrize("clamp", [False, True])
def test_packed(mnemonic: str, clamp: bool) -> None:
    bits, signed = destination(mnemonic)

    def element(*arguments: int) -> int:
        exact = PACKED[mnemonic](*arguments)
        return limit(exact, bits, signed) if clamp else (s if signed else u)(exact, bits)

    cases.check(mnemonic, lambda *pairs: tuple(map(element, *pairs)), clamp=clamp)


@pytest.mark.parametrize("mnemonic", PLAIN)
def test_plain(mnemonic: str) -> None:
    cases.check(mnemonic, PLAIN[mnemonic])


@pytest.mark.parametrize("mnemonic", SATURATING_CARRY)
def test_saturates_and_carries(mnemonic: str) -> None:
    cases.check(mnemonic, SATURATING_CARRY[mnemonic], clamp=True)


def test_no_saturating_form_is_untested() -> None:
    saturating = {name for name, op in registry.OPS.items() if op.clamped and name.startswith("v_")}
    assert saturating == set(EXACT) | set(PACKED) | set(SATURATING_CARRY)


@pytest.mark.parametrize("half", ["lo", "hi"])
def test_mbcnt_counts_the_lanes_below(half: str) -> None:
    found = cases.run(f"v_mbcnt_{half}_u32_b32", seed=3)
    for place, ((mask, base), (result,)) in enumerate(found):
        lane = place % 64
        below = lane if half == "lo" else lane - 32
        ones = sum(mask >> bit & 1 for bit in range(32) if bit < below)
        assert result == u(base + ones), (lane, hex(mask))


def test_v_perm_selects_every_selector() -> None:
    """Selectors 0 to 15 in turn, on bytes of both signs."""
    import numpy as np

    perm = registry.lookup("v_perm_b32").function
    high, low = 0x8182_0304, 0x0586_8708
    for selector in range(16):
        word = selector | (15 - selector) << 8 | (selector ^ 5) << 16 | (selector + 7) % 16 << 24
        found = perm(*(np.full((1, 64), value, np.uint32) for value in (high, low, word)))
        assert (found == permuted(high, low, word)).all()
