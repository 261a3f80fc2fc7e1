"""Immediates with a syntax of their own: s_waitcnt, hwreg(), sendmsg(), gpr_idx(), swizzle(), buffer formats.

Source: CDNA3 ISA (MI300), the instructions s_waitcnt, s_getreg_b32, s_sendmsg, ds_swizzle_b32 and the MTBUF
format; spelling: LLVM 19, AMDGPUInstPrinter.
"""

from __future__ import annotations

WAIT_FIELDS = ("vmcnt", "expcnt", "lgkmcnt")
WAIT_MAX = (63, 7, 15)


def wait_counts(simm: int) -> tuple[int, int, int]:
    """(vmcnt, expcnt, lgkmcnt) of an s_waitcnt immediate."""
    return simm & 15 | simm >> 14 << 4, simm >> 4 & 7, simm >> 8 & 15


def waitcnt_text(simm: int) -> str:
    """`vmcnt(0) lgkmcnt(0)`: the counters that are waited for, or all three when none is."""
    counts = wait_counts(simm)
    everything = counts == WAIT_MAX
    shown = zip(WAIT_FIELDS, counts, WAIT_MAX, strict=True)
    return " ".join(f"{name}({count})" for name, count, most in shown if everything or count != most)


HWREGS = {
    1: "HW_REG_MODE", 2: "HW_REG_STATUS", 3: "HW_REG_TRAPSTS", 4: "HW_REG_HW_ID", 5: "HW_REG_GPR_ALLOC",
    6: "HW_REG_LDS_ALLOC", 7: "HW_REG_IB_STS", 15: "HW_REG_SH_MEM_BASES", 16: "HW_REG_TBA_LO",
    17: "HW_REG_TBA_HI",
    18: "HW_REG_TMA_LO", 19: "HW_REG_TMA_HI",
}  # fmt: skip
HWREGS_ONLY = {
    "gfx90a": {},
    "gfx942": {
        20: "HW_REG_XCC_ID", 21: "HW_REG_SQ_PERF_SNAPSHOT_DATA", 22: "HW_REG_SQ_PERF_SNAPSHOT_DATA1",
        23: "HW_REG_SQ_PERF_SNAPSHOT_PC_LO", 24: "HW_REG_SQ_PERF_SNAPSHOT_PC_HI",
    },
}  # fmt: skip


def hwreg_fields(simm: int) -> tuple[int, int, int]:
    """(register, first bit, number of bits) of a hwreg immediate."""
    return simm & 63, simm >> 6 & 31, (simm >> 11 & 31) + 1


def hwreg_text(simm: int, arch: str) -> str:
    """`hwreg(HW_REG_MODE, 0, 4)`; bit range left out when it is the whole register."""
    register, first, size = hwreg_fields(simm)
    name = HWREGS.get(register) or HWREGS_ONLY[arch].get(register) or str(register)
    return f"hwreg({name})" if (first, size) == (0, 32) else f"hwreg({name}, {first}, {size})"


MESSAGES = {
    1: "MSG_INTERRUPT", 2: "MSG_GS", 3: "MSG_GS_DONE", 4: "MSG_SAVEWAVE", 5: "MSG_STALL_WAVE_GEN",
    6: "MSG_HALT_WAVES",
    7: "MSG_ORDERED_PS_DONE", 8: "MSG_EARLY_PRIM_DEALLOC", 9: "MSG_GS_ALLOC_REQ", 10: "MSG_GET_DOORBELL",
    15: "MSG_SYSMSG",
}  # fmt: skip
GS_OPERATIONS = {0: "GS_OP_NOP", 1: "GS_OP_CUT", 2: "GS_OP_EMIT", 3: "GS_OP_EMIT_CUT"}
SYSTEM_OPERATIONS = {1: "SYSMSG_OP_ECC_ERR_INTERRUPT", 2: "SYSMSG_OP_REG_RD", 4: "SYSMSG_OP_TTRACE_PC"}
GS_DONE, GS, SYSTEM = 3, 2, 15


def sendmsg_text(simm: int) -> str:
    """`sendmsg(MSG_GS, GS_OP_EMIT, 1)`; numbers where the message has no such operation or stream."""
    message, operation, stream = simm & 15, simm >> 4 & 7, simm >> 8 & 3
    name = MESSAGES.get(message)
    if name and message in (GS, GS_DONE):
        known = GS_OPERATIONS.get(operation)
        if known and (operation or message == GS_DONE) and (operation or not stream):
            return f"sendmsg({name}, {known}" + (f", {stream})" if operation else ")")
    elif name and message == SYSTEM and operation in SYSTEM_OPERATIONS and not stream:
        return f"sendmsg({name}, {SYSTEM_OPERATIONS[operation]})"
    elif name and message != SYSTEM and not operation and not stream:
        return f"sendmsg({name})"
    if message | operation << 4 | stream << 8 != simm:
        return str(simm)
    return f"sendmsg({message}, {operation}, {stream})"


GPR_INDEX_MODES = ("SRC0", "SRC1", "SRC2", "DST")


def gpr_index_text(value: int) -> str:
    """`gpr_idx(SRC0,DST)`, or the number when bits beyond the four modes are set."""
    if value >> len(GPR_INDEX_MODES):
        return f"{value:#x}"
    return "gpr_idx(" + ",".join(name for bit, name in enumerate(GPR_INDEX_MODES) if value >> bit & 1) + ")"


def swizzle_text(offset: int) -> str:
    """` offset:swizzle(...)` of ds_swizzle_b32; empty for 0."""
    if not offset:
        return ""
    if offset & 0xFF00 == 0x8000:
        lanes = ",".join(str(offset >> 2 * lane & 3) for lane in range(4))
        return f" offset:swizzle(QUAD_PERM,{lanes})"
    if offset & 0x8000:
        return f" offset:{offset}"
    and_mask, or_mask, xor_mask = offset & 31, offset >> 5 & 31, offset >> 10 & 31
    if and_mask == 31 and not or_mask and xor_mask and not xor_mask & (xor_mask - 1):
        return f" offset:swizzle(SWAP,{xor_mask})"
    if and_mask == 31 and not or_mask and xor_mask and not xor_mask & (xor_mask + 1):
        return f" offset:swizzle(REVERSE,{xor_mask + 1})"
    group = 32 - and_mask
    if and_mask != 31 and or_mask < group and not group & (group - 1) and not xor_mask:
        return f" offset:swizzle(BROADCAST,{group},{or_mask})"
    # One letter a bit of the lane number, high bit first: what comes out for a lane of all zeros and of all
    # ones.
    zeros, ones = or_mask ^ xor_mask, (and_mask | or_mask) ^ xor_mask
    letters = {(0, 0): "0", (1, 1): "1", (0, 1): "p", (1, 0): "i"}
    mask = "".join(letters[zeros >> bit & 1, ones >> bit & 1] for bit in reversed(range(5)))
    return f' offset:swizzle(BITMASK_PERM,"{mask}")'


DATA_FORMATS = (
    "INVALID", "8", "16", "8_8", "32", "16_16", "10_11_11", "11_11_10", "10_10_10_2", "2_10_10_10", "8_8_8_8",
    "32_32", "16_16_16_16", "32_32_32", "32_32_32_32", "RESERVED_15",
)  # fmt: skip
NUMBER_FORMATS = ("UNORM", "SNORM", "USCALED", "SSCALED", "UINT", "SINT", "RESERVED_6", "FLOAT")


def buffer_format_text(value: int) -> str:
    """` format:[BUF_DATA_FORMAT_32,BUF_NUM_FORMAT_FLOAT]` without the defaults (data 8, number UNORM)."""
    data, number = value & 15, value >> 4
    names = [f"BUF_DATA_FORMAT_{DATA_FORMATS[data]}"] if data != 1 else []
    names += [f"BUF_NUM_FORMAT_{NUMBER_FORMATS[number]}"] if number != 0 else []
    return f" format:[{','.join(names)}]" if names else ""
