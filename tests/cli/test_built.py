"""Commands that build, or read what was built."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from petitgen.build.state import Verified, record
from petitgen.cli import main
from petitgen.isa import CodeObject
from petitgen.spec import load_catalog
from runtime.manifest import Manifest

pytestmark = pytest.mark.compiler


def petitgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], prog_name="petitgen")


def rows(*arguments: object) -> list[dict]:
    return json.loads(petitgen("list", "--json", *arguments).stdout)


def test_list_tells_built_stale_and_verified(generated: Path, tmp_path: Path) -> None:
    copy = tmp_path / "generated"
    shutil.copytree(generated / "gfx942", copy / "gfx942")
    (kernel,) = Manifest.load(copy / "gfx942").kernels.values()
    arguments = (kernel.name, "--generated", copy)

    def state() -> tuple[str, str]:
        (row,) = rows(*arguments)
        return row["built"], row["verified"]

    assert state() == ("yes", "no")
    record(copy, "gfx942", {kernel.name: Verified(kernel.sha256, ok=True, cases=9)})
    assert state() == ("yes", "yes")
    record(copy, "gfx942", {kernel.name: Verified(kernel.sha256, ok=False, cases=9)})
    assert state() == ("yes", "FAILED")
    record(copy, "gfx942", {kernel.name: Verified("0" * 64, ok=True, cases=9)})
    assert state() == ("yes", "no"), "a verification of other code says nothing"
    text = (copy / "gfx942/manifest.json").read_text()
    (copy / "gfx942/manifest.json").write_text(text.replace(kernel.source_sha256, "0" * 64))
    assert state()[0] == "stale"


def test_list_tells_of_a_manifest_that_cannot_be_read(generated: Path, tmp_path: Path) -> None:
    shutil.copytree(generated / "gfx942", tmp_path / "gfx942")
    (tmp_path / "gfx942/manifest.json").write_text("x")
    done = petitgen("list", "--generated", tmp_path)
    assert done.exit_code == 0
    assert ", 0 built" in done.stdout
    assert f"petitgen: {tmp_path / 'gfx942/manifest.json'}: not JSON" in done.stderr


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_list_and_inspect_see_a_code_object_that_is_not_the_one_built(
    generated: Path, tmp_path: Path, state: str
) -> None:
    """One byte of it changed, at the same size; or gone. It is not shown as verified, nor taken apart."""
    for arch in ("gfx90a", "gfx942"):
        shutil.copytree(generated / arch, tmp_path / arch)
    (kernel,) = Manifest.load(tmp_path / "gfx942").kernels.values()
    (other,) = Manifest.load(tmp_path / "gfx90a").kernels.values()
    record(tmp_path, "gfx942", {kernel.name: Verified(kernel.sha256, ok=True, cases=9)})
    file = tmp_path / "gfx942" / kernel.file
    code = bytearray(file.read_bytes())
    code[CodeObject.load(file).kernels[kernel.symbol].entry] ^= 1
    file.write_bytes(code)
    if state == "missing":
        file.unlink()
    listed = {row["name"]: (row["built"], row["verified"]) for row in rows("--generated", tmp_path)}
    assert listed[kernel.name] == (state, "no")
    assert listed[other.name] == ("yes", "no")
    done = petitgen("inspect", "--generated", tmp_path)
    assert done.exit_code == 1
    assert f"{file}: {state}; build it again with: petitgen build {kernel.name}" in done.stderr
    assert other.name in done.stdout
    assert kernel.name not in done.stdout
    done = petitgen("inspect", "--json", "--generated", tmp_path)
    assert {one["name"]: one["state"] for one in json.loads(done.stdout)} == {kernel.name: state, other.name: "ok"}
    assert done.exit_code == 1


def test_inspect_agrees_with_the_manifest(generated: Path) -> None:
    facts = json.loads(petitgen("inspect", "--json", "--generated", generated).stdout)
    kernels = {
        name: kernel
        for arch in load_catalog().archs
        for name, kernel in Manifest.load(generated / arch).kernels.items()
    }
    assert {one["name"] for one in facts} == set(kernels)
    for one in facts:
        kernel = kernels[one["name"]]
        assert one["waves_per_simd"] == kernel.resources.waves_per_simd
        assert one["resources"]["vgpr_count"] == kernel.resources.registers
        assert one["target"] == kernel.target
        assert sum(one["mix"].values()) == sum(one["mnemonics"].values())


@pytest.mark.llvm
def test_inspect_counts_what_llvm_objdump_prints(generated: Path) -> None:
    """Instructions by mnemonic against another disassembler, and MFMAs by class."""
    (kernel,) = Manifest.load(generated / "gfx942").kernels.values()
    file = generated / "gfx942" / kernel.file
    (facts,) = json.loads(petitgen("inspect", "--json", file).stdout)
    symbol = f"--disassemble-symbols={kernel.symbol}"
    text = subprocess.run(
        ["llvm-objdump-19", symbol, file], capture_output=True, text=True, check=True
    ).stdout
    # objdump goes on into the padding after the kernel, which is made of s_nop
    listed = Counter(line.split()[0] for line in text.splitlines() if line.startswith("\t"))
    assert sum(facts["mix"].values()) - facts["mnemonics"]["s_nop"] == sum(listed.values()) - listed["s_nop"]
    mfma = sum(count for name, count in listed.items() if name.startswith("v_mfma"))
    assert facts["mix"]["MFMA"] == mfma > 0
    assert facts["mix"]["barrier"] == listed["s_barrier"]
    vector_memory = sum(count for name, count in listed.items() if name.startswith(("buffer_", "global_")))
    assert facts["mix"]["VMEM"] == vector_memory > 0


def test_inspect_asm(generated: Path) -> None:
    (kernel,) = Manifest.load(generated / "gfx90a").kernels.values()
    text = petitgen("inspect", "--asm", kernel.name, "--generated", generated).stdout
    built = CodeObject.load(generated / "gfx90a" / kernel.file)
    first = next(
        line for line in text.splitlines() if line.startswith(f"  {built.kernels[kernel.name].entry:6x}")
    )
    assert first.split()[1].startswith(("s_", "v_"))
    assert "s_endpgm" in text


def test_build_reports_failures(tmp_path: Path) -> None:
    """A real kernel whose limits no compiler can meet: status 1, and the figures on stderr."""
    configs = tmp_path / "configs"
    shutil.copytree(Path(__file__).resolve().parents[2] / "configs", configs)
    archs = configs / "archs.yaml"
    archs.write_text(archs.read_text().replace("registers: 512 ", "registers: 40 ", 1))
    family = configs / "kernels" / "gemm.yaml"
    facts = yaml.safe_load(family.read_text())
    # So few accumulators that the spec alone does not rule it out.
    facts["tiles"] = [tile | {"archs": ["gfx90a"], "occupancy": 1} for tile in facts["tiles"][:1]]
    facts["exclude"] = []
    family.write_text(yaml.safe_dump(facts))
    for other in family.parent.glob("*.yaml"):
        if other != family:
            other.unlink()
    (name, *_) = [one.name for one in load_catalog(configs).select(["gemm_*"], "gfx90a")]
    result = petitgen(
        *("build", name, "--configs", configs, "--generated", tmp_path / "out"),
        *("--hipcc", "ziglang", "--cache", tmp_path / "cache"),
    )
    assert result.exit_code == 1
    assert f"{name} failed" in result.stderr
    assert "registers (VGPR + AGPR), limit" in result.stderr
    assert "1 failed" in result.stdout


def test_build_json(tmp_path: Path, generated: Path) -> None:
    (kernel,) = Manifest.load(generated / "gfx942").kernels.values()
    result = petitgen(
        *("build", kernel.name, "--json", "--generated", tmp_path, "--hipcc", "ziglang"),
        *("--cache", generated / "cache"),
    )
    data = json.loads(result.stdout)
    assert data["compilers"]["gfx942"]["name"] == "ziglang"
    assert [(one["name"], one["state"]) for one in data["kernels"]] == [(kernel.name, "cached")]
    assert data["kernels"][0]["kernel"]["sha256"] == kernel.sha256


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIPCC", raising=False)
    monkeypatch.delenv("ROCM_PATH", raising=False)
    result = petitgen("doctor", "--json")
    checks = json.loads(result.stdout)
    assert result.exit_code == 0
    states = {check["name"]: check["state"] for check in checks if check["state"] != "absent"}
    assert {"petitgen", "compiler gfx90a", "compiler gfx942", "emulator"} <= set(states)
    assert any("ROCM_PATH is not set" in check["detail"] for check in checks)
    assert ("GPU" in states) == Path("/dev/kfd").exists()


def test_doctor_advises_what_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout pip takes the extras from it; installed, from the package."""
    monkeypatch.setattr("petitgen.cli.doctor.metadata.version", absent)
    assert "pip install -e '.[hip]'" in petitgen("doctor", "--arch", "gfx942").output
    assert "pip install -e '.[torch]'" in petitgen("doctor", "--arch", "gfx942").output
    monkeypatch.setattr("petitgen.cli.doctor.CHECKOUT", tmp_path / "pyproject.toml")
    assert "pip install 'petitgen[hip]'" in petitgen("doctor", "--arch", "gfx942").output


def absent(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_doctor_without_a_working_compiler(tmp_path: Path) -> None:
    broken = tmp_path / "hipcc"
    broken.write_text("#!/bin/sh\necho 'hipcc: error: cannot find ROCm device library'\nexit 1\n")
    broken.chmod(0o755)
    result = petitgen("doctor", "--arch", "gfx942", "--hipcc", broken)
    assert result.exit_code == 1
    line = next(line for line in result.output.splitlines() if "compiler gfx942" in line)
    assert line.startswith("missing")
    assert "cannot find ROCm device library" in line


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["ziglang", pytest.param("hipcc", marks=pytest.mark.llvm)])
def test_the_whole_matrix(compiler: str, tmp_path: Path) -> None:
    """Every kernel builds within its limits with both compilers; building again compiles and writes nothing.

    How long building again takes: benchmarks/waits.py.
    """
    if shutil.which(compiler) is None and compiler != "ziglang":
        pytest.skip("hipcc is not on PATH (apt install hipcc)")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "petitgen.cli", "build", "--generated", out]
    command += ["--hipcc", compiler, "--cache", tmp_path / "cache"]
    root = Path(__file__).resolve().parents[2]
    first = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr

    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}

    written = files()
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    kernels = len(load_catalog().instances)
    assert f"{kernels} cached" in again.stdout
    assert files() == written
    assert sum(path.suffix == ".hsaco" for path in written) == kernels
