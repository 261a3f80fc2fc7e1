"""Which memory operations of a wave may be unfinished, as far as its s_waitcnt instructions prove.

vmcnt    VMEM (buffer, global, scratch) loads, stores and atomics, finished in the order of their issue
lgkmcnt  LDS operations, in order among themselves; scalar loads, in any order; messages
FLAT     counts on both, and finishes in any order: only 0 on both proves it
So `s_waitcnt vmcnt(n)` proves all but the newest n VMEM operations, and lgkmcnt(n) all but the newest n LDS operations;
a scalar load needs lgkmcnt(0). A counter does not pass its maximum: issue stalls, which proves the oldest operation too.
source: CDNA3 ISA (MI300) 4.4 "Data Dependency Resolution"; LLVM SIInsertWaitcnts (which asks for 0 where kinds are mixed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from petitgen.emulator.sanitizer.footprint import Footprint, Unit, row_name
from petitgen.isa.messages import WAIT_MAX

VM_MAX, LGKM_MAX = WAIT_MAX[0], WAIT_MAX[2]


@dataclass(frozen=True, slots=True)
class Operation:
    """An unfinished operation: the rows it will write, and for messages its text and pc. Stores are all alike."""

    rows: frozenset[int] = frozenset()
    flat: bool = False
    text: str = ""
    pc: int = -1


@dataclass(frozen=True, slots=True)
class Pending:
    """Operations that may be unfinished, oldest first. FLAT ones stand in `vm` and in `lds` until each is proved.

    scalar: loads of any order (a set: only "all are finished" can ever be proved of them)
    """

    vm: tuple[Operation, ...] = ()
    lds: tuple[Operation, ...] = ()
    scalar: frozenset[Operation] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault at an instruction; `check` and `message` as in Finding."""

    check: str
    message: str


NOTHING_PENDING = Pending()


def step(pending: Pending, touched: Footprint, entry: int) -> tuple[Pending, tuple[Problem, ...]]:
    """What is unfinished after the instruction, and which unfinished results it reads or overwrites."""
    if touched.instruction.mnemonic == "s_waitcnt":
        mods = touched.instruction.mods
        return waited(pending, mods.get("vmcnt", 0), mods.get("lgkmcnt", 0)), ()
    pending, problems = _check(pending, touched, entry)
    return _issued(pending, touched), problems


def waited(pending: Pending, vmcnt: int, lgkmcnt: int) -> Pending:
    """After both counters were waited for."""
    scalar = pending.scalar if lgkmcnt else frozenset()
    return Pending(_newest(pending.vm, vmcnt), _newest(pending.lds, lgkmcnt), scalar)


def _newest(queue: tuple[Operation, ...], count: int) -> tuple[Operation, ...]:
    """What may be left when at most `count` are unfinished; nothing behind a FLAT operation is proved by a count."""
    if count == 0 or not queue:
        return ()
    finished = sum(not o.flat for o in queue) - count
    first_flat = next((k for k, o in enumerate(queue) if o.flat), len(queue))
    return queue[max(0, min(finished, first_flat)) :]


# --- issue ---------------------------------------------------------------------------------------------------------------

_COUNTS_LGKM = frozenset({"s_sendmsg", "s_sendmsghalt"})
_UNCOUNTED = frozenset({"buffer_inv", "buffer_invl2", "buffer_wbinvl1", "buffer_wbinvl1_vol"})


def _issued(pending: Pending, touched: Footprint) -> Pending:
    unit, ins = touched.unit, touched.instruction
    flat = unit is Unit.FLAT
    if not (flat or unit in (Unit.VMEM, Unit.LDS, Unit.SMEM)) or ins.mnemonic in _UNCOUNTED:
        return pending
    operation = Operation(touched.writes, flat, ins.text, ins.pc) if touched.writes else Operation(flat=flat)
    if unit is Unit.SMEM:
        return replace(pending, scalar=pending.scalar | {operation})
    vm, lds = pending.vm, pending.lds
    if unit is not Unit.LDS:
        vm = _newest((*vm, operation), VM_MAX)
    if unit is not Unit.VMEM:
        lds = _newest((*lds, operation), LGKM_MAX)
    return replace(pending, vm=vm, lds=lds)


# --- use -----------------------------------------------------------------------------------------------------------------


def _check(pending: Pending, touched: Footprint, entry: int) -> tuple[Pending, tuple[Problem, ...]]:
    """A register that is reported once is forgotten, so that one missing wait gives one finding and not dozens."""
    read, written = sources(touched), touched.writes
    if not (read or written) or pending == NOTHING_PENDING:
        return pending, ()
    problems: list[Problem] = []

    def checked(operation: Operation, in_order: bool, wait: str) -> Operation:
        wrong = operation.rows & (read if in_order else read | written)
        if not wrong:
            return operation
        verb = "reads" if wrong & read else "overwrites"
        first = min(wrong & read or wrong)
        problems.append(
            Problem(
                "wait",
                f"{verb} {row_name(first)}, which `{operation.text}` at +{operation.pc - entry:#x} may not have written yet; "
                f"needs s_waitcnt {wait}",
            )
        )
        return replace(operation, rows=operation.rows - wrong)

    vm = _checked_queue(pending.vm, "vmcnt", touched.unit is Unit.VMEM, False, checked)
    lds = _checked_queue(pending.lds, "lgkmcnt", touched.unit is Unit.LDS, bool(pending.scalar), checked)
    scalar = frozenset(checked(o, False, "lgkmcnt(0)") for o in pending.scalar)
    if not problems:
        return pending, ()
    return Pending(vm, lds, scalar), tuple(dict.fromkeys(problems))


def _checked_queue(
    queue: tuple[Operation, ...], counter: str, same_kind: bool, mixed: bool, checked: Callable[[Operation, bool, str], Operation]
) -> tuple[Operation, ...]:
    """The operations of one queue after `checked`; an operation of the same kind may overwrite: it finishes later."""
    zero = mixed or any(o.flat for o in queue)
    after = []
    for k, operation in enumerate(queue):
        needed = f"{counter}({0 if zero else len(queue) - 1 - k})"
        if operation.flat:
            needed = "vmcnt(0) and lgkmcnt(0)"
        after.append(checked(operation, same_kind and not operation.flat, needed))
    return tuple(after)


def sources(touched: Footprint) -> frozenset[int]:
    """Rows whose value the instruction needs at its issue: not the old destination of a load that keeps a half of it."""
    if not touched.load:
        return touched.reads
    kept = {rows for operand, rows in touched.operands if operand in touched.instruction.dst}
    if not kept:
        return touched.reads
    needed = {row for operand, rows in touched.operands if operand not in touched.instruction.dst for row in rows}
    return frozenset(touched.reads - touched.writes | needed)
