"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns two spaces apart; a column of numbers, empty cells aside, is aligned right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [_numeric(column) for column in zip(*rows, strict=True)] or [False] * len(header)
    lines = []
    for line in [list(header), ["-" * width for width in widths], *cells]:
        columns = zip(line, widths, right, strict=True)
        parts = [cell.rjust(width) if number else cell.ljust(width) for cell, width, number in columns]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _numeric(column: Sequence[object]) -> bool:
    return all(isinstance(cell, int | float) or cell in ("", "-") for cell in column)


def _text(cell: object) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
