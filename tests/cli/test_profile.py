"""petitgen profile: of stored code objects, and how it refuses. The model itself is tested in tests/profiler."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from petitgen.cli import main
from petitgen.profiler import report
from petitgen.profiler.result import CAUSES, CLASSES

OBJECTS = Path(__file__).parents[1] / "isa" / "objects"
SCHEMA = json.loads((Path(report.__file__).parent / "profile.schema.json").read_text())
ARCHS = ("gfx90a", "gfx942")
runs_the_model = pytest.mark.slow  # half a minute to compile it when nobody has before; then each under a second


def profile(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)], prog_name="petitgen")


def stored(arch: str = "gfx942") -> Path:
    """Kernels scratch, shared_memory and buffers of tests/isa/kernels/memory.hip."""
    return OBJECTS / f"memory_{arch}.hsaco"


def buffers(*more: object, arch: str = "gfx942") -> list[object]:
    """The kernel `buffers` on 64 lanes of 16 bytes."""
    what = ["--kernel", "buffers", "--buffer", "data:u8[2048]", "--arg", "rsrc=data", "--arg", "i32=0"]
    return [stored(arch), *what, *more]


def data(*arguments: object) -> dict:
    """What --json prints, which has to be as the schema says."""
    result = profile(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


# --- any code object ------------------------------------------------------------------------------------


@runs_the_model
@pytest.mark.parametrize("arch", ARCHS)
def test_what_issues_is_what_the_emulator_executes(arch: str) -> None:
    """Three workgroups on three CUs: the modelled one executes a third of the launch."""
    (one,) = data(*buffers("--grid", "3", arch=arch))["profiles"]
    arguments = ["emulate", *map(str, buffers("--grid", "1", "--json", arch=arch))]
    counts = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert sum(hot["issues"] for hot in one["hot"]) == sum(counts["executed"].values())
    assert {"VMEM": 5}.items() <= {unit["name"]: unit["issues"] for unit in one["classes"]}.items()
    assert (one["name"], one["arch"], one["grid"], one["block"]) == ("buffers", arch, [3, 1, 1], 64)
    assert (one["shape"], one["slices"], one["problem"]) == (None, None, None)
    assert one["workgroups"] == 3
    assert one["cu_coverage"] == pytest.approx(3 / one["compute_units"])


@runs_the_model
def test_shares_add_up() -> None:
    (one,) = data(*buffers("--grid", "700"))["profiles"]
    assert one["issue_share"] + sum(stall["share"] for stall in one["stalls"]) == pytest.approx(1, abs=1e-6)
    assert one["time_us"] == pytest.approx(one["launch_us"] + one["clocks"] / one["clock_mhz"])


@runs_the_model
def test_fewer_compute_units_take_longer() -> None:
    few, many = (data(*buffers("--grid", "3040", "--cus", cus))["profiles"][0] for cus in (16, 304))
    assert (few["compute_units"], many["compute_units"]) == (16, 304)
    assert few["time_us"] > many["time_us"]


@runs_the_model
def test_a_roofline_wants_to_know_the_work() -> None:
    """64 lanes that read some 1 KiB and write some 1 KiB, 2048 bytes as told."""
    (one,) = data(*buffers("--grid", "8", "--bytes", "16384"))["profiles"]
    assert one["problem"] == {"name": "buffers", "flops": 0.0, "bytes": 16384.0}
    ideal = 16384 / one["roofline"]["hbm_peak"]
    assert one["hbm_fraction"] == pytest.approx(ideal / (one["time_us"] - one["launch_us"]))
    (bare,) = data(*buffers("--grid", "8"))["profiles"]
    assert bare["hbm_fraction"] is None
    assert bare["time_us"] == one["time_us"]


@runs_the_model
def test_the_timeline_only_where_it_is_wanted(tmp_path: Path) -> None:
    assert data(*buffers())["profiles"][0]["timeline"] == []
    assert data(*buffers("--html", tmp_path / "page.html"))["profiles"][0]["timeline"] == []
    events = data(*buffers("--timeline"))["profiles"][0]["timeline"]
    assert {one["state"] for one in events} <= {"issue", *CAUSES}
    assert {one["name"] for one in events} <= set(CLASSES)
    assert sum(one["state"] == "issue" for one in events) > 5
    assert all(one["start"] < one["end"] for one in events)


@runs_the_model
def test_the_text_names_instructions_and_the_device() -> None:
    result = profile(*buffers("--hot", "2"))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "buffers"
    assert "MI300X (gfx942), 304 CUs" in lines[1]
    header = next(number for number, line in enumerate(lines) if line.split()[:2] == ["offset", "instruction"])
    shown = [line for line in lines[header + 2 :] if line.startswith("  0x")]
    assert len(shown) == 2


@runs_the_model
def test_the_page_is_written(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = profile(*buffers("--html", file))
    assert result.exit_code == 0, result.output
    text = file.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "Timeline, detail" in text
    assert "buffer_store_dwordx4" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "nothing"], "no kernel 'nothing'; the code object has: scratch, shared_memory"),
        (["--kernel", "buffers"], "kernel buffers takes 2 arguments, 0 given"),
        (["--arch", "gfx90a", "--kernel", "buffers"], "is for gfx942, not gfx90a"),
        (["--kernel", "buffers", "--grid", "0"], "--grid 0: one to three numbers"),
        (["--kernel", "buffers", "--arg", "nonsense"], "argument 'nonsense': write NAME:DTYPE[SHAPE]"),
        (buffers("--cus", 3)[1:], "3 compute units: MI300X has 8 XCDs"),
        (buffers("--html", "/no/where/page.html")[1:], "--html /no/where/page.html: /no/where is no directory"),
        (buffers("--html", "/")[1:], "--html /: is a directory"),
    ],
)
def test_bad_requests_are_a_line_and_status_1(options: list[object], message: str) -> None:
    result = profile(stored(), *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("petitgen: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_file_that_is_none() -> None:
    result = profile("/no/k.hsaco")
    assert result.exit_code == 1
    assert result.stderr.startswith("petitgen: /no/k.hsaco: cannot be read")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--shape M,N,K is missing"),
        (["gemm_*"], "--shape M,N,K is missing"),
        (["gemm_*", "--shape", "16,64,256", "--grid", "4"], "are for a FILE"),
        (["gemm_*", "--shape", "16,64,256", "--bytes", "4"], "are for a FILE"),
        (["gemm_*", "--shape", "16,64,256", "--slices", "0"], "0 is not in the range"),
        ([stored(), "--shape", "16,64,256"], "for built kernels"),
        ([stored(), "--slices", "2"], "for built kernels"),
        ([stored(), stored("gfx90a")], "one FILE"),
        ([stored(), "gemm_*"], "one FILE"),
        ([stored(), "--timeline"], "--timeline is for --json"),
        ([stored(), "--cus", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_status_2(options: list[object], message: str) -> None:
    result = profile(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "16,64,256", "--generated", "/no/where"], "/no/where: no kernels built"),
        (["--shape", "16,64", "--generated", "/no/where"], "shape '16,64': three integers M,N,K are needed"),
        (["--shape", "16,64,250", "--generated", "/no/where"], "K a positive multiple of 16"),
    ],
)
def test_kernels_that_are_not_there(options: list[str], message: str) -> None:
    result = profile("gemm_*", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
