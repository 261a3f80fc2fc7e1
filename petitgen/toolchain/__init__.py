"""Source text -> raw ELF code object, with whichever compiler the machine has (see routes.py for the order)."""

from petitgen.toolchain.choose import Choice, PassedOver, choose
from petitgen.toolchain.compiler import CompileFailed, Compiler

__all__ = ["Choice", "CompileFailed", "Compiler", "PassedOver", "choose"]
