"""What petitgen profile prints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from petitgen.cli.table import table as plain_table
from petitgen.profiler.report import COLUMNS, HOT_COLUMNS, Entry, facts, hot_row, row, wave_clocks
from petitgen.profiler.words import microseconds, percent

_FIGURE = re.compile(r"-|[0-9.]+(%| us| ms)?")
CAUSES_SHOWN = 6  # columns of causes where launches stand side by side


def text(entries: Sequence[Entry], hottest: int | None) -> str:
    """One launch in full; several side by side, with their hottest instructions only where these are asked for."""
    if len(entries) == 1:
        return _one(entries[0], 10 if hottest is None else hottest)
    parts = [table(COLUMNS, [row(one) for one in entries]), _stalls_side_by_side(entries)]
    parts += [f"{one.title}\n{_indented(_hot(one, hottest))}" for one in entries if hottest]
    return "\n\n".join(parts)


def _one(entry: Entry, hottest: int) -> str:
    profile = entry.profile
    lines = [entry.title, *(f"  {name:10} {words}" for name, words in facts(profile))]
    stalls = [(one.cause, percent(one.share)) for one in profile.stalls]
    bounds = [(one.name, microseconds(one.us), percent(one.share)) for one in profile.bounds]
    units = [(one.name, str(one.issues), percent(one.utilization)) for one in profile.classes]
    parts = [
        "\n".join(lines),
        _indented(table(("waves", "share"), [("issue", percent(profile.issue_share)), *stalls])),
        _indented(table(("alone", "would take", "of the time"), bounds)),
        _indented(table(("unit", "issued on a CU", "busy"), units)),
    ]
    if hottest:
        parts.append(_indented(_hot(entry, hottest)))
    if profile.notes:
        parts.append("\n".join(f"  {note}" for note in profile.notes))
    return "\n\n".join(parts)


def _hot(entry: Entry, hottest: int) -> str:
    total = wave_clocks(entry.profile)
    return table(HOT_COLUMNS, [hot_row(one, total) for one in entry.profile.hot[:hottest]])


def _stalls_side_by_side(entries: Sequence[Entry]) -> str:
    """A row a launch, a column a cause: those that cost most in any of them, worst first."""
    shares = [{one.cause: one.share for one in entry.profile.stalls} for entry in entries]
    worst: dict[str, float] = {}
    for own in shares:
        for cause, share in own.items():
            worst[cause] = max(share, worst.get(cause, 0.0))
    causes = sorted(worst, key=lambda cause: -worst[cause])[:CAUSES_SHOWN]
    rows = [
        (entry.name, entry.problem, *(percent(own.get(cause, 0.0)) for cause in causes))
        for entry, own in zip(entries, shares, strict=True)
    ]
    return table(("waves wait in", "problem", *causes), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As everywhere, but columns of figures with their units are aligned right, too, header and all."""
    columns = [list(column) for column in zip(header, *rows, strict=True)]
    for column in columns:
        if len(column) > 1 and all(_FIGURE.fullmatch(cell) for cell in column[1:]):
            width = max(map(len, column))
            column[:] = [cell.rjust(width) for cell in column]
    head, *lines = zip(*columns, strict=True)
    return plain_table(head, lines)


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.splitlines())
