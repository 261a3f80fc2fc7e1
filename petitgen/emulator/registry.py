"""Semantics by mnemonic: the one place where the executor meets the ops.

An op is a pure function on whole numpy arrays, registered under the mnemonic of `isa.Instruction.mnemonic`
(no encoding suffix). It knows nothing of waves, EXEC, encodings or register files.

Arguments are the sources of the table row in order, typed by the row:

    type                         dtype            shape
    u32 b32 / i32 / f32          uint32/int32/float32
    u16 b16 / i16 / f16          uint16/int16/float16   (the half chosen by op_sel or SDWA)
    u64 b64 / i64 / f64          uint64/int64/float64
                                                  (W, 64), or broadcastable to it: (W, 1) for a scalar
                                                  register, 0-d (or a numpy scalar) for a constant
    pk_f16 pk_i16 pk_u16         float16/int16/uint16   (W, 64, 2), low half first
    pk_f32 pk_b32                float32/uint32   (2, W, 64), low register first
                                                  (both: op_sel, op_sel_hi, neg_lo, neg_hi applied)
    b96 b128 b256 b512 b1024     uint32           (n, W, 64), low register first
    mask vcc                     bool             (W, 64)
    literal                      typed as the (first) destination
    mix                          uint32, the raw register (v_fma_mix*)
    dst                          the destination's old value, typed as the destination

Results: one array, or a tuple in the order of the row's destinations; masks as bool (v_cmpx_* return one mask
for both of theirs). Where a result broadcasts (all sources scalar) the executor expands it. f16/i16/u16
results come back as 16-bit arrays: the executor writes them zero-extended, except into the half named by
op_sel[3] or SDWA dst_sel, or for a mnemonic in KEEPS_HIGH_HALF (gfx9 rule), where the rest of the register is
kept. A pk_* result has the shape of a pk_* source.

The executor applies: SDWA/DPP/op_sel selection, neg/abs, clamp and omod of float results, EXEC, flushing of
denormals (by the wave's mode). Ops never see them, with these exceptions, declared by a keyword-only
parameter that the executor fills in:

    arch    "gfx90a" | "gfx942"
    mods    Instruction.mods; bit i of op_sel, op_sel_hi, neg_lo, neg_hi, neg, abs belongs to source i, absent
            means 0. v_fma_mix*: neg_lo is neg, neg_hi is abs, op_sel_hi says f16, op_sel which half;
            v_cvt_pk_f32_fp8/bf8 use op_sel bit 0, v_cvt_pk_fp8/bf8_f32 op_sel bit 3, v_cvt_sr_* op_sel bits 2
            and 3.

Integer clamp saturates the wide result, which only the op knows: `Op.clamped` is the op's saturating form.
With the clamp bit set and an integer result, call `clamped` instead; None means that the ISA gives clamp no
meaning there.

`Op.ufunc` is the function where it is a numpy ufunc, so that the executor may pass `out=` (the destination's
dtype). Registering a name twice is an error. `load()` imports every module of petitgen.emulator.ops once.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from petitgen.emulator.compiled import LazyUfunc
from petitgen.errors import EmulationError

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

KEYWORDS = frozenset({"arch", "mods"})

# 16-bit results that leave the other half of the register alone; every other 16-bit result zeroes it.
# source: CDNA3 ISA 12.11 (notes on OPSEL[3]); the legacy forms, v_mac_f16 and plain VOP2 results write zeros.
_KEEPS_HIGH_HALF = """
    v_mad_f16 v_mad_u16 v_mad_i16 v_fma_f16 v_div_fixup_f16 v_add_i16 v_sub_i16 v_madak_f16 v_madmk_f16
    v_min3_f16 v_min3_i16 v_min3_u16 v_max3_f16 v_max3_i16 v_max3_u16 v_med3_f16 v_med3_i16 v_med3_u16
    v_fma_mixlo_f16 v_fma_mixhi_f16
"""
KEEPS_HIGH_HALF = frozenset(_KEEPS_HIGH_HALF.split())
# 16-bit results written to the high half without an op_sel bit saying so.
WRITES_HIGH_HALF = frozenset({"v_fma_mixhi_f16"})


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    function  the semantics
    keywords  the keyword-only parameters it declares
    clamped   its saturating form (integer clamp), same arguments
    """

    mnemonic: str
    function: Function
    keywords: frozenset[str]
    clamped: Function | None = None

    @property
    def ufunc(self) -> np.ufunc | None:
        """The function again where it is a numpy ufunc (compiled now, if need be), else None."""
        if isinstance(self.function, LazyUfunc):
            return self.function.ufunc
        return self.function if isinstance(self.function, np.ufunc) else None


OPS: dict[str, Op] = {}


def alias(mnemonic: str, function: Function, clamped: Function | None = None) -> None:
    """Register `function` (usually a ufunc) under a mnemonic. ValueError if the mnemonic is taken."""
    if mnemonic in OPS:
        raise ValueError(
            f"semantics of {mnemonic} are defined twice: {OPS[mnemonic].function} and {function}"
        )
    elementwise = isinstance(function, (np.ufunc, LazyUfunc))
    OPS[mnemonic] = Op(mnemonic, function, frozenset() if elementwise else _keywords(function), clamped)


def op(function: F) -> F:
    """Decorator: register a function under its own name."""
    alias(function.__name__, function)
    return function


def clamped(mnemonic: str) -> Callable[[F], F]:
    """Decorator: the saturating form of a registered op. It declares the same keywords as the op."""

    def register(function: F) -> F:
        if OPS[mnemonic].clamped is not None:
            raise ValueError(f"the saturating form of {mnemonic} is defined twice")
        OPS[mnemonic] = replace(OPS[mnemonic], clamped=function)
        return function

    return register


def _keywords(function: Function) -> frozenset[str]:
    declared = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    if not declared <= KEYWORDS:
        raise ValueError(
            f"{function.__name__}: unknown keyword {sorted(declared - KEYWORDS)}; allowed: {sorted(KEYWORDS)}"
        )
    return frozenset(declared)


def lookup(mnemonic: str) -> Op:
    """The op of a mnemonic. EmulationError if it has no semantics (the executor adds pc and bytes)."""
    load()
    try:
        return OPS[mnemonic]
    except KeyError:
        raise EmulationError(f"{mnemonic}: no semantics; add them under petitgen/emulator/ops") from None


_loaded = False


def load() -> None:
    """Import every module of petitgen.emulator.ops, so that OPS is complete."""
    global _loaded
    if _loaded:
        return
    package = importlib.import_module("petitgen.emulator.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"petitgen.emulator.ops.{module.name}")
    _loaded = True
