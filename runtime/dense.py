"""GEMM of what is on a device: a layout is checked when it is first met, and what launches it stays with the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.epilogue import NONE, Epilogue, check_columns
from runtime.errors import OperandError
from runtime.launch import Launch, neighbours, refuse_gradient, stream_handle
from runtime.memory import DeviceArray, allocate, dtype_name, layout
from runtime.weights import DeviceWeight

if TYPE_CHECKING:
    from runtime.library import Library


def finished(
    lib: Library, x: Any, w: DeviceWeight, bias: Any, out: Any, stream: Any, residual: Any, options: Epilogue
) -> Any:
    """Library.gemm with an epilogue. OperandError for operands that do not go together."""
    check_columns(w.n, options)
    for name, array in (("bias", bias), ("out", out), ("residual", residual)):
        if array is not None:
            _check_alike(name, array, x)
    if any(getattr(array, "requires_grad", False) for array in (x, bias, out, residual)):
        refuse_gradient()
    if out is None:
        out = empty(lib, x, options.columns(w.n))
    row = None if bias is None else line("bias", bias, w.n, stream)
    beside = out if residual is None else residual
    key: Any = (lib.state.id, int(options), x.dtype, x.shape, x.stride(), x.get_device())
    key += (out.shape, out.stride(), beside.shape, beside.stride())
    launcher = w.launchers.get(key)
    if launcher is None:
        launcher = prepare(lib, key, x, w, out, options, residual)
    added = (0 if array is None else array.data_ptr() for array in (row, residual))
    launcher.run(x.data_ptr(), out.data_ptr(), stream_handle(stream, x), *added)
    return out


def _check_alike(name: str, array: Any, x: Any) -> None:
    if type(array) is not type(x) and (type(x) is DeviceArray or not hasattr(array, "get_device")):
        raise OperandError(f"{name} is a {type(array).__name__}, x a {type(x).__name__}: both have to be of one kind")
    if array.get_device() != x.get_device() or array.dtype != x.dtype:
        raise OperandError(f"{name} is {array.dtype} on device {array.get_device()}, x {x.dtype} on device"
                           f" {x.get_device()}: both have to be alike")  # fmt: skip


def prepare(
    lib: Library,
    key: Any,
    x: Any,
    w: DeviceWeight,
    out: Any,
    options: Epilogue = NONE,
    residual: Any = None,
    result: str | None = None,
) -> Launch:
    """The launcher for the layout of x and out, after all that can be wrong with them is checked; w remembers it by `key`.

    result  the type of out and residual, bf16 or fp16, where x is FP8; None: that of x
    """
    device = lib.ordinal(x.get_device())
    for array in (x, out, residual):
        if array is not None:
            array.data_ptr()  # refuses what is gone
    m, k, lda = layout(x, "x")
    name = result or dtype_name(x.dtype)
    if k != w.k:
        raise OperandError(f"x has K = {k}, the weight [{w.n}, {w.k}] has K = {w.k}")
    if w.device != device:
        raise OperandError(f"x is on device {device}, the weight on device {w.device}")
    columns = options.columns(w.n)
    pitches = {"out": columns, "residual": 0}
    for what, array in (("out", out), ("residual", residual)):
        if array is not None:
            *shape, pitches[what] = layout(array, what)
            if shape != [m, columns] or dtype_name(array.dtype) != name or array.get_device() != device:
                raise OperandError(f"{what} is {shape} {array.dtype} on device {array.get_device()};"
                                   f" {[m, columns]} {name} on device {device} is needed")  # fmt: skip
    types = f"fp8_{name}" if result else name
    launcher = lib.launcher_for(w, types, m, lda, pitches["out"], options, pitches["residual"])
    w.remember(key, launcher)
    return launcher


def line(what: str, vector: Any, count: int, stream: Any = None) -> Any:
    """A vector as `count` elements beside each other. With a stream of one's own there is no copy, which would be on another."""
    if tuple(vector.shape) not in ((count,), (1, count), (count, 1)):
        raise OperandError(f"{what} has shape {list(vector.shape)}: [{count}] is needed")
    steps = [step for size, step in zip(vector.shape, vector.stride(), strict=True) if size > 1]
    if not steps or steps == [1]:
        return vector
    if type(vector) is DeviceArray:
        raise OperandError(f"{what} has a pitch of {vector.pitch}: its elements have to be neighbours, as those of [1, {count}]")
    return neighbours(what, vector, stream)


def empty(lib: Library, x: Any, columns: int, result: str | None = None) -> Any:
    """Memory for a result with the rows of x, of its kind; `result` as prepare has it."""
    if type(x) is DeviceArray:
        return allocate(lib.hip, (x.shape[0], columns), result or x.dtype, None, x.device)
    if result is None:
        return x.new_empty((x.shape[0], columns))
    import torch

    return x.new_empty((x.shape[0], columns), dtype=torch.bfloat16 if result == "bf16" else torch.float16)
