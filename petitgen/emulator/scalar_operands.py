"""Operands of scalar instructions, and the status values that both kinds of instruction can read.

Readers give arrays (n,) of the waves of a group, or a numpy scalar for a constant; scc is bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.state import PRIVATE_APERTURE, SHARED_APERTURE, VCC, Group
from petitgen.emulator.types import DOUBLE, DTYPE, constant
from petitgen.errors import EmulationError
from petitgen.isa.model import Kind, Operand

Array = NDArray[Any]
Reader = Callable[[Group], Any]

_SCALAR = {"u32": "su32", "b32": "su32", "i32": "si32", "f32": "su32"}
_SCALAR_PAIR = {"u64": "su64", "b64": "su64", "i64": "si64", "mask": "su64", "vcc": "su64", "exec": "su64"}


def _vccz(s: Group) -> Array:
    return (s.su64[VCC] == 0).astype(np.uint32)


def _execz(s: Group) -> Array:
    off = np.asarray(~s.active().any(axis=1))
    return off.astype(np.uint32)


# Status operands as 64-bit values (n,); a 32-bit reader takes the low half of the scc-like ones, the high
# half of apertures
# is reached through the 64-bit form only. source: CDNA3 ISA 5.1 (scalar operands 235-239, 251-253).
_STATUS: dict[str, Callable[[Group], Array]] = {
    "scc": lambda s: s.scc.astype(np.uint64),
    "src_scc": lambda s: s.scc.astype(np.uint64),
    "vccz": lambda s: _vccz(s).astype(np.uint64),
    "src_vccz": lambda s: _vccz(s).astype(np.uint64),
    "execz": lambda s: _execz(s).astype(np.uint64),
    "src_execz": lambda s: _execz(s).astype(np.uint64),
    "src_shared_base": lambda s: np.full(s.n, SHARED_APERTURE << 32, np.uint64),
    "src_shared_limit": lambda s: np.full(s.n, (SHARED_APERTURE << 32) | 0xFFFFFFFF, np.uint64),
    "src_private_base": lambda s: np.full(s.n, PRIVATE_APERTURE << 32, np.uint64),
    "src_private_limit": lambda s: np.full(s.n, (PRIVATE_APERTURE << 32) | 0xFFFFFFFF, np.uint64),
}


def status_reader(op: Operand, wide: bool) -> Reader:
    try:
        read = _STATUS[op.name]
    except KeyError:
        raise EmulationError(f"operand {op.name} has no meaning in the emulator") from None
    if wide:
        return read
    # A 32-bit read of an aperture gives its high half: the low one is always 0 or all ones.
    shift = np.uint64(32 if "base" in op.name or "limit" in op.name else 0)
    return lambda s: (read(s) >> shift).astype(np.uint32)


def scalar_reader(op: Operand) -> Reader:
    """A source of a scalar instruction as an array (n,), or a numpy scalar for a constant; scc as bool."""
    kind, type_, i = op.kind, op.type, op.index
    if kind is Kind.IMM:
        value = np.int64(op.value)
        return lambda s: value
    if kind is Kind.STATUS and op.name == "scc":
        return lambda s: s.scc
    if kind is Kind.STATUS:
        read, dtype = status_reader(op, type_ in _SCALAR_PAIR), _scalar_dtype(type_)
        return lambda s: read(s).astype(dtype)
    if kind is Kind.CONST:
        const = constant(op.value, _scalar_dtype(type_))
        return lambda s: const
    if kind is not Kind.SGPR:
        raise EmulationError(f"operand {op.name} of a scalar instruction")
    if type_ in ("i8", "i16", "u16", "b16"):
        narrow = {"i8": np.int8, "i16": np.int16}.get(type_, np.uint16)
        return lambda s: s.su32[i].astype(narrow)
    if op.dwords == 2 or type_ in _SCALAR_PAIR:
        attribute = _SCALAR_PAIR[type_]
        return lambda s: getattr(s, attribute)[i]
    attribute = _SCALAR.get(type_, "su32")
    return lambda s: getattr(s, attribute)[i]


def _scalar_dtype(type_: str) -> type:
    narrow = {"i8": np.int8, "i16": np.int16, "u16": np.uint16, "b16": np.uint16}
    if type_ in narrow:
        return narrow[type_]
    return DOUBLE.get(type_, np.uint64) if type_ in _SCALAR_PAIR else DTYPE.get(type_, np.uint32)


def scalar_writer(op: Operand) -> Callable[[Group, Any], None]:
    """Writes the result of a scalar instruction: SGPR, SGPR pair, SCC or EXEC (whose mask is then
    renewed)."""
    i = op.index
    if op.kind is Kind.STATUS:
        if op.name != "scc":
            raise EmulationError(f"{op.name} cannot be written")
        return _write_scc
    wide = op.dwords == 2
    if wide:

        def write(s: Group, value: Any) -> None:
            s.su64[i][...] = _unsigned(value, np.uint64)

    else:

        def write(s: Group, value: Any) -> None:
            s.su32[i][...] = _unsigned(value, np.uint32)

    return _watch_exec(write, i, op.dwords)


def _unsigned(value: Any, dtype: type) -> Any:
    return value if value.dtype == dtype else value.astype(dtype)


def _write_scc(s: Group, value: Any) -> None:
    s.scc = value if value.ndim else np.full(s.n, value)


def _watch_exec(write: Callable[[Group, Any], None], first: int, dwords: int) -> Callable[[Group, Any], None]:
    if first + dwords <= 126 or first > 127:
        return write

    def write_exec(s: Group, value: Any) -> None:
        write(s, value)
        s.exec_changed()

    return write_exec
