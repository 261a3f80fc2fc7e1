"""Geometry of the timeline: the waves of each SIMD of a compute unit, one after the other in as few lanes as hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petitgen.profiler.palette import state_colour
from petitgen.profiler.result import Event, Profile
from petitgen.profiler.scales import Linear, Tick

COLUMNS = 800  # of the overview: what a screen can show
MOST_STRETCHES = 2500  # drawn one by one in the detail
LONGEST_DETAIL = 2000  # clocks: an issue of 4 clocks is still to be seen
LEFT, WIDTH, GAP, AXIS = 60.0, 900, 8.0, 24.0
THIN, THICK, TALL = (
    8.0,
    16.0,
    192.0,
)  # height of a lane; of all of them, as long as they are neither thinner nor thicker

Lane = tuple[int, int]  # SIMD, number in it
Wave = tuple[int, int, int]  # SIMD, workgroup, wave
State = tuple[str, str]  # Event.state; Event.name for "issue", "" for a stall


@dataclass(frozen=True, slots=True)
class Colour:
    """All rectangles of one colour: their outlines as one SVG path, and what the colour means."""

    fill: str
    text: str
    path: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """One event, drawn by itself."""

    x: float
    y: float
    width: float
    fill: str
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Where each wave is drawn: lane of a wave, top of a lane, and how high a lane is."""

    lanes: Mapping[Wave, Lane]
    tops: Mapping[Lane, float]
    height: float

    @property
    def bottom(self) -> float:
        return max(self.tops.values()) + self.height + 2

    def top(self, wave: Wave) -> float:
        return self.tops[self.lanes[wave]]

    def labels(self) -> tuple[Label, ...]:
        """The SIMDs, each in the middle of its lanes."""
        tops: defaultdict[int, list[float]] = defaultdict(list)
        for (simd, _), y in self.tops.items():
            tops[simd].append(y)
        return tuple(Label((min(ys) + max(ys) + self.height) / 2, f"SIMD {simd}") for simd, ys in sorted(tops.items()))


@dataclass(frozen=True, slots=True)
class Lanes:
    """A timeline of clocks first..last: `colours` in the overview, `stretches` in the detail; legend (fill, text)."""

    width: int
    height: float
    left: float
    lane: float
    bottom: float
    ticks: tuple[Tick, ...]
    labels: tuple[Label, ...]
    colours: tuple[Colour, ...]
    stretches: tuple[Stretch, ...]
    legend: tuple[tuple[str, str], ...]
    first: int
    last: int


def overview(profile: Profile) -> Lanes | None:
    """All the clocks of the timeline; each column has the state that takes most of it. None without a timeline."""
    events = profile.timeline
    if not events:
        return None
    first, last = _extent(events)
    x, rows = Linear(first, last, LEFT, WIDTH - 10.0), _rows(events)
    edges = np.linspace(first, last, COLUMNS + 1)
    paths: defaultdict[State, list[str]] = defaultdict(list)
    for lane, own in _by_lane(events, rows).items():
        for state, start, end in _runs(own, edges):
            width = x(edges[end]) - x(edges[start])
            paths[state].append(_rectangle(x(edges[start]), rows.tops[lane], width, rows.height))
    colours = tuple(
        Colour(state_colour(*state), " ".join(state).strip(), "".join(paths[state])) for state in sorted(paths)
    )
    return _lanes(rows, x, colours, (), paths)


def detail(profile: Profile) -> Lanes | None:
    """A window in the middle, short enough that single instructions are seen. None without a timeline."""
    events = profile.timeline
    if not events:
        return None
    inside, begin, end = _window(events)
    x, rows = Linear(begin, end, LEFT, WIDTH - 10.0), _rows(events)
    texts = {one.pc: one.text for one in profile.hot}
    stretches = tuple(_stretch(event, x, rows, texts) for event in inside)
    return _lanes(rows, x, (), stretches, {_state(event) for event in inside})


def _extent(events: Sequence[Event]) -> tuple[int, int]:
    return min(event.start for event in events), max(event.end for event in events)


def _window(events: Sequence[Event]) -> tuple[list[Event], int, int]:
    """Events round the middle of the run, not too many, and the clocks they are in."""
    first, last = _extent(events)
    middle, length = (first + last) // 2, min(last - first, LONGEST_DETAIL)
    while True:
        begin = max(first, middle - length // 2)
        end = begin + max(length, 1)
        inside = [event for event in events if event.start < end and event.end > begin]
        if len(inside) <= MOST_STRETCHES or length < 100:
            return inside, begin, end
        length //= 2


def _stretch(event: Event, x: Linear, rows: Rows, texts: Mapping[int, str]) -> Stretch:
    start, end = x(max(event.start, x.low)), x(min(event.end, x.high))
    what = (
        f"{event.start}-{event.end} {' '.join(_state(event)).strip()}: {event.pc:#x} {texts.get(event.pc, event.name)}"
    )
    who = f"workgroup {event.workgroup}, wave {event.wave}"
    fill = state_colour(event.state, event.name)
    return Stretch(start, rows.top(_wave(event)), end - start, fill, f"{what} ({who})")


def _lanes(
    rows: Rows, x: Linear, colours: tuple[Colour, ...], stretches: tuple[Stretch, ...], shown: Iterable[State]
) -> Lanes:
    return Lanes(
        WIDTH, rows.bottom + AXIS, LEFT, rows.height, rows.bottom, tuple(x.ticks(10)), rows.labels(),
        colours, stretches, _legend(shown), int(x.low), int(x.high),
    )  # fmt: skip


def _legend(shown: Iterable[State]) -> tuple[tuple[str, str], ...]:
    """A colour once, with all that it means: (fill, words)."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for state, name in sorted(shown):
        fill = state_colour(state, name)
        texts[fill].append(name if name and texts[fill] else f"{state} {name}".strip())
    return tuple((fill, ", ".join(words)) for fill, words in texts.items())


def _rows(events: Sequence[Event]) -> Rows:
    """Lanes in order, a gap before each further SIMD."""
    placed = _placed(events)
    lanes = sorted(set(placed.values()))
    simds = sorted({simd for simd, _ in lanes})
    pitch = min(max(TALL // len(lanes), THIN), THICK)
    return Rows(placed, {lane: n * pitch + simds.index(lane[0]) * GAP for n, lane in enumerate(lanes)}, pitch - 1)


def _placed(events: Sequence[Event]) -> dict[Wave, Lane]:
    """A lane for each wave: the first of its SIMD that the wave before has left."""
    lives: dict[Wave, tuple[int, int]] = {}
    for event in events:
        start, end = lives.get(_wave(event), (event.start, event.end))
        lives[_wave(event)] = min(start, event.start), max(end, event.end)
    free: defaultdict[int, list[int]] = defaultdict(list)  # by SIMD and lane: when its last wave ends
    placed = {}
    for wave, (start, end) in sorted(lives.items(), key=lambda life: (life[1], life[0])):
        ends = free[wave[0]]
        lane = next((number for number, last in enumerate(ends) if last <= start), len(ends))
        ends[lane : lane + 1] = [end]
        placed[wave] = (wave[0], lane)
    return placed


def _by_lane(events: Sequence[Event], rows: Rows) -> dict[Lane, list[Event]]:
    lanes: defaultdict[Lane, list[Event]] = defaultdict(list)
    for event in events:
        lanes[rows.lanes[_wave(event)]].append(event)
    return lanes


def _wave(event: Event) -> Wave:
    return event.simd, event.workgroup, event.wave


def _runs(events: Sequence[Event], edges: NDArray[np.float64]) -> list[tuple[State, int, int]]:
    """(state, first column, column after the last) where one state takes most of each column."""
    own: defaultdict[State, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        own[_state(event)].append((event.start, event.end))
    states = sorted(own)
    covered = np.stack([_covered(own[state], edges) for state in states])
    # A column that is mostly empty stays empty: no wave was in the slot.
    most = np.where(covered.sum(0) >= (edges[1] - edges[0]) / 2, covered.argmax(0), -1)
    starts = np.flatnonzero(np.diff(most, prepend=-2))
    ends = [*starts[1:], len(most)]
    return [(states[most[s]], int(s), int(e)) for s, e in zip(starts, ends, strict=True) if most[s] >= 0]


def _covered(stretches: Sequence[tuple[int, int]], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clocks of each column that stretches (start, end), which do not overlap, take."""
    corners = np.array(sorted(stretches), np.float64).reshape(-1)
    lengths = np.diff(corners)
    lengths[1::2] = 0  # between one stretch's end and the next one's start
    return np.diff(np.interp(edges, corners, np.concatenate(([0.0], np.cumsum(lengths)))))


def _state(event: Event) -> State:
    return (event.state, event.name if event.state == "issue" else "")


def _rectangle(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f} {y:.0f}h{width:.1f}v{height:.0f}h-{width:.1f}z"
