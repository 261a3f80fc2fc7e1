"""GEMM of FP8 activations: y = (x @ W^T) * x_scale[row] * outer[column], in bf16 or fp16.

    y = lib.gemm(x, w, x_scale=s)        # x E4M3FNUZ [M, K], s float32 [M]: PTPC-FP8, or FP8 x FP4

gfx942 only: it multiplies E4M3FNUZ. What converts a token's activations to it, with their scale, is a kernel of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import dense, host, modules
from runtime.epilogue import check_columns, options_of
from runtime.errors import OperandError
from runtime.launch import refuse_gradient, stream_handle
from runtime.memory import DeviceArray, array_dtype, dtype_name, numpy_dtype
from runtime.packing import PackedWeight
from runtime.weights import DeviceWeight, check_weight

if TYPE_CHECKING:
    from runtime.library import Library

_TAKEN = ("float8_e4m3fnuz", "fp8", "uint8")  # dtypes of x; bytes are E4M3FNUZ codes
_LONG = {"f32": "float32"}  # what users of arrays call it


def gemm(
    lib: Library,
    x: Any,
    x_scale: Any,
    w: PackedWeight | DeviceWeight,
    bias: Any = None,
    out: Any = None,
    stream: Any = None,
    residual: Any = None,
    activation: str | None = None,
    dtype: Any = None,
) -> Any:
    """Library.gemm for FP8 activations.

    x        E4M3FNUZ [M, K]: float8_e4m3fnuz of torch or ml_dtypes, its codes as uint8, or a DeviceArray of "fp8"
    x_scale  float32 [M] or [M, 1], of the kind of x and where it is; DeviceArray [1, M] of "f32"
    dtype    of the result: bf16 or fp16; None: that of out, residual or bias, else bf16. These have it and are where x is;
             a bias on the host may have another, which is rounded to it
    Raises as Library.gemm does; on gfx90a ShapeError, for it has no FP8 matrix instructions.
    """
    _check_x(x, x_scale)
    check_weight(w)
    options = options_of(bias, residual, activation)
    check_columns(w.n, options)
    given = {"x_scale": x_scale, "bias": bias, "out": out, "residual": residual}
    for what, array in given.items():
        if array is not None:
            _check_array(what, array, x)
    if any(getattr(array, "requires_grad", False) for array in (x, *given.values())):
        refuse_gradient()
    if _is_host(x):
        return _of_host(lib, x, x_scale, w, (bias, residual), out, stream, activation, dtype)
    name = _result_type(dtype, out=out, residual=residual, bias=bias)
    if not isinstance(w, DeviceWeight):
        w = lib.upload_once(w, x.get_device(), "fp8")
    for what, array in given.items():
        _check_kind(what, array, x, "f32" if what == "x_scale" else name)
    if out is None:
        out = dense.empty(lib, x, options.columns(w.n), name)
    scales = dense.line("x_scale", x_scale, x.shape[0], stream)
    row = None if bias is None else dense.line("bias", bias, w.n, stream)
    beside = out if residual is None else residual
    key: Any = ("fp8", lib.state.id, int(options), name, x.shape, x.stride(), x.get_device())
    key += (out.shape, out.stride(), beside.shape, beside.stride())
    launcher = w.launchers.get(key) or dense.prepare(lib, key, x, w, out, options, residual, name)
    bias_at, residual_at = (0 if array is None else array.data_ptr() for array in (row, residual))
    handle = stream_handle(stream, x)
    launcher.run(x.data_ptr(), out.data_ptr(), handle, bias_at, residual_at, scales.data_ptr())
    return out


def _check_x(x: Any, x_scale: Any) -> None:
    dtype = str(getattr(x, "dtype", type(x).__name__)).removeprefix("torch.")
    if dtype not in _TAKEN:
        more = "; E4M3FN has twice the value for the same bits" if dtype == "float8_e4m3fn" else ""
        raise OperandError(f"x is {dtype}: with x_scale or dtype it has to be FP8, float8_e4m3fnuz or its codes as uint8{more}")
    if x_scale is None:
        raise OperandError("x is FP8, whose rows need a scale each: give x_scale, float32 [M]")


def _result_type(dtype: Any, **arrays: Any) -> str:
    given = {what: array.dtype for what, array in arrays.items() if array is not None}
    what, kind = ("dtype", dtype) if dtype is not None else next(iter(given.items()), ("dtype", "bf16"))
    try:
        return dtype_name(kind)
    except OperandError:
        raise OperandError(f"{what} is {kind}: results are bf16 or fp16, and so are out, residual and bias") from None


def _is_host(x: Any) -> bool:
    return not hasattr(x, "get_device") or x.get_device() < 0


def _check_array(what: str, array: Any, x: Any) -> None:
    arrays = hasattr(array, "dtype") and hasattr(array, "shape")
    if not arrays or isinstance(array, DeviceArray) != isinstance(x, DeviceArray):
        raise OperandError(f"{what} is a {type(array).__name__}, x a {type(x).__name__}: both have to be of one kind")


def _check_kind(what: str, array: Any, x: Any, name: str) -> None:
    if array is None:
        return
    if not hasattr(array, "get_device"):
        raise OperandError(f"{what} is a {type(array).__name__}, x a {type(x).__name__}: both have to be of one kind")
    if array.get_device() != x.get_device() or not _is_of(array, name):
        raise OperandError(f"{what} is {array.dtype} on device {array.get_device()}: {_LONG.get(name, name)} on device"
                           f" {x.get_device()} is needed")  # fmt: skip


def _is_of(array: Any, name: str) -> bool:
    try:
        return array is not None and array_dtype(array.dtype) == name
    except OperandError:  # a dtype that no kernel knows
        return False


def _of_host(
    lib: Library,
    x: Any,
    x_scale: Any,
    w: PackedWeight | DeviceWeight,
    added: tuple[Any, Any],
    out: Any,
    stream: Any,
    activation: str | None,
    dtype: Any,
) -> Any:
    """numpy arrays and CPU tensors: copied to the device, multiplied, copied back. The result is there on return."""
    modules.LOADED.check(lib.hip, lib.device)
    if lib.hip.is_capturing(0 if stream is None else stream_handle(stream, None)):
        raise OperandError("host arrays cannot be part of a graph: copy them with lib.array before the capture")
    bias, residual = added
    device = w.device if isinstance(w, DeviceWeight) else None
    for what, array in {"x": x, "x_scale": x_scale, "bias": bias, "residual": residual}.items():
        if hasattr(array, "detach"):
            host.check_dense(array, what)
    if len(x.shape) != 2:
        raise OperandError(f"x has shape {list(x.shape)}: a matrix is needed")
    typed = bias if any(_is_of(bias, one) for one in ("bf16", "fp16")) else None  # another is rounded
    name = _result_type(dtype, out=out, residual=residual, bias=typed)
    if not _is_of(x_scale, "f32"):
        raise OperandError(f"x_scale is {x_scale.dtype}: float32 is needed")
    shape = x.shape[0], options_of(bias, residual, activation).columns(w.n)
    if residual is not None and (tuple(residual.shape) != shape or not _is_of(residual, name)):
        raise OperandError(f"residual is {list(residual.shape)} {residual.dtype}: {list(shape)} {name} is needed")
    codes = lib.array(_fnuz(x), device=device)
    scales = lib.array(_as_line(x_scale, "x_scale", codes.shape[0]), device=device)
    if bias is not None:
        row = host.bias_of(_as_line(bias, "bias", w.n).reshape(w.n), w.n)
        bias = lib.array(row.astype(numpy_dtype(name)).reshape(1, w.n), device=device)
    residual = None if residual is None else lib.array(residual, device=device)
    there = gemm(lib, codes, scales, w, bias, None, stream, residual, activation, name)
    values = lib.numpy(there)
    host.check_out(x, out, values.shape, name)
    if isinstance(x, np.ndarray):
        if out is None:
            return values
        out[...] = values
        return out
    import torch

    tensor = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16 if name == "bf16" else torch.float16)
    return tensor if out is None else out.copy_(tensor)


def _fnuz(x: Any) -> Any:
    """Bytes as what they are."""
    if hasattr(x, "detach"):
        import torch

        return x.detach().view(torch.float8_e4m3fnuz)
    import ml_dtypes

    return np.asarray(x).view(ml_dtypes.float8_e4m3fnuz)


def _as_line(array: Any, what: str, count: int) -> Any:
    if tuple(array.shape) not in ((count,), (1, count), (count, 1)):
        raise OperandError(f"{what} has shape {list(array.shape)}: [{count}] is needed")
    return array.reshape(1, count)
