"""Back to floats, the way through packing, and the conversions of AMD-FP4 training."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import runtime
from petitgen.verify import reference
from petitgen.verify.checkpoints import Checkpoint
from runtime import packing
from tests.quantize import plain
from tests.quantize.test_quantize import FORMATS, nibbles, spread_floats

torch = pytest.importorskip("torch", reason="torch is an extra")

from runtime.errors import OperandError  # noqa: E402
from runtime.quantize import (  # noqa: E402
    Quantized,
    checkpoint,
    convert_from_amdfp4,
    convert_to_amdfp4,
    dequantize,
    quantize,
)

SCALE_TYPES = {"nvfp4": ml_dtypes.float8_e4m3fn, "mxfp4": ml_dtypes.float8_e8m0fnu}


def scale_values(name: str, codes: np.ndarray) -> np.ndarray:
    """float64, from ml_dtypes where that has the type."""
    if name == "amdfp4":
        return np.append(plain.UE5M3, np.nan)[codes]
    return codes.view(SCALE_TYPES[name]).astype(np.float64)


def every_code_with_every_scale(name: str, outer: float | None) -> Quantized:
    block = plain.BLOCK[name]
    codes = np.tile(np.arange(16), 256 * block // 16).astype(np.uint8).reshape(256, block)
    scales = np.arange(256, dtype=np.uint8)[:, None]
    packed = torch.from_numpy(codes[:, ::2] | codes[:, 1::2] << 4)
    scale = None if outer is None else torch.tensor(outer)
    return Quantized(name, packed, torch.from_numpy(scales), scale, 1, (256, block), False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_every_code_with_every_scale(name, dtype):
    outer = None if name == "mxfp4" else np.float32(0.0123)
    q = every_code_with_every_scale(name, outer)
    with np.errstate(over="ignore", invalid="ignore"):
        step = scale_values(name, q.scales.numpy()).astype(np.float32)
        step = step if outer is None else step * outer  # float32
        value = nibbles(q.codes.numpy()).view(ml_dtypes.float4_e2m1fn).astype(np.float32) * step
        numpy_type = {torch.float32: np.float32, torch.bfloat16: ml_dtypes.bfloat16, torch.float16: np.float16}[dtype]
        wanted = value.astype(numpy_type).astype(np.float32)
    got = dequantize(q, dtype)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.float().numpy(), wanted)
    zeros = wanted == 0
    np.testing.assert_array_equal(np.signbit(got.float().numpy())[zeros], np.signbit(wanted)[zeros])
    assert np.isnan(wanted).any()


@pytest.mark.parametrize(("axis", "square"), [(0, False), (1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("name", FORMATS)
def test_errors_are_no_larger_than_the_formats_are_coarse(name, axis, square):
    """Half the widest gap of E2M1, 1 of 4 to 6, or what saturates: 2 of 8 with MXFP4, 6 (1 + 1/16) otherwise."""
    x = spread_floats((6, 50, 38), seed=40, low=-2, high=2)
    y = dequantize(quantize(name, x, axis=axis, block_2d=square))
    assert y.shape == x.shape
    moved, back = x.movedim(axis, -1).numpy(), y.movedim(axis, -1).numpy()
    block = plain.BLOCK[name]
    for one, got in zip(moved, back, strict=True):
        ids = plain.block_numbers(one.shape, block, square)
        amax = np.zeros(ids.max() + 1)
        np.maximum.at(amax, ids, np.abs(one))
        assert (np.abs(got - one) <= (0.25 if name == "mxfp4" else 0.19) * amax[ids] + 1e-9).all()
        assert np.abs(got - one).max() > 0


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_quantized_is_quantized_to_the_same(name):
    x = dequantize(quantize(name, spread_floats((32, 64), seed=3, low=-4, high=4)))
    q = quantize(name, x)
    again = quantize(name, dequantize(q), outer_scale=q.outer)
    assert torch.equal(again.codes, q.codes)
    assert torch.equal(again.scales, q.scales)


@pytest.mark.parametrize("name", ["nvfp4", "amdfp4"])
def test_only_a_given_outer_scale_makes_infinities(name):
    largest = torch.finfo(torch.float32).max
    x = torch.full((1, 32), largest)
    x[:, 1:] *= torch.rand(31, generator=torch.Generator().manual_seed(1))
    assert dequantize(quantize(name, x)).isfinite().all()
    given = largest / 6 / 2.125  # a scale of 2.125 would be half way between 2 and 2.25
    assert dequantize(quantize(name, x, outer_scale=given * 0.999)).isinf().any()


# ---- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", FORMATS)
def test_through_packing_to_the_reference_of_kernels(name, axis, square):
    """The weight that kernels are verified with, from the packed form: that is dequantize, but for its rounding to float32."""
    n, k = 40, 160
    weight = spread_floats((n, k), seed=50, low=-2, high=2)
    q = quantize(name, weight if axis == 1 else weight.T, axis=axis, block_2d=square)
    tensors = checkpoint(q)
    assert tensors[0].shape == (n, k // 2)
    packed = runtime.pack(name, *tensors)
    back = getattr(packing, f"unpack_{name}")(packed)
    np.testing.assert_array_equal(back[0], tensors[0].numpy())
    np.testing.assert_array_equal(back[1], tensors[1].numpy())
    outer = None if name == "mxfp4" else np.broadcast_to(back[2], n).astype(np.float32)
    without, rows = reference.dequantize(Checkpoint(back[0], back[1], outer, name))
    y = dequantize(q) if axis == 1 else dequantize(q).T
    np.testing.assert_allclose(y.numpy(), without * rows[:, None], rtol=2.0**-22, atol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_the_scales_of_2d_blocks_are_repeated_for_rows(name):
    block = plain.BLOCK[name]
    q = quantize(name, spread_floats((3, 2 * block + 4, 3 * block), seed=7), block_2d=True)
    assert q.scales.shape == (3, 3, 3)
    weight, scales, outer = checkpoint(q)
    assert scales.shape == (3, 2 * block + 4, 3)
    for row in range(2 * block + 4):
        assert torch.equal(scales[:, row], q.scales[:, row // block])
    by_rows = Quantized(name, weight, scales, outer, 2, q.shape, False)
    assert torch.equal(dequantize(by_rows), dequantize(q))


# ---- AMD-FP4 training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("axis", [-1, -2])
def test_conversions_are_those_of_quantize(axis, square):
    x = spread_floats((2, 48, 64), seed=60).to(torch.bfloat16)
    q = quantize("amdfp4", x, axis=axis, block_2d=square)
    outer = torch.zeros(1)
    codes, scales = convert_to_amdfp4(x, 16, axis, square, outer)
    assert torch.equal(codes, q.codes)
    assert scales.dtype == torch.float32
    np.testing.assert_array_equal(scales.numpy(), scale_values("amdfp4", q.scales.numpy()))
    assert outer.item() == q.outer.item()  # written to
    wanted = dequantize(q, torch.bfloat16)
    for given in (scales, q.scales):
        y = convert_from_amdfp4(codes, given, torch.bfloat16, 16, axis, square, outer)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, wanted)
    forgotten = convert_to_amdfp4(x, axis=axis, is_2d_block=square)
    assert torch.equal(forgotten[0], codes)
    assert torch.equal(forgotten[1], scales)


def test_conversions_with_an_outer_scale_that_stays_or_none():
    x = spread_floats((8, 64), seed=61)
    outer = torch.tensor([0.5])
    codes, _ = convert_to_amdfp4(x, outer_scale=outer, update_outer_scale=False)
    assert outer.item() == 0.5
    assert torch.equal(codes, quantize("amdfp4", x, outer_scale=0.5).codes)
    codes, scales = convert_to_amdfp4(x, update_outer_scale=False)
    q = quantize("amdfp4", x, outer_scale=1.0)
    assert torch.equal(codes, q.codes)
    assert torch.equal(convert_from_amdfp4(codes, scales), dequantize(q))


def test_conversions_at_random():
    x = spread_floats((8, 64), seed=62)
    q = quantize("amdfp4", x, rounding="stochastic", seed=5, offset=6)
    assert torch.equal(convert_to_amdfp4(x, use_sr=True, philox_seed=5, philox_offset=6)[0], q.codes)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(convert_to_amdfp4(x, use_sr=True)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_conversions_with_other_blocks():
    x = spread_floats((8, 64), seed=63)
    codes, scales = convert_to_amdfp4(x, block_size=32)
    assert scales.shape == (8, 2)
    outer = plain.outer_of("amdfp4", x.numpy())
    t = np.abs(x.numpy()).reshape(8, 2, 32).max(-1) / outer / np.float32(6)
    np.testing.assert_array_equal(scales.numpy(), plain.UE5M3[plain.nearest(t.astype(np.float64), plain.UE5M3)])
    y = convert_from_amdfp4(codes, scales, block_size=32, outer_scale=torch.tensor(outer))
    assert float((y - x).abs().max()) < 0.2 * float(x.abs().max())


Q = quantize("nvfp4", torch.ones(4, 32))
M = quantize("mxfp4", torch.ones(4, 32))


@pytest.mark.parametrize("back", [dequantize, checkpoint])
@pytest.mark.parametrize(
    ("q", "message"),
    [
        (None, "q is NoneType: what quantize gives"),
        (replace(Q, format="fp8"), "no format 'fp8'"),
        (replace(Q, codes=Q.codes.int()), "codes have dtype torch.int32"),
        (replace(Q, codes=Q.codes[:, :8]), r"codes have shape \[4, 8\] on cpu: \[4, 16\]"),
        (replace(Q, scales=Q.scales.float()), "scales have dtype torch.float32"),
        (replace(Q, scales=Q.scales.long()), "scales have dtype torch.int64"),
        (replace(Q, scales=Q.scales.view(torch.float8_e4m3fn)), "scales have dtype torch.float8_e4m3fn"),
        (replace(Q, scales=Q.scales[:, :1]), r"scales have shape \[4, 1\] on cpu: \[4, 2\]"),
        (replace(Q, scales=None), "scales are NoneType"),
        (replace(Q, shape=(4, 48)), r"codes have shape \[4, 16\] on cpu: \[4, 24\]"),
        (replace(Q, block_2d=True), r"scales have shape \[4, 2\] on cpu: \[1, 2\]"),
        (replace(Q, axis=7), "axis is 7"),
        (replace(Q, axis=-1), "axis is -1"),
        (replace(Q, axis=0), r"codes have shape \[4, 16\] on cpu: \[2, 32\]"),
        (replace(Q, outer=None), "outer of nvfp4 is NoneType: one float32"),
        (replace(Q, outer=torch.ones(4)), r"outer of nvfp4 is torch.float32 \[4\]"),
        (replace(Q, outer=1.0), "outer of nvfp4 is float"),
        (replace(M, outer=Q.outer), r"outer of mxfp4 is torch.float32 \[\]: None is needed"),
    ],
)
def test_what_cannot_be_of_quantize_is_refused(back, q, message):
    with pytest.raises(OperandError, match=message):
        back(q)


CODES, SCALES = convert_to_amdfp4(torch.ones(4, 32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convert_to_amdfp4(torch.ones(4, 32), block_size=15), "block_size is 15: a positive even"),
        (lambda: convert_to_amdfp4(torch.ones(4, 31)), "31 elements along axis 1"),
        (lambda: convert_to_amdfp4(torch.ones(4, 32), outer_scale=torch.ones(2)), "outer_scale is torch.float32"),
        (lambda: convert_to_amdfp4(torch.ones(4, 32), outer_scale=torch.ones(1).half()), "torch.float16"),
        (lambda: convert_from_amdfp4(CODES, SCALES, torch.float64), "dtype is torch.float64"),
        (lambda: convert_from_amdfp4(CODES, SCALES[:, :1]), r"scales have shape \[4, 1\].* \[4, 2\] is needed"),
        (lambda: convert_from_amdfp4(CODES.int(), SCALES), "codes have dtype torch.int32"),
        (lambda: convert_from_amdfp4(CODES, SCALES.int()), "scales are torch.int32: a torch tensor of float32"),
        (lambda: convert_from_amdfp4(CODES, None), "scales are NoneType"),
        (lambda: convert_from_amdfp4(CODES, SCALES, axis=7), "axis is 7"),
        (lambda: convert_to_amdfp4(torch.ones(4, 32), outer_scale=1.0), "outer_scale is float: a tensor"),
        (lambda: dequantize(quantize("nvfp4", torch.ones(4, 32)), torch.uint8), "dtype is torch.uint8"),
    ],
)
def test_what_cannot_be_converted_is_refused(call, message):
    with pytest.raises(OperandError, match=message):
        call()
