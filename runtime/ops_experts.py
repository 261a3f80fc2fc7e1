"""torch operator of a grouped GEMM: petitgen::grouped_gemm, and what a layer of experts calls.

    codes, scales, outer = runtime.ops_experts.tensors(stack, "cuda", torch.bfloat16)      # [experts, ...] each
    y = runtime.ops_experts.grouped_gemm(x, codes, scales, outer, expert_indices, format=stack.format)  # [M] or [tokens, topk]
    y = torch.ops.petitgen.grouped_gemm(x, codes, scales, outer, ids, experts, valid, weights, tokens, topk, block, format=stack.format)

Give the format: without it the tensors are read as NVFP4, and those of AMD-FP4 have the same sizes.
Tensors of weights are treated as those of petitgen::gemm (runtime/ops.py). Inference only. Packed tensors have the size of
whole bricks: K is that of x, and one that ends in the same brick as the stack's is not noticed.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime import ops
from runtime.epilogue import check_columns, options_of
from runtime.errors import OperandError
from runtime.formats import BRICK_N, FORMATS, HOST_ORDER
from runtime.library import Library
from runtime.memory import dtype_name
from runtime.orders import order_of, reorder, rescale
from runtime.packing import PackedWeight
from runtime.sorting import MOST_SLOTS, MOST_TOKENS, Sorting, sort_by_expert
from runtime.stacks import GROUPED, DeviceStack, PackedStack, not_grouped, stack, stack_from_tensors, upload_stack
from runtime.weights import part_bytes

_SCHEMA = (
    "grouped_gemm(Tensor x, Tensor codes, Tensor scales, Tensor outer, Tensor ids, Tensor experts, Tensor valid,"
    " Tensor? weights, SymInt tokens, int topk, int block, Tensor? bias=None, str format='nvfp4', *,"
    " Tensor? residual=None, str? activation=None) -> Tensor"
)
_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.int16, torch.uint16, torch.uint8, torch.int8, torch.uint64)
_MOST_STACKS = 1024  # entries without memory of their own

_library = torch.library.Library("petitgen", "FRAGMENT")
_library.define(_SCHEMA)
_lock = threading.Lock()
_on_device: dict[Any, DeviceStack] = {}


def tensors(
    packed: PackedStack, device: Any = "cpu", activations: Any = torch.bfloat16
) -> tuple[Tensor, Tensor, Tensor]:
    """codes and scales (uint8) and outer (float32 [experts, N]) of a stack, as runtime.ops.tensors has them of a weight."""
    each = [ops.tensors(one, device, activations) for one in packed.experts]
    codes, scales, outer = (torch.stack(list(parts)) for parts in zip(*each, strict=True))
    return codes, scales, outer


def grouped_gemm(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    expert_indices: Tensor,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
    block: int | None = None,
) -> Tensor:
    """Sort rows by their expert and multiply: Library.grouped_gemm of tensors, with `weights` of the shape of expert_indices.
    It is traced as a whole. block: that of sort_by_expert; give one where the number of tokens is to stay dynamic."""
    s = sort_by_expert(expert_indices, outer.shape[0], block, weights)
    return torch.ops.petitgen.grouped_gemm(
        x, codes, scales, outer, s.ids, s.experts, s.valid, s.weights, s.tokens, s.topk, s.block, bias, format,
        residual=residual, activation=activation,
    )  # fmt: skip


def _run(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    ids: Tensor,
    experts: Tensor,
    valid: Tensor,
    weights: Tensor | None,
    tokens: int,
    topk: int,
    block: int,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    library, parts = ops.library_of(x.get_device()), (x, codes, scales, outer, format)
    w = _describe(*parts) if x.get_device() >= 0 else ops.copy_of(library, *parts, _upload)
    sorting = Sorting(ids, experts, valid, weights, tokens, topk, block)
    return library.grouped_gemm(x, w, sorting, bias, residual=residual, activation=activation)


def _describe(x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> DeviceStack:
    """A stack where it is, without holding its tensors."""
    key: tuple[Any, ...] = x.shape[-1], x.get_device(), format, outer.dtype, outer.shape, codes.shape
    key += tuple(ops.extent_of(tensor) for tensor in (codes, scales, outer))
    with _lock:
        known = _on_device.get(key)
        if known is None:
            _check_outer(outer)
            known = stack_from_tensors(format, x.shape[-1], codes, scales, outer)
            known.owner = None
            if len(_on_device) >= _MOST_STACKS:
                _on_device.clear()
            _on_device[key] = known
        return known


def _upload(library: Library, x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> DeviceStack:
    """A copy of a stack on the CPU, expert by expert."""
    _check_sizes(x, codes, scales, outer, format)
    order, n, k = order_of(tuple(codes.shape)[1:]), outer.shape[1], x.shape[-1]
    parts = zip(*(part.detach().contiguous() for part in (codes.view(torch.uint8), scales.view(torch.uint8), outer)), strict=True)
    packed = [
        PackedWeight(
            format,
            n,
            k,
            reorder(one.numpy(), HOST_ORDER, order),
            rescale(scale.reshape(-1).numpy(), format, HOST_ORDER, order),
            np.ascontiguousarray(column.numpy()),
            column.numpy(),
        )
        for one, scale, column in parts
    ]
    return upload_stack(library.hip, stack(packed), library.device, library.order(format, x.dtype))


def _check_outer(outer: Tensor) -> None:
    if outer.dim() != 2 or outer.dtype != torch.float32:
        raise OperandError(f"outer is {list(outer.shape)} {outer.dtype}: float32 [experts, N] is needed")


def _check_sizes(x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> None:
    _check_outer(outer)
    if x.dim() != 2:
        raise OperandError(f"x has shape {list(x.shape)}: [M, K] is needed")
    if format not in GROUPED:
        raise OperandError(not_grouped(format))
    block = FORMATS[format].block or BRICK_N
    if x.shape[1] % block:
        raise OperandError(f"K has to be a multiple of {block}, it is {x.shape[1]}")
    for name, tensor in {"codes": codes, "scales": scales, "outer": outer}.items():
        if tensor.device != x.device:  # a tensor of meta would make the result one that nothing has written
            raise OperandError(f"{name} is on {tensor.device}, x on {x.device}: both have to be on one device")
    experts, n = outer.shape
    for name, tensor, size in zip(("codes", "scales"), (codes, scales), part_bytes(format, n, x.shape[1])[:2], strict=True):
        there = tensor.numel() * tensor.element_size()
        if tensor.dim() < 1 or tensor.shape[0] != experts or there != experts * size:
            raise OperandError(f"{name} is {list(tensor.shape)}, {there} bytes: {experts} packed {format} weights"
                               f" [{n}, {x.shape[1]}] have {experts * size}")  # fmt: skip


def _fake(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    ids: Tensor,
    experts: Tensor,
    valid: Tensor,
    weights: Tensor | None,
    tokens: Any,
    topk: int,
    block: int,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Refuses while tracing what the operator refuses, as far as no memory has to be looked at."""
    dtype_name(x.dtype)
    _check_sizes(x, codes, scales, outer, format)
    order_of(tuple(codes.shape)[1:])
    _check_sorted(x, ids, experts, valid, weights, tokens, topk, block)
    options = options_of(bias, residual, activation)
    check_columns(outer.shape[1], options)
    shape = tokens * topk, options.columns(outer.shape[1])
    if bias is not None:
        _check_like("bias", bias, x, tuple(outer.shape), rounded=x.device.type == "cpu")
    if residual is not None:
        _check_like("residual", residual, x, shape)
    return x.new_empty(shape)


def _check_sorted(
    x: Tensor, ids: Tensor, experts: Tensor, valid: Tensor, weights: Tensor | None, tokens: Any, topk: int, block: int
) -> None:
    """What grouped_gemm says of a sorting. On the CPU integers may be of any type."""
    if not 1 <= topk <= MOST_SLOTS or block < 1 or not 0 <= tokens < MOST_TOKENS:
        raise OperandError(f"{tokens} tokens, topk {topk}, blocks of {block}: fewer than {MOST_TOKENS} tokens, a topk from 1 to"
                           f" {MOST_SLOTS} and a block from 1 are needed")  # fmt: skip
    if x.shape[0] != tokens and x.shape[0] != tokens * topk:
        raise OperandError(f"x has {x.shape[0]} rows: {tokens} for tokens, or {tokens * topk} for each of their experts are needed")
    integers = _INTEGERS if x.device.type == "cpu" else _INTEGERS[:1]
    parts = {"ids": (ids, integers), "experts": (experts, integers), "valid": (valid, integers)}
    parts |= {} if weights is None else {"weights": (weights, (torch.float32,))}
    for name, (tensor, dtypes) in parts.items():
        if tensor.dim() != 1 or tensor.dtype not in dtypes or tensor.device != x.device:
            raise OperandError(f"{name} of the sorting is {list(tensor.shape)} {tensor.dtype} on {tensor.device}: one dimension"
                               f" of {dtypes[0]} on {x.device} is needed")  # fmt: skip
    rows = ids.shape[0]
    if experts.shape[0] * block < rows or (weights is not None and weights.shape[0] < rows):
        raise OperandError(f"{rows} sorted rows in blocks of {block}, {experts.shape[0]} experts of blocks: one for each block, and"
                           " a routing weight for each row are needed")  # fmt: skip


def _check_like(name: str, tensor: Tensor, x: Tensor, shape: tuple[Any, ...], rounded: bool = False) -> None:
    """rounded: the dtype may be another real one than that of x."""
    right = tensor.dtype == x.dtype or (rounded and not tensor.dtype.is_complex)
    if tensor.dim() != 2 or tuple(tensor.shape) != shape or not right or tensor.device != x.device:
        raise OperandError(f"{name} is {list(tensor.shape)} {tensor.dtype} on {tensor.device}: {list(shape)} {x.dtype} on"
                           f" {x.device} is needed")  # fmt: skip


for _key in ("CPU", "CUDA"):  # ROCm's torch calls its devices cuda
    _library.impl("grouped_gemm", _run, _key)
torch.library.register_fake("petitgen::grouped_gemm", _fake, lib=_library)
