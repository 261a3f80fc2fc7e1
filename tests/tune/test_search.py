"""The search, with devices whose times are written down: it finds what is fastest, and measures only a handful."""

from __future__ import annotations

from typing import Any

import pytest

from petitgen.errors import PetitgenError
from petitgen.tune.search import MOST, Try, rank, search
from runtime.errors import ShapeError
from runtime.estimate import slice_counts
from runtime.manifest import Kernel, parse
from runtime.select import Problem, candidates
from tests.runtime.manifests import kernel, manifest

TILES = ((16, 16), (16, 32), (16, 64), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
PROBLEM = Problem("gemm_nvfp4_bf16", 16, 1024, 8192, 8192, 1024)


@pytest.fixture
def kernels() -> list[Kernel]:
    entries = [kernel(m, n, split=True) for m, n in TILES]
    for entry in entries:
        entry["tile"]["stages"] = 4
        entry["resources"]["waves_per_simd"] = 4
    return list(parse(manifest(*entries)).kernels.values())


class Written:
    """Times by (tile n, slices); counts what was asked."""

    def __init__(self, time: Any) -> None:
        self.time, self.asked = time, []

    def __call__(self, kernel: Kernel, problem: Problem, slices: int) -> float:
        assert problem == PROBLEM
        self.asked.append((kernel.name, slices))
        return float(self.time(kernel, slices))


def test_the_fastest_of_what_was_measured_is_first(kernels: list[Kernel]):
    device = Written(lambda kernel, slices: abs(kernel.tile["n"] - 32) + kernel.tile["m"] + 100 / slices)
    tries, left_out = search(kernels, PROBLEM, "gfx942", 304, device)
    assert left_out == []
    assert tries[0].us == min(one.us for one in tries)
    assert "m16n32" in tries[0].kernel
    assert len(tries) == len(device.asked) == len(set(device.asked))


def test_only_a_handful_is_measured_and_nothing_hopeless(kernels: list[Kernel]):
    device = Written(lambda kernel, slices: 10.0)
    search(kernels, PROBLEM, "gfx942", 304, device, most=3)
    assert len({name for name, _ in device.asked}) == 3
    device = Written(lambda kernel, slices: 10.0)
    search(kernels, PROBLEM, "gfx942", 304, device)
    assert len({name for name, _ in device.asked}) <= MOST
    # tiles of 256 rows compute sixteen times what 16 rows need
    assert not any("m256" in name for name, _ in device.asked)


@pytest.mark.parametrize("best", [1, 2, 5, 16, 32])
def test_slices_are_followed_to_where_they_are_fastest(kernels: list[Kernel], best: int):
    (one,) = [kernel for kernel in kernels if kernel.tile["m"] == 16 and kernel.tile["n"] == 64]
    counts = list(slice_counts(one, 16, 1024, 8192, 304))
    assert best in counts
    device = Written(lambda kernel, slices: 10 + abs(counts.index(slices) - counts.index(best)))
    assert search([one], PROBLEM, "gfx942", 304, device)[0][0].slices == best
    assert len(device.asked) <= len(counts)


def test_of_times_that_are_close_the_fewest_slices_are_taken():
    tries = [Try("a", 8, 10.00), Try("a", 4, 10.01), Try("a", 2, 10.04), Try("a", 1, 11.0)]
    assert [one.slices for one in rank(tries)] == [2, 8, 4, 1]
    assert rank([Try("a", 8, 10.0), Try("a", 1, 10.06)])[0].slices == 8


def test_the_shortlist_is_the_estimates(kernels: list[Kernel]):
    device = Written(lambda kernel, slices: 10.0)
    search(kernels, PROBLEM, "gfx942", 304, device, most=2)
    first: list[str] = []
    for _, one, _ in candidates(kernels, PROBLEM, "gfx942", 304):
        if one.name not in first:
            first.append(one.name)
    assert {name for name, _ in device.asked} == set(first[:2])


def test_the_slices_of_the_three_fastest_are_tried(kernels: list[Kernel]):
    """The fastest kernel at first is not the fastest in the end."""

    def time(kernel: Kernel, slices: int) -> float:
        first = next(count for _, one, count in ranked if one.name == kernel.name)
        place = kernel.tile["n"] // 16  # 1, 2, 4: the narrower the faster, but only until others are followed
        return place if slices == first else place / 10 if kernel.tile["n"] == 64 else place + 1

    three = [kernel for kernel in kernels if kernel.tile["m"] == 16]
    ranked = candidates(three, PROBLEM, "gfx942", 304)
    tries, _ = search(three, PROBLEM, "gfx942", 304, Written(time))
    assert "m16n64" in tries[0].kernel
    assert tries[0].us == 0.4


def test_hints_come_first_and_save_measurements(kernels: list[Kernel]):
    hint = next(kernel for kernel in kernels if kernel.tile["n"] == 64 and kernel.tile["m"] == 16)
    device, free = (Written(lambda kernel, slices: 1.0 if kernel is hint else 2.0) for _ in range(2))
    tries, _ = search(kernels, PROBLEM, "gfx942", 304, device, hints=[(hint.name, 7)])
    assert device.asked[0] == (hint.name, 7)
    assert tries[0].kernel == hint.name
    search(kernels, PROBLEM, "gfx942", 304, free)
    assert len(device.asked) < len(free.asked)
    refused = Written(free.time)
    search(kernels, PROBLEM, "gfx942", 304, refused, hints=[(hint.name, 1 << 22)])  # not with so many: as without it
    assert len(refused.asked) == len(free.asked)


def test_what_cannot_be_measured_is_left_out_and_told(kernels: list[Kernel]):
    def picky(kernel: Kernel, problem: Problem, slices: int) -> float:
        if kernel.tile["n"] == 32:
            raise PetitgenError("no room")
        return 10.0

    tries, left_out = search(kernels, PROBLEM, "gfx942", 304, picky)
    assert tries
    assert not any("n32k" in one.kernel for one in tries)
    assert left_out
    assert all("n32k64_w1x4x1 in" in text and text.endswith("slices: no room") for text in left_out)


def test_nothing_to_measure_is_an_error_and_so_is_a_shape_that_none_takes(kernels: list[Kernel]):
    def broken(kernel: Kernel, problem: Problem, slices: int) -> float:
        raise PetitgenError("no")

    with pytest.raises(PetitgenError, match="no"):
        search(kernels, PROBLEM, "gfx942", 304, broken)
    with pytest.raises(ShapeError, match="K has to be a multiple of 16"):
        search(kernels, Problem("gemm_nvfp4_bf16", 16, 64, 24, 24, 64), "gfx942", 304, broken)
