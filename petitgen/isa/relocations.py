"""Dynamic relocations: the words of a code object's image that depend on where the image is placed.

Tables of function and data pointers have them. Source: LLVM "User Guide for AMDGPU Backend", Relocation Records.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationTable

from petitgen.errors import CodeObjectError
from petitgen.isa.codeobject import CodeObject

# type -> bytes written, and their value from the symbol's address plus addend (for relative ones the base plus
# addend) and the place's own address. Types that only a linker meets (GOTPCREL, REL16) are not in a loaded image.
_KINDS: dict[int, tuple[str, int, Callable[[int, int], int]]] = {
    1: ("R_AMDGPU_ABS32_LO", 4, lambda target, place: target),
    2: ("R_AMDGPU_ABS32_HI", 4, lambda target, place: target >> 32),
    3: ("R_AMDGPU_ABS64", 8, lambda target, place: target),
    4: ("R_AMDGPU_REL32", 4, lambda target, place: target - place),
    5: ("R_AMDGPU_REL64", 8, lambda target, place: target - place),
    6: ("R_AMDGPU_ABS32", 4, lambda target, place: target),
    10: ("R_AMDGPU_REL32_LO", 4, lambda target, place: target - place),
    11: ("R_AMDGPU_REL32_HI", 4, lambda target, place: (target - place) >> 32),
    13: ("R_AMDGPU_RELATIVE64", 8, lambda target, place: target),
}
_NONE, _RELATIVE = 0, 13


@dataclass(frozen=True, slots=True)
class Relocation:
    """One word to fill in. Addresses are virtual: 0 is the start of the image.

    address  of the word
    kind     R_AMDGPU_* number
    target   symbol's address plus addend
    moves    the target moves with the image (it does not for absolute and undefined weak symbols)
    """

    address: int
    kind: int
    target: int
    moves: bool

    def value(self, base: int) -> bytes:
        """The word, little-endian, when the image is placed at `base`."""
        _, size, compute = _KINDS[self.kind]
        target = self.target + base if self.moves else self.target
        return (compute(target, self.address + base) % (1 << 8 * size)).to_bytes(size, "little")


@lru_cache(maxsize=64)
def relocations(code: CodeObject) -> tuple[Relocation, ...]:
    """The dynamic relocations of a code object.

    CodeObjectError for one of a type that no AMDGPU loader knows, for a symbol that nothing defines, and for a
    place outside of the image.
    """
    try:
        return tuple(_relocations(code))
    except (ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as fault:
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise CodeObjectError(f"damaged dynamic relocations ({reason}); build the code object again") from None


def _relocations(code: CodeObject) -> Iterator[Relocation]:
    for segment in ELFFile(io.BytesIO(code.elf)).iter_segments("PT_DYNAMIC"):
        assert isinstance(segment, DynamicSegment)
        for name, table in segment.get_relocation_tables().items():
            if not isinstance(table, RelocationTable) or not table.is_RELA():
                raise CodeObjectError(f"dynamic relocations in a {name} table; link without packing them")
            for entry in table.iter_relocations():
                found = _relocation(segment, entry["r_offset"], entry["r_info_type"],
                                    entry["r_info_sym"], entry["r_addend"])  # fmt: skip
                if found is not None:
                    code.read(found.address, _KINDS[found.kind][1])  # inside the image, or an error
                    yield found


def _relocation(segment: DynamicSegment, address: int, kind: int, symbol: int, addend: int) -> Relocation | None:
    if kind == _NONE:
        return None
    if kind not in _KINDS:
        known = ", ".join(name for name, _, _ in _KINDS.values())
        raise CodeObjectError(f"dynamic relocation of unknown type {kind} at {address:#x} (known: {known})")
    if kind == _RELATIVE or symbol == 0:
        return Relocation(address, kind, addend, True)
    named = segment.get_symbol(symbol)
    where, weak = named["st_shndx"], named["st_info"]["bind"] == "STB_WEAK"
    if where == "SHN_UNDEF" and not weak:
        raise CodeObjectError(
            f"{_KINDS[kind][0]} at {address:#x} refers to {named.name}, which the code object does not define"
        )
    return Relocation(address, kind, named["st_value"] + addend, where not in ("SHN_UNDEF", "SHN_ABS"))
