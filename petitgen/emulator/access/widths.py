"""What a load or store moves, by the part of its mnemonic after the family.

source: CDNA3 ISA 12.12-12.15. The same names are used by BUFFER, FLAT, GLOBAL and SCRATCH; DS has its own
spelling.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Width:
    """size: bytes of one component (1, 2, 4); count: components, one a register; signed: sign-extended to 32
    bits; half: register half a 16-bit load writes or a store reads (0 low, 1 high), with the other half kept
    (d16)."""

    size: int
    count: int = 1
    signed: bool = False
    half: int | None = None


LOADS = {
    "ubyte": Width(1),
    "sbyte": Width(1, signed=True),
    "ushort": Width(2),
    "sshort": Width(2, signed=True),
    "dword": Width(4),
    "dwordx2": Width(4, 2),
    "dwordx3": Width(4, 3),
    "dwordx4": Width(4, 4),
    "ubyte_d16": Width(1, half=0),
    "ubyte_d16_hi": Width(1, half=1),
    "sbyte_d16": Width(1, signed=True, half=0),
    "sbyte_d16_hi": Width(1, signed=True, half=1),
    "short_d16": Width(2, half=0),
    "short_d16_hi": Width(2, half=1),
}

STORES = {
    "byte": Width(1),
    "byte_d16_hi": Width(1, half=1),
    "short": Width(2),
    "short_d16_hi": Width(2, half=1),
    "dword": Width(4),
    "dwordx2": Width(4, 2),
    "dwordx3": Width(4, 3),
    "dwordx4": Width(4, 4),
}

DS_LOADS = {
    "u8": Width(1),
    "i8": Width(1, signed=True),
    "u16": Width(2),
    "i16": Width(2, signed=True),
    "b32": Width(4),
    "b64": Width(4, 2),
    "b96": Width(4, 3),
    "b128": Width(4, 4),
    "u8_d16": Width(1, half=0),
    "u8_d16_hi": Width(1, half=1),
    "i8_d16": Width(1, signed=True, half=0),
    "i8_d16_hi": Width(1, signed=True, half=1),
    "u16_d16": Width(2, half=0),
    "u16_d16_hi": Width(2, half=1),
}

DS_STORES = {
    "b8": Width(1),
    "b8_d16_hi": Width(1, half=1),
    "b16": Width(2),
    "b16_d16_hi": Width(2, half=1),
    "b32": Width(4),
    "b64": Width(4, 2),
    "b96": Width(4, 3),
    "b128": Width(4, 4),
}
