"""What a memory instruction moves between registers and memory."""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.emulator.sanitizer.footprint import Footprint, Unit, rows

_BUFFERS = ("MUBUF", "MTBUF")


@dataclass(frozen=True, slots=True)
class Movement:
    """What a memory instruction moves.

    target, data  rows that loads fill, and rows that stores and atomics take
    places        the observer is told of it place by place: DS instructions of two addresses, 2; buffers, dword by
                  dword: 0; else 1
    half          the half of a register that a d16 load fills (0 low) or a store takes
    extends       a byte or half is sign-extended to the whole register
    to_lds        what is loaded goes to LDS
    swaps         an atomic whose new value does not depend on the old one
    typed         bytes in memory and in registers do not match: they are converted
    """

    target: tuple[int, ...]
    data: tuple[int, ...]
    places: int
    half: int | None
    extends: bool
    to_lds: bool
    swaps: bool
    typed: bool = False

    def first(self, part: int, size: int) -> int:
        """Number within `target` or `data` of the first register of the part-th event, of `size` bytes."""
        if self.places == 1:
            return 0
        return (part % self.places if self.places else part) * -(-size // 4)

    def component(self, part: int, size: int) -> tuple[tuple[int, ...], int]:
        """The rows that the part-th event stores as they are, and the first byte of them."""
        if self.typed or self.to_lds:
            return (), 0
        first = self.first(part, size)
        return self.data[first : first + -(-size // 4)], 2 if self.half == 1 else 0


def movement(touched: Footprint) -> Movement:
    """Of a memory instruction."""
    ins, name = touched.instruction, touched.instruction.mnemonic
    data = [o for role in ("vdata", "data0", "data1") for o in ins.src if o.role == role]
    places = 1
    if ins.encoding in _BUFFERS and "_format_" not in name:
        places = 0
    elif touched.unit is Unit.LDS and "2" in name.split("_")[1]:
        places = 2
    return Movement(
        target=tuple(row for _, group in touched.results for row in group),
        data=tuple(row for o in data for row in rows(o)),
        places=places,
        half=1 if "d16_hi" in name else 0 if "_d16" in name else None,
        extends=any(part in name for part in ("sbyte", "sshort", "_i8", "_i16")),
        to_lds=touched.to_lds,
        typed="_format_" in name,
        swaps=name.endswith(("_swap", "_swap_x2")) or "wrxchg" in name,
    )
