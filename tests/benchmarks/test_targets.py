"""The parts of benchmarks/targets.py that need no built kernels."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from targets import kernels, lines, modelled

from petitgen.build.run import build
from petitgen.spec import load_catalog
from petitgen.spec.model import Tile
from runtime.manifest import Manifest

LARGE = (8192, 8192)  # 64 M weights


def side(us: float, hbm: float, limit: float = 1.0) -> dict[str, float]:
    return {"us": us, "hbm": hbm, "mfma": 0.1, "coverage": 1.0, "limit_us": limit}


def results(tmp_path: Path, rows: list[dict]) -> modelled.Results:
    weights = {(row["n"], row["k"]) for row in rows}
    shapes = [{"n": n, "k": k, "uses": [["llama", 8 if (n, k) != LARGE else 1, "qkv"]]} for n, k in sorted(weights)]
    data = {"arch": "gfx942", "weights": "nvfp4", "activations": "bf16", "compute_units": 304}
    (tmp_path / "one.json").write_text(json.dumps({**data, "shapes": shapes, "rows": rows}))
    (found,) = modelled.read(tmp_path, "gfx942")
    return found


def row(m: int, n: int, k: int, ours: dict | None, petit: dict | None) -> dict:
    return {"m": m, "n": n, "k": k, "ours": ours, "petit": petit}


def test_lines_of_a_result_file(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        [
            row(1, *LARGE, side(10.0, 0.81, 8.0), side(20.0, 0.4)),
            row(16, *LARGE, side(10.0, 0.60, 8.0), side(40.0, 0.3)),
            row(16, 1280, 1024, side(4.0, 0.1, 2.0), side(2.0, 0.2)),  # small, and slower
            row(16, 640, 2880, side(4.0, 0.1, 2.0), None),  # refused
        ],
    )
    by_what = {line.what: line for line in lines.modelled("gfx942", found)}
    peak = by_what["nvfp4 bf16: HBM, m <= 16, weights >= 32 M, of the documented peak"]
    assert (peak.found, peak.met) == ("least 60%, mean 70%; 0 of 2 problems reach it", lines.NO)
    streams = by_what["nvfp4 bf16: HBM, the same, of what streams reach (81% of it)"]
    assert (streams.found, streams.met) == ("least 74%, mean 87%; 1 of 2 problems reach it", lines.PART)
    geomean = by_what["nvfp4 bf16: times as fast as Petit, all problems, geomean"]
    assert (geomean.found, geomean.met) == (
        "1.59 over 3 problems; a perfect kernel: 2.32",
        lines.NO,
    )  # (2 * 4 * 0.5)^(1/3)
    sharded = by_what["nvfp4 bf16: times as fast as Petit, TP 8, m <= 16, geomean"]
    assert sharded.found.startswith("0.50 over 1 problems")
    never = by_what["nvfp4 bf16: never slower than Petit"]
    assert (never.found, never.met) == ("least 0.50; slower on 1 of 3", lines.NO)
    assert by_what["nvfp4 bf16: CUs with work, m = 16, TP 8"].met == lines.YES


def test_results_of_another_architecture_are_left_out(tmp_path: Path) -> None:
    results(tmp_path, [row(1, *LARGE, side(1.0, 0.5), None)])
    assert modelled.read(tmp_path, "gfx90a") == []


def test_its_own_output_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gfx942-targets.json").write_text(json.dumps({"arch": "gfx942", "targets": [], "kernels": []}))
    assert modelled.read(tmp_path, "gfx942") == []


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"other\.json: not what"):
        modelled.read(tmp_path, "gfx942")


@pytest.mark.parametrize(
    ("values", "met"), [([1, 2], lines.YES), ([1, 3], lines.PART), ([3, 4], lines.NO), ([], lines.UNKNOWN)]
)
def test_verdict(values: list[float], met: str) -> None:
    assert lines.verdict(values, lambda value: value <= 2) == met


def test_bytes_in_flight() -> None:
    # 2 stages x 2 columns x (1024 bytes of codes + 128 of scales) a wave, four waves on each of four SIMDs
    four = Tile("resident", 16, 128, 512, 1, 4, 1, 16, 2, 4)
    assert kernels.in_flight(four, "nvfp4", 4) == 2 * 2 * 1152 * 16
    # 7 waves a SIMD are 28 a CU, of which whole workgroups of eight waves take 24
    eight = Tile("resident", 16, 32, 512, 1, 2, 4, 16, 1, 4)
    assert kernels.in_flight(eight, "mxfp4", 7) == 1 * 1 * (1024 + 64) * 24


@pytest.mark.compiler
def test_a_resident_kernel_by_one_compiler(tmp_path: Path) -> None:
    name = "gemm_nvfp4_fp16__gfx942_m16n128k512_w1x4x1"
    catalog = load_catalog()
    build(catalog.select([name]), catalog.instances, tmp_path, hipcc="ziglang")
    built = kernels.Built("one", "", tmp_path, Manifest.load(tmp_path / "gfx942"), ())
    (found,) = kernels.measure(built, "gfx942")
    # A turn is 2 stages of 128 of K by 32 columns a wave, of which a lane has 1/64; a chunk of A is two turns.
    assert found.figures.weights == 2 * 128 * 32 / 64
    assert found.apart
    # At least 7 instructions to unpack 8 codes and 4 to scale their sums; staging writes 4 x 2 pieces with an address each.
    assert found.figures.valu_per_8 is not None
    assert found.with_a is not None
    assert 11 <= found.figures.valu_per_8 < found.with_a < found.figures.valu_per_8 + 5
