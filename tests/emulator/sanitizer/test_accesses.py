"""Accesses that the hardware carries out, but hardly as meant."""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.errors import EmulationError

from .watched import LANE, Watched

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
RAW = 0x00020000
WHOLE = (1 << 64) - 1


def with_descriptor(arch: str, records: int, waves: int = 1, **options) -> tuple[Watched, bytes]:
    """A buffer of 1 KiB at s[4:7] that claims to have `records` bytes, and its descriptor."""
    m = Watched(arch, waves, **options)
    address = m.memory.allocate(np.arange(256, dtype=np.uint32))
    m.quad(4, address & 0xFFFFFFFF, address >> 32, records, RAW)
    m.pair(8, address)
    m.v[0], m.v[1] = 4 * LANE, 1
    return m, m.s[0, 4:8].tobytes()


@BOTH
@pytest.mark.parametrize("text", ["buffer_load_dword v2, v0, s[4:7], 0 offen", "buffer_store_dword v1, v0, s[4:7], 0 offen",
                                  "buffer_atomic_add v1, v0, s[4:7], 0 offen"])  # fmt: skip
def test_lanes_past_the_end_of_a_buffer(arch, text):
    m, _ = with_descriptor(arch, 4 * 60)
    m.pair(126, WHOLE - (1 << 62))
    (found,) = m.find(text)
    assert (found.check, found.text, found.lanes) == ("out-of-range", text, 0xB000_0000_0000_0000)
    assert "the 240 bytes" in found.message
    m, _ = with_descriptor(arch, 4 * 64)
    assert m.find(text) == []


@BOTH
def test_tails_that_are_meant(arch):
    _, descriptor = with_descriptor(arch, 240)
    text = "buffer_load_dword v2, v0, s[4:7], 0 offen"

    def run(intended: list[bytes]) -> list:
        m, here = with_descriptor(arch, 240, intended=intended)
        assert here == descriptor  # device addresses do not change from run to run
        return m.find(text)

    assert run([descriptor]) == []
    assert len(run([descriptor[:8] + b"\x10" + descriptor[9:]])) == 1


@BOTH
def test_waves_with_descriptors_of_their_own(arch):
    m, descriptor = with_descriptor(arch, 240, waves=2)
    m.sanitizer.intended = frozenset({descriptor})
    m.s[1, 4] += 128  # as long as the whole: its end is not meant
    (found,) = m.find("buffer_load_dword v2, v0, s[4:7], 0 offen")
    assert (found.wave, found.lanes, found.count) == (1, 0xF000_0000_0000_0000, 1)


@BOTH
@pytest.mark.parametrize(
    ("moved", "records", "meant"),
    [(128, 112, True), (128, 113, False), (0, 128, True), (-4, 128, False), (4096, 0, True), (4096, 4, False)],
)
def test_windows_of_a_descriptor_whose_tail_is_meant(arch, moved, records, meant):
    m, descriptor = with_descriptor(arch, 240)
    m.sanitizer.intended = frozenset({descriptor})
    m.s[:, 4] += np.uint32(moved & 0xFFFFFFFF)
    m.s[:, 6] = records
    m.v[0] = 0x10000  # out of range of every window
    assert bool(m.find("buffer_load_dword v2, v0, s[4:7], 0 offen")) is not meant


@BOTH
def test_accesses_past_the_lds(arch):
    def run(**options) -> list:
        m = Watched(arch, lds=512, **options)
        m.v[0], m.v[1] = 16 * LANE, 7
        return m.find("ds_write_b32 v0, v1")

    (found,) = run()
    assert (found.check, found.lanes) == ("out-of-range", 0xFFFF_FFFF_0000_0000)
    assert "past the 512 bytes of LDS" in found.message
    assert run(past_lds=True) == []


@BOTH
@pytest.mark.parametrize(
    ("text", "step", "off", "bad"),
    [
        ("global_load_dword v2, v0, s[8:9]", 6, 0, 0xAAAA_AAAA_AAAA_AAAA),
        ("global_load_dwordx4 v[12:15], v0, s[8:9]", 4, 0, 0),
        ("global_load_dwordx4 v[12:15], v0, s[8:9]", 4, 2, WHOLE),
        ("global_load_ushort v2, v0, s[8:9]", 2, 0, 0),
        ("global_load_ushort v2, v0, s[8:9]", 3, 0, 0xAAAA_AAAA_AAAA_AAAA),
        ("global_load_ubyte v2, v0, s[8:9]", 1, 0, 0),
        ("buffer_load_dword v2, v0, s[4:7], 0 offen", 5, 0, 0xEEEE_EEEE_EEEE_EEEE),
        ("ds_read_b64 v[12:13], v0", 4, 0, 0),
        ("ds_read_b64 v[12:13], v0", 6, 0, 0xAAAA_AAAA_AAAA_AAAA),
        ("ds_write_b16 v0, v1", 2, 1, WHOLE),
    ],
)
def test_addresses_between_the_elements(arch, text, step, off, bad):
    """The hardware does it, so it is no fault, but it is counted."""
    m, _ = with_descriptor(arch, 1024)
    m.v[0] = step * LANE + off
    assert m.find(text, "misaligned") == []
    assert m.sanitizer.misaligned() == ({0: (text, 1, bad.bit_count())} if bad else {})
    m, _ = with_descriptor(arch, 1024)
    m.v[0] = step * LANE + off
    m.pair(126, ~bad & WHOLE)  # lanes that are off may be anywhere
    m.find(text, "misaligned")
    assert m.sanitizer.misaligned() == {}


@BOTH
@pytest.mark.parametrize(
    ("text", "off"),
    [
        ("global_atomic_add v0, v1, s[8:9]", 2),
        ("ds_add_u32 v0, v1", 2),
        ("ds_add_u64 v0, v[4:5]", 4),
    ],
)
def test_an_atomic_between_the_elements_is_a_fault(arch, text, off):
    m, _ = with_descriptor(arch, 1024)
    m.v[0] = np.where(LANE == 3, 8 * LANE + off, 8 * LANE)
    m.v[4], m.v[5] = 1, 0
    with pytest.raises(EmulationError, match="misaligned"):
        m.find(text)
    (found,) = m.sanitizer.findings()
    assert (found.check, found.lanes) == ("misaligned", 1 << 3)
    assert m.sanitizer.misaligned() == {}


@BOTH
@pytest.mark.parametrize(("offset", "base", "count"), [(0, 0, 0), (4, 0, 0), (4, 2, 1), (8, 1, 1)])
def test_scalar_loads_drop_the_low_bits(arch, offset, base, count):
    m, _ = with_descriptor(arch, 1024)
    m.s[:, 8] += base
    found = m.find(f"s_load_dword s40, s[8:9], {offset:#x}", "misaligned")
    assert len(found) == count
    if found:
        assert "low two bits" in found[0].message


def test_scratch_is_reported_on_request():
    def run(**options) -> list:
        m = Watched("gfx942", private=16, **options)
        m.pair(102, m.memory.allocate(64 * 16))
        m.v[1] = 7
        return m.find("scratch_store_dword off, v1, off offset:4")

    assert run() == []
    (found,) = run(scratch=True)
    assert (found.check, found.message) == ("scratch", "store of scratch memory")


def test_scratch_through_a_buffer_is_scratch_too():
    m = Watched("gfx90a", private=16, scratch=True)
    base = m.memory.allocate(64 * 16)
    swizzle, add_tid, index_stride_64 = 1 << 31, 1 << 23, 3 << 21
    m.quad(0, base & 0xFFFFFFFF, base >> 32 | swizzle, 0xFFFFFFFF, add_tid | index_stride_64)
    m.v[1] = 7
    (found,) = m.find("buffer_store_dword v1, off, s[0:3], 0 offset:4")
    assert found.check == "scratch"


@BOTH
def test_a_typed_access_is_watched_like_any_other(arch):
    m, _ = with_descriptor(arch, 1024)
    m.memory.unwritten.assume_written()
    empty = m.memory.allocate(1024)
    m.quad(4, empty & 0xFFFFFFFF, empty >> 32, 16 * 60, RAW | 4 | 5 << 3 | 6 << 6 | 7 << 9 | 7 << 12 | 14 << 15)
    m.v[0] = 16 * LANE
    for row in range(4, 8):
        m.v[row] = 1
    m.pair(10, m.memory.allocate(bytes(256)))
    m.v[2] = 4 * LANE
    text = """buffer_store_format_xyzw v[4:7], v0, s[4:7], 0 offen
    s_waitcnt vmcnt(0)
    buffer_load_format_xyzw v[4:7], v0, s[4:7], 0 offen
    s_waitcnt vmcnt(0)
    global_store_dword v2, v7, s[10:11]"""
    found = m.find(text)
    assert [(f.check, f.lanes) for f in found] == [("out-of-range", 0xF000_0000_0000_0000)] * 2


@BOTH
def test_leaving_an_allocation_stops_the_run_and_keeps_what_was_found(arch):
    m, _ = with_descriptor(arch, 240)
    m.v[3] = 1 << 20
    with pytest.raises(EmulationError, match="outside every allocation"):
        m.find("buffer_load_dword v2, v0, s[4:7], 0 offen\nglobal_load_dword v2, v3, s[8:9]")
    assert [f.check for f in m.sanitizer.findings()] == ["out-of-range"]
