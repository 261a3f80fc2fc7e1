"""petitgen::grouped_gemm in eager torch and under torch.compile, on CPU tensors through the virtual GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.errors import OperandError
from tests.runtime.experts import EXPERTS, activations_of, moderate, ordinary, problems, stacked, wrong

torch = pytest.importorskip("torch", minversion="2.6")
pytestmark = pytest.mark.compiler


@pytest.fixture
def lib(load: Any, arch: str, grouped_built: Path) -> Iterator[Any]:
    with load(arch, grouped_built) as library:
        yield library


@pytest.fixture
def ops(lib: Any) -> Iterator[Any]:
    """runtime.ops_experts on the library under test."""
    from runtime import ops, ops_experts

    ops.use(lib)
    yield ops_experts
    ops.forget()


def tensor(x: np.ndarray, where: Any) -> Any:
    cpu = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return cpu if where.virtual else cpu.to(f"cuda:{where.device}")


def array(y: Any, like: np.ndarray) -> np.ndarray:
    return y.cpu().view(torch.int16).numpy().view(like.dtype)


@pytest.fixture
def case(ops: Any, lib: Any) -> tuple[Any, ...]:
    """Weights, x, the experts of its rows, and all of it as tensors."""
    given, x, expert = problems("bf16"), activations_of(21, "bf16"), np.arange(21) % EXPERTS
    where = "cpu" if lib.virtual else f"cuda:{lib.device}"
    parts = ops.tensors(stacked(given), where)
    return given, x, expert, tensor(x, lib), torch.from_numpy(expert).to(where), parts


def test_eager(ops, lib, case):
    given, x, expert, x_tensor, indices, parts = case
    y = ops.grouped_gemm(x_tensor, *parts, indices)
    assert y.dtype == torch.bfloat16
    assert not wrong(lib, array(y, x), x, given, expert)


def test_weights_that_change_are_seen(ops, lib, case):
    given, x, expert, x_tensor, indices, parts = case
    ops.grouped_gemm(x_tensor, *parts, indices)
    for part in parts:
        part.copy_(part.flip(0))
    y = ops.grouped_gemm(x_tensor, *parts, indices)
    assert not wrong(lib, array(y, x), x, given[::-1], expert)


def test_opcheck(ops, lib):
    where = "cpu" if lib.virtual else f"cuda:{lib.device}"
    x = tensor(moderate(np.random.default_rng(1), (21, 64)), lib)
    experts = [runtime.pack("nvfp4", *ordinary(e, 40, 64)) for e in range(EXPERTS)]
    s = ops.sort_by_expert(torch.arange(21, device=where) % EXPERTS, EXPERTS)
    parts = ops.tensors(runtime.stack(experts), where)
    arguments = (x, *parts, s.ids, s.experts, s.valid, None, s.tokens, s.topk, s.block)
    torch.library.opcheck(torch.ops.petitgen.grouped_gemm.default, arguments)


def test_compiled_whole(ops, lib, case):
    given, x, expert, x_tensor, indices, parts = case
    compiled = torch.compile(lambda *a: ops.grouped_gemm(*a, activation=None), backend="aot_eager", fullgraph=True)
    y = compiled(x_tensor, *parts, indices)
    assert not wrong(lib, array(y, x), x, given, expert)


def test_what_is_refused(ops, case):
    _, _, _, x_tensor, indices, (codes, scales, outer) = case
    with pytest.raises(OperandError, match=r"outer is \[72\] torch\.float32: float32 \[experts, N\]"):
        ops.grouped_gemm(x_tensor, codes, scales, outer[0], indices)
    with pytest.raises(OperandError, match=r"scales is \[3, .* 4 packed nvfp4 weights \[72, 144\]"):
        ops.grouped_gemm(x_tensor, codes, scales[:3], outer, indices)
    with pytest.raises(OperandError, match="takes weights of nvfp4, mxfp4, amdfp4, these are 'fp8'"):
        ops.grouped_gemm(x_tensor, codes, scales, outer, indices, format="fp8")
