"""Choosing a kernel and its slices: by the estimate, on numbers worked out by hand, and what is said when none fits."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import OperandError, ShapeError
from runtime.estimate import estimate, residents, slice_counts
from runtime.manifest import Kernel, parse
from runtime.select import Problem, Selection, candidates, choose, force
from tests.runtime.manifests import kernel, manifest

TILES = ((16, 16), (16, 32), (16, 64), (64, 64), (128, 128), (128, 256), (256, 128))


def kernels(*tiles: tuple[int, int], **changes: Any) -> list[Kernel]:
    """Four waves a workgroup, four waves a SIMD: four workgroups a compute unit, each with four stages in flight."""
    entries = [kernel(m, n, **changes) for m, n in tiles or TILES]
    for entry in entries:
        entry["tile"]["stages"] = 4
        entry["resources"]["waves_per_simd"] = 4
    return list(parse(manifest(*entries)).kernels.values())


def problem(m: int, n: int, k: int, lda: int | None = None, ldc: int | None = None) -> Problem:
    return Problem("gemm_nvfp4_bf16", m, n, k, lda or k, ldc or n)


def tile(selection: Selection) -> tuple[int, int]:
    return selection.kernel.tile["m"], selection.kernel.tile["n"]


@pytest.mark.parametrize(
    ("m", "n", "units", "wanted"),
    [
        # 64 columns a workgroup leave more than half of 304 compute units idle; 16 give two of them to most
        (16, 8192, 304, (16, 32)),
        # 4096 columns: 256 workgroups of 16 x 16, and all else leaves more units idle
        (16, 4096, 304, (16, 16)),
        # few compute units, much work: the large tiles read least
        (8192, 8192, 8, (128, 256)),
    ],
)
def test_the_tile_fits_problem_and_device(m: int, n: int, units: int, wanted: tuple[int, int]):
    assert tile(choose(kernels(), problem(m, n, 8192), "gfx942", units)) == wanted


def test_a_tall_tile_is_not_taken_for_few_rows():
    both = kernels((16, 128), (256, 128))
    assert tile(choose(both, problem(16, 8192, 4096), "gfx942", 304)) == (16, 128)
    assert tile(choose(both, problem(4096, 8192, 4096), "gfx942", 304)) == (256, 128)


def test_order_does_not_matter_and_the_reason_is_told():
    one, other = kernels(), kernels()[::-1]
    first = choose(one, problem(16, 8192, 8192), "gfx942", 304)
    assert first == choose(other, problem(16, 8192, 8192), "gfx942", 304)
    assert "256 workgroups of 16 x 32 on 304 compute units take 1 round" in first.why
    assert "0% of what they compute is padding" in first.why
    assert first.kernel.name in str(first)


def test_padding_is_counted():
    # 17 rows in tiles of 16 are 32, 100 columns in tiles of 64 are 128: 1700 of 4096 count
    why = choose(kernels((16, 64)), problem(17, 100, 64), "gfx942", 304).why
    assert "4 workgroups of 16 x 64" in why
    assert "58% of what they compute is padding" in why


# ---- slices -----------------------------------------------------------------------------------------
def test_few_tiles_of_a_long_k_are_shared_and_many_are_not():
    offered = kernels((16, 64), split=True)
    # 16 tiles on 304 units; K of 8192 is 64 units of 128
    narrow = choose(offered, problem(16, 1024, 8192), "gfx942", 304)
    assert 8 <= narrow.slices <= 64
    assert f"{16 * narrow.slices} workgroups" in narrow.why
    assert f"in {narrow.slices} slices" in str(narrow)
    assert choose(offered, problem(4096, 8192, 8192), "gfx942", 304).slices == 1
    # one unit of K: nothing to share
    assert choose(offered, problem(16, 1024, 128), "gfx942", 304).slices == 1


def test_kernels_without_slices_are_never_given_any():
    (one,) = kernels((16, 64))
    assert list(slice_counts(one, 16, 1024, 8192, 304)) == [1]
    assert choose([one], problem(16, 1024, 8192), "gfx942", 304).slices == 1
    with pytest.raises(ShapeError, match="cannot share a tile: slices has to be 1"):
        force(one, problem(16, 1024, 8192), "gfx942", 304, 2)


def test_slices_worth_a_thought_all_have_work():
    (one,) = kernels((16, 64), split=True)
    assert residents(one) == 4
    # ten units of K: 4 slices take 3, 3, 3, 1 of them; 6 would take 2 each as 5 do, 7 to 9 the same
    assert list(slice_counts(one, 16, 64, 10 * 128, 304)) == [1, 2, 3, 4, 5, 10]
    # 64 tiles on 20 units, which hold 80 workgroups at once: three times as many and no more
    assert list(slice_counts(one, 16, 64 * 64, 10 * 128, 20)) == [1, 2, 3]
    # 224 tiles of 128 x 256 on 304 units: one and two slices leave a quarter of them idle, four hardly any
    (large,) = kernels((128, 256), split=True)
    assert {1, 2, 4} <= set(slice_counts(large, 256, 28672, 8192, 304))
    assert choose([large], problem(256, 28672, 8192), "gfx942", 304).slices == 4


def test_slices_of_ones_own_choice():
    (one,) = kernels((16, 64), split=True)
    assert force(one, problem(16, 1024, 8192), "gfx942", 304, 7).slices == 7
    free = force(one, problem(16, 1024, 8192), "gfx942", 304)
    assert free.slices == choose([one], problem(16, 1024, 8192), "gfx942", 304).slices
    for wrong in (0, -1, 1 << 20, 2.5, True, "2"):
        with pytest.raises(OperandError, match="slices is"):
            force(one, problem(16, 1024, 8192), "gfx942", 304, wrong)
    # 1024 slices of 2048 x 256 tiles of 16 x 64 floats
    with pytest.raises(
        ShapeError, match=r"partial sums of 1024 slices take 2199023255552 bytes, 4294967295 is the limit"
    ):
        force(one, problem(32768, 16384, 8192), "gfx942", 304, 1024)
    with pytest.raises(ShapeError, match="does not compute gemm_mxfp4_bf16"):
        force(one, Problem("gemm_mxfp4_bf16", 16, 64, 64, 64, 64), "gfx942", 304)


def test_candidates_are_everything_that_can_the_cheapest_first():
    offered = [*kernels((16, 64), split=True), *kernels((64, 64))]
    ranked = candidates(offered, problem(16, 64, 10 * 128), "gfx942", 304)
    assert len(ranked) == 6 + 1
    assert [cost.clocks for cost, _, _ in ranked] == sorted(cost.clocks for cost, _, _ in ranked)
    best = choose(offered, problem(16, 64, 10 * 128), "gfx942", 304)
    assert (ranked[0][1], ranked[0][2]) == (best.kernel, best.slices)


def test_the_estimate_of_a_launch_that_the_matrix_units_bind():
    (one,) = kernels((128, 256))
    # 1024 tiles of 128 x 256 on 256 units: 4 for each, together; 4 * 128 * 256 * 8192 / 1024 clocks of MFMA
    found = estimate(one, 4096, 8192, 8192, 1, "gfx942", 256)
    assert (found.workgroups, found.rounds) == (1024, 1)
    assert 4 * 128 * 256 * 8192 / 1024 < found.clocks < 1.5 * 4 * 128 * 256 * 8192 / 1024
    assert estimate(one, 4096, 8192, 8192, 1, "gfx90a", 256).clocks > 1.5 * found.clocks


# ---- what no kernel takes ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (problem(16, 64, 24, lda=24), "K has to be a multiple of 16, it is 24"),
        (problem(16, 64, 64, lda=68), "rows of A have to be a multiple of 8 elements apart, they are 68 apart"),
        (problem(16, 64, 64, lda=1 << 23), "rows may be at most 4194304 elements apart, these are 8388608 and 64"),
        (problem(16, 64, 64, ldc=1 << 23), "rows may be at most 4194304 elements apart"),
        (problem(1 << 20, 64, 4096), r"A takes 8589934592 bytes, 2147483648 is the limit: split it along M"),
        (problem(1 << 20, 8192, 16), r"C takes 17179869184 bytes, 2147483648 is the limit"),
        (Problem("gemm_mxfp4_bf16", 1, 16, 16, 16, 16), "no kernel for gemm_mxfp4_bf16 on gfx942: build one"),
        (Problem("gemm_nvfp4_fp8_bf16", 1, 16, 16, 16, 16), "for nvfp4 weights this library has gemm_nvfp4_bf16;"),
    ],
)
def test_what_no_kernel_takes_is_refused_with_the_reason(problem: Problem, message: str):
    with pytest.raises(ShapeError, match=message):
        choose(kernels(), problem, "gfx942", 304)


def test_the_largest_extent_is_allowed_and_one_more_is_not():
    # (M - 1) * lda + K elements of two bytes, exactly 2 GiB
    choose(kernels(), problem(1 << 15, 16, 1 << 15), "gfx942", 304)
    with pytest.raises(ShapeError, match="A takes"):
        choose(kernels(), problem((1 << 15) + 1, 16, 1 << 15), "gfx942", 304)


def test_a_kernel_that_cannot_is_passed_over_for_one_that_can():
    strict, free = kernel(16, 32, constraints={"k_multiple": 64}), kernel(64, 64)
    offered = list(parse(manifest(strict, free)).kernels.values())
    assert tile(choose(offered, problem(16, 64, 80), "gfx942", 304)) == (64, 64)
    assert tile(choose(offered, problem(16, 64, 128), "gfx942", 304)) == (16, 32)


def test_a_constraint_from_the_future_rules_a_kernel_out():
    strange = kernels((16, 32), constraints={"k_multiple": 16, "moon_phase": 3})
    with pytest.raises(ShapeError, match="constraint moon_phase, which this runtime does not know"):
        choose(strange, problem(16, 64, 64), "gfx942", 304)
