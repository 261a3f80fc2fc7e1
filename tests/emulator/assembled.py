"""Short assembled programs for tests, and a machine to run them on with any starting state.

The bytes of every program are in assembled.json, so that tests need no assembler. To add programs, write the
test and run it once with PETITGEN_ASSEMBLE=1 and llvm-mc-19 on PATH; test_assembled.py checks the whole file
against llvm-mc.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.program import Program
from petitgen.emulator.scheduler import Scheduler
from petitgen.emulator.state import NORMAL_MODE, Batch, Observer

FILE = Path(__file__).with_name("assembled.json")
ENTRY = 0x1000
ALL = (1 << 64) - 1


@cache
def recorded() -> dict[str, str]:
    """ "arch|text" -> bytes in hexadecimal."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def assemble(arch: str, text: str) -> bytes:
    """What llvm-mc-19 makes of a program."""
    command = ["llvm-mc-19", "-triple=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-filetype=obj", "-o", "-"]
    made = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if made.returncode:
        raise AssertionError(f"llvm-mc-19 for {arch}: {made.stderr.decode()}")
    dumped = subprocess.run(
        ["llvm-objcopy-19", "-O", "binary", "--only-section=.text", "-", "-"],
        input=made.stdout,
        capture_output=True,
        check=True,
    )
    return dumped.stdout


def code_of(arch: str, text: str) -> bytes:
    """The bytes of a program, from the file; recorded if PETITGEN_ASSEMBLE is set."""
    text = "\n".join(line.strip() for line in text.strip().splitlines())
    key = f"{arch}|{text}"
    if key not in recorded() and os.environ.get("PETITGEN_ASSEMBLE"):
        recorded()[key] = assemble(arch, text).hex()
        FILE.write_text(json.dumps(dict(sorted(recorded().items())), indent=0) + "\n")
    if key not in recorded():
        raise AssertionError(f"not in {FILE.name}: {key!r}; run this test once with PETITGEN_ASSEMBLE=1")
    return bytes.fromhex(recorded()[key])


class Machine:
    """Waves with a state to be set before and read after run(). All registers, uint32: v (256, W, 64), a, s
    (W, 128)."""

    def __init__(
        self, arch: str, waves: int = 1, workgroups: int = 1, lds: int = 1024, private: int = 0
    ) -> None:
        self.memory = DeviceMemory()
        groups = np.repeat(np.arange(workgroups), waves // workgroups)
        self.batch = Batch(waves, groups, lds, self.memory, arch)
        self.batch.poison(256, 256)
        self.batch.private_bytes = private
        self.batch.load_base = self.memory.allocate(0x2000)
        self.v, self.a, self.s = self.batch.vgpr[:256], self.batch.vgpr[256:], self.batch.sgpr
        self.s[:, 126:128] = 0xFFFFFFFF
        self.s[:, 106:108] = 0
        self.s[:, 124] = 0
        self.scheduler: Scheduler | None = None

    def pair(self, index: int, value: int, wave: int | slice = slice(None)) -> None:
        """Set an SGPR pair to a 64-bit value."""
        self.s[wave, index], self.s[wave, index + 1] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF

    def quad(self, index: int, *words: int) -> None:
        """Set consecutive SGPRs."""
        self.s[:, index : index + len(words)] = words

    def run(self, text: str, observer: Observer | None = None, limit: int = 100_000) -> Machine:
        """Assemble, run to the end, return self."""
        arch = self.batch.arch
        code = code_of(arch, text + "\ns_endpgm")
        descriptor = SimpleNamespace(vgpr_count=512, accum_offset=256)
        kernel = SimpleNamespace(descriptor=descriptor, entry=ENTRY, code=code)
        program: Any = SimpleNamespace(arch=arch, segments=((ENTRY, code + bytes(16)),))
        self.batch.observer = observer
        self.scheduler = Scheduler(Program(program, kernel), limit)  # type: ignore[arg-type]
        self.scheduler.run(self.batch, ENTRY)
        return self


def run(arch: str, text: str, **state: Any) -> Machine:
    """Run one wave. `v0=array`, `a3=array`, `s4=int`, `vcc=int`, `exec=int`, `scc=bool`, `m0=int`, `mode=int`
    set the start."""
    machine = Machine(arch)
    set_state(machine, state)
    return machine.run(text)


def set_state(machine: Machine, state: Mapping[str, Any]) -> None:
    """Set registers by name; a 64-bit int fills a pair."""
    names = {"vcc": 106, "m0": 124, "exec": 126}
    for name, value in state.items():
        if name == "scc":
            machine.batch.scc[:] = value
        elif name == "mode":
            machine.batch.mode[:] = value
        elif name[0] in "va" and name[1:].isdigit():
            rows = machine.v if name[0] == "v" else machine.a
            array = np.asarray(value)
            if array.dtype.itemsize == 8:
                words = np.ascontiguousarray(array).view(np.uint32).reshape(*array.shape, 2)
                rows[int(name[1:])], rows[int(name[1:]) + 1] = words[..., 0], words[..., 1]
            else:
                rows[int(name[1:])] = array.view(np.uint32)
        else:
            index = names.get(name, int(name[1:]) if name[1:].isdigit() else -1)
            machine.s[:, index] = value & 0xFFFFFFFF
            if name in ("vcc", "exec") or value >> 32:
                machine.s[:, index + 1] = value >> 32 & 0xFFFFFFFF


def wide(rows: np.ndarray, index: int) -> np.ndarray:
    """Two consecutive rows as uint64."""
    return rows[index].astype(np.uint64) | rows[index + 1].astype(np.uint64) << np.uint64(32)


__all__ = [
    "ALL",
    "ENTRY",
    "NORMAL_MODE",
    "Machine",
    "assemble",
    "code_of",
    "recorded",
    "run",
    "set_state",
    "wide",
]
