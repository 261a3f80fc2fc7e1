"""petitgen::gemm_fp8 in eager torch and under torch.compile, on CPU tensors through the virtual GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.errors import OperandError
from tests.runtime.test_fp8 import check, made

torch = pytest.importorskip("torch", minversion="2.6")
pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from petitgen.build.run import build
    from petitgen.spec import load_catalog

    chosen = load_catalog().select(["gemm_fp8_fp8_*__gfx942_m16n64*", "gemm_mxfp4_fp8_bf16__gfx942_m16*", "gemm_fp8_bf16__gfx90a_m16n64*"])
    where = tmp_path_factory.mktemp("ops_fp8")
    assert not build(chosen, chosen, where).failed
    return where


@pytest.fixture
def ops(folder: Path) -> Iterator[Any]:
    pytest.importorskip("hip")
    from runtime import ops, ops_fp8

    assert ops_fp8
    with runtime.load("gfx942", "virtual", folder) as lib:
        ops.use(lib)
        yield ops
        ops.forget()


def tensors(problem: Any) -> tuple[Any, Any]:
    codes = torch.from_numpy(problem.a.view(np.uint8).copy())
    return codes.view(torch.float8_e4m3fnuz), torch.from_numpy(problem.row_scales)


def library(ops: Any) -> Any:
    return ops.library_of(-1)


def array(y: Any, dtype: Any) -> Any:
    return y.view(torch.int16).numpy().view(dtype)


@pytest.mark.parametrize(("weights", "out"), [("fp8", "bf16"), ("fp8", "fp16"), ("mxfp4", "bf16")])
def test_eager(ops, weights, out):
    problem, weight = made(9, 40, 288, weights, "fp8", out)
    (x, scale), parts = tensors(problem), ops.tensors(weight)
    dtype = torch.bfloat16 if out == "bf16" else torch.float16
    y = torch.ops.petitgen.gemm_fp8(x, scale, *parts, format=weights, dtype=dtype)
    assert y.dtype == dtype
    check(library(ops), problem, f"gemm_{weights}_fp8_{out}", array(y, problem.out.dtype))
    again = torch.ops.petitgen.gemm_fp8(x.view(torch.uint8), scale[:, None], *parts, format=weights, dtype=dtype)
    assert torch.equal(again.view(torch.int16), y.view(torch.int16))


def test_opcheck_and_compile(ops):
    problem, weight = made(5, 48, 64, "fp8", "fp8", "bf16")
    (x, scale), parts = tensors(problem), ops.tensors(weight)
    bias, residual = torch.ones(48, dtype=torch.bfloat16), torch.zeros(5, 48, dtype=torch.bfloat16)
    torch.library.opcheck(
        torch.ops.petitgen.gemm_fp8.default,
        (x.view(torch.uint8), scale, *parts, bias),
        {"dtype": torch.bfloat16, "residual": residual, "activation": "silu"},
        test_utils=("test_schema", "test_faketensor"),
    )

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(x, scale):
        return torch.ops.petitgen.gemm_fp8(x, scale, *parts, dtype=torch.bfloat16)

    check(library(ops), problem, "gemm_fp8_fp8_bf16", array(compiled(x, scale), problem.out.dtype))


def test_what_is_refused_while_tracing(ops):
    problem, weight = made(5, 48, 64, "fp8", "fp8", "bf16")
    (x, scale), parts = tensors(problem), ops.tensors(weight)
    given = {"dtype": torch.bfloat16}
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        for arguments, keys, message in [
            ((x.to(torch.float32), scale, *parts), given, "float8_e4m3fnuz"),
            ((x, scale, *parts), {"dtype": torch.float32}, "bfloat16 or float16"),
            ((x, scale.double(), *parts), given, "x_scale is"),
            ((x, scale, parts[0][:0], *parts[1:]), given, "codes has 0 bytes"),
            ((x, scale, *parts), {**given, "residual": torch.zeros(5, 48)}, "residual is"),
        ]:
            with pytest.raises(OperandError, match=message):
                torch.ops.petitgen.gemm_fp8(*arguments, **keys)


def test_fp8_weights_go_with_bf16_through_the_other_operator(folder):
    from runtime import ops

    problem, weight = made(5, 48, 64, "fp8", "bf16", "bf16")
    with runtime.load("gfx90a", "virtual", folder) as lib:
        ops.use(lib)
        x = torch.from_numpy(problem.a.view(np.int16)).view(torch.bfloat16)
        y = torch.ops.petitgen.gemm(x, *ops.tensors(weight), format="fp8")
        check(lib, problem, "gemm_fp8_bf16", array(y, problem.out.dtype))
        ops.forget()


def test_fp8_weights_are_traced_with_bf16(folder):
    """They have no blocks: K is a multiple of 16."""
    from runtime import ops

    weight = runtime.pack("fp8", np.full((48, 80), 0x40, np.uint8), np.float32(1))  # ones: E4M3FNUZ has a bias of 8
    with runtime.load("gfx90a", "virtual", folder) as lib:
        ops.use(lib)
        x, parts, out = torch.ones(3, 80, dtype=torch.bfloat16), ops.tensors(weight), torch.zeros(3, 48, dtype=torch.bfloat16)
        torch.library.opcheck(torch.ops.petitgen.gemm.default, (x, *parts, None, "fp8"))
        torch.library.opcheck(torch.ops.petitgen.gemm.out, (x, *parts, None, "fp8"), {"out": out})

        @torch.compile(fullgraph=True, backend="eager")
        def compiled(x):
            return torch.ops.petitgen.gemm(x, *parts, format="fp8")

        assert (compiled(x) == 80).all()
        ops.forget()
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(OperandError, match="multiple of 16, it is 72"):
        torch.ops.petitgen.gemm(x[:, :72], *parts, format="fp8")
