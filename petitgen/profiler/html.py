"""The page of `petitgen profile --html`: one file, everything in it, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jinja2

from petitgen import __version__
from petitgen.profiler import charts, lanes, report
from petitgen.profiler.report import Entry
from petitgen.profiler.result import CAUSES, Hot, Profile

HOTTEST = 25  # instructions shown at once; all are below, folded


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction: its cells, and its share of the wave-clocks as a bar's width in percent of the hottest."""

    cells: tuple[str, ...]
    heat: float
    source: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one launch."""

    number: int
    colour: str
    title: str
    row: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    clocks: int
    stalls: charts.BarChart
    bounds: charts.BarChart
    units: charts.BarChart
    overview: lanes.Lanes | None
    detail: lanes.Lanes | None
    hottest: tuple[Line, ...]
    listing: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """All that the template places."""

    title: str
    version: str
    columns: tuple[str, ...]
    hot_columns: tuple[str, ...]
    causes: tuple[tuple[str, str], ...]
    roofline: charts.RooflineChart | None
    stacked: charts.BarChart | None
    sections: tuple[Section, ...]


def page(entries: Sequence[Entry]) -> str:
    """The HTML text for launches, one or several side by side."""
    profiles = [one.profile for one in entries]
    shown = Page(
        title=f"petitgen profile: {entries[0].title}" if len(entries) == 1 else "petitgen profile",
        version=__version__,
        columns=report.COLUMNS,
        hot_columns=report.HOT_COLUMNS,
        causes=tuple(CAUSES.items()),
        roofline=charts.roofline(profiles, [one.title for one in entries]),
        stacked=charts.stacked_stalls(profiles) if len(entries) > 1 else None,
        sections=tuple(_section(number, entry) for number, entry in enumerate(entries)),
    )
    return _environment().get_template("page.html.j2").render(page=shown)


def _section(number: int, entry: Entry) -> Section:
    profile = entry.profile
    return Section(
        number=number + 1,
        colour=charts.colour_of(number),
        title=entry.title,
        row=report.row(entry),
        facts=report.facts(profile),
        notes=profile.notes,
        clocks=round(profile.clocks),
        stalls=charts.stall_bars(profile),
        bounds=charts.bound_bars(profile),
        units=charts.unit_bars(profile),
        overview=lanes.overview(profile),
        detail=lanes.detail(profile),
        hottest=_lines(profile.hot[:HOTTEST], profile),
        listing=_lines(sorted(profile.hot, key=lambda hot: hot.pc), profile),
    )


def _lines(hot: Sequence[Hot], profile: Profile) -> tuple[Line, ...]:
    most = max((one.clocks for one in profile.hot), default=0.0) or 1.0
    total = report.wave_clocks(profile)
    return tuple(Line(report.hot_row(one, total), 100 * one.clocks / most, one.source) for one in hot)


@lru_cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("petitgen.profiler", "page"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    environment.filters["px"] = lambda value: f"{value:.1f}"
    return environment
