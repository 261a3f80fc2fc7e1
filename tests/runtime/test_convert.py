"""Kernels that quantize, through the runtime: the bits that runtime.quantize computes and tests/quantize/plain.py defines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import runtime
from petitgen.build.run import build
from petitgen.spec import load_catalog
from runtime.conversions import Conversion, View
from runtime.convert import flat, parts, view_of
from runtime.errors import ClosedError, OperandError, ShapeError
from tests.quantize import plain

torch = pytest.importorskip("torch", reason="torch is an extra")

from runtime import quantize as host  # noqa: E402

FORMATS = ["nvfp4", "mxfp4", "amdfp4"]
TYPES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="session")
def converting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = [one for one in load_catalog().instances if one.op in ("quantize", "dequantize", "amax", "rowquantize")]
    folder = tmp_path_factory.mktemp("converting")
    assert not build(chosen, chosen, folder).failed
    return folder


@pytest.fixture
def lib(load: Callable[..., Any], arch: str, converting: Path):
    with load(arch, converting) as library:
        yield library


def every_value(dtype: torch.dtype) -> torch.Tensor:
    bits = np.random.default_rng(5).permutation(np.arange(1 << 16, dtype=np.uint16))
    return torch.from_numpy(bits.reshape(64, 1024).view(np.int16)).view(dtype)


def spread(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 8, (*shape[:-1], 1))
    return torch.from_numpy(x.astype(np.float32)).to(dtype)


def same(q: Any, wanted: Any) -> None:
    assert torch.equal(q.codes, wanted.codes)
    assert torch.equal(q.scales, wanted.scales)
    assert (q.outer is None) == (wanted.outer is None)
    assert q.outer is None or torch.equal(q.outer, wanted.outer)
    assert (q.format, q.axis, q.shape, q.block_2d) == (wanted.format, wanted.axis, wanted.shape, wanted.block_2d)


@pytest.mark.compiler
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_every_value_of_16_bits(lib: Any, name: str, dtype: torch.dtype) -> None:
    x = every_value(dtype)
    q = lib.quantize(name, x)
    same(q, host.quantize(name, x))
    codes, scales, outer = plain.quantize(name, x.float().numpy())
    np.testing.assert_array_equal(q.scales.numpy(), scales)
    np.testing.assert_array_equal(q.codes.numpy(), codes[:, ::2] | codes[:, 1::2] << 4)
    assert outer is None or q.outer.item() == outer
    y = lib.dequantize(q, dtype)
    wanted = host.dequantize(q, dtype)
    assert y.dtype == wanted.dtype == dtype
    assert torch.equal(y.isnan(), wanted.isnan())
    assert torch.equal(y.view(torch.int16)[~y.isnan()], wanted.view(torch.int16)[~wanted.isnan()])


CASES = [
    ((3, 5, 18), -1, False),
    ((2, 34, 30), 1, False),
    ((34, 3, 7), 0, False),
    ((2, 38, 41), -2, True),
    ((2, 37, 42), -1, True),
    ((64,), 0, False),
    ((2, 6, 1), 1, False),
    ((8, 256), -1, False),
]


@pytest.mark.compiler
@pytest.mark.parametrize(("shape", "axis", "square"), CASES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_axes_and_tails_to_the_nearest_and_at_random(lib: Any, name: str, shape: Any, axis: int, square: bool) -> None:
    x = spread(shape, torch.bfloat16)
    outer = None if name == "mxfp4" else 3e-5
    for options in ({}, {"rounding": "stochastic", "seed": 2**64 - 7, "offset": 2**64 - 2}):
        how = {"axis": axis, "block_2d": square, **options}
        q = lib.quantize(name, x, **how)
        same(q, host.quantize(name, x, **how))
        same(lib.quantize(name, x, outer_scale=outer, **how), host.quantize(name, x, outer_scale=outer, **how))
    assert torch.equal(lib.dequantize(q, torch.float16), host.dequantize(q, torch.float16))


@pytest.mark.compiler
def test_random_rounding_is_reproducible_and_right_on_average(lib: Any) -> None:
    x = torch.full((64, 1024), 0.3, dtype=torch.bfloat16)
    x[:, ::16] = 6.0  # what scales the blocks: 1
    how = {"outer_scale": 1.0, "rounding": "stochastic"}
    first, again = (lib.quantize("nvfp4", x, seed=5, **how) for _ in range(2))
    assert torch.equal(first.codes, again.codes)
    other = lib.quantize("nvfp4", x, seed=5, offset=1, **how)
    assert not torch.equal(first.codes, other.codes)
    y = lib.dequantize(first).float()
    rest = y[x == x[0, 1]]
    assert set(rest.unique().tolist()) == {0.0, 0.5}
    # Steps of 0.5 with a chance of 0.6: six standard deviations of the mean of 61440.
    assert abs(rest.mean().item() - x[0, 1].item()) < 6 * 0.5 * (0.6 * 0.4 / rest.numel()) ** 0.5


@pytest.mark.compiler
def test_strided_tensors_and_views_that_begin_anywhere(lib: Any) -> None:
    x = spread((48, 65), torch.bfloat16)
    for one in (x.T[:64], x[:, 1:], x[1:, :32], x.reshape(-1)[1:33]):
        same(lib.quantize("amdfp4", one), host.quantize("amdfp4", one))


@pytest.mark.compiler
@pytest.mark.parametrize("square", [False, True])
def test_the_conversions_of_amdfp4_by_kernels(lib: Any, square: bool) -> None:
    x = spread((34, 48), torch.bfloat16)
    how = {"axis": -2, "is_2d_block": square, "use_sr": True, "philox_seed": 5, "philox_offset": 6}
    for outer, update in ((None, True), (None, False), (torch.full((1,), 0.5), True), (torch.full((), 3e-3), False)):
        mine, wanted = (None if outer is None else outer.clone() for _ in range(2))
        codes, scales = host.convert_to_amdfp4(x, outer_scale=mine, update_outer_scale=update, library=lib, **how)
        expected = host.convert_to_amdfp4(x, outer_scale=wanted, update_outer_scale=update, **how)
        assert torch.equal(codes, expected[0])
        assert torch.equal(scales, expected[1])
        assert outer is None or torch.equal(mine, wanted)
    bytes_ = host.quantize("amdfp4", x, axis=-2, block_2d=square, outer_scale=3e-3, rounding="stochastic", seed=5, offset=6).scales
    back = {"axis": -2, "is_2d_block": square, "outer_scale": outer}
    y = host.convert_from_amdfp4(codes, bytes_, torch.bfloat16, library=lib, **back)
    assert torch.equal(y, host.convert_from_amdfp4(codes, scales, torch.bfloat16, **back))
    with pytest.raises(OperandError, match="block_size is 32: kernels have blocks of 16"):
        host.convert_to_amdfp4(x, 32, library=lib)
    with pytest.raises(OperandError, match=r"scales are torch\.float32: kernels take"):
        host.convert_from_amdfp4(codes, scales, torch.bfloat16, library=lib, **back)


@pytest.mark.compiler
def test_nothing_finite_and_nothing_but_zeros(lib: Any) -> None:
    for value in (0.0, -0.0, float("nan"), float("inf")):
        x = torch.full((3, 32), value, dtype=torch.float16)
        for name in FORMATS:
            same(lib.quantize(name, x), host.quantize(name, x))


@pytest.mark.compiler
def test_what_is_refused(lib: Any) -> None:
    x = spread((4, 32), torch.bfloat16)
    for call, kind, message in (
        (lambda: lib.quantize("nvfp4", x.float()), OperandError, "x is torch.float32: kernels have"),
        (lambda: lib.quantize("nvfp4", x[:, :31]), OperandError, "31 elements along axis 1: two go into a byte"),
        (lambda: lib.quantize("mxfp4", x, outer_scale=1.0), OperandError, "mxfp4 has no scale beside"),
        (lambda: lib.quantize("nvfp4", x, outer_scale=-1.0), OperandError, "outer_scale is -1"),
        (lambda: lib.quantize("nvfp4", x, rounding="stochastic"), OperandError, "seed is missing"),
        (lambda: lib.quantize("nvfp4", x, rounding="stochastic", seed=1, offset=-1), OperandError, "offset is -1"),
        (lambda: lib.quantize("int4", x), OperandError, "no format 'int4'"),
        (lambda: lib.quantize("fp8", x), OperandError, "no format 'fp8': known are nvfp4, mxfp4, amdfp4"),
        (lambda: lib.quantize("nvfp4", x[:0]), OperandError, "nothing to quantize"),
        (lambda: lib.quantize("nvfp4", x.clone().requires_grad_()), OperandError, "requires a gradient"),
        (lambda: lib.dequantize(None), OperandError, "q is NoneType"),
        (lambda: lib.dequantize(lib.quantize("nvfp4", x), "bf16"), OperandError, "dtype is bf16: kernels have"),
        (lambda: lib.dequantize(lib.quantize("nvfp4", x), torch.float32), OperandError, "dtype is torch.float32"),
    ):
        with pytest.raises(kind, match=message):
            call()
    q = lib.quantize("nvfp4", x)
    for broken, message in (
        (replace(q, scales=q.scales[:, :1]), r"scales have shape \[4, 1\] on cpu: \[4, 2\]"),
        (replace(q, format="fp8"), "no format 'fp8'"),
        (replace(q, outer=q.outer.double()), r"outer of nvfp4 is torch.float64"),
        (replace(q, axis=7), "axis is 7"),
    ):
        with pytest.raises(OperandError, match=message):
            lib.dequantize(broken)
    with torch.no_grad():
        same(lib.quantize("nvfp4", x.clone().requires_grad_()), q)
    lib.close()
    with pytest.raises(ClosedError):
        lib.quantize("nvfp4", x)


# ---- FP8 a token ------------------------------------------------------------------------------------
def rows_by_definition(y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales, one division after the other, of float32 [M, K]; rows of finite numbers."""
    codes, scales = [], []
    for row in y.numpy():
        scale = max(np.abs(row).max() / np.float32(224), np.float32(1) / np.float32(114688))
        codes.append((row / scale).astype(ml_dtypes.float8_e4m3fnuz).view(np.uint8))
        scales.append(scale)
    return np.stack(codes), np.array(scales, np.float32)


@pytest.mark.compiler
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rows_become_fp8(lib: Any, dtype: torch.dtype) -> None:
    x = spread((5, 520), dtype)
    x[2] = 0
    x[3] *= 2.0**-14  # below the smallest scale
    codes, scales = lib.quantize_rows(x)
    wanted = rows_by_definition(x.float())
    np.testing.assert_array_equal(codes.numpy(), wanted[0])
    np.testing.assert_array_equal(scales.numpy(), wanted[1])
    assert scales[2] == scales[3] == 1 / (224 * 512)
    assert codes[0].numpy().view(ml_dtypes.float8_e4m3fnuz).astype(np.float32).max() <= 224
    x[4, 7] = float("inf")
    codes, scales = lib.quantize_rows(x)
    assert scales.isnan().tolist() == [False] * 4 + [True]
    assert not codes[4].any()
    np.testing.assert_array_equal(codes[:4].numpy(), wanted[0][:4])


@pytest.mark.compiler
def test_rows_are_normed_after_a_residual_is_added(lib: Any) -> None:
    x, residual = spread((4, 264), torch.bfloat16), spread((4, 264), torch.bfloat16, seed=4)
    weight = spread((264,), torch.bfloat16, seed=5)
    codes, scales, total = lib.quantize_rows(x, weight=weight, eps=1e-3, residual=residual)
    assert torch.equal(total, x + residual)
    h = total.double()
    y = h / (h.square().mean(1, keepdim=True) + 1e-3).sqrt() * weight.double()
    torch.testing.assert_close(scales.double(), y.abs().amax(1) / 224, rtol=1e-6, atol=0)
    back = torch.from_numpy(codes.numpy().view(ml_dtypes.float8_e4m3fnuz).astype(np.float64)) * scales.double()[:, None]
    error = (back - y).abs()
    assert (error <= y.abs() * 2.0**-4 * 1.0001 + scales.double()[:, None] * 2.0**-11 * 1.0001).all()  # half of a gap
    assert error.max() > 0


@pytest.mark.compiler
def test_no_rows_become_none(lib: Any) -> None:
    x = spread((0, 16), torch.bfloat16)
    codes, scales = lib.quantize_rows(x)
    assert (codes.shape, codes.dtype, scales.shape, scales.dtype) == ((0, 16), torch.uint8, (0,), torch.float32)
    _, _, total = lib.quantize_rows(x, weight=torch.ones(16, dtype=x.dtype), residual=x)
    assert (total.shape, total.dtype) == (x.shape, x.dtype)


@pytest.mark.compiler
def test_rows_that_are_refused(lib: Any) -> None:
    x = spread((2, 16), torch.bfloat16)
    for call, kind, message in (
        (lambda: lib.quantize_rows(x[0]), OperandError, r"x is torch.bfloat16 \[16\]: a torch tensor \[M, K\]"),
        (lambda: lib.quantize_rows(x.float()), OperandError, "x is torch.float32"),
        (lambda: lib.quantize_rows(x, weight=x[0, 1:]), OperandError, r"weight is torch.bfloat16 \[15\]"),
        (lambda: lib.quantize_rows(x, residual=x.half()), OperandError, "residual is torch.float16"),
        (lambda: lib.quantize_rows(x, residual=[1]), OperandError, "residual is list"),
        (lambda: lib.quantize_rows(x, weight=x[0].clone().requires_grad_()), OperandError, "requires a gradient"),
        (lambda: lib.quantize_rows(x[:, :0]), OperandError, r"x is torch.bfloat16 \[2, 0\]"),
        *(
            (lambda eps=eps: lib.quantize_rows(x, weight=x[0], eps=eps), OperandError, re.escape(f"eps is {eps!r}: a number from 0"))
            for eps in ("a", None, True, 1e40, float("nan"), -1e-6)
        ),
        (lambda: lib.quantize_rows(torch.zeros(1, 65544, dtype=torch.bfloat16)), ShapeError, "65544 columns"),
        (lambda: lib.quantize_rows(x[:, :12]), ShapeError, "rows of 12 elements, 12 apart: multiples of 8 .* and of 16 for"),
    ):
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.compiler
def test_squares_that_overflow_and_zeros_without_eps_are_as_documented(lib: Any) -> None:
    x = torch.ones(4, 64, dtype=torch.bfloat16)
    x[0], x[1], x[2] = 3e19, 1e19, 0  # h^2 is Inf; the sum of 64 is
    codes, scales = lib.quantize_rows(x, weight=x[3], eps=0)
    assert (scales[:2] == 1 / (224 * 512)).all()
    assert scales.isnan().tolist() == [False, False, True, False]
    assert [bool(row.any()) for row in codes] == [False, False, False, True]


# ---- documentation ----------------------------------------------------------------------------------
@pytest.mark.compiler
def test_the_samples_of_the_page_run(converting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hip")
    page = (Path(__file__).parents[2] / "docs" / "quantization.md").read_text()
    real = runtime.load
    monkeypatch.setattr(runtime, "load", lambda arch: real(arch, "virtual", converting))
    samples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(samples) == 2
    for sample in samples:
        names: dict[str, Any] = {}
        exec(sample, names)
        assert names["q"].format in FORMATS


# ---- parts ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "axis", "square"),
    [
        *(((4096, 96), 1, False), ((4096, 1024), 1, False), ((3, 1024, 64), 1, False), ((256, 32, 8), 1, False)),
        *(((1024, 66), 1, True), ((30, 48, 48), 2, True), ((60, 24, 34), 1, False), ((17, 10, 250), 1, False)),
        ((2, 512, 128), 2, True),
    ],
)
def test_large_tensors_are_done_in_parts_that_meet(shape: tuple[int, ...], axis: int, square: bool) -> None:
    view = flat(view_of("nvfp4", shape, axis, square, Conversion.STOCHASTIC))
    most = 1 << 16
    found = list(parts(view, most))
    assert len(found) > 1
    elements = scales = 0
    for part in found:
        assert (part.element, part.scale) == (elements, scales)
        assert part.view.size * 2 <= most
        assert part.element * 2 % 16 == part.element // 2 % 8 == part.scale % 8 == part.element % 4 == 0
        elements += part.view.size
        scales += int(np.prod(part.view.scales))
    assert elements == view.size
    assert scales == int(np.prod(view.scales))


def test_what_cannot_be_done_in_parts_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 144, 336\] cannot"):  # 9 by 21 scales in a slab: the next begins at an odd one
        list(parts(View(2, 144, 336, 16, Conversion.SQUARE | Conversion.IN_ROWS), 1 << 16))
    with pytest.raises(ShapeError, match=r"\[1, 32, 66000\] cannot be divided"):
        list(parts(View(1, 32, 66000, 16, Conversion(0)), 1 << 16))


@pytest.mark.compiler
@pytest.mark.parametrize(("shape", "axis"), [((1024, 18), 1), ((1024, 34), 0), ((96, 16, 20), 1)])
def test_parts_give_what_the_whole_gives(lib: Any, shape: Any, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = spread(shape, torch.bfloat16)
    how = {"axis": axis, "rounding": "stochastic", "seed": 3, "offset": 2**32 - 5}
    wanted = lib.quantize("nvfp4", x, **how)
    launched: list[View] = []
    monkeypatch.setattr("runtime.convert.parts", lambda view: (launched.append(p.view) or p for p in parts(view, 1 << 14)))
    same(lib.quantize("nvfp4", x, **how), wanted)
    assert len(launched) > 2
