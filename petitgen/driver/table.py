"""The HIP calls of the virtual GPU: shim/functions.table and shim/unserved.txt, and the C made from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from petitgen.errors import DriverError

SHIM = Path(__file__).resolve().parent / "shim"
FLAGS = {"unsafe": "CALL_UNSAFE", "device": "CALL_DEVICE", "cleanup": "CALL_CLEANUP", "quiet": "CALL_QUIET"}
_LINE = re.compile(r"(?P<flags>[a-z,]+|-)\s+(?P<name>\w+)\((?P<parameters>.*)\)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One served HIP call: its C parameters, and how it behaves (see functions.table)."""

    name: str
    parameters: str
    flags: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """The names of the parameters, to pass them on."""
        return ", ".join(_name_of(p) for p in self.parameters.split(",")) if self.parameters != "void" else ""


def _name_of(parameter: str) -> str:
    match = re.search(r"(\w+)$", parameter.strip())
    if match is None:
        raise DriverError(f"functions.table: parameter {parameter!r} has no name at its end")
    return match[1]


@cache
def served() -> tuple[Call, ...]:
    """Every call in functions.table. DriverError for a line that is none."""
    calls = []
    for number, line in enumerate((SHIM / "functions.table").read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        flags = () if not match or match["flags"] == "-" else tuple(match["flags"].split(","))
        if not match or set(flags) - set(FLAGS):
            raise DriverError(f"functions.table:{number}: {line!r}: flags ({', '.join(FLAGS)}, or -), name(parameters)")
        calls.append(Call(match["name"], match["parameters"], flags))
    return tuple(calls)


@cache
def unserved() -> tuple[str, ...]:
    """The names that answer hipErrorNotSupported."""
    lines = (SHIM / "unserved.txt").read_text().splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def exports_header(calls: Sequence[Call] | None = None) -> str:
    """exports.h: the functions that do the work of each call."""
    lines = [f"hipError_t serve_{call.name}({call.parameters});" for call in calls or served()]
    return '#pragma once\n#include "virtual.h"\n' + "\n".join(lines) + "\n"


def exports_source() -> str:
    """exports.c: the exported functions, each around its serve_ function; and those that are not served."""
    rows, bodies = [], []
    for number, call in enumerate(served()):
        flags = " | ".join(FLAGS[flag] for flag in call.flags) or "0"
        rows.append(f'    {{"{call.name}", {flags}}},')
        bodies.append(
            f"EXPORT hipError_t {call.name}({call.parameters}) {{\n"
            f"    CallState state = call_begin({number});\n"
            f"    return call_end({number}, state, state.stop ? state.error : serve_{call.name}({call.arguments}));\n}}\n"
        )
    stubs = [f'EXPORT hipError_t {name}(void) {{ return call_unserved("{name}"); }}' for name in unserved()]
    parts = [
        '#include "call.h"\n#include "exports.h"\n',
        "const CallInfo call_table[] = {\n" + "\n".join(rows) + "\n};",
        f"const int call_count = {len(rows)};\n",
        *bodies,
        *stubs,
    ]
    return "\n".join(parts) + "\n"
