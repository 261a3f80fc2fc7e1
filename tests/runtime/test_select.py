"""Choosing a kernel: the rule on numbers worked out by hand, and what is said when none fits."""

from __future__ import annotations

import pytest

from runtime.errors import ShapeError
from runtime.manifest import Kernel, parse
from runtime.select import Problem, choose
from tests.runtime.manifests import kernel, manifest

TILES = ((16, 16), (16, 32), (16, 64), (64, 64), (128, 128), (128, 256), (256, 128))


def kernels(*tiles: tuple[int, int], **changes) -> list[Kernel]:
    return list(parse(manifest(*(kernel(m, n, **changes) for m, n in tiles or TILES))).kernels.values())


def problem(m: int, n: int, k: int, lda: int | None = None, ldc: int | None = None) -> Problem:
    return Problem("gemm_nvfp4_bf16", m, n, k, lda or k, ldc or n)


def tile(selection) -> tuple[int, int]:
    return selection.kernel.tile["m"], selection.kernel.tile["n"]


@pytest.mark.parametrize(
    ("m", "n", "units", "wanted"),
    [
        # 128 columns a workgroup would leave most of 304 compute units idle; 16 would need two rounds of 512 workgroups
        (1, 8192, 304, (16, 32)),
        (16, 8192, 304, (16, 32)),
        # 4096 columns: 256 workgroups of 16 x 16 in one round
        (16, 4096, 304, (16, 16)),
        # 128 compute units: 128 workgroups of 64 columns are one round, 256 of 32 two, and read x twice as often
        (16, 8192, 128, (16, 64)),
        # few compute units, much work: the largest tiles reuse most
        (8192, 8192, 8, (128, 256)),
    ],
)
def test_the_tile_fits_problem_and_device(m, n, units, wanted):
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


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (problem(16, 64, 24, lda=24), "K has to be a multiple of 16, it is 24"),
        (problem(16, 64, 64, lda=68), "rows of A have to be a multiple of 8 elements apart, they are 68 apart"),
        (problem(16, 64, 64, lda=1 << 23), "rows may be at most 4194304 elements apart, these are 8388608 and 64"),
        (problem(16, 64, 64, ldc=1 << 23), "rows may be at most 4194304 elements apart"),
        (problem(1 << 20, 64, 4096), r"A takes 8589934592 bytes, 2147483648 is the limit: split it along M"),
        (problem(1 << 20, 8192, 16), r"C takes 17179869184 bytes, 2147483648 is the limit"),
        (Problem("gemm_mxfp4_bf16", 1, 16, 16, 16, 16), "no kernel for gemm_mxfp4_bf16 on gfx942"),
    ],
)
def test_what_no_kernel_takes_is_refused_with_the_reason(problem, message):
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
