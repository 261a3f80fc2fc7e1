"""Bank conflicts of access patterns whose cost can be counted on paper: 32 banks of one dword."""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.emulator.sanitizer.banks import extra_cycles, groups

from .watched import LANE, Watched

ON = np.ones((1, 64), bool)


def cost(addresses: np.ndarray, size: int, kind: str, active: np.ndarray = ON) -> int:
    """Extra cycles of one wave."""
    width, order = groups(size, kind)
    return int(extra_cycles(np.asarray(addresses, np.int64).reshape(1, 64), active, -(-size // 4), order, width))


@pytest.mark.parametrize(
    ("stride", "extra"),
    # two groups of 32 lanes; lanes of a group that share a bank: 1, 2, 4, 32, and 1 for odd strides
    [(4, 0), (8, 2 * 1), (16, 2 * 3), (128, 2 * 31), (132, 0), (0, 0), (12, 0), (1, 0)],
)
def test_dwords_at_a_stride(stride, extra):
    assert cost(stride * LANE, 4, "load") == extra
    assert cost(stride * LANE, 4, "store") == extra


def test_lanes_that_are_off_do_not_count():
    assert cost(128 * LANE, 4, "load", ON & (LANE < 4)) == 3
    assert cost(128 * LANE, 4, "load", ON & (LANE % 32 == 0)) == 0
    assert cost(128 * LANE, 4, "load", ~ON) == 0


@pytest.mark.parametrize(
    ("stride", "extra"),
    # four groups of 16 lanes with two dwords each
    [(8, 0), (16, 4 * 1), (128, 4 * 15), (136, 0)],
)
def test_pairs_at_a_stride(stride, extra):
    assert cost(stride * LANE, 8, "load") == extra


@pytest.mark.parametrize(
    ("stride", "extra"),
    # eight groups of 8 lanes with four dwords each
    [(16, 0), (32, 8 * 1), (64, 8 * 3), (128, 8 * 7), (144, 0)],
)
def test_quads_at_a_stride(stride, extra):
    assert cost(stride * LANE, 16, "store") == extra


def test_reads_of_quads_are_not_grouped_like_writes():
    """Rows of 128 bytes, the 16-byte chunks of row r rotated so that lanes 0-7 touch all banks but the groups
    0-3 and 20-23, 4-7 and 16-19, ... of reads do not."""
    chunk = np.where(LANE % 32 < 16, LANE % 8, (LANE + 4) % 8)
    address = 128 * LANE + 16 * chunk
    assert cost(address, 16, "store") == 0
    # lanes 0-3 with 20-23: chunks 0-3 and (24..27) % 8 = 0-3: every bank of them twice
    assert cost(address, 16, "load") == 8 * 1
    rotated = 128 * LANE + 16 * (LANE % 8)
    assert cost(rotated, 16, "store") == 0
    assert cost(rotated, 16, "load") == 0


def test_counts_by_instruction():
    m = Watched("gfx942", waves=2)
    m.v[0], m.v[1] = 8 * LANE, 1
    m.find("ds_write_b32 v0, v1\nds_write_b32 v0, v1 offset:512\ns_waitcnt lgkmcnt(0)\nds_read_b64 v[2:3], v0")
    assert m.sanitizer.bank_conflicts() == {
        0: ("ds_write_b32 v0, v1", 2, 2 * 2),
        8: ("ds_write_b32 v0, v1 offset:512", 2, 2 * 2),
        20: ("ds_read_b64 v[2:3], v0", 2, 0),
    }
