from __future__ import annotations

import itertools

import pytest

from petitgen.errors import VerifyError
from petitgen.verify.shapes import Shape, default_shapes, parse_shape


def tile_of(m: int, n: int, k: int, stages: int) -> dict[str, int]:
    return {"m": m, "n": n, "k": k, "stages": stages}


@pytest.mark.parametrize(
    "tile",
    [tile_of(16, 32, 256, 2), tile_of(128, 256, 64, 1), tile_of(16, 16, 128, 4), tile_of(1, 64, 512, 1)],
)
def test_shapes_surround_the_tile(tile):
    shapes = default_shapes(tile)
    pairs = {(shape.m, shape.n) for shape in shapes}
    around = itertools.product(
        (tile["m"] - 1, tile["m"], tile["m"] + 1), (tile["n"] - 1, tile["n"], tile["n"] + 1)
    )
    assert pairs >= {(1, 1)} | {(m, n) for m, n in around if m and n}
    assert all(shape.k % 16 == 0 and shape.k >= 16 for shape in shapes)
    depths = {shape.k for shape in shapes}
    turn = max(tile["k"], 128) * tile["stages"]  # what a kernel's loop covers in one go
    assert depths >= {16, tile["k"], tile["k"] + 16, turn - 16, turn + 16}
    assert any(shape.pad_a and shape.pad_c for shape in shapes)
    assert any(s.m > 2 * tile["m"] and s.n > 2 * tile["n"] and s.k > turn for s in shapes)
    assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize("tile", [tile_of(16, 32, 256, 2), tile_of(128, 256, 64, 1), tile_of(256, 16, 128, 4)])
def test_shapes_tell_nearly_right_kernels_from_right_ones(tile):
    """Each line is what a fault needs to show: one that holds for a few tiles, small offsets or even N only."""
    shapes = default_shapes(tile, max_pitch=1 << 22)
    assert any(s.n % 4 == 2 and s.ldc() % 4 == 2 and s.ldc() > s.n for s in shapes)
    assert any(s.n % 4 == 2 and s.ldc() % 4 == 0 for s in shapes)
    assert any(s.n % 2 and s.ldc() % 4 == 0 for s in shapes)
    assert any(s.n > 8 * tile["n"] for s in shapes)
    assert any(s.m > 8 * tile["m"] and s.lone == tile["m"] for s in shapes)
    assert any(s.m == 1 < s.n for s in shapes)
    assert any(s.n == 1 < s.m for s in shapes)
    far = [s for s in shapes if (s.m - 1) * min(s.lda(8), s.ldc()) * 2 >= 32 << 20]
    assert far
    assert all(max(s.lda(8), s.ldc()) == 1 << 22 for s in far)


def test_row_pitches_are_what_the_kernel_takes():
    shape = Shape(3, 5, 48, pad_a=3, pad_c=1)
    assert (shape.lda(8), shape.ldc(4)) == (56, 8)
    assert (Shape(3, 5, 48).lda(8), Shape(3, 5, 48).ldc()) == (48, 5)


@pytest.mark.parametrize("text", ["17,128,272", "17x128x272"])
def test_a_shape_is_read(text):
    assert parse_shape(text) == Shape(17, 128, 272)


@pytest.mark.parametrize(
    "text", ["17,128", "a,b,c", "0,16,16", "1,0,16", "1,1,8", "1,1,0", "1,1,-16", "1.5,2,6"]
)
def test_a_wrong_shape_is_refused_with_what_is_allowed(text):
    with pytest.raises(VerifyError, match=r"M,N,K|multiple of 16"):
        parse_shape(text)
