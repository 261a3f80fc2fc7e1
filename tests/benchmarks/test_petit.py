"""The parts of benchmarks/petit.py that need neither Petit's wheel nor built kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from petit import chooser, problems, sides, summary, turns, wheel

from petitgen.isa import Instruction
from petitgen.tune.shapes import Weight

# Every tile of Petit 0.0.3, as its kernels' names have them.
TILES = """
16x32x256_1x1x4 16x32x512_1x1x4 16x64x128_1x2x2 16x64x256_1x2x2 16x64x512_1x2x2 16x128x64_1x4x1 32x32x256_1x1x4
32x32x256_2x1x2 32x32x512_2x1x2 32x64x128_2x2x1 32x64x256_2x2x1 32x64x512_2x2x1 32x128x128_2x2x1 64x32x128_4x1x1
64x32x256_2x1x2 64x64x128_2x2x1 64x64x256_2x2x1 64x96x128_2x1x2 64x128x128_2x2x1 80x128x128_1x2x2 96x64x128_2x2x1
96x96x128_2x1x2 128x64x128_2x2x1 128x128x64_2x2x1 128x192x64_2x2x1 128x256x64_2x2x1 160x64x128_2x2x1
160x128x64_2x2x1 160x192x64_2x2x1 160x256x64_2x2x1 192x128x64_2x2x1 192x192x64_2x2x1 192x256x64_2x2x1
224x128x64_2x2x1 224x192x64_2x2x1 224x256x64_2x2x1 256x128x64_2x2x1 256x192x64_2x2x1 256x256x64_2x2x1
"""

# (M, N, K): what ChooseDefaultFp4Fp16Solution of the shipped extension module answered, called with bf16, NVFP4.
ANSWERS = {
    (1, 8192, 8192): "16x32x512_1x1x4",
    (8, 8192, 8192): "16x32x512_1x1x4",
    (15, 8192, 8192): "32x32x256_1x1x4",
    (16, 8192, 8192): "32x32x256_1x1x4",
    (24, 8192, 8192): "16x32x512_1x1x4",
    (32, 8192, 8192): "64x32x256_2x1x2",
    (64, 8192, 8192): "128x64x128_2x2x1",
    (65, 8192, 8192): "256x256x64_2x2x1",
    (4096, 8192, 8192): "256x256x64_2x2x1",
    (1, 4096, 1792): "16x32x256_1x1x4",
    (16, 320, 256): "32x32x256_1x1x4",
    (128, 2880, 512): "256x192x64_2x2x1",
    (128, 320, 256): "160x64x128_2x2x1",
}


def tile(text: str) -> wheel.Tile:
    return wheel.Tile(*(int(part) for part in text.replace("_", "x").split("x")))


@pytest.mark.parametrize("shape", ANSWERS, ids=str)
def test_the_chooser_answers_as_the_shipped_one(shape: tuple[int, int, int]) -> None:
    tiles = [tile(text) for text in TILES.split()]
    assert len(tiles) == 39
    for offered in (tiles, tiles[::-1]):
        assert str(chooser.choose(offered, *shape)) == ANSWERS[shape]


def test_the_chooser_has_nothing_for_columns_no_tile_divides() -> None:
    with pytest.raises(ValueError, match="N = 48"):
        chooser.choose([tile(text) for text in TILES.split()], 16, 48, 1024)


@pytest.mark.parametrize(
    ("weights", "activations", "n", "k", "says"),
    [
        ("nvfp4", "bf16", 5120, 2880, "K = 2880"),
        ("nvfp4", "fp16", 96, 1024, "N = 96"),
        ("mxfp4", "fp16", 64, 256, "bf16 only"),
        ("mxfp4", "bf16", 64, 256, None),
    ],
)
def test_what_petit_refuses(weights: str, activations: str, n: int, k: int, says: str | None) -> None:
    found = chooser.refusal(weights, activations, n, k)
    assert found is None if says is None else says in (found or "")


def test_a_tile_divides_the_problem_rows_first() -> None:
    assert tile("128x64x128_2x2x1").grid(129, 640) == (2, 10)
    assert tile("16x32x512_1x1x4").block == 256


def instruction(pc: int, mnemonic: str = "v_add_f32") -> Instruction:
    return Instruction(pc, 4, "gfx942", mnemonic, "VOP2", (), (), {}, (0,), mnemonic)


def test_a_turn_is_the_longest_stretch_that_repeats() -> None:
    """Twice an inner loop of two passes inside an outer loop, a prologue before and a rest after it."""
    inner = [instruction(8), instruction(12, "s_cbranch_scc1")]
    turn = [instruction(4), *inner, *inner, instruction(16, "s_cbranch_scc0")]
    executed = [instruction(0), *turn, *turn, *turn, *turn, instruction(20), instruction(24)]
    assert sorted(one.pc for one in turns.longest_turn(executed)) == [4, 8, 8, 12, 12, 16]  # from whichever branch
    assert turns.longest_turn(executed[:7]) == []


@pytest.mark.parametrize("weights", problems.FORMATS)
def test_the_reference_is_the_definition_of_the_format(weights: str) -> None:
    gemm = problems.make(weights, "bf16", 2, 3, 64)
    block = {"nvfp4": 16, "mxfp4": 32}[weights]
    expected = np.zeros((2, 3))
    for column in range(3):
        for k in range(64):
            byte = int(gemm.codes[column, k // 2])
            code = byte >> 4 if k % 2 else byte & 15
            value = (0, 0.5, 1, 1.5, 2, 3, 4, 6)[code & 7] * (-1 if code & 8 else 1)
            stored = gemm.scales[column, k // block]
            scale = float(stored.view(ml_dtypes.float8_e4m3fn)) if block == 16 else 2.0 ** (int(stored) - 127)
            expected[:, column] += gemm.a[:, k].astype(np.float64) * value * scale * float(gemm.outer)
    assert np.allclose(problems.expected(gemm).y, expected, rtol=1e-12, atol=1e-12)
    assert not ((gemm.codes & 15 == 8) | (gemm.codes >> 4 == 8)).any()


def side(us: float, hbm: float = 0.5) -> sides.Side:
    return sides.Side("kernel", 1, 100, us, "HBM", hbm, 0.25, 0.75, 4, 2048.0, us / 2)


def test_the_summary_counts_a_problem_once_in_each_group_it_belongs_to() -> None:
    weights = [
        Weight(8192, 8192, (("a", 1, "o"), ("b", 8, "qkv"))),
        Weight(1024, 2048, (("a", 8, "o"),)),
        Weight(512, 2880, (("a", 8, "qkv"),)),
    ]
    rows = [
        sides.Row(16, 8192, 8192, side(40), side(10)),
        sides.Row(16, 1024, 2048, side(10), side(20)),
        sides.Row(16, 512, 2880, None, side(1), refused="K"),
        sides.Row(1024, 8192, 8192, side(90), side(10), best=side(30)),
        sides.Row(1024, 1024, 2048, failed="no"),
    ]
    found = summary.summarize(rows, weights)
    groups = {group.name: group for group in found.groups}
    assert groups["all"].count == 3
    assert groups["all"].geomean == pytest.approx((4 * 0.5 * 9) ** (1 / 3))
    assert groups["TP 1"].geomean == pytest.approx(6)
    assert groups["TP 8, m <= 16"].geomean == pytest.approx(2**0.5)
    assert (groups["its best tile: all"].count, groups["its best tile: all"].geomean) == (1, pytest.approx(3))
    assert groups["a perfect kernel: TP 8, m <= 16"].geomean == pytest.approx(2 * 2**0.5)
    assert (found.slower, found.refused, found.failed) == (1, 1, 1)
    assert found.worst[0].n == 1024
    assert [share.count for share in found.shares if share.name.startswith("HBM")] == [1]  # the other is small


def test_a_format_that_petit_refuses_has_a_summary_all_the_same() -> None:
    found = summary.summarize([sides.Row(1, 64, 256, None, side(1), refused="no")], [Weight(64, 256, (("a", 8, "o"),))])
    assert (found.groups, found.worst, found.refused) == ((), (), 1)
    assert any("1 problems that Petit refuses" in line for line in summary.summary_text(found))
