"""lib.grouped_gemm: its operands, on a device or on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.epilogue import Epilogue, check_columns, options_of
from runtime.errors import OperandError
from runtime.grouped import GroupedProblem
from runtime.host import bits_of, check_out, deliver
from runtime.launch import refuse_gradient, stream_handle
from runtime.memory import Allocation, DeviceArray, dtype_name, layout, numpy_dtype
from runtime.sorting import MOST_SLOTS, MOST_TOKENS, Sorting, sort_by_expert
from runtime.stacks import DeviceStack, PackedStack

if TYPE_CHECKING:
    from runtime.library import Library

_INTEGERS = ("ids", "experts", "valid")


def grouped_gemm(
    lib: Library,
    x: Any,
    w: PackedStack | DeviceStack,
    rows: Any,
    bias: Any,
    out: Any,
    stream: Any,
    residual: Any,
    activation: str | None,
) -> Any:
    """Library.grouped_gemm."""
    if not isinstance(w, PackedStack | DeviceStack):
        raise OperandError(f"w is a {type(w).__name__}: runtime.stack makes a PackedStack of packed weights")
    if isinstance(x, DeviceArray):
        raise OperandError("x is a DeviceArray: grouped_gemm takes torch tensors, and host arrays")
    if any(getattr(array, "requires_grad", False) for array in (x, bias, out, residual)):
        refuse_gradient()
    options = options_of(bias, residual, activation)
    check_columns(w.n, options)
    device = x.get_device() if hasattr(x, "get_device") else -1
    if not isinstance(w, DeviceStack):
        w = lib.upload_stack(w, device if device >= 0 else None, x.dtype)
    sorting = rows if isinstance(rows, Sorting) else sort_by_expert(_array(rows), w.experts)
    options |= Epilogue.ROUTED if sorting.weights is not None else Epilogue(0)
    run = _on_device if device >= 0 else _on_host
    return run(lib, x, w, sorting, bias, out, stream, residual, options)


def _array(rows: Any) -> Any:
    if not hasattr(rows, "shape"):
        raise OperandError(f"rows is a {type(rows).__name__}: a Sorting, or an array of expert indices is needed")
    return rows


def _problem(
    w: DeviceStack, sorting: Sorting, dtype: str, x: tuple[int, int, int], ldc: int, ldr: int, options: Epilogue
) -> GroupedProblem:
    """x: its rows, columns and pitch. OperandError for sizes that do not go together."""
    rows, k, lda = x
    tokens, topk, block, count = sorting.tokens, sorting.topk, sorting.block, int(sorting.ids.shape[0])
    if not 0 <= tokens < MOST_TOKENS or not 1 <= topk <= MOST_SLOTS or block < 1:
        raise OperandError(f"{tokens} tokens, topk {topk}, blocks of {block}: fewer than {MOST_TOKENS} tokens, a topk from 1 to"
                           f" {MOST_SLOTS} and a block from 1 are needed")  # fmt: skip
    if k != w.k or rows not in (tokens, tokens * topk):
        raise OperandError(f"x is [{rows}, {k}]: [{tokens}, {w.k}] for tokens, or [{tokens * topk}, {w.k}] for each of their"
                           " experts is needed")  # fmt: skip
    for name, array, size in (
        ("experts", sorting.experts, -(-count // block)),
        ("valid", sorting.valid, 1),
        ("weights", sorting.weights, count),
    ):
        if array is not None and (len(array.shape) != 1 or array.shape[0] < size):
            raise OperandError(f"{name} of the sorting has shape {list(array.shape)}: [{size}] at least is needed")
    slots = topk if rows == tokens * topk and topk > 1 else 1
    contract = f"grouped_{w.format}_{dtype}"
    return GroupedProblem(contract, count, block, tokens, topk, slots, w.experts, w.n, w.k, lda, ldc, options, ldr)


# ---- on a device ------------------------------------------------------------------------------------
def _on_device(
    lib: Library,
    x: Any,
    w: DeviceStack,
    sorting: Sorting,
    bias: Any,
    out: Any,
    stream: Any,
    residual: Any,
    options: Epilogue,
) -> Any:
    """Of tensors on a device: launched where they lie."""
    shape = sorting.tokens * sorting.topk, options.columns(w.n)
    out = x.new_zeros(shape) if out is None else out
    arrays = {"a": x, "c": out, "bias": bias, "residual": residual}
    arrays |= {"ids": sorting.ids, "experts": sorting.experts, "valid": sorting.valid, "route": sorting.weights}
    given = {name: array for name, array in arrays.items() if array is not None}
    for name, array in given.items():
        _check_tensor(name, array, x, w.device)
    pitches = [layout(array, name) if array is not None else (0, 0, 0) for name, array in (("out", out), ("residual", residual))]
    for name, array, (m, columns, _) in zip(("out", "residual"), (out, residual), pitches, strict=True):
        if array is not None and (m, columns) != shape:
            raise OperandError(f"{name} has shape {list(array.shape)}: {list(shape)} is needed")
    if bias is not None and (tuple(bias.shape) != (w.experts, w.n) or not bias.is_contiguous()):
        raise OperandError(f"bias has shape {list(bias.shape)}: [experts, N] = [{w.experts}, {w.n}], contiguous, is needed")
    problem = _problem(w, sorting, dtype_name(x.dtype), layout(x, "x"), pitches[0][2], pitches[1][2], options)
    if problem.rows and sorting.tokens:
        addresses = {name: array.data_ptr() for name, array in given.items()}
        lib.grouped_launcher(w, problem).run(addresses, stream_handle(stream, x))
    return out


def _check_tensor(name: str, array: Any, x: Any, device: int) -> None:
    """A tensor of the type and on the device that a launch reads it as."""
    wanted = "int32" if name in _INTEGERS else "float32" if name == "route" else str(x.dtype).removeprefix("torch.")
    if array.get_device() != device or str(array.dtype).removeprefix("torch.") != wanted:
        raise OperandError(f"{name} is {array.dtype} on device {array.get_device()}: {wanted} on device {device}, where the"
                           " weights are, is needed")  # fmt: skip
    if name in (*_INTEGERS, "route") and not array.is_contiguous():
        raise OperandError(f"{name} of the sorting is not contiguous")


# ---- on the host ------------------------------------------------------------------------------------
def _on_host(
    lib: Library,
    x: Any,
    w: DeviceStack,
    sorting: Sorting,
    bias: Any,
    out: Any,
    stream: Any,
    residual: Any,
    options: Epilogue,
) -> Any:
    """Of numpy arrays and CPU tensors: copied to the device and back. The result is there when this returns."""
    bits, name = bits_of(x, "x")
    shape = sorting.tokens * sorting.topk, options.columns(w.n)
    check_out(x, out, shape, name)
    if bits.ndim != 2:
        raise OperandError(f"x has shape {list(bits.shape)}: a matrix is needed")
    operands: dict[str, NDArray[Any]] = {"a": bits}
    operands["c"] = np.zeros(shape, np.uint16) if out is None else bits_of(out, "out")[0]
    for what, array, wanted in (("bias", bias, (w.experts, w.n)), ("residual", residual, shape)):
        if array is not None:
            operands[what], own = bits_of(array, what)
            if operands[what].shape != wanted or own != name:
                raise OperandError(f"{what} is {list(operands[what].shape)} {own}: {list(wanted)} {name} is needed")
    operands |= {what: _integers(getattr(sorting, what)) for what in _INTEGERS}
    if sorting.weights is not None:
        operands["route"] = np.ascontiguousarray(sorting.weights, np.float32)
    ldr = shape[1] if residual is not None else 0
    problem = _problem(w, sorting, name, (*bits.shape, bits.shape[1]), shape[1], ldr, options)
    if problem.rows and sorting.tokens:
        operands["c"] = _run(lib, w, problem, operands, stream)
    return deliver(operands["c"].view(numpy_dtype(name)), x, out)


def _integers(array: Any) -> NDArray[np.int32]:
    values = np.asarray(array)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise OperandError(f"a part of the sorting is {values.dtype} {list(values.shape)}: int32 of one dimension is needed")
    return np.ascontiguousarray(values.astype(np.int64).astype(np.uint32).view(np.int32))


def _run(
    lib: Library, w: DeviceStack, problem: GroupedProblem, operands: dict[str, NDArray[Any]], stream: Any
) -> NDArray[np.uint16]:
    """C, after a launch on copies of the operands."""
    handle = 0 if stream is None else stream_handle(stream, None)
    if lib.hip.is_capturing(handle):
        raise OperandError("host arrays cannot be part of a graph: give tensors on the device")
    launcher = lib.grouped_launcher(w, problem)
    result = np.ascontiguousarray(operands["c"])
    with lib.hip.on(w.device):
        memory = {name: Allocation(lib.hip, max(values.nbytes, 4), w.device) for name, values in operands.items()}
        try:
            for name, values in operands.items():
                memory[name].write(np.ascontiguousarray(values).reshape(-1).view(np.uint8), stream=handle)
            launcher.run({name: one.address for name, one in memory.items()}, handle)
            memory["c"].read(result.reshape(-1).view(np.uint8), handle, lib.recent(w.device))
        finally:  # also after an error: copies that were asked for still use the arrays
            lib.hip.synchronize(handle, lib.recent(w.device))
    return result
