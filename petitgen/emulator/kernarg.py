"""The kernarg segment: explicit arguments from the caller, hidden ones filled in.

source: LLVM "User Guide for AMDGPU Backend", code object V5 metadata, table of .value_kind; offsets and sizes
come from the code object itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.state import PRIVATE_APERTURE, SHARED_APERTURE
from petitgen.errors import EmulationError
from petitgen.isa import Kernel, KernelArg

Dim3 = tuple[int, int, int]
# Compilers widen scalar loads of arguments to the next power of two, up to 64 bytes, where alignment keeps them
# from crossing into another page; so more than the segment is read.
GRANULE = 64


@dataclass(slots=True)
class Kernarg:
    """A kernarg segment being filled, and the buffers allocated for it.

    buffers: (array, its contiguous bytes' device address) of every numpy argument, for the way back.
    """

    data: bytearray
    buffers: list[tuple[NDArray[Any], int]] = field(default_factory=list)

    def write_back(self, memory: DeviceMemory) -> None:
        """Copy device buffers into the caller's arrays. Read-only arrays keep what they have."""
        for array, address in self.buffers:
            if array.flags.writeable:
                array[...] = memory.read(address, array.dtype, array.shape)

    def free(self, memory: DeviceMemory) -> None:
        """Give the buffers back."""
        for _, address in self.buffers:
            memory.free(address)


def build(
    kernel: Kernel,
    args: Sequence[Any] | bytes,
    grid: Dim3,
    block: Dim3,
    dynamic_lds: int,
    memory: DeviceMemory,
) -> Kernarg:
    """Lay out the kernarg segment. EmulationError names the argument that does not fit."""
    explicit = [arg for arg in kernel.args if not arg.hidden]
    segment = Kernarg(bytearray(max(kernel.descriptor.kernarg_size, kernel.resources.kernarg_segment_size)))
    if isinstance(args, (bytes, bytearray)):
        _blob(kernel, explicit, args, segment)
    else:
        if len(args) != len(explicit):
            wanted = ", ".join(
                f"{a.name or i}: {a.value_kind} of {a.size} bytes" for i, a in enumerate(explicit)
            )
            raise EmulationError(
                f"kernel {kernel.name} takes {len(explicit)} arguments, {len(args)} given; "
                f"it wants ({wanted})"
            )
        for number, (arg, value) in enumerate(zip(explicit, args, strict=True)):
            what = f"argument {number} ({arg.name or arg.value_kind}) of {kernel.name}"
            segment.data[arg.offset : arg.offset + arg.size] = _encode(arg, value, what, segment, memory)
    for arg in kernel.args:
        if arg.hidden:
            value = _hidden(arg.value_kind, grid, block, dynamic_lds)
            segment.data[arg.offset : arg.offset + arg.size] = value.to_bytes(arg.size, "little")
    return segment


def place(data: bytes, memory: DeviceMemory) -> int:
    """Put a kernarg segment into device memory; returns its address.

    It is followed by zeros to a multiple of 64 bytes, which may be read but are no arguments: to the sanitizer
    they are undefined.
    """
    padding = -len(data) % GRANULE
    address = memory.allocate(data + bytes(padding))
    if padding:
        memory.undefine(address + len(data), padding)
    return address


def _blob(kernel: Kernel, explicit: list[KernelArg], args: bytes | bytearray, segment: Kernarg) -> None:
    end = max((arg.offset + arg.size for arg in explicit), default=0)
    if not end <= len(args) <= len(segment.data):
        raise EmulationError(
            f"kernel {kernel.name}: the explicit kernarg segment has {end} bytes "
            f"of {len(segment.data)} in all, {len(args)} given"
        )
    segment.data[: len(args)] = args


def _encode(arg: KernelArg, value: Any, what: str, segment: Kernarg, memory: DeviceMemory) -> bytes:
    if isinstance(value, np.ndarray) and value.ndim:
        if arg.value_kind not in ("global_buffer", "dynamic_shared_pointer"):
            raise EmulationError(
                f"{what} goes by value ({arg.size} bytes); pass a numpy scalar or bytes, not an array"
            )
        return _buffer(value, segment, memory).to_bytes(8, "little")
    if isinstance(value, (bytes, bytearray)):
        data = bytes(value)
    elif isinstance(value, (np.generic, np.ndarray)):
        data = value.tobytes()
    elif isinstance(value, int):
        limit = 1 << 8 * arg.size
        if not -limit // 2 <= value < limit:
            raise EmulationError(f"{what}: {value} does not fit into {arg.size} bytes")
        data = (value % limit).to_bytes(arg.size, "little")
    else:
        raise EmulationError(
            f"{what}: a {type(value).__name__}; pass a numpy array (buffer), numpy scalar, int or bytes"
        )
    if len(data) != arg.size:
        raise EmulationError(f"{what} has {arg.size} bytes, the value given has {len(data)}")
    return data


def _buffer(array: NDArray[Any], segment: Kernarg, memory: DeviceMemory) -> int:
    """Device address of an array's copy; the same array given twice is one buffer."""
    for known, address in segment.buffers:
        if known is array:
            return address
    address = memory.allocate(array)
    segment.buffers.append((array, address))
    return address


def _hidden(kind: str, grid: Dim3, block: Dim3, dynamic_lds: int) -> int:
    """Value of a hidden argument. Services of the host (printf, hostcall, queues, heap) are absent: null."""
    axes = {"x": 0, "y": 1, "z": 2}
    name, _, axis = kind.removeprefix("hidden_").rpartition("_")
    if axis in axes:
        n = axes[axis]
        per_axis = {"block_count": grid[n], "group_size": block[n], "remainder": 0, "global_offset": 0}
        if name in per_axis:
            return per_axis[name]
    dims = 3 if grid[2] * block[2] > 1 else 2 if grid[1] * block[1] > 1 else 1
    values = {
        "hidden_grid_dims": dims, "hidden_dynamic_lds_size": dynamic_lds,
        "hidden_private_base": PRIVATE_APERTURE, "hidden_shared_base": SHARED_APERTURE,
    }  # fmt: skip
    return values.get(kind, 0)
