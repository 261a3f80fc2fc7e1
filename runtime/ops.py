"""torch operators: petitgen::gemm and its out variant, for eager torch and torch.compile(fullgraph=True).

    codes, scales, outer = runtime.ops.tensors(packed, "cuda", torch.bfloat16)   # parameters of a module, say
    y = torch.ops.petitgen.gemm(x, codes, scales, outer, format=packed.format)

Give the format: without it the tensors are read as NVFP4, and those of AMD-FP4 have the same sizes.
A weight is three tensors here, because that is what torch moves, shares and traces. On a ROCm device they are used where
they are, on torch's current stream; CPU tensors go through a library's device, virtual if there is no other.

The shape of `codes` tells the order of its codes (runtime.formats.ORDER_SHAPES), which goes with the tensor wherever that
is moved or stored. Where it is used in place it has to be the order that the kernels for x read: else the call is
refused. A copy of CPU tensors is put in order by itself.
Inference only: no gradient is defined. Importing this module or runtime.quantize needs torch; nothing else in the runtime does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from runtime.epilogue import Epilogue, options_of
from runtime.errors import ClosedError, OperandError
from runtime.formats import BRICK_N, FORMATS, HOST_ORDER
from runtime.library import Library
from runtime.loading import load
from runtime.memory import dtype_name
from runtime.orders import order_of, reorder, rescale
from runtime.packing import PackedWeight
from runtime.weights import DeviceWeight, from_tensors, part_bytes, upload

_SCHEMA = "Tensor x, Tensor codes, Tensor scales, Tensor outer, Tensor? bias=None, str format='nvfp4', *"
_EPILOGUE = "Tensor? residual=None, str? activation=None"
_MOST_WEIGHTS = 4096  # entries without memory of their own, three addresses each

_library = torch.library.Library("petitgen", "DEF")  # the operators live as long as this object
_library.define(f"gemm({_SCHEMA}, {_EPILOGUE}) -> Tensor")
_library.define(f"gemm.out({_SCHEMA}, {_EPILOGUE}, Tensor(a!) out) -> ()")


@dataclass(frozen=True, slots=True)
class _Copy:
    """A weight that was copied from the CPU, and what it was made of beside its codes."""

    parts: tuple[TensorWeakRef, ...]
    state: tuple[Any, ...]
    weight: Any  # what was uploaded


_lock = threading.RLock()
_in_use: dict[int, Library] = {}  # by device ordinal; -1: CPU tensors
_on_device: dict[Any, DeviceWeight] = {}
_copied: WeakIdKeyDictionary = WeakIdKeyDictionary()  # codes on the CPU -> _Copy by code order


def use(library: Library) -> None:
    """Run the operators on this library: for CPU tensors, and for tensors on its devices."""
    with _lock:
        _copied.clear()
        for device in (-1, *library.devices):
            _in_use[device] = library


def forget(*codes: Tensor) -> None:
    """Let go of the copies of the weights with these codes, on the CPU: they are made again when they are needed.

    For a weight that was changed where torch does not count it: through .data or numpy, or in inference mode.
    Without an argument: undo `use`, and let go of every library and every copy.
    """
    with _lock:
        for tensor in codes:
            _copied.pop(tensor, None)
        if codes:
            return
        _in_use.clear()
        _on_device.clear()
        _copied.clear()


def tensors(
    packed: PackedWeight, device: Any = "cpu", activations: Any = torch.bfloat16
) -> tuple[Tensor, Tensor, Tensor]:
    """codes and scales (uint8) and outer (float32 [N]) of a packed weight.

    On a ROCm device codes are in the order that its kernels for x of dtype `activations` read. Anywhere else they are
    in HOST_ORDER; on the CPU all three share the memory of `packed`.
    """
    where, order = torch.device(device), HOST_ORDER
    if where.type == "cuda":
        index = torch.cuda.current_device() if where.index is None else where.index
        order = (_in_use.get(index) or _load(index)).order(packed.format, activations)
    parts = (reorder(packed.codes, order), rescale(packed.scales, packed.format, order), packed.outer)
    codes, scales, outer = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts)
    return codes, scales, outer


def _run(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None,
    format: str,
    residual: Tensor | None,
    activation: str | None,
    out: Tensor | None,
) -> Tensor:
    library = library_of(x.get_device())
    weight = weight_of(library, x, codes, scales, outer, format)
    return library.gemm(x, weight, bias, out, residual=residual, activation=activation)


def weight_of(library: Library, x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> DeviceWeight:
    """What x, which tells K, the device and the order of codes, is multiplied with."""
    device = x.get_device()
    if device < 0:
        return copy_of(library, x, codes, scales, outer, format, _upload)
    key = (
        x.shape[-1],
        outer.dtype,
        outer.shape,
        format,
        device,
        codes.shape,
        *extent_of(codes),
        *extent_of(scales),
        *extent_of(outer),
    )
    return _on_device.get(key) or _describe(key, x, codes, scales, outer, format)


def extent_of(tensor: Tensor) -> tuple[int, int, bool]:
    """What from_tensors looks at: another tensor at the same address must not pass for the one that was checked."""
    return tensor.data_ptr(), tensor.nbytes, tensor.is_contiguous()


def library_of(device: int) -> Library:
    """The library for tensors on a device; -1: on the CPU."""
    return _in_use.get(device) or _load(device)


def _load(device: int) -> Library:
    with _lock:
        if device not in _in_use:
            if device < 0:
                _in_use[device] = load()
            else:
                arch = torch.cuda.get_device_properties(device).gcnArchName.split(":")[0]
                _in_use[device] = load(arch, "hip")
        return _in_use[device]


def _describe(key: Any, x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> DeviceWeight:
    """A weight where it is. It does not hold the tensors: the caller brings them again with every call."""
    _check_outer(outer)
    weight = from_tensors(format, x.shape[-1], codes, scales, outer)
    weight.owner = None
    with _lock:
        if len(_on_device) >= _MOST_WEIGHTS:
            _on_device.clear()
        _on_device[key] = weight
    return weight


def _upload(library: Library, x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> DeviceWeight:
    packed = _packed(x.shape[-1], codes, scales, outer, format)
    return upload(library.hip, packed, library.device, library.order(format, x.dtype))


def copy_of(
    library: Library, x: Tensor, codes: Tensor, scales: Tensor, outer: Tensor, format: str, upload: Callable[..., Any]
) -> Any:
    """The device's copy of a weight on the CPU: made once by `upload`, again when a tensor was changed or is another one."""
    if library.state.closed:  # also after a fork: HIP must not be called then
        raise ClosedError(library.state.closed)
    parts = scales, outer  # that codes are the same is what finding the entry says
    state = x.shape[-1], format, *((t.data_ptr(), _version(t)) for t in (codes, *parts))
    order = library.order(format, x.dtype)
    with _lock:
        copies = _copied.setdefault(codes, {})
        known = copies.get(order)
        # Compared as objects: the id, the address and the version of a dead tensor are soon another one's.
        if (
            known is None
            or known.state != state
            or any(ref() is not part for ref, part in zip(known.parts, parts, strict=True))
            or known.weight.owner.lost
        ):
            weight = upload(library, x, codes, scales, outer, format)
            known = copies[order] = _Copy(tuple(map(TensorWeakRef, parts)), state, weight)
        return known.weight


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # inference tensors do not count their changes


def _packed(k: int, codes: Tensor, scales: Tensor, outer: Tensor, format: str) -> PackedWeight:
    _check_outer(outer)
    order = from_tensors(format, k, codes, scales, outer).order  # and the sizes
    bytes_of, columns = codes.detach().view(torch.uint8).numpy(), outer.detach().numpy()
    kept = rescale(scales.detach().reshape(-1).view(torch.uint8).numpy(), format, HOST_ORDER, order)
    return PackedWeight(format, outer.shape[0], k, reorder(bytes_of, HOST_ORDER, order), kept, columns, columns)


def _check_outer(outer: Tensor) -> None:
    if outer.dim() != 1 or outer.dtype != torch.float32:
        raise OperandError(f"outer is {list(outer.shape)} {outer.dtype}: float32 [N] is needed")


def _gemm(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    return _run(x, codes, scales, outer, bias, format, residual, activation, None)


def _gemm_out(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
    out: Tensor,
) -> None:
    _run(x, codes, scales, outer, bias, format, residual, activation, out)


def _fake(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    columns = _check(x, codes, scales, outer, bias, format, residual, activation)
    return x.new_empty((x.shape[0], columns))


def _fake_out(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "nvfp4",
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
    out: Tensor,
) -> None:
    columns = _check(x, codes, scales, outer, bias, format, residual, activation)
    _need_like("out", out, x, columns)


def _check(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None,
    format: str,
    residual: Tensor | None,
    activation: str | None,
) -> Any:
    """Refuse while tracing what the operator refuses: dtypes, K and the sizes of a weight. No memory is looked at. Returns
    how many columns the result has."""
    _need(x.dim() == 2, lambda: f"x has shape {list(x.shape)}: [M, K] is needed")
    dtype_name(x.dtype)
    return check_weight(x, codes, scales, outer, bias, format, residual, activation)


def check_weight(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None,
    format: str,
    residual: Tensor | None,
    activation: str | None,
    dtype: torch.dtype | None = None,
) -> Any:
    """All that is refused but the dtype of x. dtype: of the result; None: that of x. Returns how many columns the result has."""
    _check_outer(outer)
    _need(format in FORMATS, lambda: f"no weight format {format!r}: known are {', '.join(FORMATS)}")
    n, k = outer.shape[0], x.shape[1]
    what = f"a packed {format} weight [{n}, {k}]"
    sizes = part_bytes(format, n, k)
    _need_bytes("codes", codes, sizes[0], what)
    _need_bytes("scales", scales, sizes[1], what)
    order_of(codes.shape)
    block = FORMATS[format].block or BRICK_N
    _need(k % block == 0, lambda: f"K has to be a multiple of {block}, it is {k}")
    if bias is not None:
        _need(
            bias.dim() == 1 and bias.shape[0] == n,
            lambda: f"bias has shape {list(bias.shape)}: [N] = [{n}] is needed",
        )
    options = options_of(bias, residual, activation)
    if options & Epilogue.SWIGLU:
        _need(n % 2 == 0, lambda: f"swiglu takes gate and up in turn, but the weight has an odd N = {n}")
    if residual is not None:
        _need_like("residual", residual, x, options.columns(n), dtype)
    return options.columns(n)


def _need_like(name: str, tensor: Tensor, x: Tensor, columns: Any, dtype: torch.dtype | None = None) -> None:
    """A matrix of the rows and the device of x, and of its dtype if no other is given."""
    dtype = dtype or x.dtype
    _need(tensor.dim() == 2, lambda: f"{name} has shape {list(tensor.shape)}: a matrix is needed")
    _need(
        tensor.shape[0] == x.shape[0]
        and tensor.shape[1] == columns
        and tensor.dtype == dtype
        and tensor.device == x.device,
        lambda: (
            f"{name} is {list(tensor.shape)} {tensor.dtype} on {tensor.device}; {[x.shape[0], columns]} {dtype} on"
            f" {x.device} is needed"
        ),
    )


def _need_bytes(name: str, tensor: Tensor, size: Any, what: str) -> None:
    there = tensor.numel() * tensor.element_size()
    _need(there == size, lambda: f"{name} has {there} bytes: {what} has {size}")


def _need(holds: Any, message: Callable[[], str]) -> None:
    torch._check_with(OperandError, holds, message)


for _key in ("CPU", "CUDA"):  # ROCm's torch calls its devices cuda
    _library.impl("gemm", _gemm, _key)
    _library.impl("gemm.out", _gemm_out, _key)
torch.library.register_fake("petitgen::gemm", _fake, lib=_library)
torch.library.register_fake("petitgen::gemm.out", _fake_out, lib=_library)
