"""Quantized tensors are those of plain.py, bit by bit."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from tests.quantize import plain

torch = pytest.importorskip("torch", reason="torch is an extra")

from runtime.errors import OperandError  # noqa: E402
from runtime.quantize import quantize  # noqa: E402

FORMATS = ["nvfp4", "mxfp4", "amdfp4"]
TYPES = [torch.bfloat16, torch.float16]


def nibbles(packed: np.ndarray, axis: int = -1) -> np.ndarray:
    """The codes of bytes, the lower one first."""
    packed = np.moveaxis(packed, axis, -1)
    codes = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    codes[..., ::2], codes[..., 1::2] = packed % 16, packed // 16
    return np.moveaxis(codes, -1, axis)


def same(q, wanted, what: str = "") -> None:
    """q of a tensor of two axes, blocks along the last, is what plain.quantize gave."""
    codes, scales, outer = wanted
    np.testing.assert_array_equal(q.scales.numpy(), scales, err_msg=f"scales {what}")
    np.testing.assert_array_equal(nibbles(q.codes.numpy()), codes, err_msg=f"codes {what}")
    if outer is None:
        assert q.outer is None
    else:
        assert q.outer.dtype == torch.float32
        assert q.outer.shape == ()
        assert q.outer.item() == outer


def every_value(dtype, order: str) -> torch.Tensor:
    """All values of 16 bits, [64, 1024]: of like magnitude in a block, or mixed."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    if order == "mixed":
        bits = np.random.default_rng(5).permutation(bits)
    return torch.from_numpy(bits.reshape(64, 1024).view(np.int16)).view(dtype)


OUTERS = [("mxfp4", None), *[(name, outer) for name in plain.LEVELS for outer in (None, 1.0, 2.0**-12, 3e-5)]]


@pytest.mark.parametrize("order", ["in order", "mixed"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("name", "outer"), OUTERS)
def test_every_value_of_16_bits(name, outer, dtype, order):
    x = every_value(dtype, order)
    wanted = plain.quantize(name, x.float().numpy(), outer=outer)
    assert len(np.unique(wanted[0])) == 16  # all codes occur
    same(quantize(name, x, outer_scale=outer), wanted)


def spread_floats(shape, seed: int, low: int = -30, high: int = 10) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(low, high, (*shape[:-1], 1))
    return torch.from_numpy(x.astype(np.float32))


SHAPES = [(1, 2), (3, 16), (5, 18), (33, 64), (70, 98), (16, 272)]


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_random_tensors_and_tails(name, shape, square):
    x = spread_floats(shape, seed=shape[0])
    q = quantize(name, x, block_2d=square)
    same(q, plain.quantize(name, x.numpy(), square))
    block = plain.BLOCK[name]
    rows = -(-shape[0] // block) if square else shape[0]
    assert tuple(q.scales.shape) == (rows, -(-shape[1] // block))
    assert (q.format, q.axis, q.shape, q.block_2d) == (name, 1, shape, square)


@pytest.mark.parametrize("name", FORMATS)
def test_the_whole_range_of_floats(name):
    rng = np.random.default_rng(8)
    bits = rng.integers(0, 1 << 32, (256, 256), dtype=np.uint32)
    x = torch.from_numpy(bits.view(np.float32))
    assert int((~x.isfinite()).sum()) > 50
    for scale in (None, 1.0, 1e-38, 1e30) if name != "mxfp4" else (None,):
        same(quantize(name, x, outer_scale=scale), plain.quantize(name, x.numpy(), outer=scale), f"outer {scale}")


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("name", FORMATS)
def test_blocks_lie_along_the_axis(name, axis, square):
    shape = (4, 50, 38)
    x = spread_floats(shape, seed=11)
    if square and axis in (0, -3):
        with pytest.raises(OperandError, match="axis is 0 of shape"):
            quantize(name, x, axis=axis, block_2d=True)
        return
    q = quantize(name, x, axis=axis, block_2d=square)
    along = axis % 3
    outer = None if name == "mxfp4" else plain.outer_of(name, x.numpy())
    assert q.axis == along
    codes = nibbles(q.codes.numpy(), along)
    assert codes.shape == shape
    others = [i for i in range(3) if i != along]
    for i in range(shape[others[0]]):
        matrix = np.ascontiguousarray(np.moveaxis(x.numpy(), along, -1)[i])  # [the other axis, along]
        wanted = plain.quantize(name, matrix, square, outer)
        np.testing.assert_array_equal(np.moveaxis(codes, along, -1)[i], wanted[0])
        np.testing.assert_array_equal(np.moveaxis(q.scales.numpy(), along, -1)[i], wanted[1])


def test_a_leading_axis_changes_nothing_but_the_outer_scale():
    x = spread_floats((2, 3, 5, 48), seed=2)
    q = quantize("mxfp4", x)
    flat = quantize("mxfp4", x.reshape(30, 48))
    assert torch.equal(q.codes.reshape(30, 24), flat.codes)
    assert torch.equal(q.scales.reshape(30, 2), flat.scales)
    one = quantize("mxfp4", x[1, 2, 4])
    assert torch.equal(one.codes, q.codes[1, 2, 4])


def test_strides_do_not_matter():
    x = spread_floats((48, 64), seed=4)
    for name in FORMATS:
        q, t = quantize(name, x.T, axis=0), quantize(name, x, axis=1)
        assert torch.equal(q.codes, t.codes.T)
        assert torch.equal(q.scales, t.scales.T)
        assert q.codes.is_contiguous()
        assert torch.equal(quantize(name, x[:, ::2]).codes, quantize(name, x[:, ::2].contiguous()).codes)


# v -> code: each tie, and the floats beside it
TIES = {0.25: 0, 0.75: 2, 1.25: 2, 1.75: 4, 2.5: 4, 3.5: 6, 5.0: 6}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "scale_byte"), [("nvfp4", 0x38), ("amdfp4", 0x78), ("mxfp4", 127)])
def test_ties_go_to_the_even_code_and_their_neighbours_to_the_nearest(name, scale_byte, sign):
    inf = np.float32(math.inf)
    given, wanted = [], []
    for tie, code in TIES.items():
        lower = int(np.searchsorted(plain.E2M1, tie)) - 1
        given += [np.nextafter(np.float32(tie), -inf), np.float32(tie), np.nextafter(np.float32(tie), inf)]
        wanted += [lower, code, lower + 1]
    x = torch.full((len(given), 32), 6.0)  # so that scales are 1
    x[:, 3] = torch.from_numpy(np.array(given))
    q = quantize(name, x * sign, outer_scale=None if name == "mxfp4" else 1.0)
    assert q.scales.unique().tolist() == [scale_byte]
    codes = nibbles(q.codes.numpy())[:, 3]
    assert codes.tolist() == [code + (8 if sign < 0 else 0) for code in wanted]


@pytest.mark.parametrize("outer", [1.0, 3.0, 0.0123])
@pytest.mark.parametrize("name", ["nvfp4", "amdfp4"])
def test_scales_at_ties_and_beside_them(name, outer):
    """Here it shows whether t is (amax / outer) / 6, rounded twice and divided, and how a tie is decided."""
    grid = plain.LEVELS[name].grid
    amax = ((grid[1:-1] + grid[2:]) * 3).astype(np.float32)
    amax = np.stack([np.nextafter(amax, np.float32(0)), amax, np.nextafter(amax, np.float32(math.inf))]) * np.float32(
        outer
    )
    x = torch.zeros(amax.size, 16)
    x[:, 5] = torch.from_numpy(amax.ravel())
    q = quantize(name, x, outer_scale=outer)
    same(q, plain.quantize(name, x.numpy(), outer=outer))
    if outer == 1:
        codes = q.scales.numpy().reshape(3, -1)
        lower = np.arange(1, len(grid) - 1)
        np.testing.assert_array_equal(codes, [lower, lower + lower % 2, lower + 1])


@pytest.mark.parametrize(("name", "byte"), [("nvfp4", 0), ("amdfp4", 1), ("mxfp4", 0)])
def test_zeros(name, byte):
    x = torch.zeros(4, 64)
    x[0, 0] = x[3, 63] = -0.0
    q = quantize(name, x)
    assert q.scales.unique().tolist() == [byte]
    codes = nibbles(q.codes.numpy())
    assert codes[0, 0] == codes[3, 63] == 8
    assert codes.sum() == 16
    if q.outer is not None:
        assert q.outer.item() == np.float32(1e-30)


@pytest.mark.parametrize(("name", "byte"), [("nvfp4", 0x7F), ("amdfp4", 0xFF), ("mxfp4", 0xFF)])
@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("square", [False, True])
def test_nan_and_inf_break_their_block_and_no_other(name, byte, bad, square):
    x = spread_floats((64, 96), seed=21, low=0, high=1)
    clean = quantize(name, x, block_2d=square)
    x[40, 70] = bad
    q = quantize(name, x, block_2d=square, outer_scale=clean.outer)
    assert (q.scales == byte).sum() == 1
    broken = plain.block_numbers((64, 96), plain.BLOCK[name], square)
    broken = broken == broken[40, 70]
    codes = nibbles(q.codes.numpy())
    assert not codes[broken].any()
    np.testing.assert_array_equal(codes[~broken], nibbles(clean.codes.numpy())[~broken])
    if name != "mxfp4":
        x[0, 0] = 777.0  # the largest that is finite
        assert quantize(name, x).outer.item() == np.float32(777) / np.float32(6 * plain.LEVELS[name].grid[-1])


@pytest.mark.parametrize("name", ["nvfp4", "amdfp4"])
def test_a_given_outer_scale_saturates_and_keeps_the_smallest_scale(name):
    level = plain.LEVELS[name]
    x = torch.tensor([[48 * level.grid[-1]] * 16 + [level.grid[1] * 1.2] * 16 + [level.grid[1] / 5] * 16]).float()
    q = quantize(name, x, outer_scale=1.0)
    assert q.scales.tolist() == [[len(level.grid) - 1, 1, 1]]
    codes = nibbles(q.codes.numpy())[0]
    assert codes.tolist() == [7] * 16 + [2] * 16 + [0] * 16  # 1.2 -> 1, 0.2 -> 0
    tensor = torch.tensor([1.0], dtype=torch.float64)
    assert torch.equal(quantize(name, x, outer_scale=tensor).codes, q.codes)


@pytest.mark.parametrize("name", FORMATS)
def test_bf16_and_fp16_are_quantized_as_the_floats_they_are(name):
    x = spread_floats((16, 64), seed=9, low=-3, high=3)
    for dtype in TYPES:
        narrow = x.to(dtype)
        q, wide = quantize(name, narrow), quantize(name, narrow.float())
        assert torch.equal(q.codes, wide.codes)
        assert torch.equal(q.scales, wide.scales)


def test_a_tensor_that_needs_gradients_is_taken():
    x = spread_floats((4, 32), seed=1).requires_grad_()
    q = quantize("nvfp4", x, outer_scale=torch.tensor(0.5, requires_grad=True))
    assert not q.outer.requires_grad
    assert torch.equal(q.codes, quantize("nvfp4", x.detach(), outer_scale=0.5).codes)


X = torch.ones(4, 32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("int4", X), {}, "no format 'int4': known are nvfp4, mxfp4, amdfp4; lib.quantize_rows makes FP8"),
        (("fp8", X), {}, "no format 'fp8': known are nvfp4"),
        (([], X), {}, r"no format \[\]"),
        (("nvfp4", X), {"axis": 1.0}, "axis is 1.0, a float: a whole"),
        (("nvfp4", X), {"axis": None}, "axis is None"),
        (("nvfp4", X), {"outer_scale": "a"}, "outer_scale is 'a': one positive"),
        (("nvfp4", X), {"outer_scale": 1 + 2j}, r"outer_scale is \(1\+2j\)"),
        (("nvfp4", X), {"outer_scale": True}, "outer_scale is True"),
        (("nvfp4", X), {"rounding": "stochastic", "seed": 1.5}, "seed is 1.5, a float: a whole"),
        (("nvfp4", X.double()), {}, "x is torch.float64: a torch tensor of float32"),
        (("nvfp4", X.numpy()), {}, "x is ndarray"),
        (("nvfp4", X[:, :31]), {}, "x has 31 elements along axis 1: two go into a byte"),
        (("nvfp4", X[:3]), {"axis": 0}, "x has 3 elements along axis 0"),
        (("nvfp4", X[:, :0]), {}, r"x has shape \[4, 0\]: nothing"),
        (("nvfp4", X), {"axis": 2}, r"axis is 2, but x has shape \[4, 32\]"),
        (("nvfp4", X[0, 0]), {}, r"axis is -1, but x has shape \[\]"),
        (("nvfp4", X[0]), {"block_2d": True}, r"block_2d needs two axes, x has shape \[32\]"),
        (("mxfp4", X), {"outer_scale": 1.0}, "outer_scale is given, but mxfp4 has no scale beside"),
        (("nvfp4", X), {"outer_scale": 0.0}, "outer_scale is 0.0: one positive"),
        (("nvfp4", X), {"outer_scale": math.nan}, "outer_scale is nan"),
        (("nvfp4", X), {"outer_scale": 1e39}, "outer_scale is inf"),
        (("amdfp4", X), {"outer_scale": torch.ones(2)}, r"outer_scale is of shape \[2\]"),
        (("nvfp4", X), {"rounding": "up"}, "rounding is 'up': nearest or stochastic"),
        (("nvfp4", X), {"rounding": "stochastic"}, "seed is missing"),
        (("nvfp4", X), {"rounding": "stochastic", "seed": -1}, "seed is -1: a number from 0"),
        (("nvfp4", X), {"rounding": "stochastic", "seed": 0, "offset": 1 << 64}, "offset is 18446744073709551616"),
    ],
)
def test_what_cannot_be_quantized_is_refused(arguments, options, message):
    with pytest.raises(OperandError, match=message):
        quantize(*arguments, **options)


def test_the_runtime_does_not_need_torch():
    code = "import sys; sys.modules['torch'] = None; import runtime, runtime.packing, runtime.ue5m3; runtime.pack"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_gpu_gives_the_same_bits(name, rounding):
    bits = np.random.default_rng(8).integers(0, 1 << 32, (256, 256), dtype=np.uint32)
    x = torch.from_numpy(bits.view(np.float32))
    here, there = (quantize(name, t, rounding=rounding, seed=7) for t in (x, x.cuda()))
    assert torch.equal(here.codes, there.codes.cpu())
    assert torch.equal(here.scales, there.scales.cpu())
