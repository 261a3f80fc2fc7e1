"""The command line without a compiler: what it prints, how it fails, how quick it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from petitgen.cli import COMMANDS, main
from petitgen.cli.table import table
from petitgen.spec import load_catalog

ROOT = Path(__file__).resolve().parents[2]
NAMES = [instance.name for instance in load_catalog().instances]


def petitgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="petitgen")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    result = petitgen(command, "--help")
    assert result.exit_code == 0
    assert f"petitgen {command}" in result.output.partition("Examples:")[2]


def test_top_level_help_lists_every_command() -> None:
    result = petitgen("--help")
    assert all(f"\n  {command} " in result.output for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["build", "--nonsense"], ["list", "--jobs", "3"], ["show"]]
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert petitgen(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "gemm_nvfp5_*"], "petitgen: no kernel matches 'gemm_nvfp5_*'"),
        (["build", "--arch", "gfx1100"], "petitgen: unknown arch 'gfx1100'"),
        (["build", "--hipcc", "/no/hipcc"], "petitgen: --hipcc /no/hipcc: no such program"),
        (
            ["inspect", "--generated", "/no/where"],
            "petitgen: /no/where: nothing is built; run petitgen build",
        ),
        (["inspect", "/no/k.hsaco"], "petitgen: /no/k.hsaco: cannot be read"),
        (["verify", "--generated", "/no/where"], "petitgen: /no/where: no kernels built"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_errors_are_a_line_and_status_1(arguments: list[str], message: str, tmp_path: Path) -> None:
    if arguments[0] == "build":
        arguments = [*arguments, "--generated", str(tmp_path)]
    result = petitgen(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_errors_of_a_broken_spec_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "archs.yaml").write_text("archs: [")
    result = petitgen("list", "--configs", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"petitgen: {tmp_path}/archs.yaml: ")


def test_list_of_nothing_built(tmp_path: Path) -> None:
    rows = json.loads(petitgen("list", "--json", "--generated", str(tmp_path)).stdout)
    assert [row["name"] for row in rows] == NAMES
    assert {(row["built"], row["verified"], row["registers"]) for row in rows} == {("no", "no", None)}


def test_the_table_of_what_is_there_is_that_of_the_specs() -> None:
    """docs/formats.md; `petitgen list --matrix` prints the table anew."""
    page = (ROOT / "docs" / "formats.md").read_text()
    table = page.partition("<!-- BEGIN matrix -->\n")[2].partition("<!-- END matrix -->")[0]
    assert petitgen("list", "--matrix").stdout == table
    every = load_catalog().instances
    counted = [sum(map(int, filter(str.strip, line.split("|")[4:-1]))) for line in table.splitlines()[2:]]
    assert sum(counted) == len(every)


def test_list_takes_format_activations_and_op(tmp_path: Path) -> None:
    def listed(*options: str) -> list[str]:
        return [one["name"] for one in json.loads(petitgen("list", "--json", "--generated", tmp_path, *options).stdout)]

    assert listed("--op", "gemm") == [one.name for one in load_catalog().instances if one.op == "gemm"]
    found = listed("--format", "amdfp4", "--format", "mxfp4", "--activations", "fp16", "--arch", "gfx90a")
    assert found
    assert all("_fp16__gfx90a_" in name for name in found)
    assert {name.split("_")[1] for name in found} == {"amdfp4", "mxfp4"}
    unknown = petitgen("list", "--format", "nvfp5")
    assert unknown.exit_code == 2
    assert "known are amdfp4, " in unknown.stderr  # and not the format of kernels that have none


def test_list_takes_globs_and_arch(tmp_path: Path) -> None:
    result = petitgen("list", "--json", "--arch", "gfx90a", "gemm_*_fp16__*", "--generated", str(tmp_path))
    names = [row["name"] for row in json.loads(result.stdout)]
    assert names == [name for name in NAMES if name.startswith("gemm") and "_fp16__gfx90a_" in name]
    assert names


def test_show(tmp_path: Path) -> None:
    name = NAMES[0]
    assert petitgen("show", name).stdout.startswith(f"{name}\n")
    assert f"{name}(" in petitgen("show", "--source", name).stdout
    (facts,) = json.loads(petitgen("show", "--json", "--source", name).stdout)
    assert facts["name"] == name
    assert f"{name}(" in facts["source"]
    assert (
        facts["block"] == 64 * facts["tile"]["waves_m"] * facts["tile"]["waves_n"] * facts["tile"]["waves_k"]
    )


def test_table_aligns_numbers_right_and_leaves_gaps() -> None:
    text = table(("name", "count"), [("a", 5), ("long", 1234), ("none", "")])
    assert text.splitlines() == ["name  count", "----  -----", "a         5", "long   1234", "none"]


def test_table_without_rows() -> None:
    assert table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


def test_import_is_light() -> None:
    """--help and shell completion must not wait for numba, numpy or the compilers (benchmarks/waits.py)."""
    script = (
        "import sys, petitgen.cli\n"
        "print(*({'numpy', 'numba', 'jinja2', 'elftools', 'petitgen.spec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    """petitgen list | head -1"""
    command = f"{sys.executable} -m petitgen.cli list | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
