"""Runs kernels that go over arrays on the emulated device, with everything round their buffers watched."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory, launch
from petitgen.emulator.sanitizer import Finding, Sanitizer
from petitgen.verify.device import GUARD_BYTES, intended, place, trespass
from runtime.descriptors import buffer_resource
from runtime.manifest import Kernel

_CODES = {"u32": "<I", "f32": "<f"}
STEPS = 20_000  # wave-instructions a wave, some ten times what kernels take


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What one launch did. written: bytes of the buffers that it may write, by name; the rest as verify.device.Execution."""

    written: Mapping[str, NDArray[np.uint8]]
    trespasses: tuple[str, ...]
    instructions: int
    faults: tuple[Finding, ...]


def execute(
    kernel: Kernel,
    code_object: Path,
    arch: str,
    buffers: Mapping[str, NDArray],
    scalars: Mapping[str, float],
    dimensions: Mapping[str, int],
    sanitize: bool,
) -> Done:
    """Launch a kernel on the emulator with contiguous buffers as they are given.

    dimensions: what its grid is made of. Raises EmulationError, with the findings so far, when it does what the device
    cannot.
    """
    memory = DeviceMemory()
    placed = {name: place(memory, name, data.reshape(-1).view(np.uint8)) for name, data in buffers.items()}
    segment = bytearray(kernel.kernarg.size)
    for argument in kernel.kernarg.args:
        if argument.kind == "buffer":
            buffer = placed[argument.name]
            data = buffer_resource(buffer.address, buffer.size, arch)
        else:
            data = struct.pack(_CODES[argument.kind], scalars[argument.name])
        segment[argument.offset : argument.offset + argument.size] = data
    grid = kernel.grid.size(**dimensions)
    waves = math.prod(grid) * -(-kernel.block // kernel.resources.wave_size)
    watch = Sanitizer(intended(kernel, bytes(segment))) if sanitize else False
    result = launch(
        code_object, kernel.symbol, grid, kernel.block, bytes(segment), memory=memory, limit=waves * STEPS, sanitize=watch
    )
    written, trespasses = {}, []
    for argument in kernel.kernarg.args:
        if argument.kind != "buffer":
            continue
        buffer = placed[argument.name]
        after = memory.read(buffer.address - GUARD_BYTES, np.uint8, buffer.before.size)
        changed = after != buffer.before
        if argument.access != "read":
            inside = slice(GUARD_BYTES, GUARD_BYTES + buffer.size)
            written[argument.name] = after[inside]
            changed[inside] = False
        if changed.any():
            trespasses.append(trespass(buffer, changed))
    return Done(written, tuple(trespasses), result.total, result.findings)
