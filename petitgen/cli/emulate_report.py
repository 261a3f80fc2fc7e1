"""What petitgen emulate prints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from petitgen.cli.inspect import unit
from petitgen.cli.table import table
from petitgen.emulator import DeviceMemory, LaunchResult
from petitgen.emulator.arguments import Buffer, BufferSpec, Spec
from petitgen.emulator.sanitizer import Finding
from petitgen.isa import Kernel
from petitgen.isa.tables import mnemonics

MOST_SHOWN = 20  # bank conflicts and misaligned accesses listed


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for, parsed."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Spec, ...]
    buffers: tuple[BufferSpec, ...]
    beyond: tuple[str, ...]
    dynamic_lds: int
    seed: int
    limit: int | None
    sanitize: bool
    trace: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a launch. error: why it stopped early; result is None then."""

    kernel: Kernel
    arch: str
    result: LaunchResult | None
    findings: tuple[Finding, ...]
    error: str
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.findings and not self.error


def report(outcome: Outcome, placed: Mapping[str, Buffer], memory: DeviceMemory, request: Request) -> str:
    lines = []
    if outcome.result is not None:
        result = outcome.result
        groups = math.prod(request.grid)
        lines.append(
            f"{result.kernel} ({outcome.arch}): {groups} workgroups, {result.waves} waves, "
            f"{result.total} wave-instructions in {outcome.seconds:.2f} s"
        )
        classes = by_class(result.executed, outcome.arch)
        rows = [(name, count, f"{100 * count / result.total:.1f}%") for name, count in classes.most_common()]
        lines += ["", table(("class", "executed", "share"), rows)]
    changed = [(name, *_contents(buffer, memory)) for name, buffer in placed.items()]
    if changed and outcome.result is not None:
        lines += ["", table(("buffer", "type", "changed", "first elements"), changed)]
    if conflicts := _conflicts(outcome):
        lines += [
            "",
            table(("offset", "LDS instruction", "executed", "extra cycles"), conflicts[:MOST_SHOWN]),
        ]
    if misaligned := _misaligned(outcome):
        lines += ["", table(("offset", "misaligned", "waves", "lanes"), misaligned[:MOST_SHOWN])]
    if outcome.findings:
        lines += ["", *map(str, outcome.findings)]
    if request.sanitize:
        count = len(outcome.findings)
        said = f"{count or 'no'} finding{'' if count == 1 else 's'}"
        lines += ["", f"stopped; findings until then: {count or 'none'}" if outcome.error else said]
    return "\n".join(lines)


def by_class(executed: Mapping[str, int], arch: str) -> Counter[str]:
    """Executed wave-instructions by the part of the machine that executes them."""
    classes: Counter[str] = Counter()
    known = mnemonics(arch)
    for mnemonic, count in executed.items():
        classes[unit(mnemonic, known[mnemonic][0].format)] += count
    return classes


def _contents(buffer: Buffer, memory: DeviceMemory) -> tuple[str, str, str]:
    """Type, elements changed, first elements."""
    now, spec = buffer.read(memory), buffer.spec
    first = " ".join(f"{float(x):.6g}" if spec.dtype.kind not in "iu" else str(x) for x in now.reshape(-1)[:4])
    type_ = f"{spec.type}[{','.join(map(str, spec.shape))}]"
    if buffer.before is None:
        return type_, "", first
    width = spec.dtype.itemsize
    was, is_ = (np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, width) for a in (buffer.before, now))
    return type_, str(int((was != is_).any(axis=1).sum())), first


def _conflicts(outcome: Outcome) -> list[tuple[str, str, int, int]]:
    """LDS instructions with bank conflicts, the worst first."""
    found = outcome.result.bank_conflicts if outcome.result is not None else {}
    rows = [
        (f"{offset:#x}", text, count, extra) for offset, (text, count, extra) in found.items() if extra
    ]
    return sorted(rows, key=lambda row: -row[3])


def _misaligned(outcome: Outcome) -> list[tuple[str, str, int, int]]:
    """Loads and stores between the elements, the most first."""
    found = outcome.result.misaligned if outcome.result is not None else {}
    rows = [(f"{offset:#x}", text, waves, lanes) for offset, (text, waves, lanes) in found.items()]
    return sorted(rows, key=lambda row: -row[3])


def as_data(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "ok": outcome.ok,
        "kernel": outcome.kernel.name,
        "arch": outcome.arch,
        "error": outcome.error,
        "waves": result.waves if result else 0,
        "executed": dict(result.executed.most_common()) if result else {},
        "classes": dict(by_class(result.executed, outcome.arch)) if result else {},
        "findings": [asdict(finding) for finding in outcome.findings],
        "bank_conflicts": [
            dict(zip(("offset", "instruction", "executed", "extra_cycles"), row, strict=True))
            for row in _conflicts(outcome)
        ],
        "misaligned": [
            dict(zip(("offset", "instruction", "waves", "lanes"), row, strict=True)) for row in _misaligned(outcome)
        ],
        "seconds": outcome.seconds,
    }
