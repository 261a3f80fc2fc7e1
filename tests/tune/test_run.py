"""From problems to a table: what is merged, what an error costs, and the command on the virtual GPU."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from petitgen.cli import main
from petitgen.errors import TuneError
from petitgen.tune.run import Result, Task, contracts, hinted, merge, missing, tune, tune_weight
from runtime import tuned
from runtime.manifest import Kernel, Manifest
from runtime.select import Problem
from tests.runtime.manifests import kernel, write

NAMES = tuple(f"gemm_nvfp4_bf16__gfx942_m16n{n}k64_w1x4x1" for n in (16, 64))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(
        tmp_path / "gfx942", kernel(16, 16, split=True), kernel(16, 64, split=True), kernel(16, 64, activations="fp16")
    )


def task(directory: Path, rows: tuple[int, ...] = (16,), n: int = 8192, k: int = 4096) -> Task:
    return Task(directory, "gemm_nvfp4_bf16", n, k, rows, 304, NAMES)


def narrow_is_slow(kernel: Kernel, problem: Problem, slices: int) -> float:
    return 1000 / kernel.tile["n"] + slices + problem.m / 1024


def test_each_number_of_rows_gets_the_fastest(directory: Path):
    results = tune_weight(task(directory, (1, 16)), narrow_is_slow, "device")
    assert [(one.m, one.n, one.k, one.error) for one in results] == [(1, 8192, 4096, ""), (16, 8192, 4096, "")]
    row = results[1].row
    assert row == tuned.Row(
        "gfx942", 304, "gemm_nvfp4_bf16", 16, 8192, 4096, NAMES[1], 1, 1000 / 64 + 1 + 1 / 64, "device"
    )
    assert results[1].tries[0].us == row.us
    assert len(results[1].tries) >= 2


def test_an_error_costs_one_problem(directory: Path):
    results = tune_weight(task(directory, (1, 16), k=4100), narrow_is_slow, "model")
    assert [one.row for one in results] == [None, None]
    assert "K has to be a multiple of 16, it is 4100" in results[0].error


def test_many_weights_come_with_all_their_rows(directory: Path):
    tasks = [task(directory, (1, 16), n=n) for n in (16, 64, 1024)]
    found = list(tune(tasks, lambda task: tune_weight(task, narrow_is_slow, "model"), jobs=1))
    assert sorted((one.n, one.m) for results in found for one in results) == [
        (n, m) for n in (16, 64, 1024) for m in (1, 16)
    ]
    assert found[0][0].n == 1024  # the most work first


def test_rows_are_merged_by_problem(tmp_path: Path):
    old, new = tmp_path / "t.csv", []
    for m, cu_num, slices in ((16, 304, 1), (32, 304, 1), (16, 104, 1), (16, 304, 5)):
        new.append(tuned.Row("gfx942", cu_num, "gemm_nvfp4_bf16", m, 64, 64, NAMES[0], slices, 1.0, "model"))
    merge(old, new[:3])
    merge(old, new[3:])
    assert {(row.m, row.cu_num, row.slices) for row in tuned.read(old)} == {(16, 304, 5), (32, 304, 1), (16, 104, 1)}
    merge(old, [])
    assert len(tuned.read(old)) == 3
    old.write_text("something else\n")
    with pytest.raises(TuneError, match=r"t\.csv: the table cannot be brought up to date: .*the columns have to be"):
        merge(old, new)
    assert old.read_text() == "something else\n"
    with pytest.raises(TuneError, match="the table cannot be brought up to date"):
        merge(old / "below" / "a.csv", new)


def test_a_device_measured_better_than_the_model_and_that_than_the_virtual_gpu(tmp_path: Path):
    path = tmp_path / "t.csv"
    came = ("virtual", "model", "virtual", "device", "model", "virtual", "device")
    there = []
    for us, measured in enumerate(came, 1):
        merge(path, [tuned.Row("gfx942", 304, "gemm_nvfp4_bf16", 16, 64, 64, NAMES[0], 1, float(us), measured)])
        (row,) = tuned.read(path)
        there.append(row.us)
    assert there == [1, 2, 2, 4, 4, 4, 7]


def test_what_is_fast_for_more_rows_is_tried_for_fewer(directory: Path):
    """The last of the kernels is the fastest in 7 slices, which no estimate says: whoever tries it for 64 rows does for 1."""

    def measure(kernel: Kernel, problem: Problem, slices: int) -> float:
        return 1.0 if (kernel.name, slices) == (NAMES[-1], 7) else 10.0

    hinted_task = dataclasses.replace(task(directory, (1, 64)), hints=((64, NAMES[-1], 7),))
    few, many = tune_weight(hinted_task, measure, "model")
    assert (many.row.m, many.row.kernel, many.row.slices) == (64, NAMES[-1], 7)
    assert (few.row.m, few.row.kernel, few.row.slices) == (1, NAMES[-1], 7)


def test_what_a_table_has_is_not_missing(directory: Path, tmp_path: Path):
    tasks, path = [task(directory, (1, 16, 64)), task(directory, (1,), n=64)], tmp_path / "t.csv"
    assert missing(tasks, "gfx942", path) == tasks
    row = tuned.Row("gfx942", 304, "gemm_nvfp4_bf16", 16, 8192, 4096, NAMES[0], 1, 1.0, "model")
    facts = (
        {"arch": "gfx90a"},
        {"cu_num": 38},
        {"contract": "gemm_nvfp4_fp16"},
        {"kernel": "gone", "m": 64},
        {"m": 1, "n": 64},
    )
    merge(path, [row, *(dataclasses.replace(row, **other) for other in facts)])
    assert missing(tasks, "gfx942", path) == [task(directory, (1, 64))]


def test_what_a_table_has_for_like_problems_is_a_hint(directory: Path, tmp_path: Path):
    path = tmp_path / "t.csv"
    row = tuned.Row("gfx942", 304, "gemm_mxfp4_fp16", 16, 8192, 4096, "", 3, 1.0, "model")
    tile, facts = (
        NAMES[0].partition("__")[2],
        [{"cu_num": 38, "slices": 5}, {"m": 1}, {"k": 64}, {"arch": "gfx90a", "m": 2}],
    )
    rows = [dataclasses.replace(row, kernel=f"gemm_mxfp4_fp16__{tile}", **other) for other in ({}, *facts)]
    merge(path, [*rows, dataclasses.replace(row, m=64, kernel="gemm_mxfp4_fp16__gfx942_m9n9k9_w1x1x1")])
    (named,) = hinted([task(directory, (1, 16, 64))], "gfx942", path)
    assert sorted(named.hints) == [(1, NAMES[0], 3), (16, NAMES[0], 3), (16, NAMES[0], 5)]
    results = tune_weight(named, narrow_is_slow, "model")
    assert all((NAMES[0], 3) in [(one.kernel, one.slices) for one in result.tries] for result in results[:2])
    assert results[0].row.kernel == NAMES[1]  # a hint, no more


def test_contracts_are_those_that_are_built(directory: Path):
    manifest = Manifest.load(directory)
    assert contracts(manifest) == {
        "gemm_nvfp4_bf16": NAMES,
        "gemm_nvfp4_fp16": ("gemm_nvfp4_fp16__gfx942_m16n64k64_w1x4x1",),
    }
    assert list(contracts(manifest, ["gemm_nvfp4_fp16"])) == ["gemm_nvfp4_fp16"]
    with pytest.raises(
        TuneError, match="no kernel for gemm_mxfp4_bf16 is built for gfx942; there are some for gemm_nvfp4_bf16"
    ):
        contracts(manifest, ["gemm_mxfp4_bf16"])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--shapes", "8192"], 1, "'8192' is no weight"),
        (["--arch", "gfx90a"], 1, "no kernels built for gfx90a; build them"),
        (["--contract", "gemm_x_y"], 1, "no kernel for gemm_x_y is built"),
        (["--on", "device", "--cus", "38"], 2, "are for --on model"),
        (["--on", "emulator"], 2, "Invalid value for '--on'"),
        (["--m", "0"], 1, "numbers of rows are needed"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(directory: Path, arguments: list[str], status: int, message: str):
    done = CliRunner().invoke(main, ["tune", "--generated", str(directory.parent), *arguments])
    assert done.exit_code == status
    assert message in done.output
    assert not Path("tuned").exists()


@pytest.mark.compiler
def test_the_virtual_gpu_is_tuned_and_said_to_mean_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("hip")
    place = ["--generated", str(tmp_path / "generated"), "--arch", "gfx942"]
    assert CliRunner().invoke(main, ["build", "-q", *place, "gemm_nvfp4_bf16__*_m16n*"]).exit_code == 0
    table = tmp_path / "mine" / "gfx942.csv"
    command = ["tune", "--on", "device", *place, "--shapes", "64,256", "-m", "3,17", "--candidates", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(main, [*command, "-o", str(table)])
        assert done.exit_code == 0, done.output
        assert "this is the virtual GPU" in done.output
        assert "2 of 2 problems tuned in" in done.output
        rows = tuned.read(table)
        assert [(row.m, row.n, row.k, row.measured, row.cu_num) for row in rows] == [
            (3, 64, 256, "virtual", 304),
            (17, 64, 256, "virtual", 304),
        ]
        assert all(row.us > 0 and math.isfinite(row.us) for row in rows)
        as_json = CliRunner().invoke(main, [*command, "-o", str(table), "--json"])
        found = json.loads(as_json.stdout)
    assert [one["m"] for one in found] == [3, 17]
    assert found[0]["row"]["kernel"] == found[0]["tries"][0]["kernel"]
    import runtime

    monkeypatch.setenv("PETITGEN_TUNED", str(table.parent))
    with runtime.load("gfx942", "virtual", tmp_path / "generated") as lib:
        selection = lib.select("gemm_nvfp4_bf16", 17, 64, 256)
        again = tuned.read(table)[1]
        assert (selection.kernel.name, selection.slices) == (again.kernel, again.slices)
        assert "tuned on the virtual device" in selection.why


@pytest.mark.compiler
def test_the_model_is_asked_and_the_table_says_so(tmp_path: Path):
    from petitgen.profiler import profile_gemm

    place = ["--generated", str(tmp_path / "generated"), "--arch", "gfx942"]
    assert CliRunner().invoke(main, ["build", "-q", *place, "gemm_nvfp4_bf16__*_m16n*"]).exit_code == 0
    command = ["tune", *place, "--shapes", "512,512", "-m", "5", "--candidates", "2", "--jobs", "1"]
    for units in (304, 38):
        more = [] if units == 304 else ["--cus", str(units)]
        done = CliRunner().invoke(main, [*command, *more, "-o", str(tmp_path / "t.csv")])
        assert done.exit_code == 0, done.output
    rows = tuned.read(tmp_path / "t.csv")
    assert [(row.cu_num, row.m, row.n, row.k, row.measured) for row in rows] == [
        (38, 5, 512, 512, "model"),
        (304, 5, 512, 512, "model"),
    ]
    manifest = Manifest.load(tmp_path / "generated" / "gfx942")
    for row in rows:
        kernel = manifest.kernels[row.kernel]
        found = profile_gemm(kernel, manifest.directory, 5, 512, 512, row.slices, compute_units=row.cu_num)
        assert row.us == pytest.approx(found.time_us, rel=1e-5)


def test_results_are_plain_data(directory: Path):
    from dataclasses import asdict

    (result,) = tune_weight(task(directory), narrow_is_slow, "model")
    assert isinstance(result, Result)
    assert json.loads(json.dumps(asdict(result)))["row"]["measured"] == "model"
