"""Which instructions a trace must execute: those that decide where waves go and which addresses they access.

Timing does not depend on data. So a backward slice from branches, EXEC and addresses is executed, and the rest, most
of all matrix arithmetic and dequantization, is only counted. What data could decide is decided as for data that is
all zero: a comparison of floats sees zeros.

Registers are bits of one integer: 0-255 VGPRs, 256-511 AGPRs, 512-639 SGPRs, 640 SCC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

from petitgen.emulator.control import branch_target, ends_block
from petitgen.isa.model import Instruction, Kind, Operand

_FIRST = {Kind.VGPR: 0, Kind.AGPR: 256, Kind.SGPR: 512}
_STATUS = {"scc": 1 << 640, "vccz": 3 << 512 + 106, "execz": 3 << 512 + 126}
EXEC = 3 << 512 + 126
VECTORS = (1 << 512) - 1
_FLAT_SCRATCH, _M0 = 3 << 512 + 102, 1 << 512 + 124
_DATA_ROLES = ("vdata", "data0", "data1", "sdata")
_DEEPEST = 8
_ENDS = ("s_endpgm", "s_endpgm_saved", "s_branch", "s_setpc_b64")
_INDIRECT = ("s_setpc_b64", "s_swappc_b64", "s_call_b64")
_MEMORY = ("MUBUF", "MTBUF", "FLAT", "GLOBAL", "SCRATCH", "DS", "SMEM")


def bits(operand: Operand) -> int:
    """The registers of an operand."""
    if operand.kind is Kind.STATUS:
        return _STATUS.get(operand.name, 0) | (_STATUS["scc"] if operand.type == "scc" else 0)
    first = _FIRST.get(operand.kind)
    return 0 if first is None else ((1 << operand.dwords) - 1) << first + operand.index


def union(operands: tuple[Operand, ...]) -> int:
    """The registers of several operands."""
    return reduce(lambda a, o: a | bits(o), operands, 0)


def is_memory(ins: Instruction) -> bool:
    """Does it access memory or LDS? Lane permutations of the DS family do not."""
    return ins.encoding in _MEMORY and "permute" not in ins.mnemonic and "swizzle" not in ins.mnemonic


def is_float_compare(ins: Instruction) -> bool:
    """A vector comparison of floats, or a test of their class."""
    if not ins.mnemonic.startswith("v_cmp"):
        return False
    return ins.mnemonic.rpartition("_")[2] in ("f16", "f32", "f64")


def is_matrix(ins: Instruction) -> bool:
    """A matrix instruction."""
    return ins.mnemonic.startswith(("v_mfma", "v_smfmac"))


def is_integer_atomic(ins: Instruction) -> bool:
    """An atomic that is executed whatever reads its result: a counter, perhaps."""
    return "atomic" in ins.mnemonic and not ins.mnemonic.endswith(("f32", "f64", "f16", "bf16"))


@dataclass(frozen=True, slots=True)
class _Flow:
    """What an instruction means for liveness, as sets of registers.

    always  executed whatever is live;  roots: read whenever the instruction is met
    reads   read if it is executed;  writes;  kills: writes that leave nothing of the old value
    """

    always: bool
    roots: int
    reads: int
    writes: int
    kills: int


def needed(code: list[Instruction]) -> frozenset[int]:
    """The pcs of the instructions to execute, of the whole straight listing of a kernel."""
    if any(ins.mnemonic in _INDIRECT for ins in code):
        return frozenset(ins.pc for ins in code if not is_matrix(ins))
    narrow = _narrowed(code)
    chosen: frozenset[int] = frozenset()
    through_lds: frozenset[bool] = frozenset()
    while True:  # a needed LDS load needs the stores of its width, and so on
        flows = [_flow(ins, narrow[i] == 0, through_lds) for i, ins in enumerate(code)]
        chosen = _live(code, flows)
        loads = frozenset(_wide(i) for i in code if i.pc in chosen and i.encoding == "DS" and is_memory(i) and i.dst)
        if loads <= through_lds:
            return chosen
        through_lds |= loads


def _wide(ins: Instruction) -> bool:
    """Flags and counters pass LDS in single dwords, tiles of matrices in wider accesses."""
    data = ins.dst or tuple(o for o in ins.src if o.role in _DATA_ROLES)
    return sum(o.dwords for o in data) > 1


def _flow(ins: Instruction, whole: bool, through_lds: frozenset[bool]) -> _Flow:
    writes, reads = union(ins.dst), union(ins.src)
    if is_matrix(ins):
        return _Flow(False, 0, 0, 0, 0)
    if is_memory(ins):
        data = union(tuple(o for o in ins.src if o.role in _DATA_ROLES))
        roots = reads & ~data if ins.encoding != "SMEM" else 0
        roots |= _M0 if ins.mods.get("lds") or "addtid" in ins.mnemonic else 0
        roots |= _FLAT_SCRATCH if ins.encoding in ("SCRATCH", "FLAT") else 0
        always = is_integer_atomic(ins) or (ins.encoding == "DS" and not ins.dst and _wide(ins) in through_lds)
        return _Flow(always, roots, reads | roots, writes, writes if whole else writes & ~VECTORS)
    if is_float_compare(ins):
        reads &= ~VECTORS
    always = bool(writes & EXEC) or ends_block(ins) or ins.mnemonic.startswith(("s_setreg", "s_set_gpr_idx"))
    partial = (
        not whole or ins.encoding in ("SDWA", "DPP") or "writelane" in ins.mnemonic or "op_sel" in ins.mods
    )  # fmt: skip
    kills = writes & ~VECTORS if partial else writes
    return _Flow(always, 0, reads, writes, 0 if "cmov" in ins.mnemonic else kills)


def _live(code: list[Instruction], flows: list[_Flow]) -> frozenset[int]:
    """Backward to a fixed point: what is needed, as pcs."""
    index = {ins.pc: i for i, ins in enumerate(code)}
    after = _successors(code, index)
    live_in = [0] * (len(code) + 1)
    changed = True
    while changed:
        changed = False
        for i in range(len(code) - 1, -1, -1):
            live = EXEC
            for j in after[i]:
                live |= live_in[j]
            flow = flows[i]
            if flow.always or flow.writes & live & ~EXEC:
                live = (live & ~flow.kills) | flow.reads
            live |= flow.roots | EXEC
            if live != live_in[i]:
                live_in[i] = live
                changed = True
    chosen = set()
    for i, ins in enumerate(code):
        out = reduce(lambda a, j: a | live_in[j], after[i], 0)
        if flows[i].always or flows[i].writes & out & ~EXEC:
            chosen.add(ins.pc)
    return frozenset(chosen)


def _successors(code: list[Instruction], index: dict[int, int]) -> list[tuple[int, ...]]:
    result = []
    for i, ins in enumerate(code):
        target = branch_target(ins)
        following = () if ins.mnemonic in _ENDS or i + 1 == len(code) else (i + 1,)
        result.append(following if target is None or target not in index else (*following, index[target]))
    return result


def _narrowed(code: list[Instruction]) -> list[int]:
    """Before each instruction: how many times EXEC may have been narrowed and not restored, 0 for never."""
    index = {ins.pc: i for i, ins in enumerate(code)}
    after = _successors(code, index)
    depth = [0] * (len(code) + 1)
    changed = True
    while changed:
        changed = False
        for i, ins in enumerate(code):
            out = _depth_after(ins, depth[i])
            for j in after[i]:
                if depth[j] < out:
                    depth[j] = out
                    changed = True
    return depth


def _depth_after(ins: Instruction, depth: int) -> int:
    if not union(ins.dst) & EXEC:
        return depth
    if ins.mnemonic == "s_mov_b64" and ins.src[0].name == "-1":
        return 0
    if ins.mnemonic in ("s_or_b64", "s_mov_b64"):  # the end of an if, or of a loop
        return max(depth - 1, 0)
    if ins.mnemonic in ("s_xor_b64", "s_andn2_saveexec_b64", "s_or_saveexec_b64"):  # from then to else
        return depth
    return min(depth + 1, _DEEPEST)


def zeroed(ins: Instruction) -> Instruction:
    """The instruction with zeros in place of its vector operands."""
    src = tuple(_zero(o) if o.kind in (Kind.VGPR, Kind.AGPR) else o for o in ins.src)
    return replace(ins, src=src)


def _zero(operand: Operand) -> Operand:
    return replace(operand, kind=Kind.CONST, index=0, value=0, name="0")
