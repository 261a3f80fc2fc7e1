"""The picture: speedups by rows of A, and how near both sides come to the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from petit.sides import Row, Side

PETIT, OURS = "#b3541e", "#1f5a99"


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the picture; the ending of the name says in which form."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "petit"  # the same bytes for the same rows
    from matplotlib import pyplot

    compared = [row for row in rows if row.speedup]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _speedups(left, compared)
    _rooflines(right, compared)
    figure.suptitle(title)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _speedups(axes, rows: Sequence[Row]) -> None:
    ms = sorted({row.m for row in rows})
    for place, m in enumerate(ms):
        values = [row.speedup for row in rows if row.m == m]
        axes.plot([place] * len(values), values, "o", color=OURS, alpha=0.25, markersize=4)
    means = [geometric_mean(row.speedup for row in rows if row.m == m) for m in ms]
    axes.plot(range(len(ms)), means, "-", color=OURS, label="geometric mean")
    if all(row.best for row in rows):
        best = [geometric_mean(row.speedup_best for row in rows if row.m == m) for m in ms]
        axes.plot(range(len(ms)), best, "--", color=OURS, label="against the best of its tiles")
    axes.axhline(1, color=PETIT, linewidth=1, label="Petit 0.0.3")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    _by_rows(axes, ms, "modelled time of Petit over ours")


def _rooflines(axes, rows: Sequence[Row]) -> None:
    ms = sorted({row.m for row in rows})
    for name, label, color in (("petit", "Petit 0.0.3", PETIT), ("ours", "petitgen", OURS)):
        found = [[_roof(getattr(row, name)) for row in rows if row.m == m] for m in ms]
        means = [sum(values) / len(values) for values in found]
        axes.plot(range(len(ms)), means, "-o", color=color, markersize=4, label=f"{label}, mean and range")
        axes.fill_between(range(len(ms)), [min(v) for v in found], [max(v) for v in found], color=color, alpha=0.12)
    axes.set_ylim(0, 100)
    _by_rows(axes, ms, "% of the nearer roofline, HBM or MFMA")


def _roof(side: Side) -> float:
    return 100 * max(side.hbm, side.mfma)


def _by_rows(axes, ms: Sequence[int], label: str) -> None:
    axes.set_xticks(range(len(ms)), [str(m) for m in ms])
    axes.set_xlabel("rows of A (m)")
    axes.set_ylabel(label)
    axes.grid(True, alpha=0.3)
    axes.legend(frameon=False)
