"""Stacks of packed weights, one for each expert: on the host, and on a device in one allocation.

Each part (codes, scales, outer) of all experts is one array, expert after expert. Kernels count in 64 bits where an expert's
part begins, so a stack may be larger than 4 GiB; one expert's part may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OperandError, PackError
from runtime.hip import Hip
from runtime.memory import Allocation, number
from runtime.orders import order_of, reorder, rescale
from runtime.packing import PackedWeight
from runtime.weights import part_bytes

if TYPE_CHECKING:
    from runtime.grouped import GroupedLauncher
    from runtime.library import Library
    from runtime.manifest import Kernel

GROUPED = ("nvfp4", "mxfp4", "amdfp4")
"""Formats of weights that grouped GEMM takes."""

_ALIGNMENT = 256
_MOST_LAUNCHERS = 512  # kept with a stack, as weights keep theirs


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PackedStack:
    """Weights [N, K] of one format in host memory, one for each expert. Made by runtime.stack."""

    experts: tuple[PackedWeight, ...]

    @property
    def format(self) -> str:
        return self.experts[0].format

    @property
    def n(self) -> int:
        return self.experts[0].n

    @property
    def k(self) -> int:
        return self.experts[0].k

    def to(self, library: Library, device: int | None = None, activations: Any = "bf16") -> DeviceStack:
        """The copy on a device that grouped_gemm launches with: Library.upload_stack."""
        upload = getattr(library, "upload_stack", None)
        if upload is None:
            raise OperandError(f"library is a {type(library).__name__}: what runtime.load returns is needed")
        return upload(self, device, activations)


def stack(experts: Iterable[PackedWeight]) -> PackedStack:
    """The packed weights of all experts, in their order, as one operand. PackError if they are not alike, or of a
    format that is none of GROUPED."""
    if not isinstance(experts, Iterable):
        raise PackError(f"experts is a {type(experts).__name__}: a list of packed weights, one for each expert, is needed")
    experts = tuple(experts)
    for index, one in enumerate(experts):
        if not isinstance(one, PackedWeight):
            raise PackError(f"expert {index} is a {type(one).__name__}: runtime.pack makes a PackedWeight")
        first = experts[0]
        if (one.format, one.n, one.k) != (first.format, first.n, first.k):
            raise PackError(f"expert {index} is {one.format} [{one.n}, {one.k}], the first {first.format}"
                            f" [{first.n}, {first.k}]: all of a stack have to be alike")  # fmt: skip
    if not experts:
        raise PackError("a stack has one expert at least")
    if experts[0].format not in GROUPED:
        raise PackError(not_grouped(experts[0].format))
    return PackedStack(experts)


def not_grouped(format: object) -> str:
    """What is said of a format that is none of GROUPED."""
    return f"grouped GEMM takes weights of {', '.join(GROUPED)}, these are {format!r:.60}"


class DeviceStack:
    """A stack on a device.

    experts, format, n, k  as packed
    codes, scales, outer   (address of the first expert's part, bytes of each expert's)
    order, device, owner   those of a DeviceWeight
    launchers              prepared launches by layout; they go with the stack
    """

    __slots__ = (
        "__weakref__",
        "codes",
        "device",
        "experts",
        "format",
        "k",
        "launchers",
        "n",
        "order",
        "outer",
        "owner",
        "scales",
    )

    def __init__(
        self, experts: int, format: str, n: int, k: int, addresses: Sequence[int], device: int, owner: Any, order: str
    ) -> None:
        self.experts, self.format, self.n, self.k = experts, format, n, k
        self.device, self.owner, self.order = device, owner, order
        self.codes, self.scales, self.outer = zip(addresses, part_bytes(format, n, k), strict=True)
        self.launchers: dict[Any, GroupedLauncher] = {}

    def remember(self, key: Any, launcher: GroupedLauncher) -> None:
        if len(self.launchers) >= _MOST_LAUNCHERS:
            self.launchers.clear()
        self.launchers[key] = launcher

    def check_order(self, kernel: Kernel) -> None:
        """OperandError for a kernel that would take the codes for others."""
        if kernel.order != self.order:
            raise OperandError(f"the codes of {self!r} are in order {self.order}, {kernel.name} reads {kernel.order}: upload"
                               f" the packed stack with activations={kernel.activations!r}")  # fmt: skip

    def __repr__(self) -> str:
        return f"DeviceStack({self.experts} x {self.format} [{self.n}, {self.k}], device {self.device})"


def upload_stack(hip: Hip, packed: PackedStack, device: int, order: str) -> DeviceStack:
    """A copy of a stack in one allocation on the device. HipError, DeviceMemoryError."""
    count = len(packed.experts)
    offsets, size = [], 0
    for part in part_bytes(packed.format, packed.n, packed.k):
        offsets.append(size)
        size += -(-part * count // _ALIGNMENT) * _ALIGNMENT
    memory = Allocation(hip, size, device)
    with hip.on(device):
        for index, one in enumerate(packed.experts):
            for data, offset in zip(_parts(one, order), offsets, strict=True):
                memory.write(data, offset + index * data.size)
    addresses = [memory.address + offset for offset in offsets]
    return DeviceStack(count, packed.format, packed.n, packed.k, addresses, device, memory, order)


def _parts(packed: PackedWeight, order: str) -> list[NDArray[np.uint8]]:
    kept = reorder(packed.codes, order), rescale(packed.scales, packed.format, order), packed.outer
    return [np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in kept]


def stack_from_tensors(format: str, k: int, codes: Any, scales: Any, outer: Any) -> DeviceStack:
    """A stack whose parts are device tensors already: codes [experts, ...], scales [experts, ...], outer [experts, N], each
    of them the packed form: uint8 (or a float8 type), outer float32. Nothing is copied, the tensors are kept alive.
    Packed weights have the size of whole bricks, so a K of fewer columns in the last brick has the same: k is not told by
    the tensors. OperandError if sizes or types do not agree."""
    if format not in GROUPED:
        raise OperandError(not_grouped(format))
    tensors = {"codes": codes, "scales": scales, "outer": outer}
    for name, tensor in tensors.items():
        _check_part(name, tensor)
    k, (experts, n) = number(k, "k"), map(int, outer.shape)
    for (name, tensor), size in zip(tensors.items(), part_bytes(format, n, k), strict=True):
        if tensor.nbytes != experts * size or not tensor.is_contiguous():
            raise OperandError(f"{name} has {tensor.nbytes} bytes: {experts} packed {format} weights [{n}, {k}] have"
                               f" {experts * size}, contiguous")  # fmt: skip
        if tensor.get_device() != codes.get_device():
            raise OperandError(f"{name} is on device {tensor.get_device()}, codes on {codes.get_device()}")
    addresses = [tensor.data_ptr() for tensor in tensors.values()]
    order = order_of(tuple(codes.shape)[1:])
    return DeviceStack(experts, format, n, k, addresses, codes.get_device(), tuple(tensors.values()), order)


def _check_part(name: str, tensor: Any) -> None:
    """OperandError for what is no tensor of the type of a part."""
    if not all(hasattr(tensor, what) for what in ("shape", "dtype", "nbytes", "data_ptr", "get_device")):
        raise OperandError(f"{name} is a {type(tensor).__name__}: a tensor on a device is needed")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if name == "outer":
        right, wanted = dtype == "float32" and len(tensor.shape) == 2, "float32 [experts, N]"
    else:
        right, wanted = dtype == "uint8" or dtype.startswith("float8"), "uint8 [experts, ...]"
    if not right:
        raise OperandError(f"{name} is {list(tensor.shape)} {dtype}: {wanted} is needed")
