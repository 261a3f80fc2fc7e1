"""What the rows say together: the figures, as data and as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from petit.sides import Row, Side
from petitgen.tune.shapes import Weight

DECODE_ROWS = 16  # up to so many rows of A count as decoding
LARGE_WEIGHT = 32 * 2**20  # elements; smaller ones are over before bandwidth decides
PREFILL_ROWS = 1024
MOST_RANKS = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Speedups (Petit's time over ours) of some rows: how many, geometric mean, smallest and largest.

    "its best tile": the time of Petit's best tile over ours. "a perfect kernel": Petit's time over the least that the
    model gives any kernel, so what could be reached at most.
    """

    name: str
    count: int
    geomean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Share:
    """A figure of both sides over some rows: name, rows, smallest and mean of Petit's and ours."""

    name: str
    count: int
    petit_least: float
    petit_mean: float
    our_least: float
    our_mean: float


@dataclass(frozen=True, slots=True)
class Summary:
    """groups, shares; worst: the rows with the smallest speedups, first the worst; slower: rows on which we lose."""

    groups: tuple[Group, ...]
    shares: tuple[Share, ...]
    worst: tuple[Row, ...]
    slower: int
    refused: int
    failed: int


def summarize(rows: Sequence[Row], weights: Sequence[Weight]) -> Summary:
    """Each (M, N, K) counts once in each group, however many models and ranks it comes from."""
    uses = {(weight.n, weight.k): weight.uses for weight in weights}
    compared = [row for row in rows if row.speedup]
    ranks = sorted({count for found in uses.values() for _, count, _ in found})

    def at(row: Row, count: int) -> bool:
        return any(used == count for _, used, _ in uses[row.n, row.k])

    def decode(row: Row) -> bool:
        return row.m <= DECODE_ROWS

    last = ranks[-1] if ranks else MOST_RANKS
    groups = [_group("all", compared)]
    ms = sorted({row.m for row in compared})
    groups += [_group(f"m = {m}", [r for r in compared if r.m == m]) for m in ms]
    groups += [_group(f"TP {count}", [r for r in compared if at(r, count)]) for count in ranks]
    groups.append(_group(f"TP {last}, m <= {DECODE_ROWS}", [r for r in compared if at(r, last) and decode(r)]))
    groups += [
        _group("a perfect kernel: all", compared, _limit),
        _group(f"a perfect kernel: m <= {DECODE_ROWS}", [r for r in compared if decode(r)], _limit),
        _group(
            f"a perfect kernel: TP {last}, m <= {DECODE_ROWS}",
            [r for r in compared if at(r, last) and decode(r)],
            _limit,
        ),
    ]
    if any(row.best for row in compared):
        groups += [
            _group("its best tile: all", compared, _best),
            *(_group(f"its best tile: m = {m}", [r for r in compared if r.m == m], _best) for m in ms),
            _group(
                f"its best tile: TP {last}, m <= {DECODE_ROWS}",
                [r for r in compared if at(r, last) and decode(r)],
                _best,
            ),
        ]
    large = [r for r in compared if decode(r) and r.n * r.k >= LARGE_WEIGHT]
    shares = [
        _share(f"HBM roofline, m <= {DECODE_ROWS}, weights >= 32 M", large, lambda s: s.hbm),
        _share(f"MFMA roofline, m >= {PREFILL_ROWS}", [r for r in compared if r.m >= PREFILL_ROWS], lambda s: s.mfma),
        _share(f"CUs with work, m = 16, TP {last}", [r for r in compared if r.m == 16 and at(r, last)], _coverage),
        _share(f"waves a SIMD, m <= {DECODE_ROWS}", [r for r in compared if decode(r)], lambda s: s.waves),
        _share(f"KiB in flight a CU, m <= {DECODE_ROWS}, >= 32 M", large, lambda s: s.in_flight / 1024),
    ]
    ordered = sorted(compared, key=lambda row: row.speedup or 0)
    return Summary(
        groups=tuple(group for group in groups if group.count),
        shares=tuple(share for share in shares if share.count),
        worst=tuple(ordered[:5]),
        slower=sum((row.speedup or 0) < 1 for row in compared),
        refused=sum(bool(row.refused) for row in rows),
        failed=sum(bool(row.failed) for row in rows),
    )


def _coverage(side: Side) -> float:
    return side.coverage


def _speedup(row: Row) -> float | None:
    return row.speedup


def _limit(row: Row) -> float | None:
    return row.speedup_limit


def _best(row: Row) -> float | None:
    return row.speedup_best


def _group(name: str, rows: Iterable[Row], figure: Callable[[Row], float | None] = _speedup) -> Group:
    values = [value for value in map(figure, rows) if value]
    if not values:
        return Group(name, 0, math.nan, math.nan, math.nan)
    return Group(name, len(values), math.exp(mean(map(math.log, values))), min(values), max(values))


def _share(name: str, rows: Sequence[Row], figure: Callable[[Side], float]) -> Share:
    petit = [figure(row.petit) for row in rows if row.petit]
    ours = [figure(row.ours) for row in rows if row.ours]
    if not petit or not ours:
        return Share(name, 0, math.nan, math.nan, math.nan, math.nan)
    return Share(name, len(petit), min(petit), mean(petit), min(ours), mean(ours))


def summary_text(summary: Summary) -> list[str]:
    """The summary in lines."""
    lines = [f"{'speedup (time of Petit over ours)':36} {'shapes':>6} {'geomean':>8} {'least':>7} {'most':>7}"]
    lines += [f"{g.name:36} {g.count:6} {g.geomean:8.2f} {g.least:7.2f} {g.most:7.2f}" for g in summary.groups]
    lines += ["", f"{'':44} {'shapes':>6}  {'Petit: least':>12} {'mean':>6}  {'ours: least':>12} {'mean':>6}"]
    for s in summary.shares:
        figures = (s.petit_least, s.petit_mean, s.our_least, s.our_mean)
        a, b, c, d = (f"{v:.0%}" if "roof" in s.name or "CUs" in s.name else f"{v:.1f}" for v in figures)
        lines.append(f"{s.name:44} {s.count:6}  {a:>12} {b:>6}  {c:>12} {d:>6}")
    lines += ["", f"slower than Petit: {summary.slower}; the smallest speedups:", *map(row_text, summary.worst)]
    if summary.refused:
        lines.append(f"\nnot compared: {summary.refused} problems that Petit refuses")
    if summary.failed:
        lines.append(f"FAILED: {summary.failed} problems, see above")
    return lines


HEADER_SIDE = f"{'us':>8} {'CUs':>4} {'HBM':>4} {'MFMA':>4} {'bound':8}"
HEADER_PETIT = f"{'Petit: tile':22} {HEADER_SIDE}"
HEADER = f"{'m':>5} {'n':>6} {'k':>6}  {HEADER_PETIT} {HEADER_SIDE} {'speedup':>7}  ours: kernel, slices"


def row_text(row: Row) -> str:
    """One problem in a line; under HEADER."""
    start = f"{row.m:5} {row.n:6} {row.k:6} "
    if row.failed:
        return f"{start} FAILED: {row.failed}"
    petit = (
        f"{row.petit.kernel:22} {_side(row.petit)}" if row.petit else f"{f'refuses: {row.refused}':{len(HEADER_PETIT)}}"
    )
    ours = f"{_side(row.ours)} " if row.ours else ""
    gain = f"{row.speedup:7.2f}" if row.speedup else f"{'-':>7}"
    best = f"  ({row.best.kernel} {row.best.us:.1f} us, {row.speedup_best:.2f})" if row.best else ""
    kernel = f"{row.ours.kernel.partition('__')[2]} x{row.ours.slices}" if row.ours else ""
    return f"{start} {petit} {ours}{gain}  {kernel}{best}"


def _side(side: Side) -> str:
    return f"{side.us:8.1f} {side.coverage:4.0%} {side.hbm:4.0%} {side.mfma:4.0%} {side.bound:8}"
