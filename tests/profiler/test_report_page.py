"""The HTML page: that it stands alone and is well formed, and that its pictures show the figures."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from petitgen.profiler import charts, lanes, palette
from petitgen.profiler.html import page
from petitgen.profiler.report import Entry
from petitgen.profiler.result import CAUSES, CLASSES, Event, Profile, Roofline, Stall
from petitgen.profiler.scales import Linear, Log, short
from tests.profiler.samples import hot, profile, timeline

SVG = "{http://www.w3.org/2000/svg}"
EMPTY = {"meta", "br", "link", "img", "input", "hr"}


def entry(**changes: Any) -> Entry:
    one = profile(**changes)
    return Entry(one.kernel, (16, 8192, 8192), 1, one)


def pictures(text: str) -> list[ElementTree.Element]:
    """Every SVG of the page; each has to be XML by itself."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


class Reader(HTMLParser):
    """Elements with what they refer to; a tag that is not closed in order is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "srcset", "data", "action", "xlink:href", "style"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())


# --- the page -------------------------------------------------------------------------------------------


def test_the_page_stands_alone() -> None:
    text = page([entry(timeline=timeline()), entry(kernel="other")])
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids) == 2
    links = [one for one in reader.references if one.startswith("#")]
    assert {one[1:] for one in links} == set(reader.ids)
    assert not any("url(" in one or "//" in one for one in reader.references)
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}, (
        "names a format, fetches nothing"
    )
    assert not reader.tags & {"script", "link", "img", "iframe", "object"}
    assert "@import" not in text


def test_what_is_shown_at_all() -> None:
    text = page([entry(timeline=timeline())])
    titles = [one.findtext(f"{SVG}title") for one in pictures(text)]
    assert titles == [
        "Roofline: flop a byte of the problem, Tflop/s reached",
        "Wave-clocks by cause",
        "Time of each resource alone",
        "Use of the units",
        "Timeline",
        "Timeline, detail",
    ]
    assert all(cause in text and words.split(":")[0] in text for cause, words in CAUSES.items())
    assert "Weights are cold" in text


def test_without_timeline_or_problem_the_pictures_are_left_out() -> None:
    bare = Roofline(5.3e6, 4.3e6, 0.0, None, None)
    text = page([entry(problem=None, roofline=bare, hbm_fraction=None, mfma_fraction=None)])
    assert len(pictures(text)) == 3
    assert "Roofline" not in text


def test_text_of_kernels_is_not_taken_for_html() -> None:
    name = "void f<int>(a && b)"
    bad = replace(hot()[0], text='s_nop <script> "0"')
    text = page([entry(kernel=name, hot=(bad,), timeline=timeline(loops=1))])
    assert "<script>" not in text
    assert "void f&lt;int&gt;(a &amp;&amp; b)" in text
    pictures(text)


def test_instructions_stand_by_heat_and_by_place() -> None:
    text = page([entry()])
    offsets = re.findall(r"<tr><td>(0x[0-9a-f]+)</td>", text)
    assert offsets == ["0x18", "0x2c", "0x24", "0x10", "0x1c", "0x10", "0x18", "0x1c", "0x24", "0x2c"]


def test_all_colours_are_there_and_differ() -> None:
    assert set(palette.STALL) == set(CAUSES)
    assert set(palette.ISSUE) == set(CLASSES)
    assert len(set(palette.STALL.values())) == len(CAUSES)


# --- scales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 5368), (1684, 3684), (0.0, 0.37), (7, 8)])
def test_linear_ticks_are_round_and_evenly_spread(low: float, high: float) -> None:
    scale = Linear(low, high, 100.0, 900.0)
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 9
    assert all(100 - 1e-6 <= one.at <= 900 + 1e-6 for one in ticks)
    gaps = [b.at - a.at for a, b in itertools.pairwise(ticks)]
    assert max(gaps) - min(gaps) < 1e-6
    for one in ticks:
        assert scale(float(one.text)) == pytest.approx(one.at, abs=0.5)


def test_equal_ratios_are_equally_far_on_a_log_scale() -> None:
    scale = Log.around([3.0, 700.0], 0.0, 1000.0)
    assert scale(30) - scale(3) == pytest.approx(scale(70) - scale(7)) == pytest.approx(scale(300) - scale(30))
    assert 0 < scale(3) < scale(700) < 1000
    assert [one.text for one in scale.ticks()] == ["2", "5", "10", "20", "50", "100", "200", "500", "1000"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (12, "12"),
        (1307.4, "1307"),
        (9999, "9999"),
        (10000, "10k"),
        (2.5e6, "2.5M"),
        (5e9, "5G"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


# --- roofline -------------------------------------------------------------------------------------------


def at(intensity: float, reached: float, hbm: float = 5.3e6, mfma: float = 1.3e9) -> Profile:
    return profile(roofline=Roofline(hbm, 0.8 * hbm, mfma, intensity, reached))


def test_a_point_at_half_of_the_roof_is_a_factor_two_below_it() -> None:
    for intensity, roof in ((50.0, 5.3e6 * 50), (245.283, 1.3e9), (4000.0, 1.3e9)):
        on, half = (charts.roofline([at(intensity, roof / d)], ["x"]) for d in (1, 2))
        assert on
        assert half
        assert on.points[0].y == pytest.approx(on.points[0].roof, abs=0.1)
        below = half.points[0].y - half.points[0].roof
        per_decade = abs(half.y_ticks[-1].at - half.y_ticks[0].at)
        per_decade /= math.log10(_number(half.y_ticks[-1].text) / _number(half.y_ticks[0].text))
        assert below == pytest.approx(per_decade * math.log10(2))


def _number(text: str) -> float:
    return float(text.replace("k", "e3").replace("M", "e6"))


def test_the_roof_bends_where_bandwidth_meets_the_matrix_peak() -> None:
    chart = charts.roofline([at(60.0, 2e8)], ["x"])
    assert chart
    (start, knee, end) = chart.roofs[0].points
    assert knee[1] == end[1] < start[1]
    marks = {_number(one.text): one.at for one in chart.x_ticks}
    place = marks[50] + (marks[200] - marks[50]) * math.log(1.3e9 / 5.3e6 / 50, 4)
    assert knee[0] == pytest.approx(place)
    assert chart.roofs[0].text == "MI300X: 5.3 TB/s (streams reach 4.2), 1300 Tflop/s"
    (_, low), (_, high) = chart.roofs[0].reach
    assert high == pytest.approx(knee[1]), "the dotted slope ends at the matrix peak"
    decades = (marks[200] - marks[50]) / math.log10(4)
    assert chart.roofs[0].reach[1][0] - knee[0] == pytest.approx(decades * math.log10(1 / 0.8))
    assert low > high


def test_each_device_has_its_roof_and_each_launch_its_point() -> None:
    other = replace(at(60.0, 5e7, 1.6e6, 1.9e8), product="MI210")
    chart = charts.roofline([at(60.0, 2e8), other, at(200.0, 9e8)], ["a", "b", "c"])
    assert chart
    assert len(chart.roofs) == 2
    assert [(one.number, one.title) for one in chart.points] == [(1, "a"), (2, "b"), (3, "c")]
    assert chart.points[0].roof < chart.points[1].roof, "the lower roof is further down"


def test_words_of_roofs_that_are_near_do_not_lie_on_each_other() -> None:
    chart = charts.roofline([at(60.0, 2e8), at(60.0, 2e8, mfma=1.31e9), at(60.0, 2e8, mfma=1.32e9)], ["a", "b", "c"])
    assert chart
    heights = sorted(roof.text_y for roof in chart.roofs)
    assert len(heights) == 3
    assert all(b - a >= 12 for a, b in itertools.pairwise(heights))


def test_a_kernel_without_matrix_instructions_has_only_the_slope() -> None:
    chart = charts.roofline([at(0.25, 1e6, mfma=0.0)], ["x"])
    assert chart
    assert len(chart.roofs[0].points) == 2
    assert all(chart.top - 1 <= y <= chart.bottom + 1 for _, y in chart.roofs[0].points)


# --- bars -----------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_shares() -> None:
    chart = charts.stall_bars(profile())
    shares = {"issue": 20, "vmem wait": 60, "barrier": 20, "mfma result": 16, "vmem busy": 12, "valu busy": 4}
    assert [bar.label for bar in chart.bars] == list(shares)
    unit = chart.bars[1].width / 60
    assert [bar.width / unit for bar in chart.bars] == pytest.approx(list(shares.values()))
    assert all(bar.x == chart.left and bar.x + bar.width < chart.width for bar in chart.bars)


def test_stacked_bars_fill_the_width() -> None:
    one = profile()
    other = profile(issue_share=0.5, stalls=(Stall("barrier", 1.0, 0.5),))
    chart = charts.stacked_stalls([one, other])
    rows: dict[float, list[charts.Bar]] = defaultdict(list)
    for bar in chart.bars:
        rows[bar.y].append(bar)
    assert [[bar.label for bar in row if bar.label] for row in rows.values()] == [["1"], ["2"]]
    for row in rows.values():
        assert row[0].x == chart.left
        assert sum(bar.width for bar in row) == pytest.approx(chart.width - 10 - chart.left)
        for left, right in itertools.pairwise(row):
            assert left.x + left.width == pytest.approx(right.x)


# --- timeline -------------------------------------------------------------------------------------------


def boxes(shown: lanes.Lanes) -> dict[str, list[tuple[float, float, float]]]:
    """(x, y, width) of the overview's rectangles by what they stand for."""
    number = r"(-?[\d.]+)"
    return {
        one.text: [
            (float(x), float(y), float(width)) for x, y, width in re.findall(rf"M{number} {number}h{number}", one.path)
        ]
        for one in shown.colours
    }


def event(start: int, end: int, state: str = "issue", name: str = "MFMA", simd: int = 0, wave: int = 0) -> Event:
    return Event(simd, 0, 0, wave, start, end, state, name, 0x24)


def test_the_overview_shows_who_takes_most_of_the_time() -> None:
    """A wave that waits for memory in the first half, has a gap, and issues matrix instructions in the last quarter."""
    waits = [event(0, 5000, "vmem wait", "wait")]
    issues = [event(clock, clock + 8) for clock in range(7500, 9990, 10)]
    issues += [event(clock, clock + 2, "mfma busy") for clock in range(7508, 9998, 10)]
    shown = lanes.overview(profile(timeline=(*waits, *issues)))
    assert shown
    found = boxes(shown)
    assert set(found) == {"vmem wait", "issue MFMA"}
    width = shown.width - 10 - shown.left
    ((x, _, length),) = found["vmem wait"]
    assert (x, length) == pytest.approx((shown.left, width * 5000 / 9998), abs=1.5)
    ((x, _, length),) = found["issue MFMA"]
    assert x == pytest.approx(shown.left + width * 7500 / 9998, abs=1.5)
    assert x + length == pytest.approx(shown.width - 10, abs=0.2)


def test_each_wave_has_a_lane_of_its_own() -> None:
    events = [event(0, 100, "barrier", "barrier", simd, wave) for simd in range(4) for wave in range(5)]
    shown = lanes.overview(profile(timeline=tuple(events)))
    assert shown
    tops = sorted(y for _, y, _ in boxes(shown)["barrier"])
    assert len(set(tops)) == 20
    assert all(b - a > shown.lane for a, b in itertools.pairwise(tops)), "none lies on another"
    assert tops[-1] + shown.lane < shown.bottom < shown.height
    assert [label.text for label in shown.labels] == [f"SIMD {simd}" for simd in range(4)]
    for number, label in enumerate(shown.labels):
        assert tops[5 * number] < label.y < tops[5 * number + 4] + shown.lane


def test_a_wave_takes_the_lane_that_another_has_left() -> None:
    """Two at a time on a SIMD: the third begins where the first ends, on the other SIMD there is only one."""
    spans = ((0, 60), (0, 100), (60, 130), (110, 120))
    events = [event(start, end, "barrier", "barrier", 0, wave) for wave, (start, end) in enumerate(spans)]
    shown = lanes.detail(profile(timeline=(*events, event(5, 50, simd=1))))
    assert shown
    first, second, third, fourth, other = (one.y for one in shown.stretches)
    assert first == third < second == fourth < other


def test_the_detail_shows_single_instructions() -> None:
    shown = lanes.detail(profile(timeline=timeline()))
    assert shown
    assert 100 < len(shown.stretches) <= lanes.MOST_STRETCHES
    assert shown.last - shown.first <= lanes.LONGEST_DETAIL
    right = shown.width - 10
    assert all(shown.left <= one.x < one.x + one.width <= right + 1e-6 for one in shown.stretches)
    mfma = [one for one in shown.stretches if "issue MFMA" in one.title]
    clock = (right - shown.left) / (shown.last - shown.first)
    assert {round(one.width / clock) for one in mfma[5:-5]} == {4}
    assert "0x24 v_mfma_f32_16x16x16_bf16 v[20:23]" in mfma[0].title
    assert "wave" in mfma[0].title


def test_a_busy_timeline_stays_small() -> None:
    """Eight waves a SIMD that issue every 4 clocks for a long time: the page is to be read by a browser, too."""
    events = tuple(
        event(clock, clock + 4, "issue", name, simd, wave)
        for simd in range(4)
        for wave in range(8)
        for clock, name in zip(range(0, 12000, 4), itertools.cycle(("VALU", "MFMA", "LDS")), strict=False)
    )
    shown = lanes.detail(profile(timeline=events))
    assert shown
    assert 500 < len(shown.stretches) <= lanes.MOST_STRETCHES
    assert len(page([entry(timeline=events)])) < 1_500_000


def test_the_legend_has_each_colour_once() -> None:
    shown = lanes.detail(profile(timeline=timeline(loops=3)))
    assert shown
    fills = [fill for fill, _ in shown.legend]
    assert len(set(fills)) == len(fills)
    assert set(fills) == {one.fill for one in shown.stretches}
    assert "issue barrier, wait" in [text for _, text in shown.legend]
