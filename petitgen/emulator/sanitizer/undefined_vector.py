"""How vector instructions pass on undefined bytes.

Lane by lane; within a lane exactly for moves, selections and bitwise operations, by half or dword for packed ones, and
else any undefined byte that an instruction reads makes its whole result undefined in that lane.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.dpp import source_lanes
from petitgen.emulator.registry import KEEPS_HIGH_HALF, WRITES_HIGH_HALF
from petitgen.emulator.sanitizer.footprint import SCC, Footprint, rows
from petitgen.emulator.sanitizer.undefined import ALL, NONE, Bytes, Lanes, View, packed, spread, unpacked
from petitgen.emulator.sanitizer.undefined_bytes import BYTEWISE
from petitgen.emulator.sanitizer.undefined_lanes import LANE_RULES
from petitgen.emulator.types import HALF, PACKED, PAIR
from petitgen.isa.model import Instruction, Kind, Operand

Rule = Callable[[View], None]
Writer = Callable[[View, Bytes, Lanes], None]

_SOURCES = {"src0": 0, "src1": 1, "src2": 2}
_SELECTED = {0: (0,), 1: (1,), 2: (2,), 3: (3,), 4: (0, 1), 5: (2, 3), 6: (0, 1, 2, 3)}  # SDWA
_LOW, _HIGH, _WHOLE = (0, 1), (2, 3), (0, 1, 2, 3)


def compile_valu(touched: Footprint) -> Rule:
    """The rule of a vector ALU instruction."""
    ins = touched.instruction
    if ins.mnemonic in LANE_RULES:
        return LANE_RULES[ins.mnemonic](ins)
    if ins.encoding not in ("SDWA", "DPP") and ins.mnemonic in BYTEWISE and not ins.mods.get("op_sel"):
        return _bytewise(ins)
    if ins.dst and ins.dst[0].type in (PACKED | PAIR):
        return _packed_rule(ins)
    if ins.mnemonic in _LOW_FROM_LOW:
        return _wide(ins)
    if ins.encoding != "SDWA" and _cancels(ins):
        return _writing(ins, lambda view: np.zeros(view.group.n, np.uint64))
    return _writing(ins, _union(ins))


# Compilers use these for 32-bit results, too, and leave the high dword of a source to chance.
_LOW_FROM_LOW = frozenset({"v_mad_u64_u32", "v_mad_i64_i32", "v_lshl_add_u64", "v_lshlrev_b64"})


def _wide(ins: Instruction) -> Rule:
    """64-bit arithmetic whose low dword depends on the low dwords only."""
    low, high = rows(ins.dst[0])
    union, mask = _union(ins), [_writer(o, ins, first=False) for o in ins.dst[1:]]
    firsts = [rows(o)[0] for o in ins.src if rows(o)]

    def rule(view: View) -> None:
        part = np.zeros(view.group.n, np.uint64)
        for row in firsts:
            part = part | np.bitwise_or.reduce(view.bytes_of(row), axis=1)
        whole, on = spread(union(view)), view.exec
        view.set_vector(low, spread(part), on)
        view.set_vector(high, whole, on)
        for write in mask:
            write(view, whole, on)

    return rule


# --- any byte -------------------------------------------------------------------------------------


def _writing(ins: Instruction, undefined: Callable[[View], Lanes]) -> Rule:
    """All destinations are undefined in the lanes that `undefined` gives."""
    writers = [_writer(o, ins, first=k == 0) for k, o in enumerate(ins.dst)]
    allowed = _enabled(ins)

    def rule(view: View) -> None:
        lanes, on = undefined(view), allowed(view)
        for write in writers:
            write(view, spread(lanes), on)

    return rule


def _union(ins: Instruction) -> Callable[[View], Lanes]:
    old = {id(o) for o in ins.src if o in ins.dst and _keeps_old(ins)}
    readers = [_element(o, ins, k) for k, o in enumerate(ins.src) if id(o) not in old]

    def union(view: View) -> Lanes:
        lanes = np.zeros(view.group.n, np.uint64)
        for read in readers:
            lanes = lanes | read(view)
        return lanes

    return union


def _cancels(ins: Instruction) -> bool:
    """x - x and x ^ x have a value whatever x is."""
    name = ins.mnemonic
    if not name.startswith(("v_xor_b", "v_sub_u", "v_subrev_u", "v_sub_i", "v_sub_co_u", "v_subrev_co_u")):
        return False
    return len(ins.src) == 2 and rows(ins.src[0]) == rows(ins.src[1]) != () and not ins.mods.get("op_sel")


def _read_part(operand: Operand, ins: Instruction, position: int) -> tuple[int, ...]:
    """Which bytes of each register of an operand are read."""
    name, number = ins.mnemonic, _SOURCES.get(operand.role, position)
    if ins.encoding == "SDWA" and number < 2:
        return _SELECTED[ins.mods.get(f"src{number}_sel", 0)]
    if name.startswith("v_cvt_f32_ubyte"):
        return (int(name[-1]),)
    if name in ("v_cvt_f32_fp8", "v_cvt_f32_bf8"):
        return (0,)
    high = bool(ins.mods.get("op_sel", 0) >> number & 1)
    if name.startswith("v_cvt_pk_f32_"):
        return _HIGH if high else _LOW
    if name.startswith(("v_fma_mix", "v_mad_mix")):
        half = ins.mods.get("op_sel_hi", 0) >> number & 1
        return (_HIGH if high else _LOW) if half and operand in ins.src[:3] else _WHOLE
    if operand.type in HALF:
        return _HIGH if high else _LOW
    if name.endswith(("_u24", "_i24")) and number < 2:
        return (0, 1, 2)
    return _WHOLE


def _element(operand: Operand, ins: Instruction, position: int) -> Callable[[View], Lanes]:
    """The lanes in which anything that is read of an operand is undefined."""
    registers = rows(operand)
    if not registers:
        return lambda view: np.zeros(view.group.n, np.uint64)
    if operand.type in ("mask", "vcc", "exec") or registers[0] == SCC or operand.kind is Kind.STATUS:
        return _mask_lanes(registers)
    part = list(_read_part(operand, ins, position))
    move = _dpp(ins) if ins.encoding == "DPP" and operand.role == "src0" else None

    def read(view: View) -> Lanes:
        lanes = np.zeros(view.group.n, np.uint64)
        for row in registers:
            if row in view.shadow.dirty:
                lanes = lanes | np.bitwise_or.reduce(view.bytes_of(row)[:, part], axis=1)
        return lanes if move is None else move(view, lanes)

    return read


def _mask_lanes(registers: tuple[int, ...]) -> Callable[[View], Lanes]:
    if len(registers) == 2:
        return lambda view: view.pair(registers[0])
    return lambda view: np.where(view.scalar(registers[0]) != 0, ALL, NONE)


# --- destinations ---------------------------------------------------------------------------------


def _keeps_old(ins: Instruction) -> bool:
    """Is the old destination among the sources only because a part of it stays?"""
    name = ins.mnemonic
    return name.startswith(("v_cvt_pk_fp8_", "v_cvt_pk_bf8_", "v_cvt_sr_", "v_fma_mixlo", "v_fma_mixhi", "v_mad_mix"))


def _written_part(operand: Operand, ins: Instruction, first: bool) -> tuple[tuple[int, ...], bool]:
    """Bytes that get the result, and whether the others stay (else they get a known value)."""
    name, select = ins.mnemonic, ins.mods.get("op_sel", 0)
    if ins.encoding == "SDWA" and first:
        part, unused = _SELECTED[ins.mods.get("dst_sel", 0)], ins.mods.get("dst_unused", 0)
        return (_WHOLE, False) if unused == 1 else (part, unused == 2)
    if name.startswith(("v_cvt_pk_fp8_", "v_cvt_pk_bf8_")):
        return (_HIGH if select & 8 else _LOW), True
    if name.startswith("v_cvt_sr_"):
        return (select >> 2 & 3,), True
    if operand.type in HALF:
        high = bool(ins.encoding == "VOP3" and select & 8) or name in WRITES_HIGH_HALF
        return (_HIGH if high else _LOW), high or name in KEEPS_HIGH_HALF
    return _WHOLE, False


def _writer(operand: Operand, ins: Instruction, first: bool) -> Writer:
    registers = rows(operand)
    if operand.kind is Kind.SGPR and len(registers) == 2:
        return lambda view, new, on: view.set_pair(registers[0], new[:, 0] & on)  # lanes that are off give 0
    part, keeps = _written_part(operand, ins, first)
    chosen = np.zeros(4, np.uint64)
    chosen[list(part)] = ALL

    def write(view: View, new: Bytes, on: Lanes) -> None:
        new = new & chosen
        for row in registers:
            view.set_vector(row, (view.vector(row) & ~chosen) | new if keeps else new, on)

    return write


# --- DPP ------------------------------------------------------------------------------------------


def _valid(view: View, ins: Instruction) -> NDArray[np.bool_]:
    lanes, inside = source_lanes(ins.mods.get("dpp_ctrl", 0))
    return unpacked(view.exec)[:, lanes] & inside


def _dpp(ins: Instruction) -> Callable[[View, Lanes], Lanes]:
    """Lanes of src0 where they arrive; one without a source reads 0."""
    source, _ = source_lanes(ins.mods.get("dpp_ctrl", 0))
    return lambda view, lanes: packed(unpacked(lanes)[:, source] & _valid(view, ins))


def _enabled(ins: Instruction) -> Callable[[View], Lanes]:
    """The lanes that are written."""
    if ins.encoding != "DPP":
        return lambda view: view.exec
    lane = np.arange(64)
    banks, groups = ins.mods.get("bank_mask", 0), ins.mods.get("row_mask", 0)
    writable = (groups >> (lane // 16) & banks >> (lane % 16 // 4) & 1).astype(bool)

    def enabled(view: View) -> Lanes:
        lanes = unpacked(view.exec) & writable
        return packed(lanes if ins.mods.get("bound_ctrl") else lanes & _valid(view, ins))

    return enabled


# --- packed ---------------------------------------------------------------------------------------


def _packed_rule(ins: Instruction) -> Rule:
    """Two elements, each from the elements that op_sel and op_sel_hi choose."""
    target, pairs = rows(ins.dst[0]), ins.dst[0].type in PAIR
    elementwise = all(o.type in (PAIR if pairs else PACKED) for o in ins.src)
    if not elementwise and not (len(ins.src) == 2 and not pairs):
        return _writing(ins, _union(ins))
    allowed = _enabled(ins)
    readers: list[list[Callable[[View], Lanes]]]
    if not elementwise:  # v_cvt_pk..., v_pack: an element from each source
        readers = [[_element(o, ins, k)] for k, o in enumerate(ins.src)]
    else:
        readers = [[_packed_element(o, ins, k, e) for k, o in enumerate(ins.src)] for e in (0, 1)]
        if ins.mnemonic == "v_pk_mov_b32":
            readers = [readers[0][:1], readers[0][1:]]  # op_sel chooses of either source

    def rule(view: View) -> None:
        on = allowed(view)
        low, high = (np.bitwise_or.reduce([read(view) for read in element]) for element in readers)
        if pairs:
            view.set_vector(target[0], spread(low), on)
            view.set_vector(target[1], spread(high), on)
        else:
            view.set_vector(target[0], np.stack((low, low, high, high), axis=1), on)

    return rule


def _packed_element(operand: Operand, ins: Instruction, number: int, element: int) -> Callable[[View], Lanes]:
    registers = rows(operand)
    default = 0 if element == 0 else (1 << len(ins.src)) - 1 if ins.encoding == "VOP2" else 0
    chosen = ins.mods.get("op_sel_hi" if element else "op_sel", default) >> number & 1
    if not registers:
        return lambda view: np.zeros(view.group.n, np.uint64)
    if operand.type in PAIR:
        row = registers[min(chosen, len(registers) - 1)]
        return lambda view: np.bitwise_or.reduce(view.bytes_of(row), axis=1)
    part = list(_HIGH if chosen else _LOW)
    return lambda view: np.bitwise_or.reduce(view.bytes_of(registers[0])[:, part], axis=1)


# --- bytewise -------------------------------------------------------------------------------------


def _bytewise(ins: Instruction) -> Rule:
    """Each register of the result by its own bytes of the sources."""
    function = BYTEWISE[ins.mnemonic](ins)
    targets = [(k, row) for k, row in enumerate(rows(ins.dst[0]))]

    def rule(view: View) -> None:
        results = [function(view, k) for k, _ in targets]
        for (_, row), new in zip(targets, results, strict=True):
            view.set_vector(row, new, view.exec)

    return rule
