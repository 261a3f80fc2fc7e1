"""Races and barriers: programs that keep the order, and the same with one line less."""

from __future__ import annotations

import numpy as np
import pytest

from .watched import LANE, Watched

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
WAIT_LDS, WAIT_VM, BARRIER = "s_waitcnt lgkmcnt(0)", "s_waitcnt vmcnt(0)", "s_barrier"


def machine(arch: str, waves: int = 2, workgroups: int = 1, **options) -> Watched:
    """v0: LDS address of a dword of the wave's own; v1: of the next wave's; v2: data, different everywhere."""
    m = Watched(arch, waves, workgroups, **options)
    wave = np.arange(waves, dtype=np.uint32)[:, None] % (waves // workgroups)
    m.v[0] = 4 * (LANE + 64 * wave)
    m.v[1] = 4 * (LANE + 64 * ((wave + 1) % (waves // workgroups)))
    m.v[2] = 1000 + np.arange(waves, dtype=np.uint32)[:, None] * 64 + LANE
    return m


def lines(*text: str) -> str:
    return "\n".join(text)


EXCHANGE = ("ds_write_b32 v0, v2", WAIT_LDS, BARRIER, "ds_read_b32 v3, v1", WAIT_LDS)


@BOTH
def test_an_exchange_through_lds_is_clean(arch):
    assert machine(arch).find(lines(*EXCHANGE)) == []


@BOTH
@pytest.mark.parametrize(
    ("without", "said"), [(1, "does not wait for it with s_waitcnt lgkmcnt"), (2, "no s_barrier between")]
)
def test_an_exchange_without_its_wait_or_barrier(arch, without, said):
    (race,) = machine(arch).find(lines(*(line for k, line in enumerate(EXCHANGE) if k != without)))
    assert race.check == "race"
    assert race.text == "ds_read_b32 v3, v1"
    assert "reads LDS that `ds_write_b32 v0, v2` at +0x0 writes" in race.message
    assert said in race.message
    assert (race.workgroup, race.wave, race.count) == (0, 0, 2)


@BOTH
def test_only_the_lanes_that_collide_are_named(arch):
    m = machine(arch)
    m.v[1] = m.v[0].copy()
    m.v[1][1, 5] = 4 * 17  # lane 5 of wave 1 reads a dword of wave 0
    (race,) = m.find(lines("ds_write_b32 v0, v2", WAIT_LDS, "ds_read_b32 v3, v1", WAIT_LDS))
    assert (race.wave, race.lanes, race.count) == (1, 1 << 5, 1)


@BOTH
def test_writing_what_others_may_still_read(arch):
    text = [*EXCHANGE, BARRIER, "ds_write_b32 v0, v3", WAIT_LDS]
    assert machine(arch).find(lines(*text)) == []
    del text[5]
    (race,) = machine(arch).find(lines(*text))
    assert race.text == "ds_write_b32 v0, v3"
    assert "writes LDS that `ds_read_b32 v3, v1`" in race.message


@BOTH
def test_bytes_of_one_dword_are_apart(arch):
    m = machine(arch)
    m.v[0] = 4 * LANE + np.arange(2, dtype=np.uint32)[:, None]
    assert m.find(lines("ds_write_b8 v0, v2", "ds_write_b8 v0, v2 offset:2", WAIT_LDS)) == []
    m = machine(arch)
    m.v[0] = 4 * LANE + np.arange(2, dtype=np.uint32)[:, None]
    (race,) = m.find(lines("ds_write_b8 v0, v2", "ds_write_b16 v0, v2", WAIT_LDS), "race")
    assert race.text == "ds_write_b16 v0, v2"


@BOTH
def test_atomics_do_not_race_with_each_other_but_with_plain_accesses(arch):
    m = machine(arch)
    m.v[0] = 4 * LANE
    add = ("ds_add_u32 v0, v2", WAIT_LDS)
    assert m.find(lines(*add, *add), "race") == []
    m = machine(arch)
    m.v[0] = 4 * LANE
    (race,) = m.find(lines(*add, "ds_read_b32 v3, v0", WAIT_LDS), "race")
    assert race.text == "ds_read_b32 v3, v0"


@BOTH
def test_stores_of_equal_values_are_harmless(arch):
    m = machine(arch)
    m.v[0], m.v[2] = 4 * LANE, 7
    assert m.find(lines("ds_write_b32 v0, v2", WAIT_LDS, "ds_write_b32 v0, v2", WAIT_LDS)) == []
    m = machine(arch)
    m.v[0], m.v[2] = 4 * LANE, 7
    m.v[2][1, 9] = 8
    (race,) = m.find(lines("ds_write_b32 v0, v2", WAIT_LDS))
    assert race.lanes == 1 << 9


# --- global memory --------------------------------------------------------------------------------


def with_buffer(arch: str, waves: int, workgroups: int) -> Watched:
    """v0: address of the wave's own dword in a buffer at s[4:5]; v1: of the next wave's, across workgroups."""
    m = machine(arch, waves, workgroups)
    m.pair(4, m.memory.allocate(np.zeros(64 * waves + 64, np.uint32)))
    wave = np.arange(waves, dtype=np.uint32)[:, None]
    m.v[0], m.v[1] = 4 * (LANE + 64 * wave), 4 * (LANE + 64 * ((wave + 1) % waves))
    m.v[4], m.v[5] = 256 * waves, 1
    return m


STORE, LOAD = "global_store_dword v0, v2, s[4:5]", "global_load_dword v3, v1, s[4:5]"


@BOTH
def test_a_barrier_orders_global_memory_within_a_workgroup_without_a_wait(arch):
    assert with_buffer(arch, 2, 1).find(lines(STORE, BARRIER, LOAD, WAIT_VM)) == []
    (race,) = with_buffer(arch, 2, 1).find(lines(STORE, WAIT_VM, LOAD, WAIT_VM))
    assert "reads memory that `global_store_dword v0, v2, s[4:5]` at +0x0 writes in another wave" in race.message


@BOTH
def test_nothing_orders_workgroups(arch):
    (race,) = with_buffer(arch, 2, 2).find(lines(STORE, WAIT_VM, BARRIER, LOAD, WAIT_VM))
    assert "in another workgroup" in race.message
    m = with_buffer(arch, 2, 2)
    m.v[1] = m.v[0]
    assert m.find(lines(STORE, WAIT_VM, BARRIER, LOAD, WAIT_VM)) == []


@BOTH
def test_an_atomic_passes_on_what_was_complete(arch):
    """Waves take turns by an atomic counter; the second one to come reads what the first has stored."""
    scope = "glc" if arch == "gfx90a" else "sc0"
    turn = f"global_atomic_add v6, v4, v5, s[4:5] {scope}"
    text = [STORE, WAIT_VM, turn, WAIT_VM, LOAD, WAIT_VM]

    def run(text: list[str]) -> list:
        m = with_buffer(arch, 2, 2)
        m.s[0, 126:128] = 0, 0  # wave 0 stores and counts, but does not read ...
        m.s[0, 126] = 0xFFFFFFFF
        m.v[1][0] = m.v[0][0]  # ... what wave 1 has stored
        m.v[1][1] = m.v[0][0]
        return m.find(lines(*text))

    assert run(text) == []
    assert len(run([*text[:1], *text[2:]])) == 1  # the store may not be complete when the counter says so
    assert len(run([*text[:2], *text[4:]])) == 1  # no counter


@BOTH
def test_a_load_that_guesses_for_a_compare_and_swap(arch):
    m = with_buffer(arch, 2, 2)
    m.v[0] = 0
    m.v[0] += 4 * LANE
    m.v[6], m.v[7] = 5, 0
    guess = "global_load_dword v7, v0, s[4:5]"
    swap = f"global_atomic_cmpswap v8, v0, v[6:7], s[4:5] {'glc' if arch == 'gfx90a' else 'sc0'}"
    assert m.find(lines(guess, WAIT_VM, swap, WAIT_VM)) == []
    m = with_buffer(arch, 2, 2)
    m.v[0] = 4 * LANE + np.zeros((2, 1), np.uint32)
    m.v[6], m.v[7] = 5, 0
    (race,) = m.find(lines(swap, WAIT_VM, guess, WAIT_VM))  # a look at it afterwards is no guess
    assert race.text == guess


# --- memory to LDS --------------------------------------------------------------------------------


def with_descriptor(arch: str, waves: int) -> Watched:
    m = machine(arch, waves)
    data = np.arange(64 * waves, dtype=np.uint32)
    address = m.memory.allocate(data)
    m.quad(4, address & 0xFFFFFFFF, address >> 32, data.nbytes, 0x00020000)
    m.s[:, 124] = 256 * np.arange(waves)
    return m


TO_LDS = "buffer_load_dword v0, s[4:7], 0 offen lds"


@BOTH
def test_a_load_to_lds_is_waited_for_with_vmcnt(arch):
    own = (TO_LDS, WAIT_VM, "ds_read_b32 v3, v0", WAIT_LDS)
    assert with_descriptor(arch, 1).find(lines(*own)) == []
    (race,) = with_descriptor(arch, 1).find(lines(own[0], *own[2:]))
    assert "itself, without the s_waitcnt vmcnt" in race.message


@BOTH
def test_a_load_to_lds_is_waited_for_before_the_barrier(arch):
    text = (TO_LDS, WAIT_VM, BARRIER, "ds_read_b32 v3, v1", WAIT_LDS)
    assert with_descriptor(arch, 2).find(lines(*text)) == []
    (race,) = with_descriptor(arch, 2).find(lines(text[0], *text[2:]))
    assert "does not wait for it with s_waitcnt vmcnt" in race.message


# --- barriers -------------------------------------------------------------------------------------

PARTED = """s_cmp_eq_u32 s8, 0
s_cbranch_scc1 {target}
{first}
s_branch 1
s_barrier
s_nop 0"""


@BOTH
def test_one_barrier_of_a_workgroup_is_one_instruction(arch):
    m = machine(arch, 4)
    m.s[:, 8] = [0, 1, 1, 1]
    (finding,) = m.find(PARTED.format(target=2, first=BARRIER))
    assert (finding.check, finding.text, finding.wave) == ("barrier", "s_barrier", 0)
    assert "others wait at the s_barrier at +0x8" in finding.message


@BOTH
def test_waves_that_have_ended_need_no_barrier(arch):
    m = machine(arch, 4)
    m.s[:, 8] = [0, 1, 1, 1]
    assert m.find("s_cmp_eq_u32 s8, 0\ns_cbranch_scc1 3\nds_write_b32 v0, v2\ns_waitcnt lgkmcnt(0)\ns_barrier") == []


@BOTH
def test_a_wave_that_jumps_over_a_barrier_learns_nothing(arch):
    """It ends, so the hardware lets the others go, and that alone is no finding; that it reads too early is one."""
    m = machine(arch, 4)
    m.s[:, 8] = [0, 1, 1, 1]
    text = f"ds_write_b32 v0, v2\n{WAIT_LDS}\ns_cmp_eq_u32 s8, 0\ns_cbranch_scc1 1\ns_barrier\nds_read_b32 v3, v1\n{WAIT_LDS}"
    (race,) = m.find(text)
    assert (race.check, race.text, race.wave, race.count) == ("race", "ds_read_b32 v3, v1", 0, 1)


@BOTH
def test_a_wave_learns_nothing_from_a_barrier_of_another_workgroup(arch):
    m = machine(arch, 4, 2)
    m.s[:, 8] = [0, 0, 1, 1]
    text = f"ds_write_b32 v0, v2\n{WAIT_LDS}\ns_cmp_eq_u32 s8, 0\ns_cbranch_scc1 1\ns_barrier\nds_read_b32 v3, v1\n{WAIT_LDS}"
    (race,) = m.find(text)
    assert (race.workgroup, race.wave, race.count) == (0, 0, 2)


def test_a_race_with_an_earlier_batch_of_workgroups():
    """Batches follow each other here; on the hardware nothing says that they do."""
    m = with_buffer("gfx942", 2, 2)
    m.launch.grid = (4, 1, 1)
    text = lines(STORE, WAIT_VM)
    assert m.find(text) == []
    later = with_buffer("gfx942", 2, 2)
    later.memory, later.batch.memory, later.sanitizer = m.memory, m.memory, m.sanitizer
    later.batch.numbers = later.batch.numbers + 2
    later.s[:, 4:6] = m.s[:, 4:6]
    later.v[2] += 1
    m.sanitizer.batch(later.batch)
    (race,) = later.find(text)
    assert "in another workgroup" in race.message
    assert race.workgroup == 2
