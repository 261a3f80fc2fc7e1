"""Accesses that the hardware carries out, but hardly as meant: out of range, misaligned, to scratch.

out of range  a buffer load gives 0 and a store is dropped; an LDS access past the workgroup's LDS likewise. Finding,
              unless the descriptor is among those whose tails are meant (Sanitizer.intended)
misaligned    a scalar load, which ignores the low two bits of its address, or an atomic at no multiple of its size.
              Loads and stores of VMEM and LDS go to any address (the HSA ABI asks for unaligned mode, and compilers
              rely on it for packed structs) in more than one transaction: those at no multiple of the smaller of the
              element and 4 bytes are counted, like bank conflicts. Eight- and sixteen-byte accesses at multiples of 4
              are not even that: compilers know what they cost
scratch       on request: spills and arrays in the private segment
source: CDNA3 ISA (MI300) 9.1.5, 9.1.7 "Memory Buffer Load Data, Alignment", 8.2, 11.1; LLVM "User Guide for AMDGPU
Backend", SH_MEM_CONFIG.alignment_mode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.operands import operand
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.footprint import Footprint, Unit
from petitgen.emulator.state import Array, Group
from petitgen.isa.model import Instruction, Kind

_EVERY = (1 << 64) - 1
_BUFFERS = ("MUBUF", "MTBUF")


class AccessCheck:
    """Accesses of one launch.

    intended   descriptors (16 bytes) whose out-of-range accesses are meant, through them or a window that the kernel
               makes of one
    per_group  waves of a workgroup
    past_lds   accesses past the workgroup's LDS are meant
    scratch    report scratch accesses
    misaligned  loads and stores: pc -> [text, wave-instructions that have such lanes, such lanes]; an instruction with
                two addresses, or of several dwords through a descriptor, counts each
    """

    def __init__(
        self,
        findings: Findings,
        intended: frozenset[bytes],
        per_group: int,
        *,
        past_lds: bool = False,
        scratch: bool = False,
    ) -> None:
        self.findings = findings
        self.intended = intended
        self.per_group = per_group
        self.past_lds = past_lds
        self.scratch = scratch
        self.misaligned: dict[int, list[Any]] = {}

    def instruction(self, group: Group, touched: Footprint) -> None:
        """Alignment of scalar loads, whose low address bits are dropped before they are seen as an access."""
        if touched.unit is not Unit.SMEM:
            return
        ins = touched.instruction
        base, offset = operand(ins, "sbase"), operand(ins, "offset", "soffset")
        if base is None or "buffer" in ins.mnemonic:
            return
        low = group.su32[base.index] + np.uint32(ins.mods.get("offset", 0) & 0xFFFFFFFF)
        if offset is not None and offset.kind is Kind.SGPR:
            low = low + group.su32[offset.index]
        elif offset is not None:
            low = low + np.uint32(offset.value & 0xFFFFFFFF)
        if (low & 3).any():
            self._add("misaligned", "the low two bits of the address are ignored", group, ins, (low & 3) != 0)

    def access(
        self, group: Group, ins: Instruction, space: str, kind: str, addresses: Array, size: int, active: Array
    ) -> None:
        """One component of a memory access."""
        if space == "scalar":
            return
        if self.scratch and space == "scratch":
            self._add("scratch", f"{kind} of scratch memory", group, ins, active)
        unit = size if kind == "atomic" else min(size, 4)
        if unit & unit - 1 or not int(np.bitwise_or.reduce(addresses, axis=None)) & unit - 1:
            return
        bad = active & ((addresses & unit - 1) != 0)
        if not bad.any():
            return
        if kind == "atomic":
            where = "LDS" if space == "lds" else "memory"
            self._add("misaligned", f"an atomic of {size} bytes of {where} at no multiple of {unit}", group, ins, bad)
            return
        entry = self.misaligned.setdefault(ins.pc, [ins.text, 0, 0])
        entry[1] += int(bad.any(axis=1).sum())
        entry[2] += int(bad.sum())

    def counts(self, base: int) -> dict[int, tuple[str, int, int]]:
        """`misaligned` by offset from `base`."""
        return {pc - base: (text, waves, lanes) for pc, (text, waves, lanes) in sorted(self.misaligned.items())}

    def out_of_range(self, group: Group, ins: Instruction, lanes: Array) -> None:
        """Lanes that are on and out of range."""
        resource = operand(ins, "srsrc")
        if resource is None:
            if not self.past_lds and lanes.any():
                message = f"past the {group.batch.lds_bytes} bytes of LDS that the workgroup has"
                self._add("out-of-range", message, group, ins, lanes)
            return
        bad = lanes.copy()
        if self.intended:
            words = np.ascontiguousarray(group.sgpr[:, resource.index : resource.index + 4])
            for descriptor in np.unique(words, axis=0):
                if self._meant(descriptor):
                    bad[(words == descriptor).all(axis=1)] = False
        if bad.any():
            records = int(group.sgpr[np.flatnonzero(bad.any(axis=1))[0], resource.index + 2])
            message = f"outside the {records} bytes (or records) of the descriptor in {resource.name}"
            self._add("out-of-range", message, group, ins, bad)

    def _meant(self, words: Array) -> bool:
        """Is a descriptor (4 dwords) one whose tail is meant, or a window of one: same flags, inside it or empty?"""
        if words.tobytes() in self.intended:
            return True
        base, records = _extent(words)
        return any(
            words[3] == whole[3] and (records == 0 or (first <= base and base + records <= first + size))
            for whole in (np.frombuffer(descriptor, np.uint32) for descriptor in self.intended)
            for first, size in (_extent(whole),)
        )

    def _add(self, check: str, message: str, group: Group, ins: Instruction, bad: NDArray[np.bool_]) -> None:
        """`bad`: waves (n,) or lanes (n, 64)."""
        by_lane = bad.ndim == 2
        waves = np.flatnonzero(bad.any(axis=1) if by_lane else bad)
        if not waves.size:
            return
        first = int(waves[0])
        lanes = _EVERY
        if by_lane:
            lanes = int(np.packbits(bad[first], bitorder="little").view(np.uint64)[0])
        wave = int(group.index[first])
        self.findings.add(
            check, message, ins, group.batch.workgroup_name(wave), wave % self.per_group, lanes, waves.size
        )


def private(group: Group, ins: Instruction) -> bool:
    """Is it a buffer instruction that uses the swizzled private segment buffer, as gfx90a does for scratch?"""
    resource = operand(ins, "srsrc") if ins.encoding in _BUFFERS else None
    if resource is None:
        return False
    swizzle, add_tid = group.su32[resource.index + 1] >> np.uint32(31), group.su32[resource.index + 3] >> np.uint32(23)
    return bool((swizzle & add_tid & np.uint32(1)).all())


def _extent(words: Array) -> tuple[int, int]:
    """Address and bytes of a raw buffer descriptor (stride 0)."""
    return int(words[0]) | (int(words[1]) & 0xFFFF) << 32, int(words[2])
