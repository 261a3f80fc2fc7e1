"""quantize and dequantize by kernels of a library: the same bits as runtime.quantize, in one pass over memory.

Tensors on one of the library's devices are used where they are, in the order of torch's current stream. CPU tensors are
copied to the library's device and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from runtime import tokens
from runtime.conversions import EIGHT, PLAIN, Conversion
from runtime.convert import Device, Quantizer, view_of
from runtime.errors import OperandError
from runtime.launch import refuse_gradient, stream_handle
from runtime.library import Library
from runtime.memory import Allocation, dtype_name
from runtime.quantize.blocks import Blocks
from runtime.quantize.tensors import (
    Quantized,
    checked,
    complete,
    format_of,
    given_outer,
    halved,
    numbers_of,
    rounding_of,
)
from runtime.tokens import Matrix

ALIGNMENT = 16  # bytes, of what kernels load at once


def quantize(
    lib: Library,
    format: str,
    x: Tensor,
    *,
    axis: int = -1,
    block_2d: bool = False,
    outer_scale: float | Tensor | None = None,
    rounding: str = "nearest",
    seed: int | None = None,
    offset: int = 0,
) -> Quantized:
    """As runtime.quantize.quantize, of bfloat16 or float16. OperandError, ShapeError, HipError."""
    fmt = format_of(format)
    axis = checked(x, axis, block_2d)
    name = _kind(x.dtype, "x")
    _refuse_gradients(x)
    options = Conversion.STOCHASTIC if rounding_of(rounding, seed) else PLAIN
    drawn = numbers_of(seed, offset) if options else (0, 0)
    if outer_scale is not None and not fmt.outer_scale:
        raise OperandError(f"outer_scale is given, but {fmt.name} has no scale beside those of the blocks: leave it out")
    view = view_of(fmt.name, tuple(x.shape), axis, block_2d, options)
    with _Work(lib, x) as work:
        quantizer = Quantizer(work.on, fmt.name, name)
        source = work.read(x)
        codes = work.write(halved(tuple(x.shape), axis), torch.uint8)
        scales = work.write(Blocks(fmt.block, block_2d).scales_shape(tuple(x.shape), axis), torch.uint8)
        outer = used = 0
        made = None
        if fmt.outer_scale and outer_scale is None:
            outer, made = work.room(4), work.write((), torch.float32)
            used = made.address
            quantizer.largest(source, x.numel(), outer)
            view = view_of(fmt.name, tuple(x.shape), axis, block_2d, options | Conversion.AMAX)
        elif fmt.outer_scale:
            given = given_outer(outer_scale, x.device)
            outer = work.read(given)
        quantizer.quantize(view, source, codes.address, scales.address, outer, used, *drawn)
    computed = None if not fmt.outer_scale else made.tensor if made is not None else given
    return Quantized(fmt.name, codes.tensor, scales.tensor, computed, axis, tuple(x.shape), block_2d)


def dequantize(lib: Library, q: Quantized, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """As runtime.quantize.dequantize, to bfloat16 or float16. OperandError, ShapeError, HipError."""
    fmt = complete(q)
    name = _kind(dtype, "dtype")
    view = view_of(fmt.name, tuple(q.shape), q.axis, q.block_2d)
    with _Work(lib, q.codes) as work:
        codes, scales = work.read(q.codes), work.read(q.scales)
        outer = 0 if q.outer is None else work.read(q.outer)
        y = work.write(tuple(q.shape), dtype)
        Quantizer(work.on, fmt.name, name).dequantize(view, codes, scales, y.address, outer)
    return y.tensor


def quantize_rows(
    lib: Library, x: Tensor, *, weight: Tensor | None = None, eps: float = 1e-6, residual: Tensor | None = None
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Rows of x, bfloat16 or float16 [M, K], to E4M3FNUZ codes, uint8 [M, K], and scales, float32 [M].

    weight    [K], of the type of x: RMSNorm first, with eps
    residual  [M, K], of the type of x: added to x before; the sum, rounded to the type of x, is a third result
    docs/quantization.md, "FP8 a token". OperandError, ShapeError, HipError.
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.shape[1]:
        raise OperandError(f"x is {_shown(x)}: a torch tensor [M, K] is needed, K from {EIGHT}")
    name = _kind(x.dtype, "x")
    _refuse_gradients(x, weight, residual)
    for what, tensor, shape in (("weight", weight, x.shape[1:]), ("residual", residual, x.shape)):
        if tensor is not None and not (isinstance(tensor, Tensor) and tensor.shape == shape and tensor.dtype == x.dtype):
            raise OperandError(f"{what} is {_shown(tensor)}: {x.dtype} {list(shape)} is needed")
    rows, columns = x.shape
    with _Work(lib, x) as work:
        source = Matrix(work.read(x), rows, columns, columns)
        codes, scales = work.write((rows, columns), torch.uint8), work.write((rows,), torch.float32)
        beside = None if residual is None else Matrix(work.read(residual), rows, columns, columns)
        total = None if residual is None else work.write((rows, columns), x.dtype)
        at = 0 if weight is None else work.read(weight)
        where = 0 if total is None else total.address
        tokens.quantize_rows(work.on, name, source, codes.address, scales.address, at, eps, beside, where)
    results = codes.tensor, scales.tensor
    return results if total is None else (*results, total.tensor)


def _kind(dtype: object, what: str) -> str:
    if dtype not in (torch.bfloat16, torch.float16):
        raise OperandError(f"{what} is {dtype}: kernels have torch.bfloat16 and torch.float16"
                           "; functions of runtime.quantize have float32, too")  # fmt: skip
    return dtype_name(dtype)


def _refuse_gradients(*tensors: object) -> None:
    if any(isinstance(one, Tensor) and one.requires_grad for one in tensors):
        refuse_gradient()


def _shown(x: object) -> str:
    return f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


@dataclass(slots=True)
class _Result:
    """A tensor that a kernel writes. memory: of a CPU tensor, which it is copied from in the end."""

    tensor: Tensor
    address: int
    memory: Allocation | None


@dataclass(slots=True)
class _Work:
    """Operands on a device: tensors of it are theirs already, those of the CPU are copied, results at the end of `with`."""

    lib: Library
    like: Tensor
    on: Device = field(init=False)
    kept: list[object] = field(default_factory=list)
    results: list[_Result] = field(default_factory=list)

    def __enter__(self) -> _Work:
        index = self.like.get_device()
        if index >= 0 and index not in self.lib.devices:
            raise OperandError(f"x is on device {index}: this library's are {list(self.lib.devices)} ({self.lib.arch})")
        stream = stream_handle(None, self.like) if index >= 0 else 0
        self.on = Device(self.lib, index if index >= 0 else self.lib.device, stream)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        hip = self.lib.hip
        if self.like.get_device() >= 0:
            return
        with hip.on(self.on.device):
            hip.synchronize(self.on.stream, self.lib.recent(self.on.device))
            if kind is None:
                for result in self.results:
                    if result.memory is not None:
                        result.memory.read(_bytes(result.tensor), kernels=self.lib.recent(self.on.device))

    def read(self, tensor: Tensor) -> int:
        """The address of a tensor's elements, contiguous."""
        dense = tensor.detach().contiguous()
        if self.like.get_device() >= 0:
            if dense.get_device() != self.like.get_device():
                raise OperandError(f"a tensor is on {dense.device}, another on {self.like.device}: one device is needed")
            dense = dense.clone() if dense.data_ptr() % ALIGNMENT else dense
            self.kept.append(dense)
            return dense.data_ptr()
        if dense.device.type != "cpu":
            raise OperandError(f"a tensor is on {dense.device}: the CPU or a device of ROCm is needed")
        memory = Allocation(self.lib.hip, max(dense.numel() * dense.element_size(), 1), self.on.device)
        with self.lib.hip.on(self.on.device):
            memory.write(_bytes(dense))
        self.kept.append(memory)
        return memory.address

    def write(self, shape: tuple[int, ...], dtype: torch.dtype) -> _Result:
        """A new tensor, on the device of the others."""
        tensor = torch.empty(shape, dtype=dtype, device=self.like.device)
        if self.like.get_device() >= 0:
            return _Result(tensor, tensor.data_ptr(), None)
        memory = Allocation(self.lib.hip, max(tensor.numel() * tensor.element_size(), 1), self.on.device)
        self.results.append(_Result(tensor, memory.address, memory))
        return self.results[-1]

    def room(self, size: int) -> int:
        """The address of that many bytes for the time of the work."""
        if self.like.get_device() >= 0:
            self.kept.append(tensor := torch.empty(size, dtype=torch.uint8, device=self.like.device))
            return tensor.data_ptr()
        self.kept.append(memory := Allocation(self.lib.hip, size, self.on.device))
        return memory.address


def _bytes(tensor: Tensor) -> np.ndarray:
    """A contiguous CPU tensor's memory."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
