"""lib.grouped_gemm: its operands, on a device or on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.epilogue import Epilogue, check_columns, options_of
from runtime.errors import OperandError
from runtime.formats import FORMATS
from runtime.grouped import GroupedProblem
from runtime.host import bits_of, check_out, deliver
from runtime.launch import stream_handle
from runtime.memory import Allocation, DeviceArray, dtype_name, layout, number, numpy_dtype
from runtime.sorting import MOST_SLOTS, MOST_TOKENS, Sorting, sort_by_expert
from runtime.stacks import DeviceStack, PackedStack

if TYPE_CHECKING:
    from runtime.library import Library

_INTEGERS = ("ids", "experts", "valid")
_FORMATS = tuple(name for name, format in FORMATS.items() if format.bits == 4)


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
    _check_types(x, w, {"bias": bias, "residual": residual, "out": out})
    experts = w.experts if isinstance(w, DeviceStack) else len(w.experts)
    sorting = rows if isinstance(rows, Sorting) else sort_by_expert(_array(rows), experts)
    _check_sorting(sorting, experts)
    _check_gradients({"x": x, "bias": bias, "residual": residual, "out": out, "weights": sorting.weights})
    options = options_of(bias, residual, activation)
    check_columns(w.n, options)
    device = x.get_device() if hasattr(x, "get_device") else -1
    if not isinstance(w, DeviceStack):
        w = lib.upload_stack(w, device if device >= 0 else None, x.dtype)
    options |= Epilogue.ROUTED if sorting.weights is not None else Epilogue(0)
    run = _on_device if device >= 0 else _on_host
    return run(lib, x, w, sorting, bias, out, stream, residual, options)


def _array(rows: Any) -> Any:
    if not hasattr(rows, "shape"):
        raise OperandError(f"rows is a {type(rows).__name__}: a Sorting, or an array of expert indices is needed")
    return rows


def _check_types(x: Any, w: PackedStack | DeviceStack, others: dict[str, Any]) -> None:
    """Arrays of the types that there are kernels for. Of host arrays a bias may be of any: it is rounded to the type of x."""
    if isinstance(x, DeviceArray) or not hasattr(x, "dtype"):
        raise OperandError(f"x is a {type(x).__name__}: grouped_gemm takes torch tensors, and host arrays of numpy")
    if w.format not in _FORMATS or not _multiplied(x):
        raise OperandError(f"x is {x.dtype}, w {w.format}: grouped_gemm takes bfloat16 and float16 by {', '.join(_FORMATS)}")
    on_device = hasattr(x, "get_device") and x.get_device() >= 0
    for name, array in others.items():
        if array is None:
            continue
        if not hasattr(array, "dtype") or (on_device and not hasattr(array, "get_device")):
            raise OperandError(f"{name} is a {type(array).__name__}, x a {type(x).__name__}: both have to be of one kind")
        if (on_device or name != "bias") and (not _multiplied(array) or dtype_name(array.dtype) != dtype_name(x.dtype)):
            raise OperandError(f"{name} is {array.dtype}: {dtype_name(x.dtype)}, the type of x, is needed")


def _multiplied(array: Any) -> bool:
    """Whether it is of a type that grouped kernels multiply."""
    try:
        return dtype_name(array.dtype) in ("bf16", "fp16")
    except OperandError:
        return False


def _check_gradients(arrays: dict[str, Any]) -> None:
    for name, array in arrays.items():
        if getattr(array, "requires_grad", False):
            import torch

            if torch.is_grad_enabled():
                raise OperandError(f"{name} requires a gradient, which these kernels do not give: use torch.no_grad() or"
                                   f" {name}.detach()")  # fmt: skip


def _check_sorting(sorting: Sorting, experts: int) -> None:
    """OperandError for arrays that do not go together, or with a stack of `experts`."""
    tokens, topk, block = (number(getattr(sorting, name), name) for name in ("tokens", "topk", "block"))
    if not 0 <= tokens < MOST_TOKENS or not 1 <= topk <= MOST_SLOTS or block < 1:
        raise OperandError(f"{tokens} tokens, topk {topk}, blocks of {block}: fewer than {MOST_TOKENS} tokens, a topk from 1 to"
                           f" {MOST_SLOTS} and a block from 1 are needed")  # fmt: skip
    if sorting.experts_of not in (None, experts):
        raise OperandError(f"rows are sorted for {sorting.experts_of} experts, w has {experts}: sort them with"
                           f" sort_by_expert(indices, {experts})")  # fmt: skip
    shape: Any = getattr(sorting.ids, "shape", ())
    count = int(shape[0]) if len(shape) == 1 else 0
    parts = {"ids": count, "experts": -(-count // block), "valid": 1, "weights": count}
    for name, size in parts.items():
        array = getattr(sorting, name)
        if array is None and name == "weights":
            continue
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise OperandError(f"{name} of the sorting is a {type(array).__name__}: an array of the kind of x is needed")
        if len(array.shape) != 1 or array.shape[0] < size:
            raise OperandError(f"{name} of the sorting has shape {list(array.shape)}: [{size or 'rows'}] at least is needed")


def _problem(
    w: DeviceStack, sorting: Sorting, dtype: str, x: tuple[int, int, int], ldc: int, ldr: int, options: Epilogue
) -> GroupedProblem:
    """x: its rows, columns and pitch. OperandError for sizes that do not go together."""
    rows, k, lda = x
    tokens, topk, block, count = int(sorting.tokens), int(sorting.topk), int(sorting.block), int(sorting.ids.shape[0])
    if k != w.k or rows not in (tokens, tokens * topk):
        raise OperandError(f"x is [{rows}, {k}]: [{tokens}, {w.k}] for tokens, or [{tokens * topk}, {w.k}] for each of their"
                           " experts is needed")  # fmt: skip
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
    name = {"a": "x", "c": "out", "route": "weights"}.get(name, name)
    if not hasattr(array, "get_device"):
        raise OperandError(f"{name} is a {type(array).__name__}: a tensor on device {device}, as x is, is needed")
    if array.get_device() != device or str(array.dtype).removeprefix("torch.") != wanted:
        raise OperandError(f"{name} is {array.dtype} on device {array.get_device()}: {wanted} on device {device}, where the"
                           " weights are, is needed")  # fmt: skip
    if name in (*_INTEGERS, "weights") and not array.is_contiguous():
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
            operands[what] = _rounded(array, name) if what == "bias" else bits_of(array, what)[0]
            if operands[what].shape != wanted:
                raise OperandError(f"{what} is {list(operands[what].shape)} {name}: {list(wanted)} {name} is needed")
    operands |= _sorted_on_host(sorting, w.experts)
    ldr = shape[1] if residual is not None else 0
    problem = _problem(w, sorting, name, (*bits.shape, bits.shape[1]), shape[1], ldr, options)
    if problem.rows and sorting.tokens:
        operands["c"] = _run(lib, w, problem, operands, stream)
    return deliver(operands["c"].view(numpy_dtype(name)), x, out)


def _rounded(bias: Any, name: str) -> NDArray[Any]:
    """Biases of any real type in that of x, as gemm takes them."""
    if hasattr(bias, "detach"):
        if bias.is_complex() or bias.device.type != "cpu":
            raise OperandError(f"bias is {bias.dtype} on {bias.device}: real numbers on the CPU, as x is, are needed")
        bias = bias.detach().to_dense().float().numpy()
    if bias.dtype.kind not in "fiu" and bias.dtype.name != "bfloat16":  # ml_dtypes' is of kind V
        raise OperandError(f"bias is {bias.dtype}: real numbers are needed")
    return np.asarray(bias, np.float32).astype(numpy_dtype(name)).view(np.uint16)


def _sorted_on_host(sorting: Sorting, experts: int) -> dict[str, NDArray[Any]]:
    """The arrays of a sorting as kernels read them. What 32 bits do not hold is no row, no expert, no count."""
    ids, blocks, valid = (_values(sorting, name, "iu", "integers") for name in _INTEGERS)
    held = (ids >= -(1 << 31)) & (ids < 1 << 32)
    count = min(max(int(valid[0]), 0), ids.size)
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.where(held, ids.astype(np.int64), -1).astype(np.uint32),
        "experts": np.where((blocks >= 0) & (blocks < experts), blocks.astype(np.int64), -1).astype(np.int32),
        "valid": np.array([count], np.uint32),
    }
    if sorting.weights is not None:
        arrays["route"] = np.ascontiguousarray(_values(sorting, "weights", "f", "float32"))
    return arrays


def _values(sorting: Sorting, name: str, kinds: str, wanted: str) -> NDArray[Any]:
    """A part of a sorting as an array of numpy; of floating-point types only float32."""
    array = getattr(sorting, name)
    if hasattr(array, "detach") and array.device.type == "cpu" and str(array.dtype) != "torch.bfloat16":
        array = array.detach().to_dense().numpy()
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or (kinds == "f" and array.dtype != np.float32):
        where = f" on {array.device}" if hasattr(array, "detach") else ""
        raise OperandError(f"{name} of the sorting is {type(array).__name__} {array.dtype}{where}: {wanted} on the host are needed")
    return array


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
