"""Compiled test kernels, by file, arch and compiler, built once a session."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from petitgen.isa import CodeObject
from petitgen.toolchain import Compiler, choose
from petitgen.toolchain.flags import compile_flags

from .recording import RECORDING, Recorder

KERNELS = Path(__file__).parent / "kernels"
Build = Callable[[str], CodeObject]

recorder = Recorder()
recorder.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Note what each test executes, and hold it against what the record says."""
    recorder.begin()
    yield
    recorder.passed(item)


def pytest_sessionfinish(exitstatus: int) -> None:
    if RECORDING and exitstatus == 0:
        recorder.write()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CodeObject]:
    """built(name, arch, compiler, optimize=True) -> the code object of kernels/NAME.hip."""
    directory = tmp_path_factory.mktemp("kernels")
    known: dict[tuple[str, str, str, bool], CodeObject] = {}

    def build(name: str, arch: str, compiler: str, optimize: bool = True) -> CodeObject:
        key = (name, arch, compiler, optimize)
        if key not in known:
            source = directory / f"{name}_{arch}_{compiler}_{optimize}.hip"
            source.write_text((KERNELS / "prelude.h").read_text() + (KERNELS / f"{name}.hip").read_text())
            if compiler == "clang19":
                tool = Compiler("test", "clang", ("clang-19",), detail="clang-19")
            else:
                tool = choose(arch, "ziglang").selected
            level = () if optimize else ("-O0",)  # the last one counts
            output = source.with_suffix(".hsaco")
            status, said = tool.run((*compile_flags(arch), *level, source.name, "-o", output.name), directory)
            assert status == 0, said
            known[key] = CodeObject.load(output, arch)
        return known[key]

    return build


@pytest.fixture(
    params=[
        pytest.param((arch, compiler), id=f"{arch}-{compiler}", marks=mark)
        for arch in ("gfx90a", "gfx942")
        for compiler, mark in (("ziglang", pytest.mark.compiler), ("clang19", pytest.mark.llvm))
    ]
)
def kernels(request: pytest.FixtureRequest, built: Callable[[str, str, str], CodeObject]) -> Build:
    """kernels(name) -> the code object, for each arch and compiler."""
    arch, compiler = request.param
    return lambda name: built(name, arch, compiler)
