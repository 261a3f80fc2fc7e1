"""What an instruction is: tables, decoder, assembler text, code objects.

What it does is petitgen.emulator's affair.
"""

from petitgen.isa.bundle import unbundle
from petitgen.isa.codeobject import CodeObject, Kernel, KernelArg
from petitgen.isa.decode import decode, disassemble
from petitgen.isa.descriptor import KernelDescriptor
from petitgen.isa.model import Instruction, Kind, Operand

__all__ = [
    "CodeObject", "Instruction", "Kernel", "KernelArg", "KernelDescriptor", "Kind", "Operand", "decode",
    "disassemble", "unbundle",
]  # fmt: skip
