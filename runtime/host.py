"""GEMM on host arrays: copied to the device, multiplied, copied back. For the virtual GPU, tests and trying things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime import modules
from runtime.epilogue import NONE, Epilogue, check_columns
from runtime.errors import OperandError
from runtime.hip import Hip
from runtime.launch import refuse_gradient, stream_handle
from runtime.memory import (
    ITEM_BYTES,
    ITEM_SIZES,
    Allocation,
    DeviceArray,
    allocate,
    array_dtype,
    dtype_name,
    numpy_dtype,
)
from runtime.packing import PackedWeight
from runtime.weights import DeviceWeight

if TYPE_CHECKING:
    from runtime.library import Library


def gemm(
    lib: Library,
    x: Any,
    w: PackedWeight | DeviceWeight,
    bias: Any,
    out: Any,
    stream: Any,
    residual: Any = None,
    options: Epilogue = NONE,
) -> Any:
    """Library.gemm for numpy arrays and CPU tensors. The result is there when this returns."""
    if any(getattr(array, "requires_grad", False) for array in (x, bias, out, residual)):
        refuse_gradient()
    bits, name = bits_of(x, "x")
    if not isinstance(w, DeviceWeight):
        modules.LOADED.check(lib.hip, lib.device)  # or the copy might be one that a reset has taken
        w = lib.upload_once(w, activations=name)
    if bits.ndim != 2 or bits.shape[1] != w.k:
        raise OperandError(f"x has shape {list(bits.shape)}: [M, {w.k}] is needed")
    check_columns(w.n, options)
    shape = bits.shape[0], options.columns(w.n)
    check_out(x, out, shape, name)
    row = None if bias is None else bias_of(bias, w.n).astype(numpy_dtype(name)).view(np.uint16)
    beside = None if residual is None else _residual_of(residual, shape, name)
    result = _run(lib, bits, name, w, stream, options, row, beside)
    return deliver(result.view(numpy_dtype(name)), x, out)


def to_device(hip: Hip, values: Any, pitch: int | None, device: int) -> DeviceArray:
    """A copy of a matrix on a device; zeros between its rows."""
    bits, name = bits_of(values, "array", array_dtype)
    if bits.ndim != 2:
        raise OperandError(f"array has shape {list(bits.shape)}: two dimensions are needed")
    rows, columns = bits.shape
    array = allocate(hip, (rows, columns), name, pitch, device)
    wide = np.zeros((rows, array.pitch), bits.dtype)
    wide[:, :columns] = bits
    with hip.on(device):
        array.owner.write(wide.reshape(-1)[: array.nbytes // bits.itemsize].view(np.uint8))
    return array


def to_host(hip: Hip, array: DeviceArray, kernels: Sequence[str]) -> NDArray:
    """A copy of a matrix, after everything on its device is done. kernels: who may have caused an error."""
    address, (rows, columns) = array.data_ptr(), array.shape
    wide = np.zeros(rows * array.pitch, numpy_dtype(array.dtype))
    with hip.on(array.device):
        hip.synchronize(None, kernels)
        if array.nbytes:
            hip.copy(wide.ctypes.data, address, array.nbytes, "DeviceToHost", kernels=kernels)
    return np.ascontiguousarray(wide.reshape(rows, array.pitch)[:, :columns])


def bits_of(x: Any, what: str, named: Callable[[Any], str] = dtype_name) -> tuple[NDArray[Any], str]:
    """The values of a numpy array or CPU tensor as unsigned integers, and bf16 or fp16, or what else `named` knows."""
    name = named(getattr(x, "dtype", type(x).__name__))
    unsigned = np.dtype(f"u{ITEM_SIZES[name]}")
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x).view(unsigned), name
    if _is_tensor(x):
        import torch

        check_dense(x, what)
        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[x.element_size()]
        return x.detach().contiguous().view(integers).numpy().view(unsigned), name
    raise OperandError(f"{what} is a {type(x).__name__}: a numpy array, a torch tensor or a DeviceArray is needed")


def _is_tensor(x: Any) -> bool:
    return type(x).__module__.startswith("torch") or hasattr(x, "detach")


def check_dense(x: Any, what: str) -> None:
    """OperandError for a torch tensor that is sparse, or not on the CPU."""
    import torch

    if x.layout is not torch.strided or x.device.type != "cpu":
        raise OperandError(f"{what} is a {x.layout} tensor on {x.device}: a dense one is needed, on the CPU or on a"
                           f" device of ROCm; {what}.to_dense() or .to() makes one")  # fmt: skip


def check_out(x: Any, out: Any, shape: tuple[int, ...], name: str) -> None:
    """OperandError if `out` is no array of the host like x, of this shape and type."""
    if out is None:
        return
    if _is_tensor(out) != _is_tensor(x) or not (_is_tensor(out) or isinstance(out, np.ndarray)):
        raise OperandError(f"out is a {type(out).__name__}, x a {type(x).__name__}: both have to be of one kind")
    if _is_tensor(out) and out.get_device() >= 0:
        raise OperandError(f"out is on device {out.get_device()}, x on the host")
    if _is_tensor(out):
        check_dense(out, "out")
    elif not out.flags.writeable:
        raise OperandError("out is read-only: give an array that can be written")
    if tuple(out.shape) != shape or dtype_name(out.dtype) != name:
        raise OperandError(f"out is {list(out.shape)} {out.dtype}: {list(shape)} {name} is needed")
    if _is_tensor(out) and any(size > 1 and step == 0 for size, step in zip(out.shape, out.stride(), strict=True)):
        raise OperandError(f"out has strides {list(out.stride())}: its elements share memory; use out.contiguous()")


def _run(
    lib: Library,
    bits: NDArray[np.uint16],
    name: str,
    w: DeviceWeight,
    stream: Any,
    options: Epilogue,
    bias: NDArray[np.uint16] | None,
    residual: NDArray[np.uint16] | None,
) -> NDArray[np.uint16]:
    """[M, columns] as uint16. Copies wait for the device when there is no stream, else for the stream."""
    m, columns = bits.shape[0], options.columns(w.n)
    result = np.zeros((m, columns), np.uint16)
    if m == 0:
        return result
    launcher = lib.launcher_for(w, name, m, w.k, columns, options, 0 if residual is None else columns)
    hip = lib.hip
    handle = 0 if stream is None else stream_handle(stream, None)
    if hip.is_capturing(handle):
        raise OperandError("host arrays cannot be part of a graph: copy them with lib.array before the capture")
    operands = [bits, *(one for one in (bias, residual) if one is not None)]
    memory = [Allocation(hip, one.size * ITEM_BYTES, w.device) for one in (*operands, result)]
    a, c = memory[0], memory[-1]
    added = iter(memory[1:])
    with hip.on(w.device):
        try:
            for part, values in zip(memory, operands, strict=False):
                part.write(values.reshape(-1).view(np.uint8), stream=handle)
            launcher.run(a.address, c.address, handle, *(0 if one is None else next(added).address for one in (bias, residual)))
            c.read(result.reshape(-1).view(np.uint8), handle, lib.recent(w.device))
        finally:  # also after an error: copies that were asked for still use the arrays
            hip.synchronize(handle, lib.recent(w.device))
    return result


def bias_of(bias: Any, n: int) -> NDArray[np.float32]:
    """[N] in float32, of real numbers."""
    if _is_tensor(bias):
        if bias.is_complex() or bias.device.type == "meta":
            raise OperandError(f"bias is {bias.dtype} on {bias.device}: real numbers are needed")
        bias = bias.detach().to_dense().float().cpu().numpy()
    values = np.asarray(bias)
    if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":  # ml_dtypes' is of kind V
        raise OperandError(f"bias is {values.dtype}: real numbers are needed")
    if values.shape == (1, n):
        values = values[0]
    if values.shape != (n,):
        raise OperandError(f"bias has shape {list(values.shape)}: [N] = [{n}] is needed")
    return values.astype(np.float32)


def _residual_of(residual: Any, shape: tuple[int, int], name: str) -> NDArray[np.uint16]:
    bits, own = bits_of(residual, "residual")
    if bits.shape != shape or own != name:
        raise OperandError(f"residual is {list(bits.shape)} {own}: {list(shape)} {name} is needed")
    return bits


def deliver(values: NDArray, x: Any, out: Any) -> Any:
    """In the caller's kind of array, or in `out`."""
    if isinstance(x, np.ndarray):
        if out is None:
            return values
        out[...] = values
        return out
    import torch

    tensor = torch.from_numpy(values.view(np.int16)).view(x.dtype)
    return tensor if out is None else out.copy_(tensor)
