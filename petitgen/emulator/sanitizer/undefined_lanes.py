"""Instructions that move values between lanes, and how undefined bytes move with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.lds import swizzle_lanes
from petitgen.emulator.mfma_table import layout, shape
from petitgen.emulator.operands import operand
from petitgen.emulator.sanitizer.footprint import rows
from petitgen.emulator.sanitizer.undefined import ALL, NONE, Bytes, Lanes, View, moved, packed, spread, unpacked
from petitgen.emulator.scalar_operands import scalar_reader
from petitgen.isa.model import Instruction

Rule = Callable[[View], None]

_PARTS = np.arange(0, 32, 8, dtype=np.uint32)


# --- one lane -------------------------------------------------------------------------------------


def _read_lane(ins: Instruction) -> Rule:
    """V_READLANE, V_READFIRSTLANE: the bytes of a lane become those of an SGPR."""
    source, target = rows(ins.src[0])[0], rows(ins.dst[0])[0]
    select = None if ins.mnemonic == "v_readfirstlane_b32" else scalar_reader(ins.src[1])
    selector = () if select is None else rows(ins.src[1])

    def rule(view: View) -> None:
        group = view.group
        if select is None:
            lane = unpacked(view.exec).argmax(axis=1).astype(np.uint64)
        else:
            lane = np.broadcast_to(np.asarray(select(group)), group.n).astype(np.uint64) & np.uint64(63)
        bad = (view.bytes_of(source) >> lane[:, None] & np.uint64(1)).astype(np.uint32)
        bits = np.bitwise_or.reduce((bad * np.uint32(0xFF)) << _PARTS, axis=1)
        for row in selector:
            bits = np.where(view.scalar(row) != 0, np.uint32(0xFFFFFFFF), bits)
        view.set_scalar(target, bits)

    return rule


def _write_lane(ins: Instruction) -> Rule:
    """Compilers keep lane masks in VGPR lanes, with bits of lanes that are off: a byte counts as defined if any
    bit of it is.
    """
    target, select, source = rows(ins.dst[0])[0], scalar_reader(ins.src[1]), rows(ins.src[0])

    def rule(view: View) -> None:
        lane = np.broadcast_to(np.asarray(select(view.group)), view.group.n).astype(np.uint64) & np.uint64(63)
        new = np.zeros((view.group.n, 4), np.uint64)
        if source:
            parts = view.scalar(source[0])[:, None] >> _PARTS & np.uint32(0xFF)
            new = np.where(parts == 0xFF, ALL, NONE)
        view.set_vector(target, new, np.uint64(1) << lane)

    return rule


def _swap(ins: Instruction) -> Rule:
    first, second = rows(ins.dst[0])[0], rows(ins.dst[1])[0]

    def rule(view: View) -> None:
        a, b = view.vector(first).copy(), view.vector(second).copy()
        view.set_vector(first, b, view.exec)
        view.set_vector(second, a, view.exec)

    return rule


# --- the LDS crossbar -----------------------------------------------------------------------------


def _target_lanes(view: View, ins: Instruction, row: int) -> NDArray[np.int64]:
    offset = np.uint32(ins.mods.get("offset", 0))
    return ((view.group.u32[row] + offset) >> np.uint32(2) & np.uint32(63)).astype(np.int64)


def _rows_of(ins: Instruction, role: str) -> int:
    found = operand(ins, role)
    assert found is not None
    return rows(found)[0]


def _bpermute(ins: Instruction) -> Rule:
    """Lane i receives from lane addr / 4; from a lane that is off it receives 0."""
    address, data, target = _rows_of(ins, "addr"), _rows_of(ins, "data0"), rows(ins.dst[0])[0]

    def rule(view: View) -> None:
        sent = view.bytes_of(data) & view.exec[:, None]
        new = moved(sent, _target_lanes(view, ins, address))
        view.set_vector(target, new | spread(_any(view.bytes_of(address))), view.exec)

    return rule


def _permute(ins: Instruction) -> Rule:
    """Lane i sends to lane addr / 4; which lane an undefined address means is not known: any."""
    address, data, target = _rows_of(ins, "addr"), _rows_of(ins, "data0"), rows(ins.dst[0])[0]

    def rule(view: View) -> None:
        to, on = _target_lanes(view, ins, address), unpacked(view.exec)
        wave, lane = np.nonzero(on)
        columns = []
        for b in range(4):
            sent, arrived = unpacked(view.bytes_of(data)[:, b]), np.zeros_like(on)
            arrived[wave, to[wave, lane]] = sent[wave, lane]
            columns.append(packed(arrived))
        lost = np.where(_any(view.bytes_of(address)) & view.exec != 0, ALL, NONE)
        view.set_vector(target, np.stack(columns, axis=1) | lost[:, None], view.exec)

    return rule


def _swizzle(ins: Instruction) -> Rule:
    source, target = _rows_of(ins, "addr"), rows(ins.dst[0])[0]
    lanes = swizzle_lanes(ins.mods.get("offset", 0))

    def rule(view: View) -> None:
        view.set_vector(target, moved(view.bytes_of(source) & view.exec[:, None], lanes), view.exec)

    return rule


def _any(values: Bytes) -> Lanes:
    return np.bitwise_or.reduce(values, axis=1)


LANE_RULES: dict[str, Callable[[Instruction], Rule]] = {
    "v_readlane_b32": _read_lane,
    "v_readfirstlane_b32": _read_lane,
    "v_writelane_b32": _write_lane,
    "v_swap_b32": _swap,
    "ds_bpermute_b32": _bpermute,
    "ds_permute_b32": _permute,
    "ds_swizzle_b32": _swizzle,
}


# --- matrices -------------------------------------------------------------------------------------


def compile_matrix(ins: Instruction) -> Rule:
    """D[b, i, j] is undefined where C is, or anything in row i of A or column j of B. EXEC plays no part."""
    sparse = ins.mnemonic.startswith("v_smfmac")
    double = shape(ins.mnemonic, ins.arch).c_type == "f64"
    broadcast = {} if sparse or double else {name: ins.mods.get(name, 0) for name in ("cbsz", "abid", "blgp")}
    places = layout(ins.mnemonic, ins.arch, **broadcast)
    c_rows = rows(ins.src[3] if sparse else ins.src[2])
    target, width = rows(ins.dst[0]), 2 if double else 1
    inputs = [rows(ins.src[0]), rows(ins.src[1]), rows(ins.src[2]) if sparse else ()]

    def rule(view: View) -> None:
        a, b, index = (_lanes_of(view, r) for r in inputs)
        bad_rows = np.asarray(unpacked(a | index)[:, places.a_lane].any(axis=3))  # (n, blocks, m)
        bad_columns = np.asarray(unpacked(b)[:, places.b_lane].any(axis=2))  # (n, blocks, n)
        bad = bad_rows[:, :, :, None] | bad_columns[:, :, None, :]
        items = np.zeros((view.group.n, len(target) // width, 64), bool)
        items[:, places.c_item, places.c_lane] = bad
        old = [view.bytes_of(row).copy() for row in c_rows]
        for k, row in enumerate(target):
            new = spread(packed(items[:, k // width]))
            view.set_vector(row, new | old[k] if c_rows else new, None)

    return rule


def _lanes_of(view: View, registers: tuple[int, ...]) -> Lanes:
    lanes = np.zeros(view.group.n, np.uint64)
    for row in registers:
        if row in view.shadow.dirty:
            lanes = lanes | _any(view.bytes_of(row))
    return lanes
