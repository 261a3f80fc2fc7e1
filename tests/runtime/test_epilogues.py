"""Bias, residual, activations and the gate, added by the kernel before anything is rounded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import runtime
from petitgen.verify.epilogue import Extra, make_extra
from runtime.epilogue import Epilogue
from runtime.errors import OperandError, PackError
from runtime.formats import FORMATS
from runtime.packing import unpack_fp8, unpack_mxfp4, unpack_nvfp4
from tests.runtime.problems import Case, case

pytestmark = pytest.mark.compiler

NAMES = {
    None: Epilogue(0),
    "silu": Epilogue.SILU,
    "gelu": Epilogue.GELU,
    "gelu_tanh": Epilogue.GELU_TANH,
    "swiglu": Epilogue.SWIGLU,
}


def extra_of(one: Case, options: Epilogue) -> Extra:
    shape = one.problem.shape
    return make_extra(np.random.default_rng(5), options, shape.m, shape.n, one.problem.float_type)


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_everything_at_once_on_the_host(lib, activation, activations):
    one = case(5, 52, 64, activations)
    extra = extra_of(one, Epilogue.BIAS | Epilogue.RESIDUAL | NAMES[activation])
    y = lib.gemm(one.x, one.weight, extra.bias, residual=extra.residual, activation=activation)
    one.check(lib, y, extra)


@pytest.mark.parametrize("options", [Epilogue.BIAS, Epilogue.RESIDUAL, Epilogue.SILU, Epilogue.SWIGLU])
def test_one_of_them_on_the_device(lib, options):
    one = case(70, 130, 144)
    extra = extra_of(one, options)
    columns = options.columns(130)
    residual = None if extra.residual is None else lib.array(extra.residual, pitch=columns + 3)
    bias = None if extra.bias is None else lib.array(extra.bias[None])
    activation = next((name for name, option in NAMES.items() if option and option & options), None)
    wide = lib.array(np.full((70, columns + 5), 3, one.x.dtype))
    out = runtime.DeviceArray(wide.address, (70, columns), "bf16", columns + 5, wide.device, wide)
    got = lib.gemm(lib.array(one.x), one.weight, bias, out, residual=residual, activation=activation)
    assert got is out
    one.check(lib, lib.numpy(out), extra)
    assert (lib.numpy(wide)[:, columns:] == 3).all()


def test_a_result_is_rounded_once(lib):
    """1 + 2^-9 rounds to 1 in bf16, and so does 1 + 2^-9 + 2^-8 when rounded twice; once it is 1 + 2^-7."""
    one = case(1, 16, 64)
    weight = runtime.pack(
        "nvfp4", np.full((16, 32), 0x22, np.uint8), np.full((16, 4), 0x38, np.uint8), np.float32(1)
    )  # ones
    x = np.zeros((1, 64), one.x.dtype)
    x[0, :2] = 1, 2.0**-9
    assert (lib.gemm(x, weight).astype(np.float32) == 1).all()
    bias = np.full(16, 2.0**-8, np.float32).astype(x.dtype)
    assert (lib.gemm(x, weight, bias).astype(np.float32) == 1 + 2.0**-7).all()


def test_the_residual_may_be_the_result(lib):
    one = case(9, 48, 64)
    extra = extra_of(one, Epilogue.RESIDUAL)
    stream = lib.array(extra.residual)
    assert lib.gemm(lib.array(one.x), one.weight, out=stream, residual=stream) is stream
    one.check(lib, lib.numpy(stream), extra)
    memory = lib.array(np.zeros((20, 48), one.x.dtype))
    shifted = runtime.DeviceArray(memory.address + 96, (9, 48), "bf16", 48, memory.device, memory)
    out = runtime.DeviceArray(memory.address, (9, 48), "bf16", 48, memory.device, memory)
    with pytest.raises(OperandError, match=r"residual at .* overlaps out"):
        lib.gemm(lib.array(one.x), one.weight, out=out, residual=shifted)


def test_a_plan_with_an_epilogue(lib):
    one = case(5, 52, 64)
    extra = extra_of(one, Epilogue.BIAS | Epilogue.RESIDUAL | Epilogue.SWIGLU)
    plan = lib.plan(one.weight, 5, bias=True, residual=True, activation="swiglu", ldr=30)
    x, out = lib.array(one.x), lib.empty((5, 26), "bf16")
    bias, residual = lib.array(extra.bias[None]), lib.array(extra.residual, pitch=30)
    plan(x, out, None, bias, residual)
    one.check(lib, lib.numpy(out), extra)
    with pytest.raises(OperandError, match="the plan was made with a bias"):
        plan(x, out, residual=residual)
    with pytest.raises(OperandError, match=r"residual is \[5, 26\] with strides \[26, 1\]"):
        plan(x, out, None, bias, lib.array(extra.residual))
    with pytest.raises(OperandError, match="the plan was made without a bias"):
        lib.plan(one.weight, 5)(x, lib.empty((5, 52), "bf16"), bias=bias)


def test_a_row_alone_has_no_pitch(lib):
    one = case(1, 48, 64)
    extra = extra_of(one, Epilogue.RESIDUAL)
    plan = lib.plan(one.weight, 1, residual=True, ldr=99)
    out = lib.empty((1, 48), "bf16")
    plan(lib.array(one.x), out, residual=lib.array(extra.residual))
    one.check(lib, lib.numpy(out), extra)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
def test_gate_and_up_are_packed_in_turn(format, kind):
    """Row 2 j of the one weight is row j of gate, row 2 j + 1 that of up."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 256, (2, 20, 64), np.uint8)
    scales = rng.integers(0x30, 0x40, (2, 20, 128 // FORMATS[format].block), np.uint8)
    outer = rng.uniform(0.5, 2, (2, 20)).astype(np.float32) if format == "nvfp4" else None
    parts = [[codes[i], scales[i]] + ([outer[i]] if outer is not None else []) for i in (0, 1)]
    if kind == "torch":
        torch = pytest.importorskip("torch")
        parts = [[torch.from_numpy(part) for part in tensors] for tensors in parts]
        if format == "nvfp4":
            parts = [[part[0], part[1].view(torch.float8_e4m3fn), part[2]] for part in parts]
    both = runtime.pack_gate_up(format, *map(tuple, parts))
    assert (both.n, both.k) == (40, 128)
    unpacked = {"nvfp4": unpack_nvfp4, "mxfp4": unpack_mxfp4}[format](both)
    for i in (0, 1):
        assert np.array_equal(unpacked[0][i::2], codes[i])
        assert np.array_equal(unpacked[1][i::2], scales[i])
    if outer is not None:
        assert np.array_equal(unpacked[2], outer.T.reshape(-1))


def test_one_outer_scale_for_all_rows_of_gate_or_up():
    codes, scales = np.zeros((8, 16), np.uint8), np.full((8, 2), 0x38, np.uint8)
    both = runtime.pack_gate_up("nvfp4", (codes, scales, np.float32(2)), (codes, scales, np.float32([3])))
    assert both.weight_scale_2.tolist() == [2, 3] * 8


@pytest.mark.parametrize("shape", [(), (8,), (8, 1)])
def test_gate_and_up_of_fp8_have_a_scale_a_row(shape):
    codes = np.random.default_rng(0).integers(0, 0x7F, (2, 8, 16), np.uint8)
    scales = [np.full(shape, value, np.float32) for value in (2, 3)]
    both = runtime.pack_gate_up("fp8", (codes[0], scales[0]), (codes[1], scales[1]))
    unpacked, columns = unpack_fp8(both)
    assert columns.tolist() == [2, 3] * 8
    assert np.array_equal(unpacked[0::2], codes[0])
    assert np.array_equal(unpacked[1::2], codes[1])


def test_gate_and_up_may_have_types_of_their_own():
    """E4M3FN has twice the value of the same bits of E4M3FNUZ."""
    torch = pytest.importorskip("torch")
    weight, scale = torch.randn(20, 48), torch.ones(20)
    fn, fnuz = (weight.to(getattr(torch, f"float8_e4m3{end}")) for end in ("fn", "fnuz"))
    for gate, up in ((fn, fnuz), (fnuz, fn)):
        codes, scales = unpack_fp8(runtime.pack_gate_up("fp8", (gate, scale), (up, scale)))
        for i, (part, dtype) in enumerate(zip((gate, up), (gate.dtype, up.dtype), strict=True)):
            wanted = unpack_fp8(runtime.pack("fp8", part, scale))
            assert np.array_equal(codes[i::2], wanted[0])
            assert (scales[i::2] == (2 if dtype == torch.float8_e4m3fn else 1)).all()
    scales = np.full((8, 2), 0x38, np.uint8)
    mixed = (np.zeros((8, 16), np.uint8), scales.view(ml_dtypes.float8_e4m3fn), 1.0), (np.zeros((8, 16), np.uint8), scales, 1.0)
    assert (unpack_nvfp4(runtime.pack_gate_up("nvfp4", *mixed))[1] == 0x38).all()


def test_gate_and_up_that_do_not_fit_are_refused():
    codes, scales = np.zeros((8, 16), np.uint8), np.full((8, 2), 0x38, np.uint8)
    one = np.float32(1)
    with pytest.raises(PackError, match=r"gate is \[8, 32\], up \[7, 32\]"):
        runtime.pack_gate_up("nvfp4", (codes, scales, one), (codes[1:], scales[1:], one))
    with pytest.raises(PackError, match="weight_scale_2 is missing"):
        runtime.pack_gate_up("nvfp4", (codes, scales, one), (codes, scales))
    with pytest.raises(PackError, match=r"up has to be .* it is a ndarray"):
        runtime.pack_gate_up("nvfp4", (codes, scales, one), codes)
    with pytest.raises(PackError, match=r"weight_scale_2 has shape \[3\]"):
        runtime.pack_gate_up("nvfp4", (codes, scales, one), (codes, scales, np.ones(3, np.float32)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lib, x, w: lib.gemm(x, w, activation="relu"), "no activation 'relu': known are silu, gelu"),
        (lambda lib, x, w: lib.gemm(x, w, np.ones(3, np.float32)), r"bias has shape \[3\]: \[N\] = \[47\]"),
        (lambda lib, x, w: lib.gemm(x, w, activation="swiglu"), "odd N = 47"),
        (lambda lib, x, w: lib.gemm(x, w, residual=x), r"residual is \[5, 64\] bf16: \[5, 47\] bf16 is needed"),
        (lambda lib, x, w: lib.gemm(lib.array(x), w, np.ones(47, np.float32)), "bias is a ndarray, x a DeviceArray"),
        (
            lambda lib, x, w: lib.gemm(lib.array(x), w, lib.array(np.zeros((1, 47), np.float16))),
            "both have to be alike",
        ),
        (lambda lib, x, w: lib.gemm(lib.array(x), w, lib.array(x)), r"bias has shape \[5, 64\]: \[47\] is needed"),
        (lambda lib, x, w: lib.gemm(lib.array(x), w, residual=lib.array(x)), r"residual is \[5, 64\]"),
        (lambda lib, x, w: lib.plan(w, 5, activation="swiglu"), "odd N = 47"),
    ],
)
def test_what_does_not_fit_is_refused(lib, call, message):
    one = case(5, 47, 64)
    with pytest.raises(OperandError, match=message):
        call(lib, one.x, one.weight)
