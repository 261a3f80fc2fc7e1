"""Code orders: each is a permutation of 64 bits, and what a kernel unpacks from it are the codes. The unpacking is stated
here as the kernels do it: shifts, rotations, bit reversals and masks on whole dwords."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from runtime import orders
from runtime.errors import ManifestError, OperandError
from runtime.formats import BYTES, FORMATS, HOST_ORDER, ORDER_SHAPES, ORDERS
from runtime.orders import order_of, reorder, rescale
from runtime.packing import PackedWeight, pack
from tests.runtime.problems import Case, case

U32 = np.uint32


def rotr(word: np.ndarray, count: int) -> np.ndarray:
    return word >> U32(count) | word << U32(32 - count)


def reverse(word: np.ndarray) -> np.ndarray:
    out = np.zeros_like(word)
    for bit in range(32):
        out |= (word >> U32(bit) & U32(1)) << U32(31 - bit)
    return out


def seen_by_fp16(p: np.ndarray, q: np.ndarray) -> tuple[list[np.ndarray], int, int]:
    """Eight dwords of two codes, low half first; the mask of what counts; the place of the lowest code bit."""
    views = [view for word in (p, q) for view in (word, word << U32(8), reverse(word), reverse(word) << U32(8))]
    return views, 0x8E008E00, 9


def seen_by_bf16(p: np.ndarray, q: np.ndarray) -> tuple[list[np.ndarray], int, int]:
    u = U32(0x60306030) & p | ~U32(0x60306030) & q >> U32(2)
    even = [p, rotr(p, 4), p << U32(6), rotr(u, 6)]
    odd = [q, rotr(q, 4), q << U32(6), u << U32(4)]
    return even + odd, 0x81C081C0, 6


def seen_by_table(p: np.ndarray, q: np.ndarray) -> tuple[list[np.ndarray], int, int]:
    """A byte of a code is the highest four of its half here: kernels look up whole numbers by bytes."""
    views = []
    for word in (p, q):
        for turned in (word, rotr(word, 4)):
            spread = [turned >> U32(8 * j) & U32(0x87) for j in range(4)]  # sign and magnitude
            half = [byte >> U32(7) << U32(15) | (byte & U32(7)) << U32(12) for byte in spread]
            views += [half[0] | half[1] << U32(16), half[2] | half[3] << U32(16)]
    return views, 0xF000F000, 12


SEEN = {"fp16": seen_by_fp16, "bf16": seen_by_bf16, "table": seen_by_table, "window": seen_by_fp16, "fnuz": seen_by_table}
NEGATIVE_ZERO = 8


def unpacked(order: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The codes of pairs of dwords, [.., 16] in the order i = 8 (c odd) + 4 g + j, as kernels get them."""
    views, mask, lowest = SEEN[order](p, q)
    codes = []
    for view in views:
        masked = view & U32(mask)
        for half in (masked & U32(0xFFFF), masked >> U32(16)):
            codes.append(half >> U32(15) << U32(3) | half >> U32(lowest) & U32(7))
    return np.stack(codes, axis=-1)


def test_every_order_is_tested_here():
    assert set(ORDERS) == set(SEEN) == set(ORDER_SHAPES) - {BYTES}
    assert HOST_ORDER in ORDERS


@pytest.mark.parametrize("order", SEEN)
def test_an_order_uses_each_of_the_64_bits_once(order):
    assert sorted(bit for code in ORDERS[order] for bit in code) == list(range(64))
    assert len(ORDERS[order]) == 16


@pytest.mark.parametrize("order", SEEN)
def test_kernels_unpack_the_codes(order):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (4096, 16))
    codes[:16] = np.arange(16)[:, None]  # every code everywhere
    words = np.zeros(codes.shape[0], np.uint64)
    for i, bits in enumerate(ORDERS[order]):
        for place, bit in enumerate(bits):  # sign first
            words |= (codes[:, i].astype(np.uint64) >> np.uint64(3 - place) & np.uint64(1)) << np.uint64(bit)
    p, q = words.astype(U32), (words >> np.uint64(32)).astype(U32)
    np.testing.assert_array_equal(unpacked(order, p, q), codes)


@pytest.mark.parametrize("order", SEEN)
@pytest.mark.parametrize(("n", "k"), [(16, 128), (17, 160), (3, 32)])
def test_a_packed_weight_in_any_order_has_each_code_where_kernels_look(order, n, k):
    """From the checkpoint: packed, reordered, unpacked as the kernels do it."""
    weight = np.random.default_rng(n).integers(0, 256, (n, k // 2), np.uint8)
    natural = np.zeros((-(-n // 16) * 16, -(-k // 128) * 128), np.uint8)
    natural[:n, :k:2], natural[:n, 1:k:2] = weight & 15, weight >> 4
    assert (natural == NEGATIVE_ZERO).any()
    if order == "fnuz":
        natural[natural == NEGATIVE_ZERO] = 0
    host = pack("nvfp4", weight, np.zeros((n, k // 16), np.uint8), 1.0).codes
    packed = reorder(host, order)
    assert packed.shape == (natural.shape[1] // 128, natural.shape[0] // 16, *ORDER_SHAPES[order])
    words = packed.reshape(*packed.shape[:2], 64, 16).view("<u4")
    lane = np.arange(64)
    for c in (0, 2):
        codes = unpacked(order, words[..., c], words[..., c + 1])  # [tiles k, tiles n, lane, 16]
        for i in range(16):
            within = 32 * (c + i // 8) + 16 * (i // 4 % 2) + 4 * (lane // 16) + i % 4
            for kb, nb in np.ndindex(packed.shape[:2]):
                wanted = natural[16 * nb + lane % 16, 128 * kb + within]
                np.testing.assert_array_equal(codes[kb, nb, :, i], wanted)


def test_the_host_order_is_what_packing_gives():
    packed = pack("nvfp4", np.zeros((16, 64), np.uint8), np.zeros((16, 8), np.uint8), 1.0)
    assert order_of(packed.codes.shape) == HOST_ORDER
    assert np.shares_memory(reorder(packed.codes, HOST_ORDER), packed.codes)


def test_reordering_goes_there_and_back_in_parts_of_any_size(monkeypatch):
    codes = np.random.default_rng(1).integers(0, 256, (3, 5, 64, 16), np.uint8)
    whole = reorder(codes, "bf16")
    assert (whole.reshape(-1) != codes.reshape(-1)).mean() > 0.9
    monkeypatch.setattr(orders, "_WORDS_AT_ONCE", 1000)  # no divisor of the 1920 words
    parts = reorder(codes, "bf16")
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(reorder(parts, "fp16", given="bf16"), codes)


def halves(scales: np.ndarray) -> np.ndarray:
    """What kernels that read order window make of scale bytes: fp16 numbers."""
    return (scales.astype(np.uint16) << np.uint16(7)).view(np.float16)


def test_scales_of_order_window_are_fp16_numbers_but_for_tiny_ones():
    byte = np.arange(0x7F, dtype=np.uint8)  # without NaN
    value = np.array([b % 8 * 2.0**-9 if b < 8 else (8 + b % 8) * 2.0 ** (b // 8 - 10) for b in range(0x7F)])
    given = rescale(byte, "nvfp4", "window")
    tiny = (value > 0) & (value < 2.0**-6)
    np.testing.assert_array_equal(halves(given[~tiny]), value[~tiny] * 128)
    assert np.isnan(halves(given[tiny])).all()
    np.testing.assert_array_equal(given[tiny] & 7, value[tiny] * 512)
    smallest = halves(given[~tiny & (value > 0)]).min()
    assert float(smallest) * 0.5 * 2.0**-14 == np.finfo(np.float16).smallest_normal


def test_scales_go_to_order_window_and_back():
    byte = np.arange(128, dtype=np.uint8).reshape(2, 2, 4, 8)
    there = rescale(byte, "nvfp4", "window")
    assert there.shape == byte.shape
    assert np.unique(there).size == 128
    np.testing.assert_array_equal(rescale(there, "nvfp4", HOST_ORDER, given="window"), byte)
    np.testing.assert_array_equal(rescale(there, "nvfp4", "table", given="window"), byte)
    for same in ({"format": "mxfp4", "order": "window"}, {"format": "nvfp4", "order": "table"}):
        assert rescale(byte, **same) is byte
    assert rescale(there, "nvfp4", "window", given="window") is there
    with pytest.raises(OperandError, match="no code order 'fp8'"):
        rescale(byte, "nvfp4", "fp8")


def test_the_shape_of_codes_tells_their_order():
    for order, tail in ORDER_SHAPES.items():
        assert order_of((7, 3, *tail)) == order
        assert np.prod(tail) == (2048 if order == BYTES else 1024)
    for wrong in [(7, 3, 1024), (64, 16), (7, 3, 64, 2, 4, 2), (6144,)]:
        with pytest.raises(OperandError, match="tells the order of its codes"):
            order_of(wrong)


def test_codes_of_8_bits_have_one_order():
    packed = pack("fp8", np.zeros((16, 128), np.uint8), np.float32(1))
    assert order_of(packed.codes.shape) == BYTES
    assert all(reorder(packed.codes, order) is packed.codes for order in ORDERS)
    assert rescale(packed.scales, "fp8", BYTES) is packed.scales


def test_an_unknown_order_is_refused():
    with pytest.raises(OperandError, match="no code order 'fp8': known are fp16, bf16"):
        reorder(np.zeros((1, 1, 64, 16), np.uint8), "fp8")


def test_formats_have_whole_blocks_in_a_brick():
    for fmt in FORMATS.values():
        assert fmt.scales_per_brick * fmt.block == (128 if fmt.bits == 4 else 0)


# ---- on a device ------------------------------------------------------------------------------------


# The order that the fp16 kernels of an architecture read, and one that they do not, nor its bf16 kernels.
READ = {"gfx942": "fp16", "gfx90a": "window"}
CLAIMED = {"gfx942": "table", "gfx90a": "bf16"}


@pytest.fixture
def claimed(arch):
    return CLAIMED[arch]


@pytest.fixture
def as_if(arch, claimed):
    """Makes a weight that is what the fp16 kernels read after the upload has put it in the order that is claimed."""

    def make(one: Case) -> PackedWeight:
        codes, scales = reorder(one.weight.codes, READ[arch]), rescale(one.weight.scales, "nvfp4", READ[arch])
        return replace(
            one.weight,
            codes=reorder(codes, HOST_ORDER, given=claimed),
            scales=rescale(scales, "nvfp4", HOST_ORDER, given=claimed),
        )

    return make


@pytest.fixture
def turned(load, arch, built, tmp_path, claimed):
    """A library whose fp16 kernels are said to read another order than they do."""
    text = json.loads((built / arch / "manifest.json").read_text())
    for entry in text["kernels"].values():
        if entry["activations"] == "fp16":
            assert entry["order"] == READ[arch]
            entry["order"] = claimed
        os.symlink(built / arch / entry["file"], tmp_path / entry["file"])
    (tmp_path / "manifest.json").write_text(json.dumps(text))
    with load(arch, tmp_path) as library:
        yield library


@pytest.mark.compiler
def test_an_upload_is_in_the_order_that_kernels_for_the_activations_read(turned, claimed, as_if):
    assert turned.order("nvfp4", "fp16") == turned.order("nvfp4", np.float16) == claimed
    assert turned.order("mxfp4", "fp16") == HOST_ORDER  # no such kernels: any will do
    one = case(3, 40, 160, "fp16")
    weight = turned.upload(as_if(one), activations="fp16")
    assert weight.order == claimed
    one.check(turned, turned.gemm(one.x, weight))
    one.check(turned, turned.gemm(one.x, as_if(one)))
    one.check(turned, turned.numpy(turned.gemm(turned.array(one.x), as_if(one))))
    out = turned.empty((3, 40), "fp16")
    one.check(turned, turned.numpy(turned.plan(as_if(one), 3, np.float16)(turned.array(one.x), out)))
    other = case(3, 40, 160, "bf16")
    one.check(turned, turned.gemm(one.x, as_if(one).to(turned, activations="fp16")))
    other.check(turned, turned.gemm(other.x, other.weight.to(turned)))


@pytest.mark.compiler
def test_a_weight_in_another_order_is_refused_with_what_to_do(turned, claimed):
    one, other = case(3, 40, 160, "fp16"), case(3, 40, 160, "bf16")
    weight = turned.upload(one.weight, activations="bf16")
    what = rf"in order {weight.order}, gemm_nvfp4_fp16__.* reads {claimed}: upload what was packed with activations='fp16'"
    for launch in (
        lambda: turned.gemm(one.x, weight),
        lambda: turned.gemm(turned.array(one.x), weight),
        lambda: turned.plan(weight, 3, "fp16"),
    ):
        with pytest.raises(OperandError, match=what):
            launch()
    assert turned.gemm(other.x, weight).shape == (3, 40)


@pytest.mark.compiler
def test_a_weight_is_copied_once_for_each_order(turned, claimed, alive):
    one, other = case(3, 40, 160, "fp16"), case(3, 40, 160, "bf16")
    before = alive("allocations")
    first = turned.upload_once(one.weight, activations="bf16")
    assert turned.upload_once(one.weight, activations="bf16") is first
    second = turned.upload_once(one.weight, activations="fp16")
    assert (first.order, second.order) == (turned.order("nvfp4", "bf16"), claimed)
    assert alive("allocations") == before + 2
    for x in (one.x, other.x, one.x):
        turned.gemm(x, one.weight)
    assert alive("allocations") == before + 2


@pytest.mark.compiler
def test_kernels_of_one_contract_have_one_order(load, arch, built, tmp_path):
    text = json.loads((built / arch / "manifest.json").read_text())
    next(iter(text["kernels"].values()))["order"] = "one of my own"
    (tmp_path / "manifest.json").write_text(json.dumps(text))
    with load(arch, tmp_path) as library, pytest.raises(ManifestError, match=r"several orders .*: build all of them"):
        library.upload(case(1, 16, 128).weight, activations="bf16")


@pytest.mark.compiler
def test_tensors_of_any_order_on_the_cpu_are_taken_and_copied_once_for_each_order(turned, claimed, alive, as_if):
    torch = pytest.importorskip("torch", minversion="2.6")
    from runtime import ops

    one, other = case(3, 40, 160, "fp16"), case(3, 40, 160, "bf16")
    half = torch.from_numpy(one.x)
    brain = torch.from_numpy(other.x.view(np.int16)).view(torch.bfloat16)
    codes, scales, outer = ops.tensors(as_if(one))
    turned_codes = torch.from_numpy(
        reorder(as_if(one).codes, "bf16")
    )  # in host order for the fp16 kernels, but by shape
    ops.use(turned)
    try:
        before = alive("allocations")
        for given in (codes, turned_codes):
            for _ in range(2):
                one.check(turned, torch.ops.petitgen.gemm(half, given, scales, outer).numpy())
                torch.ops.petitgen.gemm(brain, given, scales, outer)
        assert alive("allocations") == before + 4
        with pytest.raises(OperandError, match=r"codes has shape \[2, 3, 1024\], which tells the order"):
            torch.ops.petitgen.gemm(half, codes.reshape(2, 3, -1), scales, outer)
    finally:
        ops.forget()
