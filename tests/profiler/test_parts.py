"""The parts of the model by themselves, without an assembler."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from petitgen.emulator.mfma import MNEMONICS
from petitgen.emulator.mfma_table import shape
from petitgen.errors import ProfileError, SpecError
from petitgen.isa.model import Instruction
from petitgen.profiler import cu
from petitgen.profiler.cu import compiled
from petitgen.profiler.device import Sharing, origin, refetched
from petitgen.profiler.launches import place, representatives, with_slices
from petitgen.profiler.streams import lds_clocks, lines_of
from petitgen.profiler.timing import load_timing
from petitgen.profiler.trace import Site

RNG = np.random.default_rng
ARCHS = ("gfx90a", "gfx942")


def site(space: str = "memory", kind: str = "load", size: int = 16, **more) -> Site:
    ins = Instruction(0, 8, "gfx942", "x", "MUBUF", (), ())
    return Site(ins, space, kind, size, **more)


# --- addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "line"), [(16, 128), (4, 64), (2, 128), (12, 64)])
def test_lines_are_those_of_every_byte(size: int, line: int):
    addresses = RNG(size).integers(0, 1 << 14, (20, 64)) & ~1
    active = RNG(line).random((20, 64)) < 0.7
    counts, lanes, lines = lines_of(addresses, active, size, line)
    assert lanes.tolist() == active.sum(axis=1).tolist()
    start = 0
    for row in range(20):
        wanted = {(int(a) + byte) // line for a in addresses[row][active[row]] for byte in range(size)}
        found = lines[start : start + counts[row]].tolist()
        start += counts[row]
        assert len(found) == len(set(found))
        assert set(found) == wanted
    assert start == lines.size


def test_all_lanes_are_active_without_a_mask():
    counts, lanes, lines = lines_of(np.arange(64)[None] * 16, None, 16, 128)
    assert (counts.tolist(), lanes.tolist(), lines.tolist()) == ([8], [64], list(range(8)))


@pytest.mark.parametrize(
    ("size", "stride", "places", "clocks"),
    [
        (4, 4, (0,), 2),  # 32 lanes a clock
        (4, 0, (0,), 2),  # all lanes want one dword
        (4, 128, (0,), 64),  # all in one bank
        (8, 8, (0,), 4),  # 16 lanes a clock
        (16, 16, (0,), 8),  # 8 lanes a clock
        (8, 8, (0, 1024), 8),  # two places, as ds_read2_b64
    ],
)
def test_lds_clocks(size: int, stride: int, places: tuple[int, ...], clocks: int):
    """32 banks of 4 bytes: 128 bytes a clock. Source: ROCm documentation, LDS bank conflicts"""
    addresses = np.arange(64)[None] * stride
    assert lds_clocks(site("lds", size=size, places=places), addresses, None).tolist() == [clocks]


# --- where workgroups go ---------------------------------------------------------------------------------------------------


def test_the_modelled_cu_has_as_many_workgroups_as_any():
    timing = load_timing("gfx942")
    for total in (1, 303, 304, 305, 608, 1000, 7168):
        numbers = np.arange(total)
        xcd, turn = numbers % 8, numbers // 8
        cu = xcd * 38 + turn % 38
        queue = place((total, 1, 1), timing)
        assert queue.numbers.tolist() == numbers[cu == 0].tolist()
        assert queue.numbers.size == np.bincount(cu).max()
        deep = np.bincount(cu, minlength=304)
        assert queue.peers.tolist() == [(deep > j).sum() for j in range(queue.numbers.size)]


def test_tails_and_slices_have_traces_of_their_own():
    grid = (5, 3, 2)
    numbers = np.arange(30)
    alike = representatives(numbers, grid)
    as_xyz = [(n % 5, n // 5 % 3, n // 15) for n in numbers.tolist()]
    wanted = [(4 if x == 4 else 0, 2 if y == 2 else 0, z) for x, y, z in as_xyz]
    assert [(n % 5, n // 5 % 3, n // 15) for n in alike.tolist()] == wanted
    assert with_slices(np.array([3, 17]), grid).tolist() == [2, 3, 17, 18]


# --- memory ----------------------------------------------------------------------------------------------------------------


def source(buffer_bytes: int, asked: float, workgroups: int, xcd: float = 1.0, device: float = 1.0, **more):
    """Origin of one site that asks for `asked` bytes a workgroup of one buffer."""
    timing = load_timing(more.pop("arch", "gfx942"))
    warm = more.pop("warm", ())
    shared = Sharing(np.array([xcd]), np.array([device]))
    return origin([site(**more)], [(0, buffer_bytes)], np.array([asked]), shared, workgroups, warm, timing)


def test_a_buffer_read_once_comes_from_hbm():
    found = source(1 << 20, 1 << 10, 1 << 10)
    assert (found.mall[0], found.hbm[0], found.latency[0]) == (1.0, 1.0, 880)
    assert found.footprint == 1 << 20


def test_rounds_find_what_earlier_ones_read_in_the_infinity_cache():
    """Every workgroup reads the same 16 MB, one XCD's at a time: HBM gives them once, each XCD asks for them again."""
    found = source(1 << 24, 1 << 24, 64)
    assert found.hbm[0] * 64 == pytest.approx(1)
    beyond_l2 = 1 - (1 - 1 / 8) * (4 / 16)  # an XCD reads it eight times; a quarter of it stays in 4 MB
    assert found.mall[0] == pytest.approx(beyond_l2)


def test_what_exceeds_the_infinity_cache_comes_again_in_proportion():
    """512 MB read twice, a cache of 256 MB: half of the second reading is still there."""
    found = source(1 << 29, 1 << 20, 1 << 10)
    assert found.hbm[0] * 2 == pytest.approx(1 * 0.5 + 2 * 0.5)


def test_without_an_infinity_cache_the_l2_is_the_last():
    """gfx90a reads 16 MB 64 times: half of it stays in the 8 MB of its L2, the other half comes again each time."""
    found = source(1 << 24, 1 << 24, 64, arch="gfx90a")
    assert found.hbm[0] * 64 == pytest.approx(0.5 * 1 + 0.5 * 64)
    assert found.mall[0] == 0
    assert found.latency[0] == pytest.approx(302 + (0.5 / 64 + 0.5) * (741 - 302))


def test_warm_buffers_come_from_the_cache():
    from petitgen.emulator.memory import BASE

    found = source(1 << 20, 1 << 10, 1 << 10, warm=(BASE,))
    assert (found.mall[0], found.hbm[0], found.latency[0]) == (1.0, 0.0, 497)


def test_stores_go_to_memory_and_spills_stay_in_the_l2():
    assert source(1 << 20, 1 << 10, 8, kind="store").hbm[0] == 1
    spilled = source(1 << 20, 1 << 10, 8, kind="store", scratch=True)
    assert (spilled.hbm[0], spilled.mall[0]) == (0, 0)


def test_less_from_far_away_when_the_l1_asks_again():
    where = [(0, 1), (0, 1), (7, 1), None]
    assert refetched(np.array([10.0, 10, 5, 0]), np.array([10.0, 10, 5, 0]), where) is None
    share = refetched(np.array([20.0, 20, 5, 0]), np.array([10.0, 10, 5, 0]), where)
    assert share is not None
    assert share.tolist() == [0.5, 0.5, 1, 1]


# --- parameters --------------------------------------------------------------------------------------------------------------

# Dense peaks of a CU, flop a clock. Source: the data sheets of MI250X (220 CUs at 1.7 GHz) and MI300X (304 at 2.1 GHz)
PEAKS = {
    "gfx90a": {"f16": 383.0e12 / (220 * 1.7e9), "bf16": 383.0e12 / (220 * 1.7e9), "f32": 95.7e12 / (220 * 1.7e9),
               "f64": 95.7e12 / (220 * 1.7e9), "i8": 383.0e12 / (220 * 1.7e9)},
    "gfx942": {"f16": 1307.4e12 / (304 * 2.1e9), "bf16": 1307.4e12 / (304 * 2.1e9), "f32": 163.4e12 / (304 * 2.1e9),
               "f64": 163.4e12 / (304 * 2.1e9), "i8": 2614.9e12 / (304 * 2.1e9), "fp8": 2614.9e12 / (304 * 2.1e9),
               "bf8": 2614.9e12 / (304 * 2.1e9), "xf32": 653.7e12 / (304 * 2.1e9)},
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHS)
def test_no_matrix_instruction_beats_the_peak_of_its_type_and_one_reaches_it(arch: str):
    timing = load_timing(arch)
    best: dict[str, float] = {}
    for mnemonic in MNEMONICS[arch]:
        s = shape(mnemonic, arch)
        if s.sparse:
            continue
        rate = 4 * 2 * s.m * s.n * s.k * s.blocks / (4 * timing.passes(mnemonic))
        best[s.a_type] = max(best.get(s.a_type, 0), rate)
    assert best.keys() == PEAKS[arch].keys()
    for kind, rate in best.items():
        assert rate == pytest.approx(PEAKS[arch][kind], rel=0.01), kind


@pytest.mark.parametrize("arch", ARCHS)
def test_every_matrix_instruction_has_its_passes(arch: str):
    for mnemonic in MNEMONICS[arch]:
        assert load_timing(arch).passes(mnemonic) in (2, 4, 8, 16)


def test_what_cannot_be_modelled():
    with pytest.raises(ProfileError, match=r"no timing parameters for 'gfx906'; .* gfx90a, gfx942"):
        load_timing("gfx906")
    with pytest.raises(ProfileError, match="4 compute units: MI300X has 8 XCDs with at least one"):
        load_timing("gfx942", 4)
    with pytest.raises(ProfileError, match=r"v_mfma_new: .* does not say how long it takes"):
        load_timing("gfx942").passes("v_mfma_new")
    assert load_timing("gfx942", 80).compute_units == 80


def test_a_wrong_parameter_is_named(tmp_path):
    from petitgen.paths import CONFIGS

    text = (CONFIGS / "archs.yaml").read_text()
    (tmp_path / "archs.yaml").write_text(text.replace("hbm_efficiency: 0.81", "hbm_efficiency: 1.81"))
    with pytest.raises(SpecError, match=r"timing\.gfx942\.hbm_efficiency: 1\.81 is not allowed"):
        load_timing("gfx942", configs=tmp_path)


# --- the loops ------------------------------------------------------------------------------------------------------------


def test_kept_loops_know_every_file_that_they_are_made_of(monkeypatch: pytest.MonkeyPatch):
    """Whatever a loop's file takes from the profiler changes the name that the loops are kept under."""
    read: list[Path] = []
    bytes_of = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.resolve()), bytes_of(path))[1])

    def name() -> str:
        def loop() -> None: ...

        compiled.kept(loop)
        return loop.__qualname__

    before = name()
    folder = Path(str(cu.__file__)).parent
    loops = set(folder.glob("*.py")) - {folder / "compiled.py"}
    taken = {node.module for path in loops for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and str(node.module).startswith("petitgen")}  # fmt: skip
    files = {folder.parents[2] / (str(module).replace(".", "/") + ".py") for module in taken} | loops
    assert len(files) > 8
    assert {path.resolve() for path in files} <= set(read)
    monkeypatch.setattr(Path, "read_bytes", lambda path: bytes_of(path) + (b"#" if path.name == "memory.py" else b""))
    assert name() != before
