"""Which compiler is taken, in which order, and what is said about the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petitgen.errors import ToolchainError
from petitgen.toolchain import CompileError, choose, routes


def test_order_of_preference(bare: Path, make_hipcc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each route that appears is preferred to those after it: PATH, $ROCM_PATH, $HIPCC, --hipcc."""
    on_path = make_hipcc("path/hipcc")
    assert choose("gfx942").selected.route == "PATH"
    rocm = make_hipcc("rocm/bin/hipcc")
    monkeypatch.setenv("ROCM_PATH", str(rocm.parent.parent))
    assert choose("gfx942").selected.command[0] == str(rocm)
    named = make_hipcc("elsewhere/hipcc")
    monkeypatch.setenv("HIPCC", str(named))
    assert choose("gfx942").selected.command[0] == str(named)
    assert choose("gfx942", str(on_path)).selected.route == "--hipcc"


def test_passed_over_with_reason(bare: Path, make_hipcc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hipcc that cannot compile for the arch gives way to the next, and its complaint is kept."""
    rocm = make_hipcc("rocm/bin/hipcc", extra="echo 'clang: error: invalid target ID gfx942' >&2; exit 1")
    good = make_hipcc("path/hipcc")
    monkeypatch.setenv("ROCM_PATH", str(rocm.parent.parent))
    choice = choose("gfx942")
    assert choice.selected.command[0] == str(good)
    assert [one.reason for one in choice.passed_over] == ["clang: error: invalid target ID gfx942"]
    assert str(rocm) in choice.passed_over[0].candidate


@pytest.mark.parametrize("how", ["--hipcc", "$HIPCC"])
def test_named_compiler_is_never_replaced(
    how: str, bare: Path, make_hipcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a good hipcc on PATH, a broken one that was named is still an error."""
    make_hipcc("path/hipcc")
    broken = make_hipcc("broken/hipcc", extra="echo 'hipcc: error: no such file: ld.lld'; exit 1")
    monkeypatch.setenv("HIPCC", str(broken) if how == "$HIPCC" else "/nowhere/hipcc")
    with pytest.raises(ToolchainError, match=r"no such file: ld\.lld") as caught:
        choose("gfx942", str(broken) if how == "--hipcc" else None)
    assert how in str(caught.value)
    assert str(broken) in str(caught.value)


def test_named_compiler_that_is_not_there(bare: Path) -> None:
    with pytest.raises(ToolchainError, match="/nowhere/hipcc: no such program"):
        choose("gfx942", "/nowhere/hipcc")


def test_nothing_works_names_every_candidate(bare: Path, make_hipcc, monkeypatch: pytest.MonkeyPatch) -> None:
    make_hipcc("path/hipcc", extra="exit 3")
    monkeypatch.setattr(routes, "ziglang", lambda route: None)
    with pytest.raises(ToolchainError) as caught:
        choose("gfx90a")
    text = str(caught.value)
    for part in ("gfx90a", "ROCM_PATH is not set", "exit status 3", "ziglang", "pip install ziglang"):
        assert part in text


def test_identity_has_no_path(bare: Path, make_hipcc) -> None:
    """Name and version go into manifests, which are the same in every directory."""
    compiler = choose("gfx942", str(make_hipcc("some/where/hipcc"))).selected
    assert compiler.identity == {
        "name": "hipcc",
        "version": "HIP 9.1, AMD clang version 99.0.0 (somewhere 1234)",
    }


def test_hipcc_is_told_amd_and_nothing_else(bare: Path, make_hipcc, monkeypatch: pytest.MonkeyPatch) -> None:
    """HIP_PLATFORM is set, and variables that would change the output do not get through."""
    monkeypatch.setenv("HIPCC_COMPILE_FLAGS_APPEND", "-O0")
    monkeypatch.setenv("CPATH", "/some/headers")
    hipcc = make_hipcc("path/hipcc")
    choose("gfx942")
    environment = Path(f"{hipcc}.environment").read_text().splitlines()
    assert "HIP_PLATFORM=amd" in environment
    assert not [line for line in environment if line.startswith(("HIPCC_COMPILE", "CPATH"))]
    arguments = Path(f"{hipcc}.arguments").read_text().splitlines()
    assert "--offload-arch=gfx942" in arguments
    assert "-mcode-object-version=5" in arguments


def test_compiler_that_writes_something_else(bare: Path, make_hipcc, tmp_path: Path) -> None:
    """A host compiler in disguise: exit status 0, but no AMDGPU code object."""
    hipcc = make_hipcc("path/hipcc")
    (tmp_path / "object.elf").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00" + bytes(44))
    with pytest.raises(ToolchainError, match="machine 62"):
        choose("gfx942", str(hipcc))


def test_compile_error_carries_command_and_output(bare: Path, make_hipcc, tmp_path: Path) -> None:
    compiler = choose("gfx942", str(make_hipcc("path/hipcc"))).selected
    hipcc = make_hipcc("path/hipcc", extra="echo 'k.hip:1:1: error: unknown type name'; exit 1")
    source = tmp_path / "k.hip"
    source.write_text("int")
    with pytest.raises(CompileError) as caught:
        compiler.compile(source, "gfx942")
    assert caught.value.command.startswith(f"HIP_PLATFORM=amd {hipcc} --genco ")
    assert caught.value.command.endswith("k.hip -o k.hsaco")
    assert caught.value.output == "k.hip:1:1: error: unknown type name"


def test_packaged_hipcc_gets_links_to_a_newer_clang(bare: Path, make_hipcc) -> None:
    """A hipcc that asks for clang++-15, too old for gfx942, is given each newer clang under that name."""
    hipcc = make_hipcc("path/hipcc", extra='# "$HIP_CLANG_PATH/clang++-15"')
    clang = bare / "clang++-19"
    clang.write_text("#!/bin/sh\n")
    clang.chmod(0o755)
    choice = choose("gfx942")
    links = Path(dict(choice.selected.environment)["HIP_CLANG_PATH"])
    assert os.readlink(links / "clang++-15") == str(clang)
    assert choice.selected.detail == f"{hipcc} driving clang-19"
    assert [one.reason for one in choice.passed_over] == [
        "ROCM_PATH is not set",
        "drives clang-15, but clang-19 or newer is needed",
    ]
