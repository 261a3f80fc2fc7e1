"""Data parallel primitives: src0 comes from another lane of the wave.

source: CDNA3 ISA 6.8 "DPP", table of DPP_CTRL; row_newbcast: LLVM's AMDGPU usage guide (gfx90a and later).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.state import LANES, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction

Array = NDArray[Any]

_LANE = np.arange(LANES)
_ROW, _IN_ROW = _LANE & ~15, _LANE & 15


@cache
def source_lanes(control: int) -> tuple[Array, Array]:
    """For each lane the lane it reads, and whether there is such a lane. EmulationError for a reserved
    control."""
    everywhere = np.ones(LANES, bool)
    low = control & 15
    if control <= 0xFF:  # quad_perm
        return (_LANE & ~3) | (control >> 2 * (_LANE & 3) & 3), everywhere
    if 0x101 <= control <= 0x10F:  # row_shl: lane i reads i + n
        return _ROW + ((_IN_ROW + low) & 15), _IN_ROW + low < 16
    if 0x111 <= control <= 0x11F:  # row_shr
        return _ROW + ((_IN_ROW - low) & 15), _IN_ROW - low >= 0
    if 0x121 <= control <= 0x12F:  # row_ror
        return _ROW + ((_IN_ROW - low) & 15), everywhere
    whole = {0x130: (_LANE + 1, _LANE < 63), 0x134: (_LANE + 1, everywhere),
             0x138: (_LANE - 1, _LANE > 0), 0x13C: (_LANE - 1, everywhere)}  # fmt: skip
    if control in whole:  # wave_shl, wave_rol, wave_shr, wave_ror
        lanes, inside = whole[control]
        return lanes & 63, inside
    if control == 0x140:  # row_mirror
        return _ROW + 15 - _IN_ROW, everywhere
    if control == 0x141:  # row_half_mirror
        return (_LANE & ~7) + 7 - (_LANE & 7), everywhere
    if control == 0x142:  # row_bcast15: lane 15 of each row to the next row
        return np.maximum(_ROW - 1, 0), _LANE >= 16
    if control == 0x143:  # row_bcast31: lane 31 to rows 2 and 3
        return np.full(LANES, 31), _LANE >= 32
    if 0x150 <= control <= 0x15F:  # row_newbcast: lane n of the row
        return _ROW + low, everywhere
    raise EmulationError(f"dpp_ctrl {control:#x} is reserved")


def moved(read: Callable[[Group], Any], ins: Instruction) -> Callable[[Group], Any]:
    """A reader of src0 with its lanes moved; a lane whose source does not exist or is off reads 0."""
    lanes, inside = source_lanes(ins.mods.get("dpp_ctrl", 0))
    everywhere = bool(inside.all())

    def move(s: Group) -> Array:
        values = np.asarray(read(s))
        if values.ndim < 2 or values.shape[1] != LANES:
            return values
        values = values[:, lanes]
        if everywhere and s.exec_mask is None:
            return values
        valid = _valid(s, lanes, inside)
        if values.ndim == 3:
            valid = valid[..., None]
        return np.where(valid, values, values.dtype.type(0))

    return move


def _valid(s: Group, lanes: Array, inside: Array) -> Array:
    if s.exec_mask is None:
        return np.broadcast_to(inside, (s.n, LANES))
    return inside & s.exec_mask[:, lanes]


def enabled(step: Callable[[Group], None], ins: Instruction) -> Callable[[Group], None]:
    """`step` in the lanes that row_mask, bank_mask and (without bound_ctrl:0) a valid source allow to be
    written."""
    lanes, inside = source_lanes(ins.mods.get("dpp_ctrl", 0))
    rows, banks = ins.mods.get("row_mask", 0), ins.mods.get("bank_mask", 0)
    writable = ((rows >> (_LANE // 16)) & (banks >> (_LANE % 16 // 4)) & 1).astype(bool)
    zero_fill = bool(ins.mods.get("bound_ctrl", 0))
    trivial = bool(writable.all()) and (zero_fill or bool(inside.all()))

    def run(s: Group) -> None:
        if trivial and s.exec_mask is None:
            step(s)
            return
        allowed = writable & s.active()
        if not zero_fill:
            allowed = allowed & _valid(s, lanes, inside)
        s.set_mask(allowed)
        try:
            step(s)
        finally:
            s.set_mask(s.exec_mask)

    return run
