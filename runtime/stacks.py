"""Stacks of packed weights, one for each expert: on the host, and on a device in one allocation.

Each part (codes, scales, outer) of all experts is one array, expert after expert. Kernels count in 64 bits where an expert's
part begins, so a stack may be larger than 4 GiB; one expert's part may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.errors import OperandError, PackError
from runtime.hip import Hip
from runtime.memory import Allocation, number
from runtime.orders import order_of
from runtime.packing import PackedWeight
from runtime.weights import Uploaded, check_part, device_parts, part_bytes, places

if TYPE_CHECKING:
    from runtime.library import Library

GROUPED = ("nvfp4", "mxfp4", "amdfp4")
"""Formats of weights that grouped GEMM takes."""


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


class DeviceStack(Uploaded):
    """A stack on a device: `experts` weights, each part of an expert behind that of the one before."""

    __slots__ = ("experts",)

    def __init__(
        self, experts: int, format: str, n: int, k: int, addresses: Sequence[int], device: int, owner: Any, order: str
    ) -> None:
        codes, scales, outer = zip(addresses, part_bytes(format, n, k), strict=True)
        super().__init__(format, n, k, (codes, scales, outer), device, owner, order)
        self.experts = experts

    def __repr__(self) -> str:
        return f"DeviceStack({self.experts} x {self.format} [{self.n}, {self.k}], device {self.device})"


def upload_stack(hip: Hip, packed: PackedStack, device: int, order: str) -> DeviceStack:
    """A copy of a stack in one allocation on the device. HipError, DeviceMemoryError."""
    count = len(packed.experts)
    offsets, size = places([part * count for part in part_bytes(packed.format, packed.n, packed.k)])
    memory = Allocation(hip, size, device)
    with hip.on(device):
        for index, one in enumerate(packed.experts):
            for data, offset in zip(device_parts(one, order), offsets, strict=True):
                memory.write(data, offset + index * data.size)
    addresses = [memory.address + offset for offset in offsets]
    return DeviceStack(count, packed.format, packed.n, packed.k, addresses, device, memory, order)


def stack_from_tensors(format: str, k: int, codes: Any, scales: Any, outer: Any) -> DeviceStack:
    """A stack whose parts are device tensors already: codes [experts, ...], scales [experts, ...], outer [experts, N], each
    of them the packed form: uint8 (or a float8 type), outer float32. Nothing is copied, the tensors are kept alive.
    Packed weights have the size of whole bricks, so a K of fewer columns in the last brick has the same: k is not told by
    the tensors. OperandError if sizes or types do not agree."""
    if format not in GROUPED:
        raise OperandError(not_grouped(format))
    tensors = {"codes": codes, "scales": scales, "outer": outer}
    for name, tensor in tensors.items():
        check_part(name, tensor, 2)
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
