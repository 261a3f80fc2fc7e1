"""From a decoded instruction to the function that executes it: vector and scalar ALU.

`compile_vector` and `compile_scalar` bind operands, modifiers and semantics once; the returned `step(group)`
runs the instruction for all waves of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from petitgen.emulator import dpp, modes
from petitgen.emulator.operands import is_vector, row_of, vector_reader
from petitgen.emulator.registry import Op, lookup
from petitgen.emulator.results import Writer, vector_writers
from petitgen.emulator.scalar_operands import scalar_reader, scalar_writer
from petitgen.emulator.state import Group
from petitgen.emulator.types import FLOAT_CLASS, WORD
from petitgen.isa.model import Instruction

Array = NDArray[Any]
Step = Callable[[Group], None]


def bound(op: Op, ins: Instruction, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the keywords that the op declares filled in."""
    known: dict[str, Any] = {"arch": ins.arch, "mods": ins.mods}
    given = {name: known[name] for name in op.keywords}
    if ins.mnemonic == "v_swap_b32":  # its results are its arguments: views of what the first write changes
        return lambda a, b: function(a.copy(), b.copy())
    return (lambda *args: function(*args, **given)) if given else function


def compile_scalar(ins: Instruction) -> Step:
    """A step for a scalar ALU instruction whose op is in the registry."""
    op = lookup(ins.mnemonic)
    function = bound(op, ins, op.function)
    readers = [scalar_reader(o) for o in ins.src]
    writers = [scalar_writer(o) for o in ins.dst]
    return _step(function, readers, writers)


def compile_vector(ins: Instruction) -> Step:
    """A step for a vector ALU instruction whose op is in the registry."""
    op = lookup(ins.mnemonic)
    integer = not any(o.type in FLOAT_CLASS for o in ins.dst)
    clamp = ins.mods.get("clamp", 0)
    chosen = op.clamped if clamp and integer and op.clamped is not None else op.function
    function = bound(op, ins, chosen)
    readers = [vector_reader(o, ins) for o in ins.src]
    if ins.encoding == "DPP":
        readers = [
            dpp.moved(r, ins) if o.role == "src0" else r for o, r in zip(ins.src, readers, strict=True)
        ]
    writers = vector_writers(ins)
    plain = fast_step(op, ins) if chosen is op.ufunc else None
    step = plain or _step(function, readers, writers)
    types = [o.type for o in (*ins.src, *ins.dst)]
    if any(t in FLOAT_CLASS for t in types):
        step = _with_modes(ins, step, function, readers, writers)
    return dpp.enabled(step, ins) if ins.encoding == "DPP" else step


def fast_step(op: Op, ins: Instruction) -> Step | None:
    """A ufunc on whole registers writes straight into the destination while all lanes are on. None if it does
    not apply."""
    dst = ins.dst[0] if len(ins.dst) == 1 else None
    if (
        dst is None
        or not is_vector(dst)
        or dst.type not in WORD
        or ins.encoding in ("SDWA", "DPP")
        or op.ufunc is None
    ):
        return None
    if (
        any(o.type not in WORD or o.neg or o.abs for o in ins.src)
        or ins.mods.get("clamp")
        or ins.mods.get("omod")
    ):
        return None
    ufunc, target, readers = op.ufunc, row_of(dst), [vector_reader(o, ins) for o in ins.src]
    rows = WORD[dst.type]
    if len(readers) == 1:
        (first,) = readers

        def unary(s: Group) -> None:
            if s.mask32 is None:
                ufunc(first(s), out=getattr(s, rows)[target])
            else:
                s.write(target, ufunc(first(s)))

        return unary
    if len(readers) != 2:
        return None
    first, second = readers

    def binary(s: Group) -> None:
        if s.mask32 is None:
            ufunc(first(s), second(s), out=getattr(s, rows)[target])
        else:
            s.write(target, ufunc(first(s), second(s)))

    return binary


def _step(function: Callable[..., Any], readers: list[Callable[[Group], Any]], writers: list[Writer]) -> Step:
    """Read, compute, write; unrolled for the usual counts of sources."""
    if len(writers) != 1:

        def several(s: Group) -> None:
            for write, value in zip(writers, function(*[r(s) for r in readers]), strict=True):
                write(s, value)

        return several
    (write,) = writers
    if len(readers) == 1:
        (first,) = readers
        return lambda s: write(s, function(first(s)))
    if len(readers) == 2:
        first, second = readers
        return lambda s: write(s, function(first(s), second(s)))
    if len(readers) == 3:
        first, second, third = readers
        return lambda s: write(s, function(first(s), second(s), third(s)))
    return lambda s: write(s, function(*[r(s) for r in readers]))


# --- floating-point modes -------------------------------------------------------------------------


def _with_modes(
    ins: Instruction,
    step: Step,
    function: Callable[..., Any],
    readers: list[Callable[[Group], Any]],
    writers: list[Writer],
) -> Step:
    """`step` while MODE is the usual one, else a careful version of it."""
    flush_sources = [modes.source_flusher(ins.mnemonic, o.type) for o in ins.src]
    flush_results = [modes.result_flusher(o.type) for o in ins.dst]
    result_type = next((o.type for o in ins.dst if o.type in FLOAT_CLASS), "")
    compute = modes.rounded(ins.mnemonic, result_type, function)

    def careful(s: Group) -> None:
        mode = s.special
        if mode is None:
            step(s)
            return
        values = [r(s) for r in readers]
        values = [v if f is None else f(v, mode) for v, f in zip(values, flush_sources, strict=True)]
        result = compute(mode, *values)
        results = result if len(writers) > 1 else (result,)
        for write, value, flush in zip(writers, results, flush_results, strict=False):
            write(s, value if flush is None else flush(value, mode))

    return careful
