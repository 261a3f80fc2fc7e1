"""Source text -> raw ELF code object, with whichever compiler the machine has (routes.py: the order)."""

from petitgen.toolchain.choose import Choice, PassedOver, choose
from petitgen.toolchain.compiler import CompileError, Compiler

__all__ = ["Choice", "CompileError", "Compiler", "PassedOver", "choose"]
