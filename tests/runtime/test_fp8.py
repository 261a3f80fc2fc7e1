"""FP8 on the virtual GPU: PTPC and FP4 weights with x_scale on gfx942, W8A16 on gfx90a, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import runtime
from petitgen.verify.compare import compare
from petitgen.verify.epilogue import Extra, apply, make_extra
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import evaluate
from petitgen.verify.shapes import Shape
from runtime import dense
from runtime.epilogue import NONE, Epilogue
from runtime.errors import OperandError, PackError, ShapeError
from runtime.packing import unpack_fp8

FNUZ, FN = ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3fn
KERNELS = [
    "gemm_fp8_fp8_*__gfx942_m16n64k1024_*",
    "gemm_fp8_fp8_bf16__gfx942_m64n128k128_*",
    "gemm_mxfp4_fp8_bf16__gfx942_m16*",
    "gemm_nvfp4_fp8_bf16__gfx942_m16*",
    "gemm_fp8_*__gfx90a_m16n64*",
    "gemm_fp8_*__gfx90a_m64n128*",
    "rowquantize_fp8_bf16__gfx942_*",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from petitgen.build.run import build
    from petitgen.spec import load_catalog

    chosen = load_catalog().select(KERNELS)
    assert len(chosen) == 10
    where = tmp_path_factory.mktemp("fp8")
    assert not build(chosen, chosen, where).failed
    return where


@pytest.fixture
def mi300(folder: Path) -> Iterator[Any]:
    pytest.importorskip("hip")
    with runtime.load("gfx942", "virtual", folder) as lib:
        yield lib


@pytest.fixture
def mi200(folder: Path) -> Iterator[Any]:
    pytest.importorskip("hip")
    with runtime.load("gfx90a", "virtual", folder) as lib:
        yield lib


def made(m: int, n: int, k: int, weights: str, activations: str, out: str) -> tuple[Problem, runtime.PackedWeight]:
    problem = make_problem(Shape(m, n, k), activations, weights, out=out)
    return problem, runtime.pack(weights, *problem.weights.tensors)


def check(lib: Any, problem: Problem, contract: str, y: np.ndarray, extra: Extra | None = None) -> None:
    shape = problem.shape
    kernel = lib.select(contract, shape.m, shape.n, shape.k).kernel
    assert (y.shape, y.dtype) == ((shape.m, (extra.options if extra else NONE).columns(shape.n)), problem.out.dtype)
    reference = evaluate(problem, flushes=lib.arch == "gfx90a", sums=kernel.tolerance.sums)
    if extra:
        reference = apply(reference, extra, kernel.tolerance.accumulate)
    wrong = compare(y, reference, kernel.tolerance, kernel.out)
    assert wrong is None, str(wrong)


# ---- packing ----------------------------------------------------------------------------------------
def test_every_ocp_value_is_packed_exactly():
    codes = np.arange(256, dtype=np.uint8).reshape(1, 256)
    for scale in (np.float32(0.75), np.float32(2.0**-149), np.float32(2.0**126)):
        packed = runtime.pack("fp8", codes.view(FN), np.array([scale]))
        fnuz, scales = unpack_fp8(packed)
        wanted = codes.view(FN).astype(np.float64) * float(scale)
        assert np.array_equal(fnuz.view(FNUZ).astype(np.float64) * float(scales[0]), wanted, equal_nan=True)
        assert np.isnan(packed.outer).all()  # two of the codes are NaN


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shape", [(16, 128), (37, 272), (1, 16)], ids=str)
def test_packing_is_undone(kind, shape):
    codes = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    scales = np.linspace(0.5, 2, shape[0], dtype=np.float32)
    given: Any = codes.view(FNUZ), scales[:, None]
    if kind == "torch":
        torch = pytest.importorskip("torch")
        given = torch.from_numpy(codes).view(torch.float8_e4m3fnuz), torch.from_numpy(scales[:, None])
    packed = runtime.pack("fp8", *given)
    got, kept = unpack_fp8(packed)
    assert np.array_equal(got, codes)
    assert np.array_equal(kept, scales)
    assert np.array_equal(np.isnan(packed.outer), (codes == 0x80).any(axis=1))


def test_the_packed_form_is_where_matrix_instructions_want_it():
    """docs/formats.md: byte 8 g + j of lane 16 quad + n in half h is k = 64 h + 32 g + 8 quad + j."""
    codes = np.random.default_rng(4).integers(0, 128, (32, 256)).astype(np.uint8)
    packed = runtime.pack("fp8", codes, np.float32(1)).codes
    for n, k in [(0, 0), (17, 131), (31, 255), (5, 64 + 32 + 8 * 3 + 7)]:
        within = k % 128
        lane, byte = 16 * (within // 8 % 4) + n % 16, 8 * (within // 32 % 2) + within % 8
        assert packed[k // 128, n // 16, within // 64, lane, byte] == codes[n, k]


def test_weights_that_cannot_be_packed():
    codes = np.zeros((4, 32), np.uint8)
    for weight, scale, more, message in [
        (codes, np.ones(3, np.float32), (), r"^weight_scale has shape \[3\]: a scalar or"),
        (codes, None, (), "^weight_scale is missing"),
        (codes[:, :24], np.float32(1), (), "multiple of 16"),
        (codes.astype(np.int8), np.float32(1), (), "dtype int8"),
        (codes, np.float32(1), (np.float32(1),), "leave it out"),
        (codes.view(FN), np.float32(3e38), (), "doubles it"),
    ]:
        with pytest.raises(PackError, match=message):
            runtime.pack("fp8", weight, scale, *more)
    with pytest.raises(PackError, match="packed fp8"):
        unpack_fp8(runtime.pack("mxfp4", codes[:, :16], np.full((4, 1), 127, np.uint8)))


# ---- gfx942: FP8 activations ------------------------------------------------------------------------
@pytest.mark.compiler
@pytest.mark.parametrize("out", ["bf16", "fp16"])
@pytest.mark.parametrize("shape", [(1, 1, 16), (17, 130, 272), (70, 65, 528)], ids=str)
def test_ptpc_on_the_host(mi300, out, shape):
    problem, weight = made(*shape, "fp8", "fp8", out)
    y = mi300.gemm(problem.a, weight, x_scale=problem.row_scales, dtype=out)
    check(mi300, problem, f"gemm_fp8_fp8_{out}", y)
    again = np.full_like(y, 7)
    codes = problem.a.view(np.uint8)
    assert mi300.gemm(codes, weight.to(mi300, activations="fp8"), x_scale=problem.row_scales[:, None], out=again) is again
    assert np.array_equal(again.view(np.uint16), y.view(np.uint16))


@pytest.mark.compiler
@pytest.mark.parametrize("weights", ["nvfp4", "mxfp4"])
def test_fp4_weights(mi300, weights):
    problem, weight = made(19, 70, 288, weights, "fp8", "bf16")
    check(mi300, problem, f"gemm_{weights}_fp8_bf16", mi300.gemm(problem.a, weight, x_scale=problem.row_scales))


@pytest.mark.compiler
@pytest.mark.parametrize("options", [Epilogue.BIAS, Epilogue.BIAS | Epilogue.RESIDUAL, Epilogue.SWIGLU])
def test_on_the_device_with_an_epilogue(mi300, options):
    problem, weight = made(21, 66, 144, "fp8", "fp8", "bf16")
    extra = make_extra(np.random.default_rng(5), options, 21, 66, problem.out)
    columns = options.columns(66)
    x = mi300.array(problem.a, pitch=160)
    scales = mi300.array(problem.row_scales[None])
    bias = None if extra.bias is None else mi300.array(extra.bias[None])
    residual = None if extra.residual is None else mi300.array(extra.residual, pitch=columns + 3)
    wide = mi300.array(np.full((21, columns + 5), 3, problem.out.dtype))
    out = runtime.DeviceArray(wide.address, (21, columns), "bf16", columns + 5, wide.device, wide)
    gate = "swiglu" if options & Epilogue.SWIGLU else None
    for _ in range(2):  # the second finds what the first prepared
        got = mi300.gemm(x, weight, bias, out, residual=residual, activation=gate, x_scale=scales)
    assert got is out
    check(mi300, problem, "gemm_fp8_fp8_bf16", mi300.numpy(out), extra)
    assert (mi300.numpy(wide)[:, columns:] == 3).all()


@pytest.mark.compiler
def test_tensors_on_the_host(mi300):
    torch = pytest.importorskip("torch")
    problem, weight = made(5, 48, 64, "fp8", "fp8", "fp16")
    x = torch.from_numpy(problem.a.view(np.uint8)).view(torch.float8_e4m3fnuz)
    y = mi300.gemm(x, weight, x_scale=torch.from_numpy(problem.row_scales), dtype=torch.float16)
    assert (y.device.type, y.dtype) == ("cpu", torch.float16)
    check(mi300, problem, "gemm_fp8_fp8_fp16", y.numpy())


@pytest.mark.compiler
def test_what_quantizes_tokens_gives_what_is_multiplied(mi300):
    """x to FP8 and times W, against x itself: half a place of three bits of mantissa an element, and of bf16 a result."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    x = torch.from_numpy(rng.standard_normal((9, 272)).astype(np.float32)).to(torch.bfloat16)
    problem, weight = made(9, 40, 272, "fp8", "fp8", "bf16")
    codes, scales = mi300.quantize_rows(x)
    y = mi300.gemm(codes, weight, x_scale=scales)
    problem = replace(problem, a=x.double().numpy(), row_scales=None)
    reference = evaluate(problem, flushes=False)
    ordinary = np.isfinite(reference.y) & (np.abs(reference.y) < 1e30) & (np.abs(reference.y) > 1e-30)
    assert ordinary.mean() > 0.5
    apart = np.abs(y.double().numpy() - reference.y)
    assert (apart <= 2.0**-4 * reference.magnitude * 1.1)[ordinary].all()
    assert np.median(apart[ordinary] / reference.magnitude[ordinary]) < 2.0**-7


@pytest.mark.compiler
def test_negative_zeros_of_fp4_are_zeros(mi300):
    """Their E4M3FNUZ code would be NaN."""
    codes = np.full((16, 32), 0x88, np.uint8)
    weight = runtime.pack("nvfp4", codes, np.full((16, 4), 0x38, np.uint8), np.float32(1))
    y = mi300.gemm(np.ones((2, 64), FNUZ), weight, x_scale=np.ones(2, np.float32))
    assert (y.astype(np.float32) == 0).all()


@pytest.mark.compiler
def test_what_is_refused(mi300):
    problem, weight = made(4, 16, 64, "fp8", "fp8", "bf16")
    scales = problem.row_scales
    for x, given, message in [
        (problem.a, {"dtype": "bf16"}, "give x_scale"),
        (problem.a.view(np.uint8).view(FN), {"x_scale": scales}, "twice the value"),
        (problem.a.astype(np.float32), {"x_scale": scales}, "has to be FP8"),
        (problem.a, {"x_scale": scales[:3]}, r"\[4\] is needed"),
        (problem.a, {"x_scale": 1.0}, "x_scale is a float, x a ndarray"),
        (problem.a, {"x_scale": list(scales)}, "x_scale is a list"),
        (problem.a, {"x_scale": mi300.array(scales[None])}, "x_scale is a DeviceArray"),
        (problem.a, {"x_scale": scales.astype(np.float64)}, "x_scale is float64: float32 is needed"),
        (problem.a, {"x_scale": scales, "bias": [0.0] * 16}, "bias is a list"),
        (problem.a, {"x_scale": scales, "bias": np.ones(16, np.complex64)}, "real numbers are needed"),
        (problem.a, {"x_scale": scales, "bias": np.ones(15, np.float32)}, r"\[16\] is needed"),
        (problem.a, {"x_scale": scales, "residual": np.ones((4, 15), problem.out.dtype)}, r"residual is \[4, 15\] .*: \[4, 16\] bf16"),
        (problem.a[0], {"x_scale": scales}, r"x has shape \[64\]: a matrix is needed"),
        (problem.a, {}, r"FP8 activations need a scale a row: lib.gemm\(x, w, x_scale=...\)"),
        (problem.a, {"x_scale": scales, "out": np.ones((4, 16), np.float32)}, "out is float32: results are bf16 or fp16"),
        (problem.a, {"x_scale": scales, "residual": [[0.0] * 16] * 4}, "residual is a list"),
        (problem.a, {"x_scale": scales, "out": [[0.0] * 16] * 4}, "out is a list"),
        (problem.a, {"x_scale": scales, "dtype": "float32"}, "dtype is float32: results are bf16 or fp16"),
        (problem.a, {}, "none a kernel multiplies"),
    ]:
        with pytest.raises(OperandError, match=message):
            mi300.gemm(x, weight, **given)
    for what in (None, problem.weights.tensors[0]):
        with pytest.raises(OperandError, match=r"w is a (NoneType|ndarray): runtime\.pack makes"):
            mi300.gemm(problem.a, what, x_scale=scales)
    for dtype in ("fp8", FNUZ):
        with pytest.raises(OperandError, match="no plan for FP8 activations"):
            mi300.plan(weight, 4, dtype)
    x, s = mi300.array(problem.a), mi300.array(scales[None])
    for given, message in [
        ({"x_scale": mi300.array(scales[:, None], pitch=3)}, "neighbours"),
        ({"x_scale": mi300.array(problem.a)}, "float32 on device"),
        ({"x_scale": s, "out": mi300.empty((4, 15), "bf16")}, r"\[4, 16\] bf16 on device \d+ is needed"),
        ({"x_scale": runtime.DeviceArray(s.address + 2, (1, 4), "f32", 4, s.device, s)}, "multiple of 4 bytes"),
        ({"x_scale": s, "out": runtime.DeviceArray(x.address, (4, 16), "bf16", 16, x.device, x)}, "overlaps x"),
        ({"x_scale": s, "out": runtime.DeviceArray(s.address - s.address % 256, (4, 16), "bf16", 16, s.device, s)}, "overlaps"),
    ]:
        with pytest.raises(OperandError, match=message):
            mi300.gemm(x, weight, **given)


@pytest.mark.compiler
def test_host_arrays_are_no_part_of_a_graph(mi300):
    from hip import hip as names

    problem, weight = made(4, 16, 64, "fp8", "fp8", "bf16")
    hip, given = mi300.hip, {"x_scale": problem.row_scales}
    wanted = mi300.gemm(problem.a, weight, **given)
    with hip.on(mi300.device):
        stream = hip.call("hipStreamCreate")
        hip.call("hipStreamBeginCapture", stream, names.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
        with pytest.raises(OperandError, match="host arrays cannot be part of a graph"):
            mi300.gemm(problem.a, weight, stream=stream, **given)
        hip.call("hipStreamEndCapture", stream)
    assert np.array_equal(mi300.gemm(problem.a, weight, **given).view(np.uint16), wanted.view(np.uint16))


@pytest.mark.compiler
def test_what_is_refused_of_tensors(mi300):
    torch = pytest.importorskip("torch")
    problem, weight = made(4, 16, 64, "fp8", "fp8", "bf16")
    x, s = torch.from_numpy(problem.a.view(np.uint8)), torch.from_numpy(problem.row_scales)
    trained, same = torch.nn.Parameter(torch.zeros(16, dtype=torch.bfloat16)), torch.zeros(4, 1, dtype=torch.bfloat16)
    for given, message in [
        ({"bias": trained}, "requires a gradient"),
        ({"residual": trained.expand(4, 16)}, "requires a gradient"),
        ({"x_scale": torch.nn.Parameter(s)}, "requires a gradient"),
        ({"x_scale": s.double()}, r"x_scale is torch\.float64: float32 is needed"),
        ({"out": same.expand(4, 16)}, "its elements share memory"),
    ]:
        with pytest.raises(OperandError, match=message):
            mi300.gemm(x, weight, **{"x_scale": s, **given})
    with torch.no_grad():
        mi300.gemm(x, weight, trained, x_scale=s)


def test_strided_vectors_are_not_copied_beside_a_stream():
    """The copy would be made on torch's current stream."""
    torch = pytest.importorskip("torch")
    strided = torch.arange(8, dtype=torch.float32)[::2]
    assert dense.line("x_scale", strided, 4, None).tolist() == [0, 2, 4, 6]
    with pytest.raises(OperandError, match=r"bias has strides \[2\]: with stream= .* use bias.contiguous\(\)"):
        dense.line("bias", strided, 4, 5)


@pytest.mark.compiler
def test_a_bias_of_another_type_on_the_host_is_rounded(mi300):
    problem, weight = made(5, 48, 64, "fp8", "fp8", "fp16")
    bias = np.linspace(-3, 3, 48, dtype=np.float32)
    given = {"x_scale": problem.row_scales, "dtype": "fp16"}
    y, wanted = (mi300.gemm(problem.a, weight, one, **given) for one in (bias, bias.astype(np.float16)))
    assert np.array_equal(y.view(np.uint16), wanted.view(np.uint16))
    assert mi300.gemm(problem.a, weight, bias, x_scale=problem.row_scales).dtype == ml_dtypes.bfloat16
    assert mi300.gemm(problem.a, weight, bias.astype(np.float16), x_scale=problem.row_scales).dtype == np.float16


@pytest.mark.compiler
def test_w8a16_is_not_for_gfx942(mi300):
    with pytest.raises(ShapeError, match="FP8 activations there"):
        mi300.select("gemm_fp8_bf16", 16, 64, 64)
    weight = made(4, 16, 64, "fp8", "fp8", "bf16")[1]
    with pytest.raises(OperandError, match="multiplies fp8 weights with x of bf16: give activations='fp8'"):
        weight.to(mi300)
    weight.to(mi300, activations="fp8")


@pytest.mark.compiler
def test_contracts_are_what_select_takes(mi300):
    gemms = "gemm_fp8_fp8_bf16", "gemm_fp8_fp8_fp16", "gemm_mxfp4_fp8_bf16", "gemm_nvfp4_fp8_bf16"
    assert mi300.contracts == gemms
    for contract in gemms:
        assert mi300.select(contract, 16, 64, 64).kernel.op == "gemm"
    with pytest.raises(ShapeError, match="for fp8 weights this library has gemm_fp8_fp8_bf16, gemm_fp8_fp8_fp16; "):
        mi300.select("gemm_fp8_fp8", 16, 64, 64)
    for contract in ("rowquantize_fp8_bf16", "amax_bf16", "grouped_nvfp4_bf16", "gemm_fp8", "gemm", "foo", ""):
        with pytest.raises(OperandError, match=r"which is no GEMM with packed weights.*lib\.contracts has those"):
            mi300.select(contract, 16, 64, 64)


# ---- gfx90a: FP8 weights ----------------------------------------------------------------------------
@pytest.mark.compiler
@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_w8a16(mi200, activations):
    problem, weight = made(17, 70, 272, "fp8", activations, activations)
    check(mi200, problem, f"gemm_fp8_{activations}", mi200.gemm(problem.a, weight))
    plan = mi200.plan(weight, 17, activations)
    out = mi200.empty((17, 70), activations)
    plan(mi200.array(problem.a), out)
    check(mi200, problem, f"gemm_fp8_{activations}", mi200.numpy(out))


@pytest.mark.compiler
def test_gfx90a_has_no_fp8_activations(mi200):
    problem, weight = made(4, 16, 64, "fp8", "fp8", "bf16")
    with pytest.raises(ShapeError, match=r"no FP8 matrix instructions.*W8A16: gemm_fp8_bf16"):
        mi200.gemm(problem.a, weight, x_scale=problem.row_scales)
    with pytest.raises(ShapeError, match=r"no FP8 matrix instructions.*W8A16: gemm_fp8_bf16"):
        mi200.select("gemm_fp8_fp8", 16, 64, 64)
    with pytest.raises(ShapeError, match=r"no FP8 matrix instructions.*W4A16: gemm_nvfp4_bf16, gemm_nvfp4_fp16\)$"):
        mi200.select("gemm_nvfp4_fp8_bf16", 16, 64, 64)
