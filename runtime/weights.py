"""Packed weights in device memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OperandError
from runtime.formats import BRICK_K, BRICK_N, FORMATS, HOST_ORDER
from runtime.hip import Hip
from runtime.memory import Allocation, number
from runtime.orders import order_of, reorder, rescale
from runtime.packing import PackedWeight

if TYPE_CHECKING:
    from runtime.manifest import Kernel

Parts = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_ALIGNMENT = 256
MOST_LAUNCHERS = 512  # kept with each: a server meets a few hundred batch shapes, and each costs some 1 KB


class Uploaded:
    """What a weight and a stack of weights have in common on a device.

    format, n, k  as packed
    codes, scales, outer  (address, bytes) of each part of the packed form; of a stack, those of the first expert
    order         of its codes, one of runtime.formats.ORDERS: kernels that read another are refused
    device        ordinal
    owner         whatever holds the memory, kept alive with it
    launchers     prepared launches by the layout of x and out; they go with it
    """

    __slots__ = (
        "__weakref__",
        "codes",
        "device",
        "format",
        "k",
        "launchers",
        "n",
        "order",
        "outer",
        "owner",
        "scales",
    )

    def __init__(self, format: str, n: int, k: int, parts: Parts, device: int, owner: Any, order: str) -> None:
        self.format, self.n, self.k, self.device, self.owner, self.order = format, n, k, device, owner, order
        self.codes, self.scales, self.outer = parts
        self.launchers: dict[Any, Any] = {}

    def remember(self, key: Any, launcher: Any) -> None:
        """Keep a launcher for the layout that `key` says."""
        if len(self.launchers) >= MOST_LAUNCHERS:
            self.launchers.clear()
        self.launchers[key] = launcher

    def check_order(self, kernel: Kernel) -> None:
        """OperandError for a kernel that would take the codes for others."""
        if kernel.order != self.order:
            raise OperandError(f"the codes of {self!r} are in order {self.order}, {kernel.name} reads {kernel.order}:"
                               f" upload what was packed with activations={kernel.activations!r}, or make tensors of"
                               f" it with runtime.ops for {kernel.activations!r}")  # fmt: skip


class DeviceWeight(Uploaded):
    """A weight on a device, ready to be launched with."""

    __slots__ = ()

    def __init__(
        self, format: str, n: int, k: int, parts: Parts, device: int, owner: Any, order: str = HOST_ORDER
    ) -> None:
        super().__init__(format, n, k, parts, device, owner, order)

    def __repr__(self) -> str:
        return f"DeviceWeight({self.format} [{self.n}, {self.k}], device {self.device})"


def upload(hip: Hip, packed: PackedWeight, device: int, order: str = HOST_ORDER) -> DeviceWeight:
    """A copy of a packed weight in one allocation on the device. HipError, DeviceMemoryError."""
    parts = device_parts(packed, order)
    offsets, size = places([part.size for part in parts])
    memory = Allocation(hip, size, device)
    with hip.on(device):
        for part, offset in zip(parts, offsets, strict=True):
            memory.write(part, offset)
    codes, scales, outer = ((memory.address + o, p.size) for p, o in zip(parts, offsets, strict=True))
    return DeviceWeight(packed.format, packed.n, packed.k, (codes, scales, outer), device, memory, order)


def device_parts(packed: PackedWeight, order: str) -> list[NDArray[np.uint8]]:
    """Bytes of codes, scales and outer scales as kernels that read `order` want them."""
    kept = reorder(packed.codes, order), rescale(packed.scales, packed.format, order), packed.outer
    return [np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in kept]


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where parts of these bytes begin in one allocation, and what they take."""
    ends = list(accumulate((-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), initial=0))
    return ends[:-1], ends[-1]


def check_weight(w: Any) -> None:
    """OperandError for what is no weight to multiply with."""
    if not isinstance(w, DeviceWeight):
        check_packed(w)


def check_packed(packed: Any) -> None:
    """OperandError for what is no packed weight."""
    if not isinstance(packed, PackedWeight):
        stacks = "; stacks are for lib.grouped_gemm" if hasattr(packed, "experts") else ""
        raise OperandError(f"w is a {type(packed).__name__}: runtime.pack makes a PackedWeight of checkpoint tensors{stacks}")


def part_bytes(format: str, n: int, k: int) -> tuple[int, int, int]:
    """Bytes of codes, scales and outer scales of a packed [n, k] weight."""
    bricks = -(-k // BRICK_K) * -(-n // BRICK_N)
    fmt = FORMATS[format]
    return bricks * fmt.brick_bytes, bricks * BRICK_N * fmt.scales_per_brick, 4 * n


def check_part(name: str, tensor: Any, dimensions: int) -> None:
    """OperandError for what is no tensor of the type of a part. dimensions: of `outer`, 1 of a weight and 2 of a stack. What has
    no dtype is told by its bytes alone."""
    if not all(hasattr(tensor, what) for what in ("shape", "nbytes", "data_ptr", "get_device")):
        raise OperandError(f"{name} is a {type(tensor).__name__}: a tensor on a device is needed")
    dtype = str(getattr(tensor, "dtype", "")).removeprefix("torch.")
    if name == "outer":
        right, wanted = dtype in ("", "float32") and len(tensor.shape) == dimensions, f"float32 {('[N]', '[experts, N]')[dimensions - 1]}"
    else:
        right, wanted = dtype in ("", "uint8") or dtype.startswith("float8"), f"uint8 {('[...]', '[experts, ...]')[dimensions - 1]}"
    if not right:
        raise OperandError(f"{name} is {list(tensor.shape)} {dtype}: {wanted} is needed")


def from_tensors(format: str, k: int, codes: Any, scales: Any, outer: Any) -> DeviceWeight:
    """A weight whose parts are device tensors already (of torch, or anything with data_ptr, nbytes and get_device):
    nothing is copied, the tensors are kept alive. n is the length of `outer`, the order is told by the shape of `codes`
    (runtime.formats.ORDER_SHAPES). OperandError if sizes do not agree.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise OperandError(f"no weight format {format!r:.60}: known are {', '.join(FORMATS)}")
    tensors = {"codes": codes, "scales": scales, "outer": outer}
    for name, tensor in tensors.items():
        check_part(name, tensor, 1)
    n, k = int(outer.shape[0]), number(k, "k")
    parts = []
    for (name, tensor), size in zip(tensors.items(), part_bytes(format, n, k), strict=True):
        if tensor.nbytes != size or not tensor.is_contiguous():
            raise OperandError(f"{name} has {tensor.nbytes} bytes: a packed {format} weight [{n}, {k}] has {size},"
                               " contiguous")  # fmt: skip
        if tensor.get_device() != codes.get_device():
            raise OperandError(f"{name} is on device {tensor.get_device()}, codes on {codes.get_device()}")
        parts.append((tensor.data_ptr(), size))
    owner, order = tuple(tensors.values()), order_of(codes.shape)
    return DeviceWeight(format, n, k, (parts[0], parts[1], parts[2]), codes.get_device(), owner, order)
