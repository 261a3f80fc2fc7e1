"""Runs kernels that go over arrays on the emulated device, with everything round their buffers watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory
from petitgen.emulator.sanitizer import Finding
from petitgen.verify.device import contents_of, intended, laid_out, place, run, trespasses
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
    meant = intended(kernel, kernarg) if sanitize else None
    result = run(kernel, code_object, memory, kernarg, dimensions, STEPS, meant)
    made = [argument.name for argument in kernel.kernarg.args if argument.kind == "buffer" and argument.access != "read"]
    written = {name: contents_of(memory, placed[name])[: placed[name].size] for name in made}
    found = trespasses(memory, placed.values(), dict.fromkeys(made, ...))
    return Done(written, found, result.total, result.findings)
