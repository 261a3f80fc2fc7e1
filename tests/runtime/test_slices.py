"""Workgroups that share a tile of C: right results, the same bits each time, on streams of their own and in graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petitgen.build.run import build
from petitgen.spec import load_catalog
from petitgen.verify.compare import compare
from petitgen.verify.reference import evaluate
from runtime.errors import OperandError, ShapeError
from runtime.workspace import splits
from tests.runtime.problems import Case, case

pytestmark = pytest.mark.compiler

M, N, K = 19, 80, 2064  # several tiles, none of them full; K of several units
FEW = 3, 33, 8208  # a handful of tiles for a hundred compute units and more, and a long way for each


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each architecture the kernel with the smallest tile."""
    folder, chosen = tmp_path_factory.mktemp("shared"), {}
    for one in sorted(load_catalog().gemms, key=lambda one: -one.tile.m * one.tile.n):
        if one.contract == "gemm_nvfp4_bf16":
            chosen[one.arch.name] = one
    assert sorted(chosen) == ["gfx90a", "gfx942"]
    assert not build(list(chosen.values()), list(chosen.values()), folder).failed
    return folder


@pytest.fixture
def lib(load: Callable[..., Any], arch: str, shared: Path):
    with load(arch, shared) as library:
        yield library


def name_of(lib: Any) -> str:
    (one,) = lib.kernels
    assert splits(lib.kernels[one])
    return one


def bits(lib: Any, array: Any) -> np.ndarray:
    return lib.numpy(array).view(np.uint16)


def check(lib: Any, one: Case, y: np.ndarray) -> None:
    kernel = lib.kernels[name_of(lib)]
    wrong = compare(y, evaluate(one.problem, flushes=lib.arch == "gfx90a"), kernel.tolerance, "bf16")
    assert wrong is None, str(wrong)


def test_any_number_of_slices_is_right_and_gives_the_same_bits_each_time(lib: Any):
    one = case(M, N, K)
    x, w = lib.array(one.x), one.weight.to(lib)
    for slices in (1, 2, 3, 7, 16, 1):
        plan = lib.plan(w, M, kernel=name_of(lib), slices=slices)
        assert plan.selection.slices == slices
        first, second = (lib.empty((M, N), "bf16") for _ in range(2))
        plan(x, first)
        plan(x, second)  # the counters have to be zero again
        check(lib, one, lib.numpy(first))
        assert np.array_equal(bits(lib, first), bits(lib, second))


def test_gemm_takes_the_slices_that_select_tells(lib: Any):
    one = case(*FEW)
    selection = lib.select("gemm_nvfp4_bf16", *FEW)
    assert selection.slices > 1
    y = lib.gemm(one.x, one.weight)
    check(lib, one, y)
    out = lib.empty(y.shape, "bf16")
    lib.plan(one.weight, FEW[0], kernel=selection.kernel.name, slices=selection.slices)(lib.array(one.x), out)
    assert np.array_equal(bits(lib, out), y.view(np.uint16))


def test_streams_have_memory_of_their_own_and_graphs_keep_theirs(lib: Any):
    """A graph is captured on a stream that has launched nothing before; then its stream outgrows that memory."""
    one = case(M, N, K)
    hip, x, w = lib.hip, lib.array(one.x), one.weight.to(lib)
    plan = lib.plan(w, M, kernel=name_of(lib), slices=3)
    large = lib.plan(w, 300, kernel=name_of(lib), slices=16)
    many, result = lib.array(np.resize(one.x, (300, K))), lib.empty((300, N), "bf16")
    graphed, beside = lib.empty((M, N), "bf16"), lib.empty((M, N), "bf16")
    with hip.on(lib.device):
        streams = [hip.call("hipStreamCreate") for _ in range(2)]
        hip.begin_capture(streams[0])
        plan(x, graphed, streams[0])
        graph = hip.call("hipStreamEndCapture", streams[0])
        ready = hip.call("hipGraphInstantiateWithFlags", graph, 0)
        large(many, result, streams[0])
        for _ in range(3):
            hip.call("hipGraphLaunch", ready, streams[0])
            plan(x, beside, streams[1])
        lib.synchronize()
        for handle, end in (
            (ready, "hipGraphExecDestroy"),
            (graph, "hipGraphDestroy"),
            *((stream, "hipStreamDestroy") for stream in streams),
        ):
            hip.call(end, handle)
    for out in (graphed, beside):
        check(lib, one, lib.numpy(out))
    assert np.array_equal(bits(lib, graphed), bits(lib, beside))


def test_closing_gives_the_memory_back(lib: Any, alive: Callable[[str], int]):
    before, one = alive("allocations"), case(*FEW)
    lib.gemm(one.x, one.weight)
    assert alive("allocations") == before + 2  # the weight and the workspace
    lib.close()
    assert alive("allocations") == before


def test_what_is_no_number_of_slices_is_refused(lib: Any):
    w = case(3, 16, 64).weight
    with pytest.raises(OperandError, match="slices is 0: from 1 to 1024 workgroups can share a tile"):
        lib.plan(w, 3, kernel=name_of(lib), slices=0)
    with pytest.raises(OperandError, match="slices are those of one kernel: name it with kernel="):
        lib.plan(w, 3, slices=2)
    with pytest.raises(ShapeError, match="partial sums of 1024 slices take"):
        lib.plan(w, 1 << 20, kernel=name_of(lib), slices=1024)
