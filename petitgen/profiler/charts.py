"""Geometry of the page's charts: positions and colours in, for page/charts.svg.j2 to place. Units are SVG pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from petitgen.profiler.palette import PLAIN, SERIES, STALL
from petitgen.profiler.result import CAUSES, Profile
from petitgen.profiler.scales import Linear, Log, Tick, short
from petitgen.profiler.words import microseconds, percent

LINE = 20  # height of a bar and its gap
WORDS = 14  # of a line of text


@dataclass(frozen=True, slots=True)
class Roof:
    """The roof of one device, corners (x, y) of a line, and its words. reach: the slope that streams really get to."""

    points: tuple[tuple[float, float], ...]
    reach: tuple[tuple[float, float], ...]
    text: str
    text_y: float


@dataclass(frozen=True, slots=True)
class Point:
    """One launch under its roof: (x, y), and (x, roof) right above it."""

    x: float
    y: float
    roof: float
    number: int
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class RooflineChart:
    """Log-log: flop/byte of the problem against Tflop/s reached."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    roofs: tuple[Roof, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, or a part of one: x and width, and the words for it."""

    x: float
    y: float
    width: float
    colour: str
    label: str
    value: str
    title: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars below one another; the labels end at `left`."""

    width: int
    height: int
    left: float
    bars: tuple[Bar, ...]


def colour_of(number: int) -> str:
    """Of the number-th launch of a page, from 0."""
    return SERIES[number % len(SERIES)]


def roofline(profiles: Sequence[Profile], titles: Sequence[str]) -> RooflineChart | None:
    """None when no profile has a problem: there is no place under the roof then."""
    placed = [
        (number, one.roofline.intensity, one.roofline.flops_per_us / 1e6, title)
        for number, (one, title) in enumerate(zip(profiles, titles, strict=True))
        if one.roofline.intensity and one.roofline.flops_per_us
    ]
    if not placed:
        return None
    left, right, top, bottom = 64.0, 880.0, 16.0, 370.0
    peaks = {_Peaks.of(one): None for one in profiles}  # of equal ones the first: an ordered set
    x = Log.around([*(one.knee for one in peaks if one.flops), *(place[1] for place in placed)], left, right)
    y = Log.around([*(one.at(x.high) for one in peaks), *(place[2] for place in placed)], bottom, top)
    points = []
    for number, intensity, reached, title in placed:
        roof = _Peaks.of(profiles[number]).at(intensity)
        points.append(Point(x(intensity), y(reached), y(roof), number + 1, colour_of(number), title))
    return RooflineChart(
        900, 420, left, right, top, bottom, tuple(x.ticks()), tuple(y.ticks()),
        _readable([one.roof(x, y) for one in peaks]), tuple(points),
    )  # fmt: skip


def _readable(roofs: Iterable[Roof]) -> tuple[Roof, ...]:
    """The words of roofs that lie close together stand above each other."""
    placed: list[Roof] = []
    for roof in sorted(roofs, key=lambda roof: -roof.text_y):
        highest = placed[-1].text_y - WORDS if placed else roof.text_y
        placed.append(replace(roof, text_y=min(roof.text_y, highest)))
    return tuple(placed)


@dataclass(frozen=True, slots=True)
class _Peaks:
    """What bounds a launch: Tbyte/s on paper and as streams reach it, Tflop/s (0 without matrix instructions)."""

    product: str
    bandwidth: float
    reached: float
    flops: float

    @staticmethod
    def of(profile: Profile) -> _Peaks:
        roof = profile.roofline
        return _Peaks(profile.product, roof.hbm_peak / 1e6, roof.hbm_achievable / 1e6, roof.mfma_peak / 1e6)

    @property
    def knee(self) -> float:
        return self.flops / self.bandwidth

    def at(self, intensity: float) -> float:
        slope = self.bandwidth * intensity
        return min(slope, self.flops) if self.flops else slope

    def roof(self, x: Log, y: Log) -> Roof:
        """Where it enters the chart, from the left or from below, its knee, and where it leaves on the right."""
        corners = [max(x.low, y.low / self.bandwidth), *([self.knee] if self.flops else []), x.high]
        begin = max(x.low, y.low / self.reached)
        end = min(self.flops / self.reached, x.high) if self.flops else x.high
        matrix = f", {self.flops:.0f} Tflop/s" if self.flops else ""
        return Roof(
            tuple((x(one), y(self.at(one))) for one in corners),
            tuple((x(one), y(self.reached * one)) for one in (begin, end)) if begin < end else (),
            f"{self.product}: {self.bandwidth:.1f} TB/s (streams reach {self.reached:.1f}){matrix}",
            y(self.at(x.high)) - 6,
        )


def stall_bars(profile: Profile) -> BarChart:
    """Where the waves' time goes: issue, then the causes, longest first; shares of all wave-clocks."""
    rows = [("issue", profile.issue_share, PLAIN, "an instruction issues")]
    rows += [(one.cause, one.share, STALL[one.cause], CAUSES[one.cause]) for one in profile.stalls]
    return _bars([(name, share, percent(share), colour, why) for name, share, colour, why in rows], 110)


def bound_bars(profile: Profile) -> BarChart:
    """What time each resource alone would take, against the modelled time."""
    rows = [
        (one.name, one.share, f"{microseconds(one.us)} ({percent(one.share)})", PLAIN, "") for one in profile.bounds
    ]
    return _bars(rows, 70)


def unit_bars(profile: Profile) -> BarChart:
    """How busy the units of the CU are, with the instructions each got."""
    rows = [
        (one.name, one.utilization, f"{percent(one.utilization)}, {short(one.issues)} issued", PLAIN, "")
        for one in profile.classes
    ]
    return _bars(rows, 70)


def _bars(rows: Iterable[tuple[str, float, str, str, str]], left: int) -> BarChart:
    """Shares: the scale ends at the longest, 100% or less."""
    rows = [row for row in rows if row[1] > 0]
    width, room = 440, 140
    scale = Linear(0.0, max((row[1] for row in rows), default=1.0), left, width - room)
    bars = tuple(
        Bar(left, number * LINE, scale(share) - left, colour, label, value, title)
        for number, (label, share, value, colour, title) in enumerate(rows)
    )
    return BarChart(width, max(len(rows), 1) * LINE, left, bars)


def stacked_stalls(profiles: Sequence[Profile]) -> BarChart:
    """A bar a launch, all of the same length: its wave-clocks by cause, in the order of CAUSES."""
    left, width = 40.0, 900
    scale = Linear(0.0, 1.0, left, width - 10.0)
    bars = []
    for number, profile in enumerate(profiles):
        done = 0.0
        shares: Mapping[str, float] = {one.cause: one.share for one in profile.stalls}
        parts = [("issue", profile.issue_share, PLAIN)]
        parts += [(cause, shares[cause], STALL[cause]) for cause in CAUSES if cause in shares]
        for name, share, colour in parts:
            size = scale(done + share) - scale(done)
            text = name if size > 7.0 * len(name) + 4 else ""
            label = "" if done else str(number + 1)
            bars.append(Bar(scale(done), number * LINE, size, colour, label, text, f"{name} {percent(share)}"))
            done += share
    return BarChart(width, len(profiles) * LINE, left, tuple(bars))
