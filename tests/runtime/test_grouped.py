"""lib.grouped_gemm against float64, expert by expert; sorting against its definition."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from petitgen.verify.compare import compare
from petitgen.verify.reference import Reference
from runtime.errors import OperandError, PackError, ShapeError
from runtime.grouped import GroupedProblem, choose_grouped, sorted_problem
from runtime.memory import Allocation
from runtime.sorting import TOKEN_BITS, most_blocks, sort_by_expert
from runtime.stacks import stack_from_tensors
from tests.runtime.experts import EXPERTS, N, activations_of, dense, moderate, ordinary, problems, stacked, wrong

pytestmark = pytest.mark.compiler

@pytest.fixture
def lib(load: Any, arch: str, grouped_built: Path) -> Iterator[Any]:
    with load(arch, grouped_built) as library:
        yield library


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_each_row_has_the_weight_of_its_expert(lib, activations, kind):
    given = problems(activations)
    x, expert = activations_of(21, activations), np.array([3, 0, 3, 1] * 5 + [3], np.int32)  # the third has none
    if kind == "numpy":
        y = lib.grouped_gemm(x, stacked(given), expert)
    else:
        torch = pytest.importorskip("torch")
        tensor = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16 if activations == "bf16" else torch.float16)
        result = lib.grouped_gemm(tensor, stacked(given), torch.from_numpy(expert))
        assert result.dtype == tensor.dtype
        y = result.view(torch.int16).numpy().view(x.dtype)
    assert y.shape == (21, N)
    assert not wrong(lib, y, x, given, expert)


@pytest.mark.parametrize("block", [32, 64, 128])
def test_blocks_of_any_size_with_every_tile_that_divides_them(lib, block):
    given = problems("bf16")
    x, expert = activations_of(150, "bf16"), np.arange(150) % 3
    sorting = sort_by_expert(expert, EXPERTS, block)
    ran, kernels = set(), lib.kernels
    for name, kernel in kernels.items():
        if block % kernel.tile["m"] == 0 and kernel.activations == "bf16":
            lib.kernels = {name: kernel}
            y = lib.grouped_gemm(x, stacked(given), sorting)  # a new stack: launches are kept with it
            assert not wrong(lib, y, x, given, expert)
            ran.add(lib.recent(lib.device)[-1])
    assert len(ran) == {32: 1, 64: 2, 128: 3}[block]


def chosen_for(lib: Any, tokens: int, experts: int) -> dict[str, int]:
    """The tile for so many tokens, of 4096 numbers each, with 8 experts each."""
    problem = sorted_problem("grouped_nvfp4_bf16", tokens, 8, experts, 4096, 4096)
    return dict(choose_grouped(lib.kernels.values(), problem, lib.arch, 304).kernel.tile)


def test_many_rows_of_an_expert_take_large_tiles(lib):
    assert chosen_for(lib, 1, 128)["m"] == chosen_for(lib, 16, 128)["m"] == 16
    assert chosen_for(lib, 8192, 128)["m"] == 64
    assert chosen_for(lib, 32768, 32)["m"] == 128


def test_select_tells_what_is_launched(lib):
    given, x, expert = problems("bf16"), activations_of(150, "bf16"), np.arange(150) % 3
    for block in (32, 64, 128):
        lib.grouped_gemm(x, stacked(given), sort_by_expert(expert, EXPERTS, block))
        chosen = lib.select_grouped("grouped_nvfp4_bf16", 150, 1, EXPERTS, N, x.shape[1], block)
        assert chosen.kernel.name == lib.recent(lib.device)[-1]
    with pytest.raises(OperandError, match=r"sizes start at 1"):
        lib.select_grouped("grouped_nvfp4_bf16", 150, 0, EXPERTS, N, 144)
    with pytest.raises(ShapeError, match="no kernel takes grouped_fp8_bf16"):
        lib.select_grouped("grouped_fp8_bf16", 150, 1, EXPERTS, N, 144)


def test_weights_without_columns_are_refused(lib):
    problem = GroupedProblem("grouped_nvfp4_bf16", 32, 32, 4, 1, 1, EXPERTS, 0, 64, 64, 64)
    with pytest.raises(ShapeError, match="N = 0, K = 64: sizes start at 1"):
        choose_grouped(lib.kernels.values(), problem, lib.arch, 304)


def test_all_rows_to_one_expert(lib):
    given = problems("bf16")
    x = activations_of(70, "bf16")
    y = lib.grouped_gemm(x, stacked(given), np.full(70, 2))
    assert not wrong(lib, y, x, given, np.full(70, 2))


def test_rows_without_an_expert_are_left_alone(lib):
    given = problems("bf16")
    x, expert = activations_of(11, "bf16"), np.array([0, -1, 1, EXPERTS, 3, 1 << 20, 0, -7, 1, 2, 3])
    none = (expert < 0) | (expert >= EXPERTS)
    y = lib.grouped_gemm(x, stacked(given), expert)
    assert not wrong(lib, y, x, given, expert)
    assert not y[none].any()
    out = np.full((11, N), 7, x.dtype)
    assert lib.grouped_gemm(x, stacked(given), expert, out=out) is out
    assert (out[none] == 7).all()
    assert np.array_equal(out[~none].view(np.uint16), y[~none].view(np.uint16))


def test_no_rows(lib):
    y = lib.grouped_gemm(activations_of(1, "bf16")[:0], stacked(problems("bf16")), np.zeros(0, np.int32))
    assert y.shape == (0, N)


def test_a_layer_of_experts(lib):
    """Gate and up with SwiGLU, then down with routing weights: both GEMMs of a layer, as an engine calls them."""
    tokens, topk, hidden, inner = 13, 2, 64, 48
    rng = np.random.default_rng(3)
    gates, ups = ([ordinary(10 * s + e, inner, hidden) for e in range(EXPERTS)] for s in (1, 2))
    downs = [ordinary(30 + e, hidden, inner) for e in range(EXPERTS)]
    x, chosen = moderate(rng, (tokens, hidden)), np.stack([rng.permutation(EXPERTS)[:topk] for _ in range(tokens)])
    weights = rng.uniform(0.1, 1, (tokens, topk)).astype(np.float32)
    first = runtime.stack([runtime.pack_gate_up("nvfp4", g, u) for g, u in zip(gates, ups, strict=True)])
    second = runtime.stack([runtime.pack("nvfp4", *one) for one in downs])
    middle = lib.grouped_gemm(x, first, sort_by_expert(chosen, EXPERTS), activation="swiglu")
    assert middle.shape == (tokens * topk, inner)
    y = lib.grouped_gemm(middle, second, sort_by_expert(chosen, EXPERTS, weights=weights))
    assert y.shape == (tokens * topk, hidden)
    exact = np.zeros((tokens, topk, hidden))
    for token in range(tokens):
        for slot, expert in enumerate(chosen[token]):
            row = x[token].astype(np.float64)
            gate, up = dense(gates[expert]) @ row, dense(ups[expert]) @ row
            exact[token, slot] = dense(downs[expert]) @ (gate / (1 + np.exp(-gate)) * up) * weights[token, slot]
    difference = np.abs(y.reshape(exact.shape).astype(np.float64) - exact)
    assert difference.max() < 0.02 * np.abs(exact).max()  # bf16 between the two, and at the end


class OnDevice:
    """What a torch tensor on a device is to the library."""

    requires_grad = False

    def __init__(self, lib: Any, values: np.ndarray, dtype: str) -> None:
        self.lib, self.shape, self.dtype = lib, values.shape, f"torch.{dtype}"
        self.bytes = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.memory = Allocation(lib.hip, max(self.bytes.size, 4), lib.device)
        self.memory.write(self.bytes)

    def get_device(self) -> int:
        return self.lib.device

    def data_ptr(self) -> int:
        return self.memory.address

    def stride(self) -> tuple[int, ...]:
        return (self.shape[-1], 1) if len(self.shape) == 2 else (1,)

    def is_contiguous(self) -> bool:
        return True

    def new_zeros(self, shape: tuple[int, int]) -> OnDevice:
        return OnDevice(self.lib, np.zeros(shape, np.uint16), self.dtype.removeprefix("torch."))

    def numpy(self, dtype: np.dtype) -> np.ndarray:
        self.lib.synchronize()
        into = np.zeros_like(self.bytes)
        self.memory.read(into)
        return into.view(dtype).reshape(self.shape)


def test_what_a_router_has_sorted(lib):
    """The arrays of AITER's moe_sorting, on the device: padding is the number of tokens in slot topk; more rows than count."""
    rng = np.random.default_rng(11)
    tensors = [ordinary(e, 40, 64) for e in range(EXPERTS)]
    packed = runtime.stack([runtime.pack("nvfp4", *one) for one in tensors])
    pad = 2 << TOKEN_BITS | 3
    ids = np.full(4 * 32, pad, np.int32)
    ids[:2], ids[32], ids[64:67] = [0, 1 << TOKEN_BITS | 2], 1, [1 << TOKEN_BITS | 0, 1 << TOKEN_BITS | 1, 2]
    ids[96:] = 0  # whatever is there
    weights = np.where(ids == pad, np.nan, np.arange(len(ids)) % 3 + 0.5).astype(np.float32)
    arrays = {"ids": ids, "experts": np.array([3, 0, 1, 2], np.int32), "valid": np.array([96, 3], np.int32)}
    on_device = {name: OnDevice(lib, array, "int32") for name, array in arrays.items()}
    sorting = runtime.Sorting(**on_device, weights=OnDevice(lib, weights, "float32"), tokens=3, topk=2)
    expert = np.array([3, 1, 0, 1, 1, 3])  # of (token, slot): (0, 0), (0, 1), (1, 0) ...
    weight = np.array([weights[i] for i in (0, 64, 32, 65, 66, 1)])
    for rows in (3, 6):
        x = moderate(rng, (rows, 64))
        y = lib.grouped_gemm(OnDevice(lib, x, "bfloat16"), packed, sorting, stream=0)
        a = (x if rows == 6 else np.repeat(x, 2, axis=0)).astype(np.float64)
        exact = np.stack([dense(tensors[e]) @ row for e, row in zip(expert, a, strict=True)]) * weight[:, None]
        assert np.abs(y.numpy(x.dtype).astype(np.float64) - exact).max() < 0.01 * np.abs(exact).max()


def test_tensors_of_a_wrong_kind_are_refused(lib):
    given, x = stacked(problems("bf16")), OnDevice(lib, activations_of(6, "bf16"), "bfloat16")
    sorted_ = sort_by_expert(np.arange(6) % EXPERTS, EXPERTS)
    arrays = {name: OnDevice(lib, getattr(sorted_, name), "int32") for name in ("ids", "experts", "valid")}
    good = runtime.Sorting(**arrays, weights=None, tokens=6, topk=1, block=sorted_.block)
    with pytest.raises(OperandError, match=r"ids is torch\.int64 on device"):
        lib.grouped_gemm(x, given, replace(good, ids=OnDevice(lib, sorted_.ids, "int64")), stream=0)
    with pytest.raises(OperandError, match=r"out has shape \[5, 72\]: \[6, 72\] is needed"):
        lib.grouped_gemm(x, given, good, out=x.new_zeros((5, N)), stream=0)
    out = x.new_zeros((6, N))
    out.memory = x.memory
    with pytest.raises(OperandError, match=r"x at 0x[0-9a-f]+ overlap out"):
        lib.grouped_gemm(x, given, good, out=out, stream=0)
    with pytest.raises(OperandError, match=r"weights is torch\.int32 on device"):
        lib.grouped_gemm(x, given, replace(good, weights=arrays["ids"]), stream=0)
    with pytest.raises(OperandError, match=r"ids of the sorting has shape \[2, "):
        lib.grouped_gemm(x, given, replace(good, ids=OnDevice(lib, sorted_.ids.reshape(2, -1), "int32")), stream=0)
    with pytest.raises(OperandError, match="ids is a ndarray: a tensor on device"):
        lib.grouped_gemm(x, given, sorted_, stream=0)
    for name in ("bias", "out"):
        with pytest.raises(OperandError, match=f"{name} is a ndarray, x a OnDevice"):
            lib.grouped_gemm(x, given, good, stream=0, **{name: activations_of(6, "bf16")})
    with pytest.raises(OperandError, match=r"bias has shape \[1, 72\]: \[experts, N\] = \[4, 72\]"):
        lib.grouped_gemm(x, given, good, x.new_zeros((1, N)), stream=0)


def test_bias_and_residual(lib):
    rng = np.random.default_rng(5)
    tensors = [ordinary(e, 40, 64) for e in range(EXPERTS)]
    x, bias, residual = moderate(rng, (19, 64)), moderate(rng, (EXPERTS, 40)), moderate(rng, (19, 40))
    expert = rng.integers(0, EXPERTS, 19)
    packed = runtime.stack([runtime.pack("nvfp4", *one) for one in tensors])
    y = lib.grouped_gemm(x, packed, expert, bias, residual=residual)
    exact = np.stack([dense(tensors[e]) @ row for e, row in zip(expert, x.astype(np.float64), strict=True)])
    exact += bias.astype(np.float64)[expert] + residual.astype(np.float64)
    assert np.abs(y.astype(np.float64) - exact).max() < 0.01 * np.abs(exact).max()


def test_few_rows_of_much_k_are_shared_by_slices(lib):
    given = problems("bf16", 72, 8192, 2)
    x, expert = activations_of(3, "bf16", 8192), np.array([1, 0, 1])
    first = lib.grouped_gemm(x, stacked(given), expert)
    assert not wrong(lib, first, x, given, expert)
    again = lib.grouped_gemm(x, stacked(given), expert)
    assert np.array_equal(first.view(np.uint16), again.view(np.uint16))


def test_a_stack_is_uploaded_once_and_freed_with_it(lib, alive):
    gc.collect()
    before = alive("allocations")
    given = stacked(problems("bf16"))
    x, expert = activations_of(4, "bf16"), np.arange(4)
    lib.grouped_gemm(x, given, expert)
    kept = alive("allocations")
    lib.grouped_gemm(x, given, expert)
    assert alive("allocations") == kept > before
    del given
    gc.collect()
    assert alive("allocations") < kept


def test_what_is_refused(lib):
    given = stacked(problems("bf16"))
    x = activations_of(6, "bf16")
    sorting = sort_by_expert(np.arange(6) % EXPERTS, EXPERTS)
    with pytest.raises(OperandError, match=r"x is \[5, 144\]: \[6, 144\] for tokens"):
        lib.grouped_gemm(x[:5], given, sorting)
    with pytest.raises(OperandError, match=r"w is a PackedWeight: runtime\.stack makes"):
        lib.grouped_gemm(x, given.experts[0], sorting)
    with pytest.raises(OperandError, match=r"bias is \[72\] bf16: \[4, 72\] bf16 is needed"):
        lib.grouped_gemm(x, given, sorting, x[0, :N])
    with pytest.raises(OperandError, match=r"x is a DeviceArray: grouped_gemm takes torch tensors"):
        lib.grouped_gemm(lib.array(x), given, sorting)
    with pytest.raises(OperandError, match=r"rows is a list"):
        lib.grouped_gemm(x, given, [0, 1])
    odd = runtime.Sorting(sorting.ids, sorting.experts, sorting.valid, None, 6, 1, block=40)
    with pytest.raises(ShapeError, match="do not divide blocks of 40"):
        lib.grouped_gemm(x, given, odd)
    short = runtime.Sorting(sorting.ids, sorting.experts[:1], sorting.valid, None, 6, 1, sorting.block)
    with pytest.raises(OperandError, match=r"experts of the sorting has shape \[1\]: \[4\] at least"):
        lib.grouped_gemm(x, given, short)


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_numbers_of_more_than_32_bits_are_no_rows(lib, kind):
    """2^32 + e is not expert e, nor an id with 2^32 too many that id, nor a count below zero all rows."""
    given, x, expert = problems("bf16"), activations_of(6, "bf16"), np.arange(6) % 2
    good = sort_by_expert(expert, EXPERTS)
    wide = {name: getattr(good, name).view(np.uint32).astype(kind) for name in ("ids", "experts", "valid")}
    every = lib.grouped_gemm(x, stacked(given), replace(good, **wide))
    assert not wrong(lib, every, x, given, expert)
    far = replace(good, **wide | {"experts": wide["experts"] + kind(1 << 32)})
    assert not lib.grouped_gemm(x, stacked(given), far).any()
    far = replace(good, **wide | {"ids": wide["ids"] + kind(1 << 32)})
    assert not lib.grouped_gemm(x, stacked(given), far).any()
    none = replace(good, valid=np.array([-32]))
    assert not lib.grouped_gemm(x, stacked(given), none).any()


def test_a_bias_is_rounded_to_the_type_of_x(lib):
    given, x, expert = stacked(problems("bf16")), activations_of(6, "bf16"), np.arange(6) % EXPERTS
    bias = np.random.default_rng(2).standard_normal((EXPERTS, N))
    y = lib.grouped_gemm(x, given, expert, bias)
    assert np.array_equal(y.view(np.uint16), lib.grouped_gemm(x, given, expert, bias.astype(np.float32).astype(x.dtype)).view(np.uint16))


def test_operands_of_another_type_are_refused_by_name(lib):
    given, x, expert = stacked(problems("bf16")), activations_of(6, "bf16"), np.arange(6) % EXPERTS
    good = sort_by_expert(expert, EXPERTS)
    wide = np.zeros((6, N), np.float32)
    for message, operands in {
        "residual is float32: bf16, the type of x": {"residual": wide},
        "out is float32: bf16, the type of x": {"out": wide},
        "bias is complex128: real numbers": {"bias": np.zeros((EXPERTS, N), complex)},
        "residual is a list, x a ndarray": {"residual": [1.0]},
        "x is a list: grouped_gemm takes": {"x": x.tolist()},
        "x is a NoneType": {"x": None},
        "x is float32, w nvfp4: grouped_gemm takes bfloat16 and float16 by nvfp4, mxfp4, amdfp4": {"x": x.astype(np.float32)},
        "weights of the sorting is ndarray int32: float32": {"rows": replace(good, weights=np.ones(len(good.ids), np.int32))},
        "ids of the sorting is ndarray float64: integers": {"rows": replace(good, ids=good.ids.astype(float))},
        r"ids of the sorting has shape \[4, 32\]: \[rows\]": {"rows": replace(good, ids=good.ids.reshape(4, 32))},
        r"ids of the sorting has shape \[\]": {"rows": replace(good, ids=good.ids[0])},
        "ids of the sorting is a list": {"rows": replace(good, ids=[0])},
        "tokens is 6.0, a float": {"rows": replace(good, tokens=6.0)},
        "topk -1": {"rows": replace(good, topk=-1)},
        "1099511627776 tokens": {"rows": replace(good, tokens=1 << 40)},
        "rows are sorted for 2 experts, w has 4": {"rows": sort_by_expert(expert % 2, 2)},
    }.items():
        with pytest.raises(OperandError, match=message):
            lib.grouped_gemm(**{"x": x, "w": given, "rows": good} | operands)


def test_weights_that_require_a_gradient_are_refused(lib):
    torch = pytest.importorskip("torch")
    given, x = stacked(problems("bf16")), activations_of(6, "bf16")
    indices, weights = torch.arange(6) % EXPERTS, torch.ones(6, requires_grad=True)
    with pytest.raises(OperandError, match="weights requires a gradient"):
        lib.grouped_gemm(x, given, sort_by_expert(indices, EXPERTS, weights=weights))
    with torch.no_grad():
        plain = lib.grouped_gemm(x, given, sort_by_expert(indices, EXPERTS))
        good = sort_by_expert(indices, EXPERTS)
        y = lib.grouped_gemm(x, given, replace(good, weights=torch.ones(len(good.ids), requires_grad=True)))
    assert np.array_equal(y.view(np.uint16), plain.view(np.uint16))
    with pytest.raises(OperandError, match=r"weights of the sorting is Tensor torch\.bfloat16 on cpu: float32"):
        lib.grouped_gemm(x, given, replace(good, weights=torch.ones(len(good.ids)).bfloat16()))
    with pytest.raises(OperandError, match=r"ids of the sorting is Tensor torch\.int32 on meta"):
        lib.grouped_gemm(x, given, indices.to("meta"))


def test_a_stack_is_of_alike_weights():
    one, other = (runtime.pack("nvfp4", *ordinary(0, 16, k)) for k in (64, 80))
    with pytest.raises(PackError, match=r"expert 1 is nvfp4 \[16, 80\], the first nvfp4 \[16, 64\]"):
        runtime.stack([one, other])
    with pytest.raises(PackError, match="one expert at least"):
        runtime.stack([])
    with pytest.raises(PackError, match="experts is a PackedWeight: a list"):
        runtime.stack(one)
    with pytest.raises(PackError, match="expert 0 is a int"):
        runtime.stack([3])
    fp8 = runtime.pack("fp8", np.zeros((16, 64), np.uint8), np.float32(1))
    with pytest.raises(PackError, match="takes weights of nvfp4, mxfp4, amdfp4, these are 'fp8'"):
        runtime.stack([fp8, fp8])
    assert runtime.stack(weight for weight in (one, one)).experts == (one, one)


def test_a_stack_is_uploaded_as_a_weight_is(lib):
    given, x, expert = problems("fp16"), activations_of(6, "fp16"), np.arange(6) % EXPERTS
    packed = stacked(given)
    on_device = packed.to(lib, activations="fp16")
    assert on_device is lib.upload_stack(packed, activations="fp16")
    assert not wrong(lib, lib.grouped_gemm(x, on_device, expert), x, given, expert)
    with pytest.raises(OperandError, match=r"packed is a int: runtime\.stack makes"):
        lib.upload_stack(3)
    with pytest.raises(OperandError, match="library is a int"):
        packed.to(3)


def test_stacks_of_tensors_of_a_wrong_type_are_refused():
    torch = pytest.importorskip("torch")
    one = runtime.pack("nvfp4", *ordinary(0, 40, 64))
    codes, scales, outer = (torch.from_numpy(np.stack([part] * 2)) for part in (one.codes, one.scales, one.outer))
    assert stack_from_tensors("nvfp4", 64, codes, scales, outer).experts == 2
    with pytest.raises(OperandError, match=r"codes is .* int8: uint8"):
        stack_from_tensors("nvfp4", 64, codes.view(torch.int8), scales, outer)
    with pytest.raises(OperandError, match=r"scales is .* float16: uint8"):
        stack_from_tensors("nvfp4", 64, codes, scales.view(torch.float16), outer)
    with pytest.raises(OperandError, match=r"outer is \[2, 40\] int32: float32"):
        stack_from_tensors("nvfp4", 64, codes, scales, outer.view(torch.int32))
    with pytest.raises(OperandError, match=r"outer is \[40\] float32: float32 \[experts, N\]"):
        stack_from_tensors("nvfp4", 64, codes, scales, outer[0])
    with pytest.raises(OperandError, match="outer is a NoneType"):
        stack_from_tensors("nvfp4", 64, codes, scales, None)


# ---- sorting ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize(("tokens", "topk", "experts", "block"), [(1, 1, 1, 32), (57, 2, 5, 32), (9, 3, 40, 64), (300, 1, 3, 128)])
def test_sorting_is_what_its_definition_says(kind, tokens, topk, experts, block):
    rng = np.random.default_rng(tokens)
    indices = rng.integers(-1, experts + 1, (tokens, topk))
    weights = rng.uniform(0, 1, (tokens, topk)).astype(np.float32)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        found = sort_by_expert(torch.from_numpy(indices), experts, block, torch.from_numpy(weights))
        assert {one.dtype for one in (found.ids, found.experts, found.valid)} == {torch.int32}
    else:
        found = sort_by_expert(indices, experts, block, weights)
        assert {one.dtype for one in (found.ids, found.experts, found.valid)} == {np.dtype(np.int32)}
    ids, blocks = np.asarray(found.ids).view(np.uint32), np.asarray(found.experts)
    valid = int(found.valid[0])
    assert valid % block == 0
    assert len(ids) == len(blocks) * block >= valid
    met = []
    for row, id_ in enumerate(ids):
        token, slot = int(id_) & (1 << TOKEN_BITS) - 1, int(id_) >> TOKEN_BITS
        if row >= valid or slot == topk:
            assert (token, slot) == (tokens, topk)  # padding, which no token has
            continue
        assert indices[token, slot] == blocks[row // block]
        assert found.weights[row] == weights[token, slot]
        met.append((token, slot))
    wanted = [(t, s) for t in range(tokens) for s in range(topk) if 0 <= indices[t, s] < experts]
    assert sorted(met) == wanted
    used = np.unique(blocks[: valid // block], return_counts=True)
    counts = np.bincount(indices[(indices >= 0) & (indices < experts)], minlength=experts)
    assert dict(zip(*used, strict=True)) == {e: -(-c // block) for e, c in enumerate(counts) if c}


def test_there_is_room_for_whatever_goes_where():
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, experts, block = int(rng.integers(1, 200)), int(rng.integers(1, 20)), int(rng.choice([32, 64, 128]))
        counts = np.bincount(rng.integers(0, rng.integers(1, experts + 1), rows), minlength=experts)
        assert (-(-counts // block)).sum() <= most_blocks(rows, experts, block)


def test_indices_of_a_wrong_shape_are_refused():
    with pytest.raises(OperandError, match=r"expert_indices has shape \[2, 3, 4\]"):
        sort_by_expert(np.zeros((2, 3, 4), int), 2)
    with pytest.raises(OperandError, match="both have to be alike"):
        sort_by_expert(np.zeros(4, int), 2, weights=np.zeros((4, 1), np.float32))


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1], "expert_indices is a list"),
        (None, "expert_indices is a NoneType"),
        (np.array([0.0, 1.0]), "dtype float64: integers"),
        (np.array([np.nan, 1.0], np.float32), "dtype float32: integers .are topk_ids and topk_weights swapped"),
        (np.array([True, False]), "dtype bool: integers"),
        (np.array([1j, 0]), "dtype complex128: integers"),
        (np.array(["0", "1"]), "dtype <U1: integers"),
    ],
)
def test_indices_of_a_wrong_kind_are_refused(indices, message):
    with pytest.raises(OperandError, match=message):
        sort_by_expert(indices, 2)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bool", "complex64"])
def test_tensors_of_indices_of_a_wrong_kind_are_refused(kind):
    torch = pytest.importorskip("torch")
    with pytest.raises(OperandError, match=rf"dtype torch\.{kind}: integers"):
        sort_by_expert(torch.ones(2).to(getattr(torch, kind)), 2)


@pytest.mark.parametrize("number", [0, -32, True, 32.0, "32", 1 << 40])
def test_numbers_of_experts_and_blocks_that_there_are_not(number):
    indices = np.zeros(4, np.int32)
    with pytest.raises(OperandError, match=r"block"):
        sort_by_expert(indices, 2, number)
    with pytest.raises(OperandError, match=r"experts"):
        sort_by_expert(indices, number)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_routing_weights_become_float32(kind):
    torch = pytest.importorskip("torch")
    indices, weights = np.array([1, 0, 1]), [0.5, 1.5, 2.0]
    tensors = sort_by_expert(torch.from_numpy(indices), 2, weights=torch.tensor(weights, dtype=getattr(torch, kind)))
    dtype = moderate(np.random.default_rng(0), (1,)).dtype if kind == "bfloat16" else np.dtype(kind)
    arrays = sort_by_expert(indices, 2, weights=np.array(weights, dtype))
    assert (tensors.weights.dtype, arrays.weights.dtype) == (torch.float32, np.float32)
    for found in (tensors.weights.numpy(), arrays.weights):
        assert [found[0], found[32], found[33]] == [1.5, 0.5, 2.0]


def test_routing_weights_of_a_wrong_kind_are_refused():
    torch = pytest.importorskip("torch")
    indices = np.zeros(4, np.int32)
    for weights in (np.ones(4, np.int32), np.ones(4, complex), np.ones(4, bool)):
        with pytest.raises(OperandError, match=f"weights has dtype {weights.dtype}: float16, bfloat16, float32 or float64 is"):
            sort_by_expert(indices, 2, weights=weights)
    with pytest.raises(OperandError, match="weights is a list"):
        sort_by_expert(indices, 2, weights=[1.0] * 4)
    with pytest.raises(OperandError, match="weights are a Tensor, expert_indices a ndarray"):
        sort_by_expert(indices, 2, weights=torch.ones(4))


def test_nothing_is_granted_that_was_not_asked_for():
    """The comparison that these tests rely on notices one wrong element."""
    y = np.ones((2, 2), np.float16)
    reference = Reference(np.array([[1.0, 1.0], [1.0, 1.01]]), np.ones((2, 2)), np.zeros((2, 2)))

    class Exact:
        unit, accumulate = 2.0**-11, 2.0**-20

    assert compare(y, reference, Exact(), "fp16") is not None
