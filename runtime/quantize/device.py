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
from runtime.conversions import PLAIN, Conversion
from runtime.convert import Device, Quantizer, view_of
from runtime.errors import OperandError
from runtime.formats import FORMATS
from runtime.launch import stream_handle
from runtime.library import Library
from runtime.memory import Allocation, dtype_name
from runtime.quantize.tensors import Quantized, checked, format_of, given_outer, numbers_of, rounding_of
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
    name = dtype_name(x.dtype)
    options = Conversion.STOCHASTIC if rounding_of(rounding, seed) else PLAIN
    if options:
        numbers_of(seed, offset)
    if outer_scale is not None and not fmt.outer_scale:
        raise OperandError(f"outer_scale is given, but {fmt.name} has no scale beside those of the blocks: leave it out")
    view = view_of(fmt.name, tuple(x.shape), axis, block_2d, options)
    with _Work(lib, x) as work:
        quantizer = Quantizer(work.on, fmt.name, name)
        source = work.read(x)
        codes = work.write(_shape(x, axis, x.shape[axis] // 2), torch.uint8)
        scales = work.write(_scales_shape(x, axis, block_2d, fmt.block), torch.uint8)
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
        quantizer.quantize(view, source, codes.address, scales.address, outer, used, seed or 0, offset)
    computed = None if not fmt.outer_scale else made.tensor if made is not None else given
    return Quantized(fmt.name, codes.tensor, scales.tensor, computed, axis, tuple(x.shape), block_2d)


def dequantize(lib: Library, q: Quantized, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """As runtime.quantize.dequantize, to bfloat16 or float16. OperandError, ShapeError, HipError."""
    fmt = format_of(q.format)
    name = dtype_name(dtype)
    view = view_of(fmt.name, q.shape, q.axis, q.block_2d)
    _check(q, fmt.block)
    with _Work(lib, q.codes) as work:
        codes, scales = work.read(q.codes), work.read(q.scales)
        outer = 0 if q.outer is None else work.read(q.outer.to(torch.float32))
        y = work.write(q.shape, dtype)
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
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.numel():
        raise OperandError(f"x is {_shown(x)}: a torch tensor [M, K] is needed, and not an empty one")
    name = dtype_name(x.dtype)
    for what, tensor, shape in (("weight", weight, x.shape[1:]), ("residual", residual, x.shape)):
        if tensor is not None and (tuple(tensor.shape) != tuple(shape) or tensor.dtype != x.dtype):
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


def _shown(x: object) -> str:
    return f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _check(q: Quantized, block: int) -> None:
    """A Quantized may be of anybody's making: kernels trust its shapes."""
    like = torch.empty(q.shape, device="meta")
    wanted = {
        "codes": _shape(like, q.axis, q.shape[q.axis] // 2),
        "scales": _scales_shape(like, q.axis, q.block_2d, block),
    }
    for name, shape in wanted.items():
        tensor = getattr(q, name)
        if tuple(tensor.shape) != shape or tensor.dtype != torch.uint8 or tensor.device != q.codes.device:
            raise OperandError(f"{name} are {tensor.dtype} {list(tensor.shape)} on {tensor.device}: uint8 {list(shape)} beside"
                               " the codes is needed")  # fmt: skip
    if (q.outer is None) == FORMATS[q.format].outer_scale or (q.outer is not None and q.outer.numel() != 1):
        raise OperandError(f"outer of {q.format} is {q.outer!r:.60}: one float32 is needed, of MXFP4 none")


def _shape(x: Tensor, axis: int, length: int) -> tuple[int, ...]:
    return (*x.shape[:axis], length, *x.shape[axis + 1 :])


def _scales_shape(x: Tensor, axis: int, block_2d: bool, block: int) -> tuple[int, ...]:
    if block_2d:
        return (*x.shape[:-2], -(-x.shape[-2] // block), -(-x.shape[-1] // block))
    return _shape(x, axis, -(-x.shape[axis] // block))


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
