"""petitgen profile of kernels that petitgen build made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from petitgen.cli import main
from petitgen.isa import CodeObject
from petitgen.profiler import report
from runtime.manifest import Kernel, Manifest

pytestmark = pytest.mark.compiler

SCHEMA = json.loads((Path(report.__file__).parent / "profile.schema.json").read_text())


def profile(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)], prog_name="petitgen")


def kernel_of(generated: Path, arch: str = "gfx942") -> Kernel:
    (kernel,) = Manifest.load(generated / arch).kernels.values()
    return kernel


@pytest.mark.parametrize(("arch", "peak"), [("gfx90a", 1.638e6), ("gfx942", 5.3e6)])
def test_a_gemm_under_its_roofs(generated: Path, arch: str, peak: float) -> None:
    """Ideal work from the problem alone: 2 MNK, and codes, scales, A and C once."""
    kernel = kernel_of(generated, arch)
    m, n, k = 8, 2048, 4096
    result = profile(kernel.name, "--shape", f"{m},{n},{k}", "--generated", generated, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    (one,) = found["profiles"]
    assert (one["name"], one["shape"], one["arch"]) == (kernel.name, [m, n, k], arch)
    assert one["problem"]["flops"] == 2 * m * n * k
    codes, scales, vectors = n * k / 2, n * k / 16, 2 * (m * k + m * n)
    assert one["problem"]["bytes"] == pytest.approx(codes + scales + vectors, rel=0.01)
    assert one["roofline"]["hbm_peak"] == peak
    assert 0 < one["hbm_fraction"] < 1
    assert 0 < one["mfma_fraction"] < 1
    assert one["traffic"]["hbm"] >= 0.95 * (codes + scales), "weights are cold"
    descriptor = CodeObject.load(generated / arch / kernel.file).kernel(kernel.symbol).descriptor
    assert one["occupancy"]["registers"] == descriptor.vgpr_count, "what the hardware allocates"
    assert one["occupancy"]["waves_per_simd"] == kernel.resources.waves_per_simd


def test_kernels_stand_side_by_side(generated: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    result = profile("--shape", "8,1024,2048", "--shape", "64,1024,2048", "--generated", generated, "--html", file)
    assert result.exit_code == 0, result.output
    table, stalls = result.output.strip().split("\n\n")
    names = [kernel_of(generated, arch).name for arch in ("gfx90a", "gfx942")]
    assert sorted(line.split()[0] for line in table.splitlines()[2:]) == sorted(2 * names)
    problems = [line.split()[1].rstrip(",") for line in table.splitlines()[2:]]
    assert problems == 2 * ["8x1024x2048"] + 2 * ["64x1024x2048"]
    assert len(stalls.splitlines()) == 6
    times = [float(line.split(" us")[0].split()[-1]) for line in table.splitlines()[2:]]
    assert times[0] < times[1], "the fastest first"
    assert times[2] < times[3]
    text = file.read_text()
    assert [text.count(f'id="launch-{number}"') for number in (1, 4, 5)] == [1, 1, 0]
    assert "MI300X: 5.3 TB/s" in text
    assert "MI250X" in text


def test_slices_share_a_tile(generated: Path) -> None:
    """A grid that is as many times as deep."""
    kernel = kernel_of(generated)
    shape = ("--shape", f"{kernel.tile['m']},{4 * kernel.tile['n']},4096")
    if not any(argument.name == "slices" for argument in kernel.kernarg.args):
        result = profile(kernel.name, *shape, "--generated", generated, "--slices", 2)
        assert result.exit_code == 1
        assert "slices has to be 1" in result.stderr
        return
    result = profile(kernel.name, *shape, "--generated", generated, "--slices", 2, "--json")
    (one,) = json.loads(result.stdout)["profiles"]
    assert (one["slices"], one["grid"]) == (2, [4, 1, 2])


def test_what_a_kernel_refuses(generated: Path) -> None:
    kernel = kernel_of(generated)
    too_far = f"8,64,{1 << 26}"
    result = profile(kernel.name, "--shape", too_far, "--generated", generated)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"petitgen: {kernel.name} does not take 8x64x{1 << 26}: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    both = profile(kernel.name, "--shape", too_far, "--shape", "8,64,1024", "--generated", generated, "--json")
    assert both.exit_code == 1
    found = json.loads(both.stdout)
    assert [one["shape"] for one in found["profiles"]] == [[8, 64, 1024]]
    assert [one["shape"] for one in found["failed"]] == [[8, 64, 1 << 26]]
    assert found["failed"][0]["error"] in both.stderr


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_a_code_object_that_is_not_the_one_built(generated: Path, tmp_path: Path, state: str) -> None:
    shutil.copytree(generated / "gfx942", tmp_path / "gfx942")
    kernel = kernel_of(tmp_path)
    file = tmp_path / "gfx942" / kernel.file
    file.write_bytes(file.read_bytes()[:-1])
    if state == "missing":
        file.unlink()
    result = profile(kernel.name, "--shape", "8,64,1024", "--generated", tmp_path)
    assert result.exit_code == 1
    assert f"{file}: {state}; build it again with: petitgen build {kernel.name}" in result.stderr


def test_a_name_that_is_not_built(generated: Path) -> None:
    result = profile("gemm_nvfp5_*", "--shape", "8,64,1024", "--generated", generated)
    assert result.exit_code == 1
    assert "'gemm_nvfp5_*' matches no built kernel" in result.stderr


def test_what_has_no_shape_is_said_at_once(generated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gfx942"
    shutil.copytree(generated / "gfx942", folder)
    listing = json.loads((folder / "manifest.json").read_text())
    (facts,) = listing["kernels"].values()
    listing["kernels"] = {"amax_bf16__gfx942_flat": facts | {"name": "amax_bf16__gfx942_flat", "op": "amax"}}
    (folder / "manifest.json").write_text(json.dumps(listing))
    for options in ([], ["--shape", "1,16,64"]):
        result = profile("amax*", "--generated", tmp_path, *options)
        assert result.exit_code == 1
        assert "the op amax has no M, N and K" in result.stderr
        assert f"petitgen profile {folder / facts['file']} --block {facts['block']}" in result.stderr
