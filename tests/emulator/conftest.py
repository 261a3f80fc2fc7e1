"""Compiled test kernels, by file, arch and compiler, built once a session."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from petitgen.isa import CodeObject
from petitgen.toolchain import Compiler, choose

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
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], CodeObject]:
    """built(name, arch, compiler) -> the code object of kernels/NAME.hip."""
    directory = tmp_path_factory.mktemp("kernels")
    known: dict[tuple[str, str, str], CodeObject] = {}

    def build(name: str, arch: str, compiler: str) -> CodeObject:
        key = (name, arch, compiler)
        if key not in known:
            source = directory / f"{name}_{arch}_{compiler}.hip"
            source.write_text((KERNELS / "prelude.h").read_text() + (KERNELS / f"{name}.hip").read_text())
            if compiler == "clang19":
                tool = Compiler("test", "clang", ("clang-19",), detail="clang-19")
            else:
                tool = choose(arch, "ziglang").selected
            known[key] = CodeObject.load(tool.compile(source, arch))
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
