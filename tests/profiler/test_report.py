"""Profiles as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from petitgen.cli.profile_report import text
from petitgen.profiler import report, result
from petitgen.profiler.report import Entry, Failed, as_data, row
from petitgen.profiler.words import microseconds, percent, size
from tests.profiler.samples import profile, timeline

SCHEMA = json.loads((Path(report.__file__).parent / "profile.schema.json").read_text())


def entry(**changes: Any) -> Entry:
    one = profile(**changes)
    return Entry(one.kernel, (16, 8192, 8192), 4, one)


def alone(**changes: Any) -> Entry:
    """A launch of any code object, of which nothing is known but the instructions."""
    bare = replace(profile().roofline, intensity=None, flops_per_us=None)
    one = profile(problem=None, hbm_fraction=None, mfma_fraction=None, roofline=bare, **changes)
    return Entry("scale", None, None, one)


# --- JSON -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [[entry()], [entry(timeline=timeline(loops=2))], [alone()], [entry(), alone()], []])
def test_the_json_is_as_its_schema_says(shown: list[Entry]) -> None:
    data = json.loads(json.dumps(as_data(shown, [Failed("other", (1, 2, 3), "no")])))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert [one["name"] for one in data["profiles"]] == [one.name for one in shown]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", [kind for kind in vars(result).values() if is_dataclass(kind)])
def test_the_schema_has_every_field(kind: type) -> None:
    stated = SCHEMA["$defs"][kind.__name__.lower()]
    more = ["name", "shape", "slices"] if kind is result.Profile else []
    assert stated["required"] == [*more, *(field.name for field in fields(kind))]
    assert list(stated["properties"]) == stated["required"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("bound",), "the weather"),
        (("stalls", 0, "cause"), "issue"),
        (("time_us",), None),
        (("grid",), [1, 2]),
        (("shape",), [1, 2]),
        (("hot", 0, "stalls", 0), ["vmem wait"]),
        (("traffic", "hbm"), -1),
        (("timeline", 0, "state"), "asleep"),
    ],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[Any, ...], value: object) -> None:
    data = json.loads(json.dumps(as_data([entry(timeline=timeline(loops=1))])))
    place = data["profiles"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


# --- text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (percent(None), "-"),
        (percent(0.0), "0.0%"),
        (percent(0.8544), "85.4%"),
        (percent(0.9996), "100%"),
        (percent(1.3), "130%"),
        (microseconds(4.306), "4.31 us"),
        (microseconds(812.4), "812 us"),
        (microseconds(12345.0), "12.3 ms"),
        (size(100), "100 B"),
        (size(36.5 * 1024), "36.5 KiB"),
        (size(3 * 2**30), "3.0 GiB"),
    ],
)
def test_figures_for_people(said: str, shown: str) -> None:
    assert said == shown


def test_a_row_has_the_facts() -> None:
    shown = dict(zip(report.COLUMNS, row(entry()), strict=True))
    assert shown == {
        "kernel": "gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2",
        "problem": "16x8192x8192, 4 slices",
        "time": "10.00 us",
        "HBM": "90.0%",
        "MFMA": "20.5%",
        "bound by": "HBM",
        "waves/SIMD": "4",
        "KiB in flight/CU": "36.0",
        "most": "48.0",
        "CUs": "100%",
        "issue": "15.2%",  # 20 of 132 clocks
        "first stall": "vmem wait 45.5%",  # 60 of 132
    }


def test_one_launch_is_told_in_full() -> None:
    said = text([entry()], None)
    assert said.splitlines()[0] == "gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2 at 16x8192x8192, 4 slices"
    for one in profile().stalls:
        assert any(line.split()[-1] == percent(one.share) for line in said.splitlines() if one.cause in line), one
    for hot in profile().hot:
        assert hot.text in said
    assert "Weights are cold" in said
    assert "36.0 KiB of loads a CU on average, 48.0 KiB at most" in said
    assert "4 waves a SIMD, 4 workgroups a CU fit (limit: registers)" in said


@pytest.mark.parametrize("hottest", [0, 1, 3])
def test_as_many_hot_instructions_as_wanted(hottest: int) -> None:
    for shown in ([entry()], [entry(), entry()]):
        said = text(shown, hottest)
        listed = [one.text for one in profile().hot if one.text in said]
        assert listed == [one.text for one in profile().hot[:hottest]]
        assert said.count("s_waitcnt") == (len(shown) if hottest else 0)


def test_several_stand_side_by_side() -> None:
    other = entry(kernel="other", stalls=(result.Stall("barrier", 9.0, 0.9),))
    said = text([entry(), other], None)
    table, stalls = said.split("\n\n")
    assert len(table.splitlines()) == len(stalls.splitlines()) == 4
    head, _, first, second = stalls.splitlines()
    assert [word for word in ("barrier", "vmem wait", "mfma result") if word in head] == [
        "barrier",
        "vmem wait",
        "mfma result",
    ]
    assert head.index("barrier") < head.index("vmem wait") < head.index("mfma result"), "worst first"
    assert "15.2%" in first
    assert second.split()[-5:] == ["90.0%", "0.0%", "0.0%", "0.0%", "0.0%"]
    assert "s_waitcnt" not in said


def test_without_a_problem_there_is_no_roofline() -> None:
    said = text([alone()], None)
    assert said.splitlines()[0] == "scale"
    assert "roofline" not in said
    assert row(alone())[1:5] == ("-", "10.00 us", "-", "-")
