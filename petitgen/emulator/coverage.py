"""Which instructions the emulator executes, and which of them a test has checked.

Nothing here is a list of names that somebody keeps. The instructions are the forms of the ISA tables. One is
implemented when the executor compiles an instruction of that form. It is tested when a test of the
emulator's executed it, or when a test computed its operation (for every form of it whose encoding is
executed by a test at all). tested.json names the tests. It is written by a test run
(tests/emulator/recording.py), and a test that it names fails when it no longer does what the file says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

from petitgen.emulator.control import compile_exit, ends_block
from petitgen.emulator.program import compile_known
from petitgen.errors import CodeObjectError, DecodeError, EmulationError
from petitgen.isa import Instruction, decode
from petitgen.isa.formats import DPP_MARK, FLAT_SEGMENT, FLAT_SEGMENTS, FORMATS, SDWA_MARK, Code
from petitgen.isa.forms import Form, form_table

RECORD = "tested.json"

# What the emulator leaves out on purpose: mnemonics (globs), and why.
EXCLUDED: tuple[tuple[str, str], ...] = (
    ("ds_gws_*", "global wave sync: one queue of one process owns it, HIP kernels do not use it"),
    ("s_endpgm_ordered_ps_done", "ordered count: pixel shaders only"),
    ("s_rfe_*", "trap handling: return from the trap handler"),
    (
        "s_cbranch_[gi]_fork",
        "trap handling: the fork stack, which compilers stopped using before these chips",
    ),
    ("s_cbranch_join", "trap handling: the fork stack, which compilers stopped using before these chips"),
    ("s_sendmsghalt", "trap handling: halts the wave for a debugger"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One form of one instruction.

    encoding  as in Instruction.encoding: the e64, SDWA and DPP forms of a VOP1 count under VOP3, SDWA and DPP
    name      as the assembler writes it
    state     tested, implemented (and not tested), missing, or excluded
    detail    tested: the test; missing, excluded: the reason
    """

    arch: str
    encoding: str
    mnemonic: str
    name: str
    state: str
    detail: str = ""


Record = Mapping[str, Mapping[str, str]]


def coverage(arch: str, record: Record | None = None) -> Iterator[Entry]:
    """Every form of an arch, in the order of the tables. `record`: see tested()."""
    known = tested() if record is None else record
    for key, form in form_table(arch).items():
        entry = (arch, form.encoding, form.row.mnemonic, form.name)
        if reason := _excluded(form.row.mnemonic):
            yield Entry(*entry, "excluded", reason)
        elif all(faults := [fault_of(ins) for ins in samples(key, form, arch)]):
            yield Entry(*entry, "missing", faults[0])
        elif test := _test_of(entry, known):
            yield Entry(*entry[:4], "tested", test)
        else:
            yield Entry(*entry, "implemented")


def summary(entries: Iterable[Entry]) -> dict[str, Counter[str]]:
    """Counts by state, for each encoding."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        counts.setdefault(entry.encoding, Counter())[entry.state] += 1
    return counts


@cache
def tested() -> Record:
    """{"executed": {"arch encoding mnemonic": test}, "computed": {mnemonic: test}}, as recorded."""
    found: Record = json.loads((resources.files(__package__) / RECORD).read_text("utf-8"))
    return found


def _test_of(entry: tuple[str, str, str, str], known: Record) -> str:
    """The test of a form, "" if there is none."""
    arch, encoding, mnemonic, _ = entry
    if test := known["executed"].get(f"{arch} {encoding} {mnemonic}"):
        return test
    executed = any(key.startswith(f"{arch} {encoding} ") for key in known["executed"])
    return known["computed"].get(mnemonic, "") if executed else ""


def fault_of(ins: Instruction) -> str:
    """Why the executor cannot run an instruction; "" if it can."""
    try:
        if ends_block(ins):
            compile_exit(ins)
        else:
            compile_known(ins)
    except (EmulationError, CodeObjectError) as fault:
        return str(fault)
    return ""


def _excluded(mnemonic: str) -> str:
    return next((reason for glob, reason in EXCLUDED if fnmatchcase(mnemonic, glob)), "")


# --- an instruction of every form ------------------------------------------------------------------------

_PREFIX_OF = {"VOP3B": "VOP3", "MAI": "VOP3P", "ACCVGPR": "VOP3P"} | dict.fromkeys(FLAT_SEGMENTS, "FLAT")
_MARKS = {"SDWA": SDWA_MARK, "DPP": DPP_MARK}
_MODE = 1 | 31 << 11  # hwreg(HW_REG_MODE), all of it
_FIRST_VGPR, _OFF = 256, 127


def samples(key: tuple[str, int], form: Form, arch: str) -> Iterator[Instruction]:
    """Plain instructions of a form: first registers everywhere, no modifiers.

    Sources that may be vector or scalar registers are vectors in the first, then all but src0 scalars, then
    all scalars: lane selects want one. DecodeError if one decodes as another form: a fault of the tables.
    """
    wide = [f.low for f in form.format.fields.values() if f.code is Code.SRC9 and "_" not in key[0]]
    for vectors in (wide, wide[:1], []) if wide else ([],):
        raw = _plain(key, form) | sum(_FIRST_VGPR << low for low in vectors)
        code = raw.to_bytes(8, "little")
        try:
            ins = decode(code, 0, arch)
        except DecodeError:
            if vectors == wide:
                raise
            continue  # this form takes vectors only
        if (ins.mnemonic, ins.encoding) != (form.row.mnemonic, form.encoding):
            raise DecodeError(
                f"{arch} {form.name}: its sample {code.hex()} decodes as {ins.encoding} {ins.text}"
            )
        yield ins


def _plain(key: tuple[str, int], form: Form) -> int:
    """The bits of a form with every register field 0."""
    base, _, second = key[0].partition("_")
    prefix = FORMATS[_PREFIX_OF.get(form.format.name, base)].prefix
    raw = (
        int(prefix.ljust(32, "0"), 2)
        | key[1] << form.format.opcode.low
        | _MARKS.get(second, 0)
        | _fixed_bits(base, form)
    )
    return raw | _OFF << form.format.fields["saddr"].low if "saddr" in form.format.fields else raw


def _fixed_bits(base: str, form: Form) -> int:
    """Bits that make the sample a usual instruction of its format."""
    mods, bits = form.format.mods, 0
    if base in FLAT_SEGMENTS:
        bits |= FLAT_SEGMENTS.index(base) << FLAT_SEGMENT.low
    if "gds_only" in form.row.flags:
        bits |= 1 << mods["gds"].low
    if base == "SMEM":
        bits |= 1 << mods["imm"].low
    for name in ("row_mask", "bank_mask"):
        if name in mods:
            bits |= mods[name].mask << mods[name].low
    if "hwreg" in form.row.src:
        bits |= _MODE
    return bits
