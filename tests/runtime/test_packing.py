"""Packing moves every bit to where kernels look for it, and back. The layout is stated here anew."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from runtime.errors import PackError
from runtime.packing import (
    pack,
    pack_amdfp4,
    pack_mxfp4,
    pack_nvfp4,
    unpack_amdfp4,
    unpack_mxfp4,
    unpack_nvfp4,
)

SHAPES = [(16, 128), (1, 16), (17, 16), (5, 144), (48, 272), (33, 112), (2048 + 5, 32)]


def checkpoint(n: int, k: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 256, (n, k // 2)).astype(np.uint8)
    scales = rng.integers(0, 256, (n, k // 16)).astype(np.uint8)
    return weight, scales, np.float32(rng.uniform(0.1, 1))


def code_at(weight: np.ndarray, n: int, k: int) -> int:
    """The code of element (n, k) of a checkpoint weight, 0 beyond its edge."""
    if n >= weight.shape[0] or k >= 2 * weight.shape[1]:
        return 0
    byte = int(weight[n, k // 2])
    return byte >> 4 if k % 2 else byte & 15


def reversed_bits(word: int) -> int:
    return int(f"{word:032b}"[::-1], 2)


def codes_of(word: int) -> list[int]:
    """The eight codes of a packed dword as the kernel sees them.

    fp16 halves with the sign in bit 15 and the E2M1 magnitude in bits 11..9, low half first: of the word, the
    word up a byte, its reverse, and that up a byte.
    """
    codes = []
    for view in (word, word << 8, reversed_bits(word), reversed_bits(word) << 8):
        for half in (view & 0xFFFF, view >> 16 & 0xFFFF):
            codes.append((half >> 15) << 3 | half >> 9 & 7)
    return codes


def signed_codes(weight: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same values with no scale negative, a nibble at a time."""
    weight, scales = weight.copy(), scales.copy()
    for row, block in np.argwhere(scales >= 0x80):
        scales[row, block] -= 0x80
        for byte in range(8 * block, 8 * block + 8):
            low, high = weight[row, byte] & 15, weight[row, byte] >> 4
            weight[row, byte] = (low + 8) % 16 | (high + 8) % 16 << 4
    return weight, scales


@pytest.mark.parametrize(("n", "k"), [(17, 144), (16, 128), (3, 16)])
def test_every_code_is_where_the_kernel_reads_it(n, k):
    weight, scales, outer = checkpoint(n, k)
    packed = pack_nvfp4(weight, scales, outer).codes
    weight, _ = signed_codes(weight, scales)
    bricks_k, bricks_n = -(-k // 128), -(-n // 16)
    assert packed.size == bricks_k * bricks_n * 1024  # 1 KiB is 16 columns by 128 of K
    words = packed.reshape(-1).view("<u4").reshape(bricks_k, bricks_n, 64, 4)
    for kb, nb, lane, dword in np.ndindex(words.shape):
        column, quad = 16 * nb + lane % 16, lane // 16
        first = 128 * kb + 32 * dword + 4 * quad
        wanted = [code_at(weight, column, first + k) for k in (0, 1, 2, 3, 16, 17, 18, 19)]
        assert codes_of(int(words[kb, nb, lane, dword])) == wanted


@pytest.mark.parametrize(("n", "k"), [(17, 144), (3, 16)])
def test_every_scale_is_where_the_kernel_reads_it(n, k):
    weight, scales, outer = checkpoint(n, k)
    packed = pack_nvfp4(weight, scales, outer).scales.reshape(-(-k // 128), -(-n // 16), 16, 8)
    for kb, nb, column, block in np.ndindex(packed.shape):
        row, group = 16 * nb + column, 8 * kb + (0, 4, 2, 6, 1, 5, 3, 7)[block]
        inside = row < n and group < k // 16
        scale = scales[row, group] if inside else 0
        assert packed[kb, nb, column, block] == scale & 0x7F


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_unpacking_gives_the_checkpoint_back(n, k):
    weight, scales, outer = checkpoint(n, k)
    given = weight.copy(), scales.copy()
    back = unpack_nvfp4(pack_nvfp4(weight, scales, outer))
    for got, wanted in zip(back, (*signed_codes(weight, scales), outer), strict=True):
        np.testing.assert_array_equal(got, wanted)
    for now, before in zip((weight, scales), given, strict=True):
        np.testing.assert_array_equal(now, before)  # packing changes nothing of what it is given


def test_all_byte_values_of_codes_and_scales_survive():
    weight = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    weight = np.stack([np.roll(row, i) for i, row in enumerate(weight)])  # every byte in many places
    scales = np.arange(16 * 32, dtype=np.uint32).astype(np.uint8).reshape(16, 32)
    got_weight, got_scales, _ = unpack_nvfp4(pack_nvfp4(weight, scales, 1.0))
    wanted_weight, wanted_scales = signed_codes(weight, scales)
    np.testing.assert_array_equal(got_weight, wanted_weight)
    np.testing.assert_array_equal(got_scales, wanted_scales)


def test_a_negative_scale_gives_its_sign_to_the_codes_of_its_block():
    weight, scales = np.full((1, 16), 0x71, np.uint8), np.array([[0xB8, 0x38]], np.uint8)  # -1 and 1
    got_weight, got_scales, _ = unpack_nvfp4(pack_nvfp4(weight, scales, 1.0))
    np.testing.assert_array_equal(got_weight, [[0xF9] * 8 + [0x71] * 8])
    np.testing.assert_array_equal(got_scales, [[0x38, 0x38]])


def test_a_nan_block_scale_makes_the_outer_scale_of_its_row_nan():
    weight, scales, _ = checkpoint(20, 64)
    scales &= 0x77  # no NaN
    scales[3, 2], scales[19, 0] = 0x7F, 0xFF
    packed = pack_nvfp4(weight, scales, 0.5)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(packed.outer)), [3, 19])
    assert (packed.outer[[0, 1, 18]] == 0.5).all()
    np.testing.assert_array_equal(unpack_nvfp4(packed)[2], np.float32(0.5))


def test_outer_scales_of_fused_projections_stay_apart():
    weight, scales, _ = checkpoint(8, 32)
    scales &= 0x77
    outer = np.repeat(np.array([0.25, 3.0], np.float32), 4)
    packed = pack_nvfp4(weight, scales, outer)
    np.testing.assert_array_equal(packed.outer, outer)
    np.testing.assert_array_equal(unpack_nvfp4(packed)[2], outer)


def test_e4m3_arrays_and_non_contiguous_arrays_are_taken():
    weight, scales, outer = checkpoint(32, 64)
    wanted = pack_nvfp4(weight, scales, outer)
    typed = pack_nvfp4(np.asfortranarray(weight), scales.view(ml_dtypes.float8_e4m3fn), np.array([outer]))
    np.testing.assert_array_equal(typed.codes, wanted.codes)
    np.testing.assert_array_equal(typed.scales, wanted.scales)
    np.testing.assert_array_equal(typed.outer, wanted.outer)


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch", reason="torch is an extra")
    weight, scales, outer = checkpoint(32, 64)
    wanted = pack_nvfp4(weight, scales, outer)
    scale_tensor = torch.from_numpy(scales).view(torch.float8_e4m3fn)
    got = pack_nvfp4(torch.from_numpy(weight), scale_tensor, torch.tensor(float(outer)))
    np.testing.assert_array_equal(got.codes, wanted.codes)
    np.testing.assert_array_equal(got.scales, wanted.scales)


GOOD = checkpoint(16, 64)


@pytest.mark.parametrize(
    ("weight", "scales", "outer", "message"),
    [
        (GOOD[0].astype(np.int8), GOOD[1], 1.0, "weight has dtype int8: uint8 is needed"),
        (GOOD[0].astype(np.float32), GOOD[1], 1.0, "weight has dtype float32"),
        (GOOD[0][0], GOOD[1], 1.0, r"weight has shape \[32\]"),
        (GOOD[0][:0], GOOD[1][:0], 1.0, r"weight has shape \[0, 32\]"),
        (GOOD[0][:, :12], GOOD[1], 1.0, "K = 24, which is no multiple"),
        (GOOD[0], GOOD[1].T, 1.0, r"weight_scale has shape \[4, 16\].*\[16, 4\]"),
        (GOOD[0], GOOD[1][:, :2], 1.0, r"weight_scale has shape \[16, 2\]"),
        (GOOD[0], GOOD[1].astype(np.float32), 1.0, "weight_scale has dtype float32"),
        (GOOD[0], GOOD[1].view(ml_dtypes.float8_e4m3fnuz), 1.0, "weight_scale has dtype float8_e4m3fnuz"),
        (GOOD[0], GOOD[1], np.ones(5, np.float32), r"weight_scale_2 has shape \[5\].*\[16\]"),
        (GOOD[0], GOOD[1], None, r"weight_scale_2 is missing"),
        (GOOD[0], GOOD[1], "1.5", r"weight_scale_2 has dtype <U3"),
        (GOOD[0], GOOD[1], 1e300, r"weight_scale_2 has a value beyond float32"),
        (GOOD[0], GOOD[1], 1e-46, r"weight_scale_2 has a value beyond float32"),
        (GOOD[0], GOOD[1], [1, [2]], r"weight_scale_2 is no array"),
        (GOOD[0].tolist(), GOOD[1], 1.0, "weight has dtype list"),
    ],
)
def test_wrong_tensors_are_refused_with_what_is_needed(weight, scales, outer, message):
    with pytest.raises(PackError, match=message):
        pack_nvfp4(weight, scales, outer)


def test_a_weight_of_another_format_is_not_unpacked():
    packed = pack_nvfp4(*GOOD)
    other = replace(packed, format="mxfp4")
    with pytest.raises(PackError, match="mxfp4"):
        unpack_nvfp4(other)


def test_pack_finds_the_packer_of_the_format():
    packed, wanted = pack("nvfp4", *GOOD), pack_nvfp4(*GOOD)
    assert packed.format == "nvfp4"
    assert np.array_equal(packed.codes, wanted.codes)
    with pytest.raises(PackError, match="no format 'int4': known are nvfp4"):
        pack("int4", *GOOD)


# ---- MXFP4 ----------------------------------------------------------------------------------------


def mx_checkpoint(n: int, k: int, seed: int = 0, low: int = 0, high: int = 255):
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 256, (n, k // 2)).astype(np.uint8)
    return weight, rng.integers(low, high, (n, k // 32)).astype(np.uint8)


def column_scales(packed, n: int, k: int) -> np.ndarray:
    """The packed bytes [n, k/32], taken out of the bricks one by one."""
    bricks = packed.scales.reshape(-(-k // 128), -(-n // 16), 16, 4)
    return np.array(
        [[bricks[b // 4, row // 16, row % 16, (0, 2, 1, 3)[b % 4]] for b in range(k // 32)] for row in range(n)]
    )


@pytest.mark.parametrize(("n", "k"), [(17, 160), (3, 32), (16, 128)])
def test_mxfp4_codes_lie_as_nvfp4_codes_do(n, k):
    weight, scales = mx_checkpoint(n, k)
    as_nvfp4 = pack_nvfp4(weight, np.zeros((n, k // 16), np.uint8), 1.0)
    np.testing.assert_array_equal(pack_mxfp4(weight, scales).codes, as_nvfp4.codes)


@pytest.mark.parametrize(("n", "k"), [(17, 160), (3, 32), (33, 544)])
def test_mxfp4_scale_byte_times_outer_is_the_scale_and_below_the_floor_zero(n, k):
    """What kernels compute, in float64: 2^(byte - 127), zero for byte 0, times outer, 63 binades higher."""
    weight, scales = mx_checkpoint(n, k)
    packed = pack_mxfp4(weight, scales)
    got = column_scales(packed, n, k).astype(np.float64)
    value = np.where(got == 0, 0, 2.0 ** (got - 127)) * packed.outer[:, None].astype(np.float64) * 2.0**-63
    exact = 2.0 ** (scales.astype(np.float64) - 127)
    largest = exact.max(axis=1, keepdims=True)
    np.testing.assert_array_equal(value, np.where(exact <= largest * 2.0**-133, 0, exact))
    everywhere = column_scales(packed, -(-n // 16) * 16, -(-k // 128) * 128)
    assert not everywhere[n:].any()
    assert not everywhere[:, k // 32 :].any()


@pytest.mark.parametrize(("span", "wanted"), [(0, 190), (131, 59), (132, 58), (133, 0), (134, 0), (254, 0)])
def test_mxfp4_the_floor_is_between_2_to_the_132_and_133(span, wanted):
    scales = np.array([[254, 254 - span]], np.uint8)
    packed = pack_mxfp4(np.zeros((1, 32), np.uint8), scales)
    assert column_scales(packed, 1, 64)[0].tolist() == [190, wanted]
    assert packed.outer.tolist() == [2.0**127]


@pytest.mark.parametrize("largest", [0, 1, 2, 127, 132, 254])
def test_mxfp4_outer_is_the_largest_scale_of_the_column(largest):
    scales = np.array([[0, largest, largest // 2], [largest, 0, 0]], np.uint8)
    packed = pack_mxfp4(np.zeros((2, 48), np.uint8), scales)
    np.testing.assert_array_equal(packed.outer.astype(np.float64), [2.0 ** (largest - 127)] * 2)
    assert packed.outer.dtype == np.float32


def test_mxfp4_nan_scales_make_their_columns_nan_and_change_no_other_block():
    weight, scales = mx_checkpoint(20, 64, low=100, high=150)
    clean = pack_mxfp4(weight, scales)
    scales[3, 1], scales[19] = 0xFF, 0xFF
    packed = pack_mxfp4(weight, scales)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(packed.outer)), [3, 19])
    bytes_, clean_bytes = column_scales(packed, 20, 64), column_scales(clean, 20, 64)
    others = [row for row in range(20) if row not in (3, 19)]
    np.testing.assert_array_equal(bytes_[others], clean_bytes[others])
    assert bytes_[3].tolist() == [190, 0xFF]  # the other block is now the largest
    got_weight, got_scales = unpack_mxfp4(packed)
    np.testing.assert_array_equal(got_weight, weight)
    np.testing.assert_array_equal(got_scales, scales)


@pytest.mark.parametrize(("n", "k"), [(16, 128), (1, 32), (17, 32), (5, 160), (2048 + 5, 32)])
def test_mxfp4_unpacking_gives_the_checkpoint_back(n, k):
    weight, scales = mx_checkpoint(n, k, low=117, high=250)  # 132 binades at most
    for got, wanted in zip(unpack_mxfp4(pack_mxfp4(weight, scales)), (weight, scales), strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == np.uint8


def test_mxfp4_every_scale_alone_in_its_column_survives():
    scales = np.arange(256, dtype=np.uint8)[:, None]
    packed = pack_mxfp4(np.full((256, 16), 0x21, np.uint8), scales)
    np.testing.assert_array_equal(unpack_mxfp4(packed)[1], scales)


def test_mxfp4_a_block_below_the_floor_comes_back_as_the_largest_that_counts_as_zero():
    scales = np.array([[254, 121, 120, 3, 0, 122]], np.uint8)
    got = unpack_mxfp4(pack_mxfp4(np.zeros((1, 96), np.uint8), scales))[1]
    assert got.tolist() == [[254, 121, 121, 121, 121, 122]]


def test_mxfp4_takes_e8m0_arrays_and_tensors():
    weight, scales = mx_checkpoint(32, 64)
    wanted = pack_mxfp4(weight, scales)
    typed = [scales.view(ml_dtypes.float8_e8m0fnu), np.asfortranarray(scales)]
    torch = pytest.importorskip("torch", reason="torch is an extra")
    typed += [torch.from_numpy(scales), torch.from_numpy(scales).view(torch.float8_e8m0fnu)]
    for given in typed:
        got = pack("mxfp4", weight, given)
        np.testing.assert_array_equal(got.scales, wanted.scales)
        np.testing.assert_array_equal(got.outer, wanted.outer)


MX = mx_checkpoint(16, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MX[0], MX[1], 1.0), "weight_scale_2 is given, but MXFP4 has no scale beside weight_scale"),
        ((MX[0][:, :24], MX[1]), "K = 48, which is no multiple of mxfp4's block of 32"),
        ((MX[0], MX[1].T), r"weight_scale has shape \[2, 16\].*\[N, K/32\] = \[16, 2\]"),
        ((MX[0], MX[1].view(ml_dtypes.float8_e4m3fn)), "weight_scale has dtype float8_e4m3fn: float8_e8m0fnu or uint8"),
        ((MX[0].astype(np.int8), MX[1]), "weight has dtype int8: uint8 is needed"),
    ],
)
def test_mxfp4_wrong_tensors_are_refused_with_what_is_needed(arguments, message):
    with pytest.raises(PackError, match=message):
        pack("mxfp4", *arguments)


def test_mxfp4_weights_and_nvfp4_weights_are_not_mistaken():
    with pytest.raises(PackError, match="unpack_mxfp4 needs a packed mxfp4 weight, this one is nvfp4"):
        unpack_mxfp4(pack_nvfp4(*GOOD))
    with pytest.raises(PackError, match="unpack_nvfp4 needs a packed nvfp4 weight, this one is mxfp4"):
        unpack_nvfp4(pack_mxfp4(*MX))


# ---- AMD-FP4 ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_amdfp4_codes_and_scales_lie_as_those_of_nvfp4_do(n, k):
    """The bytes are packed as they are: those of an unsigned type, and zero beyond the edge."""
    weight, scales, outer = checkpoint(n, k)
    scales %= 0x7F  # no sign, no NaN: what NVFP4 leaves as it is
    packed, as_nvfp4 = pack_amdfp4(weight, scales, outer), pack_nvfp4(weight, scales, outer)
    np.testing.assert_array_equal(packed.codes, as_nvfp4.codes)
    np.testing.assert_array_equal(packed.scales, as_nvfp4.scales)
    np.testing.assert_array_equal(packed.outer, np.full(n, outer))


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_amdfp4_unpacking_gives_the_checkpoint_back_every_byte_of_it(n, k):
    weight, scales, outer = checkpoint(n, k)
    packed = pack("amdfp4", weight, scales, outer)
    for got, wanted in zip(unpack_amdfp4(packed), (weight, scales, outer), strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.isnan(packed.outer), (scales == 0xFF).any(axis=1))


@pytest.mark.parametrize(
    ("scales", "outer", "message"),
    [
        (GOOD[1].view(ml_dtypes.float8_e4m3fn), 1.0, "weight_scale has dtype float8_e4m3fn: uint8 is needed"),
        (GOOD[1], None, "weight_scale_2 is missing: AMD-FP4 has a float32 scale"),
        (GOOD[1][:, :1], 1.0, r"weight_scale has shape \[16, 1\]"),
    ],
)
def test_amdfp4_wrong_tensors_are_refused_with_what_is_needed(scales, outer, message):
    with pytest.raises(PackError, match=message):
        pack_amdfp4(GOOD[0], scales, outer)
