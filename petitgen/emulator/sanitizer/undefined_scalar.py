"""How scalar instructions pass on undefined bits: exactly for moves and bit operations, else any makes all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.sanitizer.footprint import SCC, SGPR, Footprint, rows
from petitgen.emulator.sanitizer.undefined import View
from petitgen.emulator.scalar_operands import scalar_reader
from petitgen.emulator.state import Group
from petitgen.isa.model import Instruction, Kind, Operand

Words = NDArray[Any]
Rule = Callable[[View], None]
Source = Callable[[View], tuple[Words, Words]]  # value, undefined bits

_ONE = np.uint64(1)


def compile_salu(touched: Footprint) -> Rule:
    """The rule of a scalar ALU instruction."""
    ins = touched.instruction
    name, _, _ = ins.mnemonic.removeprefix("s_").rpartition("_")
    if name in _SPECIAL:
        return _SPECIAL[name](ins)
    if name.removesuffix("_saveexec") in _LOGIC and name.endswith("_saveexec"):
        return _logic(ins, *_LOGIC[name.removesuffix("_saveexec")], saves=True)
    if name.removesuffix("_wrexec") in _LOGIC:
        return _logic(ins, *_LOGIC[name.removesuffix("_wrexec")], saves=False)
    return _any(touched)


def _any(touched: Footprint) -> Rule:
    sources = sorted(touched.reads)
    results = touched.results

    def rule(view: View) -> None:
        bad = np.zeros(view.group.n, bool)
        for row in sources:
            if row >= SGPR and row in view.shadow.dirty:
                bad |= view.scalar(row) != 0
        for operand, registers in results:
            for row in registers:
                view.set_scalar(row, np.where(bad, _full(operand), np.uint32(0)))

    return rule


def _full(operand: Operand) -> np.uint32:
    return np.uint32(1 if operand.type == "scc" else 0xFFFFFFFF)


def _mask(operand: Operand) -> np.uint64:
    return np.uint64((1 << 32 * max(operand.dwords, 1)) - 1)


def _source(operand: Operand) -> Source:
    """Value and undefined bits of an operand, as wide as it is."""
    wide = operand.dwords == 2 or (operand.kind is Kind.CONST and operand.type.endswith("64"))
    mask = np.uint64((1 << 64) - 1) if wide else np.uint64(0xFFFFFFFF)
    read = scalar_reader(operand)
    registers = rows(operand)

    def source(view: View) -> tuple[Words, Words]:
        n = view.group.n
        value = np.broadcast_to(_unsigned(read, view.group), n) & mask
        undefined = np.zeros(n, np.uint64)
        for k, row in enumerate(registers):
            undefined = undefined | view.scalar(row).astype(np.uint64) << np.uint64(32 * k)
        return value, undefined

    return source


def _unsigned(read: Callable[[Group], object], group: Group) -> NDArray:
    value = np.asarray(read(group))
    return value.view(f"u{value.dtype.itemsize}").astype(np.uint64)


def _set(view: View, operand: Operand, undefined: Words) -> None:
    for k, row in enumerate(rows(operand)):
        view.set_scalar(row, (undefined >> np.uint64(32 * k) & np.uint64(0xFFFFFFFF)).astype(np.uint32))


def _set_nonzero(view: View, ins: Instruction, value: Words, undefined: Words) -> None:
    """scc = (result != 0): known when nothing is undefined, or when a defined bit is set."""
    if any(o.type == "scc" for o in ins.dst):
        view.set_scalar(SCC, ((undefined != 0) & (value & ~undefined == 0)).astype(np.uint32))


# --- bit operations -------------------------------------------------------------------------------

# operation, first source inverted, second source inverted, result inverted
_LOGIC = {
    "and": ("and", 0, 0, 0), "or": ("or", 0, 0, 0), "xor": ("xor", 0, 0, 0), "nand": ("and", 0, 0, 1),
    "nor": ("or", 0, 0, 1), "xnor": ("xor", 0, 0, 1), "andn2": ("and", 0, 1, 0), "orn2": ("or", 0, 1, 0),
    "andn1": ("and", 1, 0, 0), "orn1": ("or", 1, 0, 0),
}  # fmt: skip


def _combine(operation: str, a: Words, ua: Words, b: Words, ub: Words) -> tuple[Words, Words]:
    if operation == "and":
        return a & b, (ua & (b | ub)) | (ub & (a | ua))
    if operation == "or":
        return a | b, (ua & (~b | ub)) | (ub & (~a | ua))
    return a ^ b, ua | ub


def _logic(ins: Instruction, operation: str, first: int, second: int, after: int, saves: bool = False) -> Rule:
    """saves: the first destination gets EXEC as it was; else it gets the result, and so does an EXEC among them."""
    left, right = _source(ins.src[0]), _source(ins.src[1])
    same = operation == "xor" and rows(ins.src[0]) == rows(ins.src[1]) != ()
    mask = _mask(ins.dst[0])

    def rule(view: View) -> None:
        (a, ua), (b, ub) = left(view), right(view)
        if same:
            ua = ub = np.zeros_like(ua)
        value, undefined = _combine(operation, ~a & mask if first else a, ua, ~b & mask if second else b, ub)
        value, undefined = (~value if after else value) & mask, undefined & mask
        for k, operand in enumerate(ins.dst):
            if operand.type != "scc":
                _set(view, operand, ub if saves and k == 0 else undefined)
        _set_nonzero(view, ins, value, undefined)

    return rule


def _binary(ins: Instruction, function: Callable[..., Words]) -> Rule:
    """`function(a, ua, b, ub)`: the undefined bits of the first result; scc, where there is one, by any of them."""
    sources = [_source(o) for o in ins.src]
    mask = _mask(ins.dst[0])

    def rule(view: View) -> None:
        undefined = function(*(part for source in sources for part in source(view))) & mask
        _set(view, ins.dst[0], undefined)
        if any(o.type == "scc" for o in ins.dst):
            view.set_scalar(SCC, (undefined != 0).astype(np.uint32))

    return rule


def _all_if(bad: Words, otherwise: Words) -> Words:
    return np.where(bad != 0, np.uint64((1 << 64) - 1), otherwise)


def _not(ins: Instruction) -> Rule:
    read, mask = _source(ins.src[0]), _mask(ins.dst[0])

    def rule(view: View) -> None:
        a, undefined = read(view)
        _set(view, ins.dst[0], undefined)
        _set_nonzero(view, ins, ~a & mask, undefined)

    return rule


def _shift(left: bool) -> Callable[[Instruction], Rule]:
    def compile_shift(ins: Instruction) -> Rule:
        limit = np.uint64(32 * max(ins.dst[0].dwords, 1) - 1)

        def moved(a: Words, ua: Words, b: Words, ub: Words) -> Words:
            by = b & limit
            return _all_if(ub, ua << by if left else ua >> by)

        return _binary(ins, moved)

    return compile_shift


def _arithmetic_shift(ins: Instruction) -> Rule:
    bits = 32 * max(ins.dst[0].dwords, 1)

    def moved(a: Words, ua: Words, b: Words, ub: Words) -> Words:
        by = b & np.uint64(bits - 1)
        sign = np.where(ua >> np.uint64(bits - 1) & _ONE, np.uint64((1 << 64) - 1) << (np.uint64(bits - 1) - by), 0)
        return _all_if(ub, ua >> by | sign.astype(np.uint64))

    return _binary(ins, moved)


def _extract(ins: Instruction) -> Rule:
    """S_BFE: offset in bits 4:0 (5:0), width in 22:16; a signed field is extended by its top bit."""
    bits = 32 * ins.dst[0].dwords
    signed = ins.mnemonic.endswith(("i32", "i64"))

    def field(a: Words, ua: Words, b: Words, ub: Words) -> Words:
        width = np.minimum(b >> np.uint64(16) & np.uint64(0x7F), np.uint64(63))
        kept = ua >> (b & np.uint64(bits - 1)) & ((_ONE << width) - _ONE)
        return _all_if(kept | ub if signed else ub, kept)

    return _binary(ins, field)


def _pack(ins: Instruction) -> Rule:
    low, high = (16 if half == "h" else 0 for half in ins.mnemonic.removeprefix("s_pack_")[:2])
    half = np.uint64(0xFFFF)

    def packed(a: Words, ua: Words, b: Words, ub: Words) -> Words:
        return (ua >> np.uint64(low) & half) | (ub >> np.uint64(high) & half) << np.uint64(16)

    return _binary(ins, packed)


def _bitset(ins: Instruction) -> Rule:
    limit = np.uint64(32 * ins.dst[0].dwords - 1)
    return _binary(ins, lambda a, ua, old, uo: _all_if(ua, uo & ~(_ONE << (a & limit))))


def _bitcmp(ins: Instruction) -> Rule:
    value, place = _source(ins.src[0]), _source(ins.src[1])
    limit = np.uint64(63 if "b64" in ins.mnemonic else 31)

    def rule(view: View) -> None:
        (_, undefined), (bit, unknown) = value(view), place(view)
        bad = (undefined >> (bit & limit) & _ONE) | (unknown != 0)
        view.set_scalar(SCC, bad.astype(np.uint32))

    return rule


def _select(ins: Instruction) -> Rule:
    def chosen(a: Words, ua: Words, b: Words, ub: Words, scc: Words, us: Words) -> Words:
        return _all_if(us, np.where(scc != 0, ua, ub))

    return _binary(ins, chosen)


def _move_if(ins: Instruction) -> Rule:
    def chosen(a: Words, ua: Words, scc: Words, us: Words, old: Words, uo: Words) -> Words:
        return _all_if(us, np.where(scc != 0, ua, uo))

    return _binary(ins, chosen)


def _relative_destination(ins: Instruction) -> Rule:
    """S_MOVRELD: which register is written is known only when it runs; none from there on is reported."""

    def rule(view: View) -> None:
        for row in range(SGPR + ins.dst[0].index, SGPR + 102):
            view.define(row, None)

    return rule


def _relative_source(ins: Instruction) -> Rule:
    return lambda view: _set(view, ins.dst[0], np.zeros(view.group.n, np.uint64))


_SPECIAL: dict[str, Callable[[Instruction], Rule]] = {
    **{name: (lambda ins, how=how: _logic(ins, *how)) for name, how in _LOGIC.items()},  # type: ignore[misc]
    "not": _not,
    "mov": lambda ins: _binary(ins, lambda a, ua: ua),
    "lshl": _shift(left=True),
    "lshr": _shift(left=False),
    "ashr": _arithmetic_shift,
    "bfe": _extract,
    "pack_ll_b32": _pack,
    "pack_lh_b32": _pack,
    "pack_hh_b32": _pack,
    "bitset0": _bitset,
    "bitset1": _bitset,
    "bitcmp0": _bitcmp,
    "bitcmp1": _bitcmp,
    "cselect": _select,
    "cmov": _move_if,
    "cmovk": _move_if,
    "movreld": _relative_destination,
    "movrels": _relative_source,
}
