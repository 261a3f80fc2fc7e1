"""Runs kernels that go over arrays on the emulated device, with everything round their buffers watched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory, launch
from petitgen.emulator.sanitizer import Finding, Sanitizer
from petitgen.verify.device import GUARD_BYTES, intended, laid_out, place, trespass
from runtime.manifest import Kernel

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
    kernarg = laid_out(kernel, placed, scalars, arch)
    grid = kernel.grid.size(**dimensions)
    waves = math.prod(grid) * -(-kernel.block // kernel.resources.wave_size)
    watch = Sanitizer(intended(kernel, kernarg)) if sanitize else False
    result = launch(
        code_object, kernel.symbol, grid, kernel.block, kernarg, memory=memory, limit=waves * STEPS, sanitize=watch
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
