"""A code object compiled for execution, block by block, when a wave first gets there.

A block is straight-line code: a tuple of steps and an exit. Blocks end at branches, barriers, and where a
direct branch may land, so that waves that went different ways can meet again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from petitgen.emulator.access.buffer import compile_mubuf
from petitgen.emulator.access.flat import compile_flat
from petitgen.emulator.access.formats import compile_typed
from petitgen.emulator.access.lds import compile_ds
from petitgen.emulator.access.scalar import compile_smem
from petitgen.emulator.control import (
    NOTHING,
    SPECIAL,
    STOPS,
    Exit,
    always,
    branch_target,
    compile_exit,
    compile_special,
    ends_block,
)
from petitgen.emulator.execute import compile_scalar, compile_vector
from petitgen.emulator.faults import named, wave_of
from petitgen.emulator.matrix import compile_mai
from petitgen.emulator.operands import SOURCE_NUMBER
from petitgen.emulator.state import M0, Group
from petitgen.errors import CodeObjectError, DecodeError, EmulationError
from petitgen.isa import CodeObject, Instruction, Kernel, Kind, Operand, decode

Step = Callable[[Group], None]
WINDOW = 1 << 16  # bytes of code looked at for one block

_BY_ENCODING: dict[str, Callable[[Instruction], Step | None]] = {
    **dict.fromkeys(("SOP1", "SOP2", "SOPC", "SOPK"), compile_scalar),
    **dict.fromkeys(("VOP1", "VOP2", "VOPC", "VOP3", "VOP3P", "SDWA", "DPP"), compile_vector),
    **dict.fromkeys(("FLAT", "GLOBAL", "SCRATCH"), compile_flat),
    "SMEM": compile_smem,
    "MUBUF": lambda ins: compile_typed(ins) if "_format_" in ins.mnemonic else compile_mubuf(ins),
    "MTBUF": compile_typed,
    "DS": compile_ds,
    "MAI": compile_mai,
}


@dataclass(frozen=True, slots=True)
class Block:
    """Straight-line code from `start`.

    steps         what to run, without the instructions that do nothing
    instructions  all of them, with their step or None, for counting and for observers
    exit          where the waves go
    barrier       they wait for their workgroup first
    """

    start: int
    steps: tuple[Step, ...]
    instructions: tuple[tuple[Instruction, Step | None], ...]
    exit: Exit
    barrier: bool


class Program:
    """The blocks of one kernel, and of what it calls, by pc (virtual address)."""

    def __init__(self, code: CodeObject, kernel: Kernel) -> None:
        self.code = code
        self.blocks: dict[int, Block] = {}
        self.landings: set[int] = set()
        total, first = kernel.descriptor.vgpr_count, kernel.descriptor.accum_offset
        self.registers = {Kind.VGPR: min(first, total), Kind.AGPR: max(total - first, 0)}
        self._scan(kernel)

    def _scan(self, kernel: Kernel) -> None:
        """Note where the branches of the kernel land."""
        offset = 0
        while offset < len(kernel.code):
            try:
                ins = decode(kernel.code, offset, self.code.arch, kernel.entry + offset)
            except DecodeError:
                return  # data or padding among the code; if it is executed it will be reported
            target = branch_target(ins)
            if target is not None:
                self.landings.add(target)
            offset += ins.size

    def block(self, pc: int) -> Block:
        """The block at `pc`, compiled if need be. EmulationError if there is no code at `pc`."""
        found = self.blocks.get(pc)
        if found is None:
            found = self.blocks[pc] = self._compile(pc)
        return found

    def _compile(self, start: int) -> Block:
        code, base = self._window(start), start
        listed: list[tuple[Instruction, Step | None]] = []
        indexed = False
        pc = start
        while True:
            if pc - base > len(code) - 8:
                code, base = self._window(pc), pc
            ins = decode(code, pc - base, self.code.arch, pc)
            if ends_block(ins):
                if indexed:
                    raise EmulationError(f"pc {pc:#x}: a branch while VGPR indexing is on (s_set_gpr_idx_on)")
                return _block(start, [*listed, (ins, None)], compile_exit(ins), ins.mnemonic == "s_barrier")
            if ins.mnemonic.startswith("s_set_gpr_idx_"):
                indexed = (
                    indexed or ins.mnemonic == "s_set_gpr_idx_on"
                ) and ins.mnemonic != "s_set_gpr_idx_off"
            listed.append((ins, self._step(ins, indexed)))
            pc += ins.size
            if (pc in self.landings and not indexed) or ins.mnemonic in STOPS:  # nothing need follow a trap
                return _block(start, listed, always(pc), False)

    def _step(self, ins: Instruction, indexed: bool) -> Step | None:
        for operand in (*ins.dst, *ins.src):
            if (
                operand.kind in self.registers
                and operand.index + operand.dwords > self.registers[operand.kind]
            ):
                count = self.registers[operand.kind]
                return failing(
                    ins,
                    f"{ins.mnemonic}: register {operand.name}, but the kernel allocates {count} of its kind",
                )
        vector = ins.encoding in ("VOP1", "VOP2", "VOPC", "VOP3")
        return _indexed(ins) if indexed and vector else compile_step(ins)

    def _window(self, pc: int) -> bytes:
        for address, data in self.code.segments:
            if address <= pc < address + len(data):
                return data[pc - address : pc - address + WINDOW]
        raise EmulationError(f"the kernel jumped to pc {pc:#x}, which is no code of the code object")


def _block(start: int, listed: list[tuple[Instruction, Step | None]], leave: Exit, barrier: bool) -> Block:
    return Block(start, tuple(step for _, step in listed if step is not None), tuple(listed), leave, barrier)


def compile_step(ins: Instruction) -> Step | None:
    """The step of any instruction that does not end a block; None if it has no effect.

    An instruction that cannot be compiled becomes a step that raises, so that only executing it is an error.
    """
    try:
        return compile_known(ins)
    except (EmulationError, CodeObjectError) as fault:
        return failing(ins, str(fault))


def compile_known(ins: Instruction) -> Step | None:
    """compile_step for what can be executed. EmulationError or CodeObjectError says why an instruction
    cannot."""
    try:
        if ins.mnemonic in SPECIAL:
            return compile_special(ins)
        return _BY_ENCODING[ins.encoding](ins)
    except KeyError:
        raise EmulationError(f"{ins.mnemonic}: no semantics") from None


def failing(ins: Instruction, reason: str) -> Step:
    """A step that says why the instruction cannot be executed."""

    def step(s: Group) -> None:
        raise EmulationError(f"{named(s.batch, ins)}, {wave_of(s, 0)}: {reason}")

    return step


def _indexed(ins: Instruction) -> Step:
    """A vector instruction under s_set_gpr_idx_on: M0[7:0] is added to the VGPR numbers M0[15:12] selects.

    source: CDNA3 ISA 12.3 S_SET_GPR_IDX_ON; M0[12] src0, [13] src1, [14] src2, [15] dst.
    """
    compiled: dict[int, Step | None] = {}

    def shifted(m0: int) -> Instruction:
        index, selected = m0 & 0xFF, m0 >> 12 & 15

        def shift(operand: Operand, bit: int) -> Operand:
            if operand.kind is Kind.VGPR and selected >> bit & 1:
                return replace(operand, index=operand.index + index)
            return operand

        src = tuple(shift(o, SOURCE_NUMBER.get(o.role, 3)) for o in ins.src)
        return replace(ins, dst=tuple(shift(o, 3) for o in ins.dst), src=src)

    def step(s: Group) -> None:
        keys = s.su32[M0] & np.uint32(0xF0FF)
        before = s.mask
        for key in np.unique(keys):
            number = int(key)
            if number not in compiled:
                compiled[number] = compile_step(shifted(number))
            run = compiled[number]
            if run is None:
                continue
            here = keys == key
            if not here.all():
                s.set_mask(s.active() & here[:, None])
            try:
                run(s)
            finally:
                s.set_mask(before)

    return step


assert NOTHING <= SPECIAL
