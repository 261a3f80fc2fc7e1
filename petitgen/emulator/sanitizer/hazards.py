"""Wait states that software must leave between dependent instructions, as a table.

A rule names what the earlier instruction is and does to some registers, what the later one is and does to them, and how many
wait states must lie between: every instruction counts 1, s_nop n counts n + 1.
source: CDNA2 and CDNA3 ISA 4.5 "Manually Inserted Wait States (NOPs)" and 7.7 (MFMA dependencies), and LLVM's
GCNHazardRecognizer, against which tests/emulator/sanitizer/test_hazards_llvm.py holds every rule. Rules marked `cautious` are
LLVM's alone: compilers keep them, the documents do not ask for them. Not known here: s_setvskip and MODE.vskip, registers that
s_set_gpr_idx_on shifts, and clauses of loads, which XNACK may replay (LLVM parts them where one writes what another reads).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from petitgen.emulator.sanitizer.traits import Traits

BOTH = ("gfx90a", "gfx942")
MI200, MI300 = ("gfx90a",), ("gfx942",)


@dataclass(frozen=True, slots=True)
class Rule:
    """One hazard.

    first, out    the earlier instruction: its class, and which of its registers (traits.py)
    then, into    the later instruction likewise; a rule without registers has "" for both
    states        wait states needed; {passes: states} where they depend on the passes of an MFMA
    meet          the registers "overlap", are the "same", or overlap in "part" only
    archs, cautious, text
    """

    first: str
    out: str
    then: str
    into: str
    states: int | dict[int, int]
    archs: tuple[str, ...] = BOTH
    meet: str = "overlap"
    cautious: bool = False
    text: str = ""


def _mfma_reads(first: str, states: dict[int, int], archs: tuple[str, ...], then: str = "valu memory") -> Iterator[Rule]:
    """An MFMA result is read or overwritten by other instructions."""
    for consumer in then.split():
        name = {"valu": "VALU", "memory": "memory instruction"}[consumer]
        yield Rule(first, "result", consumer, "explicit", states, archs, text=f"MFMA result read by a {name}")


_N2 = {n: n + 2 for n in (2, 4, 8, 16)}
_N3 = {n: n + 3 for n in (2, 4, 8, 16)}
_A = {2: 5, 8: 11, 16: 19}  # gfx90a: results of everything but DGEMM

RULES: tuple[Rule, ...] = (
    # --- scalar registers -------------------------------------------------------------------------------------------------
    Rule("valu", "scalars written", "vmem", "scalars read", 5, text="scalar register written by a VALU, read by VMEM"),
    Rule("valu", "exec written", "vmem", "exec", 5, cautious=True, text="EXEC written by a VALU before VMEM"),
    Rule("valu", "scalars written", "lane access", "lane select", 4, text="lane select written by a VALU"),
    Rule("valu", "scalars written", "div_fmas", "vcc", 4, text="VCC written by a VALU, read by v_div_fmas"),
    Rule("valu", "exec written", "dpp", "exec", 5, text="EXEC written by a VALU before DPP"),
    Rule("valu", "exec written", "mfma", "exec", 4, text="EXEC written by a VALU before MFMA"),
    Rule("salu", "m0 written", "reads m0", "m0", 1, text="M0 written by a SALU"),
    Rule("setreg", "hwreg", "setreg", "hwreg", 2, text="hardware register written twice"),
    Rule("setreg", "hwreg", "getreg", "hwreg", 2, text="hardware register written, then read"),
    Rule("valu", "scalars written", "valu or mfma", "scalars read", 2, MI300, text="scalar register written and read by VALUs"),
    Rule("valu", "scalars written", "valu or mfma", "zero flags", 5, text="VCCZ or EXECZ read after a VALU wrote the mask"),
    Rule("valu", "exec written", "any lane", "exec", 4, MI300, text="EXEC written by a VALU before a lane access"),
    # --- vector registers -------------------------------------------------------------------------------------------------
    Rule("valu", "result", "dpp", "explicit", 2, text="VGPR written by a VALU, read by DPP"),
    Rule("memory", "result", "dpp", "explicit", 2, cautious=True, text="loaded VGPR read by DPP"),
    Rule("valu", "result", "reads lane", "lane source", 1, MI300, text="VGPR written by a VALU, read by v_readlane"),
    Rule("wide store", "store data", "valu or mfma", "result", 1, MI200, text="data of a wide store overwritten"),
    Rule("wide store", "store data", "valu or mfma", "result", 2, MI300, text="data of a wide store overwritten"),
    Rule("trans", "result", "valu not trans", "explicit", 1, MI300, text="transcendental result read by another VALU"),
    Rule("trans", "result", "load to lds", "explicit", 1, MI300, cautious=True, text="transcendental result used as an address"),
    Rule("shifted", "result", "valu or mfma", "explicit", 1, MI300, text="result placed by SDWA or op_sel, read by a VALU"),
    Rule("shifted", "result", "load to lds", "explicit", 1, MI300, cautious=True, text="shifted result used as an address"),
    Rule("packed", "result", "valu or mfma", "explicit", 1, MI300, cautious=True, text="packed result read by a VALU"),
    Rule("packed", "result", "load to lds", "explicit", 1, MI300, cautious=True, text="packed result used as an address"),
    # --- dot products -----------------------------------------------------------------------------------------------------
    Rule("dot", "result", "valu memory other", "explicit", 3, text="dot product read by another instruction"),
    Rule("dot", "result", "same dot", "source A or B", 3, text="dot product read as a factor by the next"),
    Rule("dot", "result", "valu memory other", "result", 3, text="dot product overwritten by another instruction"),
    # --- MFMA: sources written by VALUs -----------------------------------------------------------------------------------
    Rule("valu not dot", "result", "mfma", "explicit", 2, text="VGPR written by a VALU, read by MFMA"),
    # --- MFMA: results read by anything else ------------------------------------------------------------------------------
    *_mfma_reads("xdl", _A, MI200),
    *_mfma_reads("xdl", _N3, MI300),
    *_mfma_reads("sgemm", _N2, MI300),
    *_mfma_reads("dgemm", {4: 6, 8: 11}, BOTH, "valu"),
    *_mfma_reads("dgemm", {4: 9, 8: 18}, BOTH, "memory"),
    Rule("dgemm", "", "fma_f64", "", 2, text="v_fma_f64 after DGEMM"),
    Rule("valu before dgemm", "result", "memory", "explicit", 2, MI200, text="VALU result used by memory behind a DGEMM"),
    # --- MFMA: results overwritten, accumulators overwritten --------------------------------------------------------------
    Rule("xdl", "result", "valu or memory", "result", _A, MI200, text="MFMA result overwritten"),
    Rule("xdl", "result", "valu or memory", "result", _N3, MI300, text="MFMA result overwritten"),
    Rule("sgemm", "result", "valu or memory", "result", _N2, MI300, text="MFMA result overwritten"),
    Rule("dgemm", "result", "valu or memory", "result", {4: 6, 8: 11}, text="MFMA result overwritten"),
    Rule("xdl", "source C", "valu or memory", "result", {2: 1, 4: 3, 8: 7, 16: 15}, text="MFMA source C overwritten"),
    # --- MFMA after MFMA: sources A and B ---------------------------------------------------------------------------------
    Rule("xdl", "result", "mfma", "source A or B", _A, MI200, text="MFMA result read as A or B"),
    Rule("xdl", "result", "mfma", "source A or B", _N3, MI300, text="MFMA result read as A or B"),
    Rule("sgemm", "result", "mfma", "source A or B", _N2, MI300, text="MFMA result read as A or B"),
    Rule("dgemm", "result", "mfma", "source A or B", {4: 6, 8: 11}, text="MFMA result read as A or B"),
    # --- MFMA after MFMA: source C, other registers but some in common -----------------------------------------------------
    Rule("xdl", "result", "xdl", "source C", {2: 2, 8: 8, 16: 16}, MI200, "part", text="MFMA result read as a part of C"),
    Rule("xdl", "result", "dgemm", "source C", {2: 3, 8: 9, 16: 17}, MI200, "part", text="MFMA result read as a part of C"),
    Rule("xdl", "result", "mfma", "source C", {n: n + 1 for n in _N2}, MI300, "part", text="MFMA result read as a part of C"),
    Rule("sgemm", "result", "not xdl", "source C", {n: n for n in _N2}, MI300, "part", text="MFMA result read as a part of C"),
    Rule("dgemm", "result", "not xdl", "source C", {4: 4, 8: 9}, BOTH, "part", text="MFMA result read as a part of C"),
    # --- MFMA after MFMA: source C, the very same registers ----------------------------------------------------------------
    Rule("xdl", "result", "mfma", "source C", {2: 2}, MI300, "same", text="MFMA result read as C"),
    Rule("sgemm", "result", "mfma", "source C", {2: 2}, MI300, "same", text="MFMA result read as C"),
    Rule("dgemm 4x4", "result", "dgemm 4x4", "source C", 4, BOTH, "same", text="DGEMM 4x4 result read as C"),
)  # fmt: skip


@cache
def rules(arch: str, first: str) -> tuple[Rule, ...]:
    """The rules of an architecture whose earlier instruction is of class `first`."""
    return tuple(rule for rule in RULES if rule.first == first and arch in rule.archs)


@cache
def longest(arch: str, classes: frozenset[str], passes: int) -> int:
    """Wait states after which an instruction of these classes matters no more."""
    return max((needed(rule, passes) for name in classes for rule in rules(arch, name)), default=0)


def needed(rule: Rule, passes: int) -> int:
    """Wait states of a rule, for an earlier instruction of so many passes."""
    return rule.states if isinstance(rule.states, int) else rule.states.get(passes, 0)


Operand = tuple[str, int]  # port and number of an operand of the later instruction
Blocked = dict[str, set[Operand]]  # by family: operands for which a nearer instruction of the family was found


def family(rule: Rule) -> str:
    """Of the instructions of one family, only the nearest that touches an operand counts for it, as in LLVM.

    MFMAs are issued one after the other, each when the one before has left the pipe, so a further one has gone on meanwhile.
    """
    if rule.first == "dot":
        return "dot"
    if rule.first in ("xdl", "sgemm", "dgemm", "dgemm 4x4"):
        return "mfma" if rule.out == "result" else "mfma C" if rule.out else ""
    return ""


_FAMILIES = (("dot", "dot", "result"), ("mfma", "mfma", "result"), ("mfma C", "xdl", "source C"))  # family, class, port
_BLOCKABLE = ("explicit", "result", "source A or B", "source C")


def block(first: Traits, then: Traits, blocked: Blocked) -> None:
    """Note the operands of `then` that `first` touches: what is further away does not count for them."""
    for name, member, port in _FAMILIES:
        if member in first.classes and (out := first.ports.get(port)):
            for into in _BLOCKABLE:
                found = {(into, k) for k, rows in enumerate(then.operands.get(into, ())) if rows & out}
                blocked.setdefault(name, set()).update(found)


def broken(first: Traits, behind_dgemm: bool, then: Traits, arch: str, blocked: Blocked) -> list[tuple[int, Rule]]:
    """(wait states needed, rule) of every rule that applies to two instructions; behind_dgemm: a DGEMM stands between."""
    found = []
    for name in (*first.classes, *(("valu before dgemm",) if behind_dgemm and "valu" in first.classes else ())):
        for rule in rules(arch, name):
            follows = rule.then in then.classes or (rule.then in _RELATED and _RELATED[rule.then](first, then))
            if follows and (not rule.out or _meets(rule, first, then, blocked)):
                found.append((needed(rule, first.passes), rule))
    return found


_RELATED = {
    "same dot": lambda first, then: first.mnemonic == then.mnemonic,
    "valu memory other": lambda first, then: "valu or memory" in then.classes and first.mnemonic != then.mnemonic,
}


def _meets(rule: Rule, first: Traits, then: Traits, blocked: Blocked) -> bool:
    out = first.ports.get(rule.out, frozenset())
    taken = blocked.get(family(rule), ())
    return any(
        rows & out and (rule.into, k) not in taken and (rule.meet == "overlap" or (rows == out) == (rule.meet == "same"))
        for k, rows in enumerate(then.operands.get(rule.into, ()))
    )
