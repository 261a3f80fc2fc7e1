"""petitgen::gemm in eager torch and under torch.compile, on CPU tensors through the virtual GPU."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.errors import ClosedError, OperandError
from tests.runtime.problems import Case, case

torch = pytest.importorskip("torch", minversion="2.6")
pytestmark = pytest.mark.compiler


@pytest.fixture
def ops(lib: Any) -> Iterator[Any]:
    """runtime.ops on the library under test: the operators and their module."""
    from runtime import ops

    ops.use(lib)
    yield ops
    ops.forget()


def tensor(x: np.ndarray, lib: Any) -> Any:
    kind = torch.bfloat16 if x.dtype.name == "bfloat16" else torch.float16
    cpu = torch.from_numpy(x.view(np.int16)).view(kind)
    return cpu if lib.virtual else cpu.to(f"cuda:{lib.device}")


def weight(ops: Any, one: Case, lib: Any) -> tuple[Any, ...]:
    return ops.tensors(one.weight, "cpu" if lib.virtual else f"cuda:{lib.device}", one.activations)


def array(y: Any, like: np.ndarray) -> np.ndarray:
    return y.cpu().view(torch.int16).numpy().view(like.dtype)


def gemm(*arguments: Any, **named: Any) -> Any:
    return torch.ops.petitgen.gemm(*arguments, **named)


@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_eager(ops, lib, activations):
    one = case(5, 48, 144, activations)
    x, parts = tensor(one.x, lib), weight(ops, one, lib)
    y = gemm(x, *parts)
    assert y.dtype == x.dtype
    one.check(lib, array(y, one.x))
    out = torch.zeros(5, 96, dtype=x.dtype, device=x.device)[:, ::2] if lib.virtual else torch.zeros_like(y)
    torch.ops.petitgen.gemm.out(x, *parts, out=out)
    one.check(lib, array(out.contiguous(), one.x))


def test_opcheck(ops, lib):
    device = "cpu" if lib.virtual else f"cuda:{lib.device}"
    rng = np.random.default_rng(1)  # no NaN: opcheck compares with ==
    codes, scales = rng.integers(0, 256, (48, 32), np.uint8), rng.integers(0x30, 0x48, (48, 4), np.uint8)
    parts = ops.tensors(runtime.pack("nvfp4", codes, scales, 0.5), device)
    x = torch.randn(3, 64, device=device).bfloat16()
    bias = torch.ones(48, dtype=x.dtype, device=x.device)
    torch.library.opcheck(torch.ops.petitgen.gemm.default, (x, *parts))
    torch.library.opcheck(torch.ops.petitgen.gemm.default, (x, *parts, bias, "nvfp4"))
    out = torch.zeros(3, 48, dtype=x.dtype, device=x.device)
    torch.library.opcheck(torch.ops.petitgen.gemm.out, (x, *parts), {"out": out})


INDUCTOR = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=INDUCTOR)])
def test_compiled_without_a_graph_break(ops, lib, backend):
    one = case(3, 48, 64)
    x, parts = torch.randn(3, 64, device=tensor(one.x, lib).device).bfloat16(), weight(ops, one, lib)

    def model(x: Any) -> Any:
        out = torch.zeros(x.shape[0], 48, dtype=x.dtype, device=x.device)
        torch.ops.petitgen.gemm.out(x, *parts, out=out)
        return gemm(torch.relu(x), *parts) + out

    with torch.no_grad():
        wanted = model(x)
        got = torch.compile(model, fullgraph=True, backend=backend)(x)
        longer = torch.compile(model, fullgraph=True, backend=backend, dynamic=True)(x.repeat(2, 1))
    assert torch.equal(got.isnan(), wanted.isnan())
    assert torch.equal(got.nan_to_num(), wanted.nan_to_num())
    assert torch.equal(longer[:3].nan_to_num(), wanted.nan_to_num())


def test_a_weight_on_the_cpu_is_copied_once_and_again_when_it_changes(ops, lib, alive):
    one = case(2, 48, 64)
    x = torch.ones(2, 64, dtype=torch.bfloat16)
    codes, scales, outer = (part.clone() for part in weight(ops, one, lib))
    gc.collect()
    before = alive("allocations")
    first = gemm(x, codes, scales, outer)
    assert torch.equal(gemm(x, codes, scales, outer).nan_to_num(), first.nan_to_num())
    assert alive("allocations") == before + 1
    outer.zero_()
    changed = gemm(x, codes, scales, outer)
    assert (changed.nan_to_num() == 0).all()  # NaN where a block scale was NaN: outer no longer says so
    assert alive("allocations") == before + 1
    del codes
    gc.collect()
    assert alive("allocations") == before


def ones(ops: Any) -> tuple[Any, ...]:
    """A weight [48, 64] of ones, on the CPU: every element of gemm(ones, ...) is 64."""
    codes, scales = np.full((48, 32), 0x22, np.uint8), np.full((48, 4), 0x38, np.uint8)
    return tuple(part.clone() for part in ops.tensors(runtime.pack("nvfp4", codes, scales, 1.0)))


def test_tensors_made_and_dropped_for_one_call_are_not_taken_for_the_ones_before(ops, lib):
    """The second outer soon has the id, the address and the version of the first."""
    if not lib.virtual:
        pytest.skip("about weights on the CPU")
    x, (codes, scales, _) = torch.ones(2, 64, dtype=torch.bfloat16), ones(ops)
    factors, bytes_ = np.ones(48, np.float32), np.full(scales.shape, 0x38, np.uint8)
    for factor in range(1, 33):  # tensors over one piece of memory: the address is the same for certain, the id often
        factors[:] = factor
        outer = torch.from_numpy(factors)
        y = gemm(x, codes, scales, outer)
        assert y.tolist()[0][0] == 64 * factor
        del y, outer
    outer = torch.ones(48)
    for doublings in range(6):
        bytes_[:] = 0x38 + 8 * doublings  # E4M3
        assert (gemm(x, codes, torch.from_numpy(bytes_), outer) == 64 * 2.0**doublings).all()


def test_a_change_that_torch_does_not_count_is_seen_after_forget(ops, lib, alive):
    x, (codes, scales, outer) = torch.ones(2, 64, dtype=torch.bfloat16), ones(ops)
    other = ones(ops)
    gemm(x, *other)
    assert (gemm(x, codes, scales, outer) == 64).all()
    gc.collect()
    before = alive("allocations")
    outer.data.copy_(torch.full((48,), 3.0))
    ops.forget(codes)
    gc.collect()
    assert alive("allocations") == before - 1  # the other weight's copy stays
    assert (gemm(x, codes, scales, outer) == 192).all()


def test_what_is_found_on_a_device_is_what_was_checked():
    """The key of a weight that is used in place: another extent at the same address is another weight."""
    from runtime import ops

    store = torch.zeros(64, dtype=torch.uint8)
    views = [store, store[:32], store[::2], store.view(torch.float32)]
    assert len({ops.extent_of(view) for view in views}) == 3  # the last is as long as the first, and as contiguous


def test_tracing_refuses_what_the_operator_refuses(ops, lib):
    from torch._subclasses import FakeTensorMode

    one = case(2, 48, 64)
    x, (codes, scales, outer) = tensor(one.x, lib), weight(ops, one, lib)
    out = torch.empty(2, 48, dtype=x.dtype, device=x.device)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"x": x.float()}, "dtype torch.float32 is none a kernel multiplies"),
        ({"x": x[0]}, r"x has shape \[64\]"),
        ({"x": x[:, :48].repeat(1, 3)}, "has 3072 bytes: a packed nvfp4 weight"),  # K = 144
        ({"codes": codes[:0]}, "codes has 0 bytes"),
        ({"scales": scales.repeat(2, 1, 1, 1)}, "scales has"),
        ({"outer": outer.double()}, r"outer is \[48\] torch.float64"),
        ({"outer": outer[0]}, r"outer is \[\] torch.float32"),
        ({"format": "int3"}, "no weight format 'int3'"),
        ({"bias": outer[:3]}, r"bias has shape \[3\]"),
        ({"out": out[:1]}, r"out is \[1, 48\]"),
        ({"out": out.to(torch.float16)}, r"out is \[2, 48\] torch.float16"),
    ]
    given = {"x": x, "codes": codes, "scales": scales, "outer": outer}
    for change, message in wrong:
        arguments = {**given, **change}
        operator = torch.ops.petitgen.gemm.out if "out" in change else torch.ops.petitgen.gemm.default
        with pytest.raises(OperandError):
            operator(**arguments)
        with FakeTensorMode() as mode:
            fake = {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
            with pytest.raises(OperandError, match=message):
                operator(**fake)


def test_nothing_is_copied_for_a_library_that_was_closed(ops, load, arch, monkeypatch):
    other = load(arch)
    if not other.virtual:
        pytest.skip("about weights on the CPU")
    ops.use(other)
    other.close()
    monkeypatch.setattr(other.hip, "malloc", None)  # nobody may call it
    with pytest.raises(ClosedError, match="was closed"):
        gemm(torch.ones(2, 64, dtype=torch.bfloat16), *ones(ops))


def test_what_does_not_fit_is_refused(ops, lib):
    one = case(2, 48, 64)
    x, (codes, scales, outer) = tensor(one.x, lib), weight(ops, one, lib)
    for arguments, message in [
        ((x, codes[:0], scales, outer), r"codes has 0 bytes: a packed nvfp4 weight \[48, 64\] has 3072"),
        ((x, codes, scales, outer.double()), r"outer is \[48\] torch.float64: float32 \[N\] is needed"),
        ((x, codes, scales, outer, None, "int3"), "no weight format 'int3': known are nvfp4"),
        ((x.float(), codes, scales, outer), "dtype torch.float32 is none a kernel multiplies"),
    ]:
        with pytest.raises(OperandError, match=message):
            gemm(*arguments)
    with pytest.raises(OperandError, match=r"use torch.no_grad\(\) or x.detach\(\)"):
        gemm(x.detach().clone().requires_grad_(), codes, scales, outer)
