"""What petitgen emulate --coverage prints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import click

from petitgen.cli.table import table
from petitgen.emulator.coverage import Entry, coverage, summary
from petitgen.errors import EmulationError
from petitgen.isa.formats import ARCHS


def print_coverage(arch: str | None, list_missing: bool, as_json: bool) -> None:
    """A table for each arch: what is implemented, tested, missing, and excluded with the reason."""
    if arch is not None and arch not in ARCHS:
        raise EmulationError(f"--arch {arch}: there are {', '.join(ARCHS)}")
    found = {name: list(coverage(name)) for name in ARCHS if arch in (None, name)}
    entries = [entry for listed in found.values() for entry in listed]
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for name, listed in found.items():
        click.echo(f"{name}\n{_table(listed)}\n")
        if list_missing:
            click.echo("\n".join(map(_line, _wanting(listed))) + "\n")
    reasons: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry.state == "excluded":
            reasons.setdefault(entry.detail, {})[entry.mnemonic] = None
    click.echo("Excluded by design:")
    for reason, mnemonics in reasons.items():
        click.echo(f"  {', '.join(mnemonics)}\n    {reason}")


def _table(entries: Sequence[Entry]) -> str:
    rows: list[tuple[object, ...]] = [(name, *_counts(counts)) for name, counts in summary(entries).items()]
    rows.append(("all", *_counts(Counter(entry.state for entry in entries))))
    return table(("format", "forms", "implemented", "tested", "missing", "excluded"), rows)


def _counts(counts: Counter[str]) -> tuple[int, ...]:
    """All forms, implemented (tested or not), tested, missing, excluded."""
    implemented = counts["tested"] + counts["implemented"]
    return counts.total(), implemented, counts["tested"], counts["missing"], counts["excluded"]


def _wanting(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.state in ("missing", "implemented")]


def _line(entry: Entry) -> str:
    state = "not tested" if entry.state == "implemented" else "missing"
    return f"  {entry.encoding:8} {entry.name:32} {state}"
