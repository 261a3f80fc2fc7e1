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


def test_exported_with_a_free_number_of_tokens(ops, lib, case):
    given, x, expert, x_tensor, indices, parts = case

    class Layer(torch.nn.Module):
        def forward(self, x: Any, indices: Any) -> Any:
            return ops.grouped_gemm(x, *parts, indices, block=32)

    tokens = torch.export.Dim("tokens", min=2, max=4096)
    exported = torch.export.export(Layer(), (x_tensor[:2], indices[:2]), dynamic_shapes=({0: tokens}, {0: tokens}))
    assert not wrong(lib, array(exported.module()(x_tensor, indices), x), x, given, expert)


def test_what_is_refused(ops, case):
    _, _, _, x_tensor, indices, (codes, scales, outer) = case
    with pytest.raises(OperandError, match=r"outer is \[72\] torch\.float32: float32 \[experts, N\]"):
        ops.grouped_gemm(x_tensor, codes, scales, outer[0], indices)
    with pytest.raises(OperandError, match="codes is on meta, x on"):
        ops.grouped_gemm(x_tensor, codes.to("meta"), scales, outer, indices)
    with pytest.raises(OperandError, match=r"scales is \[3, .* 4 packed nvfp4 weights \[72, 144\]"):
        ops.grouped_gemm(x_tensor, codes, scales[:3], outer, indices)
    with pytest.raises(OperandError, match="takes weights of nvfp4, mxfp4, amdfp4, these are 'fp8'"):
        ops.grouped_gemm(x_tensor, codes, scales, outer, indices, format="fp8")


def run(mode: str, arguments: dict[str, Any]) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    if mode == "eager":
        return torch.ops.petitgen.grouped_gemm(**arguments)
    with FakeTensorMode() as fake:
        given = {name: fake.from_tensor(one) if isinstance(one, torch.Tensor) else one for name, one in arguments.items()}
        return torch.ops.petitgen.grouped_gemm(**given)


@pytest.mark.parametrize("mode", ["eager", "traced"])
def test_the_same_is_refused_eagerly_and_while_tracing(ops, case, mode):
    _, _, _, x, indices, (codes, scales, outer) = case
    s = ops.sort_by_expert(indices, EXPERTS)
    good = {"x": x, "codes": codes, "scales": scales, "outer": outer, "ids": s.ids, "experts": s.experts, "valid": s.valid}
    good |= {"weights": None, "tokens": 21, "topk": 1, "block": s.block, "bias": None, "residual": None}
    row = x.new_zeros(3)
    wrong_ones = {
        r"bias is \[3\]": {"bias": row},
        r"residual (is|has shape) \[3\]": {"residual": row},
        "residual is .*float32": {"residual": x.new_zeros((21, 72)).float()},
        r"ids .*float32": {"ids": s.ids.float()},
        r"ids .*\[\]": {"ids": s.ids[0]},
        r"experts .*\[1, ": {"experts": s.experts[None]},
        r"weights .*int32": {"weights": s.ids},
        r"experts of": {"experts": s.experts[:1], "block": 32},
        "topk 0,": {"topk": 0},
        "topk -1,": {"topk": -1},
        "blocks of 0": {"block": 0},
        "1099511627776 tokens": {"tokens": 1 << 40},
        r"x (is|has) .*22": {"tokens": 22},
        "multiple of 16, it is 136": {"x": x[:, :136]},
    }
    for message, operands in wrong_ones.items():
        with pytest.raises(OperandError, match=message):
            run(mode, good | operands)
    assert run(mode, good).shape == (21, 72)
