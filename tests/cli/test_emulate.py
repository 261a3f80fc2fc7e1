"""petitgen emulate on stored code objects: arguments of every form, what it prints, how it fails."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from petitgen.cli import main
from petitgen.cli.emulate_report import Outcome, as_data
from petitgen.emulator import LaunchResult
from petitgen.isa import CodeObject

OBJECTS = Path(__file__).parents[1] / "isa" / "objects"
ARCHS = ("gfx90a", "gfx942")


def emulate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["emulate", *map(str, arguments)], prog_name="petitgen")


def stored(arch: str = "gfx942") -> Path:
    """Kernels scratch, shared_memory and buffers of tests/isa/kernels/memory.hip."""
    return OBJECTS / f"memory_{arch}.hsaco"


def buffers(*more: str | Path, data: str = "data:u8[2048]=random", m: str = "i32=0") -> list[str | Path]:
    """Arguments for the kernel `buffers`, which takes a descriptor by value."""
    return [stored(), "--kernel", "buffers", "--buffer", data, "--arg", "rsrc=data", "--arg", m, *more]


def expected(data: np.ndarray) -> np.ndarray:
    """What the kernel `buffers` leaves, from its source: 64 lanes of 16 bytes, with m = 0."""
    lanes, after = data[:1024].reshape(64, 16), data.copy()
    vectors = lanes.copy().view("<u4")
    halves = lanes[:, 4:6].copy().view("<u2")[:, 0]
    vectors[:, 0] += halves + data[64:1088:16].astype(np.uint32)
    after[1024:2048] = vectors.view(np.uint8).reshape(-1)
    after[0:1024:16] = lanes[:, 4]
    return after


# --- running --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHS)
def test_results_are_dumped(arch: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, 2048, np.uint8)
    np.save(tmp_path / "in.npy", data)
    dump = ("--dump", f"data={tmp_path / 'out.npy'}")
    run = [stored(arch), *buffers(*dump, data=f"data:u8[2048]=@{tmp_path / 'in.npy'}")[1:]]
    result = emulate(*run)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(data))
    assert f"buffers ({arch}): 1 workgroups, 1 waves, " in result.output


def test_the_table_counts_what_was_executed() -> None:
    """Two loads narrower than a register, one of four, two stores: five VMEM instructions a wave."""
    counts = json.loads(emulate(*buffers("--json", "--grid", "3")).output)
    assert counts["waves"] == 3
    assert counts["classes"]["VMEM"] == 3 * 5
    assert counts["executed"]["buffer_store_dwordx4"] == 3
    assert sum(counts["classes"].values()) == sum(counts["executed"].values())


def test_pointers_scalars_and_several_waves(tmp_path: Path) -> None:
    """The kernel scratch: a local array of primes, written and read at indices from a buffer."""
    where = np.arange(256, dtype=np.int32) * 7 % 53
    np.save(tmp_path / "where.npy", where)
    out = tmp_path / "out.npy"
    result = emulate(
        stored(), "--kernel", "scratch", "--block", "128,1,1", "--dump", f"out={out}",
        "--arg", "out:f32[128]", "--arg", f"where:i32[256]=@{tmp_path / 'where.npy'}", "--arg", "i32=5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    primes = [1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47] + [0] * 48
    for i, found in enumerate(np.load(out)):
        local = [float(primes[(i + k) & 63]) for k in range(40)]
        for k in range(5):
            local[where[k] % 40] += local[where[k + i] % 40]
        assert found == local[where[i] % 40]


def test_random_contents_follow_the_seed(tmp_path: Path) -> None:
    def dumped(seed: int, name: str) -> bytes:
        emulate(*buffers("--seed", str(seed), "--dump", f"data={tmp_path / name}"))
        return (tmp_path / name).read_bytes()

    assert dumped(5, "a.npy") == dumped(5, "b.npy") != dumped(6, "c.npy")


def test_a_pointer_may_be_given_twice(tmp_path: Path) -> None:
    """out and in of shared_memory are one buffer: item i gets the four words that item 255 - i had."""
    dump = tmp_path / "io.npy"
    run = [stored(), "--kernel", "shared_memory", "--block", "256", "--arg", "io:u32[256,4]=iota"]
    run += [
        "--arg",
        "ptr=io",
        "--arg",
        "small:u8[256]=0",
        "--arg",
        "three:u32[1024]=0",
        "--dump",
        f"io={dump}",
    ]
    result = emulate(*run)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(dump), np.arange(1024).reshape(256, 4)[::-1])


def test_trace_lists_every_step() -> None:
    lines = emulate(*buffers("--trace")).output.splitlines()
    steps = lines[1 : lines.index(next(line for line in lines if line.startswith("buffers (")))]
    assert lines[0].split() == ["offset", "waves", "first", "wave", "instruction"]
    assert steps[0].split()[:3] == ["0x0", "1", "0.0"]
    assert steps[-1].endswith("s_endpgm")
    assert sum("buffer_load_dwordx4" in step for step in steps) == 1
    total = json.loads(emulate(*buffers("--json")).output)["executed"]
    assert len(steps) == sum(total.values())


def test_a_fault_of_the_kernel_is_status_1() -> None:
    run = [stored(), "--kernel", "scratch", "--arg", "out:f32[64]", "--arg", "where:i32[3]=0"]
    result = emulate(*run, "--arg", "i32=1")
    assert result.exit_code == 1
    assert "bytes past the end of the allocation of 12 bytes" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    watched = emulate(*run, "--arg", "i32=1", "--sanitize")
    assert watched.exit_code == 1
    assert watched.stdout.splitlines()[-1] == "stopped; findings until then: none"


def test_a_limit_stops_a_kernel() -> None:
    result = emulate(*buffers("--limit", "3"))
    assert result.exit_code == 1
    assert result.stderr.startswith("petitgen: more than 3 wave-instructions executed")


# --- the sanitizer --------------------------------------------------------------------------------------


def test_an_access_past_a_descriptor_is_a_finding_unless_meant() -> None:
    short = "data:u8[2000]=random"  # the last three lanes store past its end
    found = emulate(*buffers("--sanitize", data=short))
    assert found.exit_code == 1
    assert "out-of-range: buffers+" in found.output
    meant = emulate(*buffers("--sanitize", "--beyond", "data", data=short))
    assert meant.exit_code == 0
    assert meant.output.splitlines()[-1] == "no findings"
    findings = json.loads(emulate(*buffers("--sanitize", "--json", data=short)).output)["findings"]
    assert {finding["check"] for finding in findings} == {"out-of-range"}


def test_without_the_option_nothing_is_looked_for() -> None:
    result = emulate(*buffers(data="data:u8[2000]=random"))
    assert result.exit_code == 0
    assert "finding" not in result.output


def test_counts_of_instructions_are_by_offset() -> None:
    kernel = CodeObject.load(stored()).kernel("shared_memory")
    counted = {
        "bank_conflicts": {0x48: ("ds_read_b32 v1, v0", 2, 6), 0x50: ("ds_read_b32 v1, v2", 2, 0)},
        "misaligned": {0x58: ("global_load_dword v1, v[2:3], off", 1, 3)},
    }
    result = LaunchResult(kernel.name, Counter(), 0, 1, **counted)
    data = as_data(Outcome(kernel, "gfx942", result, (), "", 0.0))
    assert [list(row.values()) for row in data["bank_conflicts"]] == [["0x48", "ds_read_b32 v1, v0", 2, 6]]
    assert [list(row.values()) for row in data["misaligned"]] == [
        ["0x58", "global_load_dword v1, v[2:3], off", 1, 3]
    ]


# --- bad input: one clear line --------------------------------------------------------------------------


def bad_files(folder: Path) -> dict[str, Path]:
    elf = bytearray(stored().read_bytes())
    files = {name: folder / name for name in ("text", "empty", "cut", "gfx1100", "x86")}
    files["text"].write_text("not an ELF")
    files["empty"].write_bytes(b"")
    files["cut"].write_bytes(elf[: len(elf) // 2])
    elf[48] = 0x41  # e_flags: EF_AMDGPU_MACH_AMDGCN_GFX1100
    files["gfx1100"].write_bytes(elf)
    elf[18:20] = (62).to_bytes(2, "little")  # e_machine
    files["x86"].write_bytes(elf)
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "not an ELF file"),
        ("empty", "not an ELF file (starts with nothing)"),
        ("cut", ""),
        ("gfx1100", "AMDGPU machine 0x41 is not supported (gfx90a, gfx942 are)"),
        ("x86", "not an AMDGPU HSA code object"),
        ("absent", "cannot be read"),
    ],
)
def test_bad_files(name: str, message: str, tmp_path: Path) -> None:
    file = bad_files(tmp_path).get(name, tmp_path / name)
    result = emulate(file, "--kernel", "k")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"petitgen: {file}: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "nothing"], "no kernel 'nothing'; the code object has: scratch, shared_memory"),
        ([], "several kernels, name one; the code object has: scratch, shared_memory, buffers"),
        (["--kernel", "scratch"], "kernel scratch takes 3 arguments, 0 given; it wants: out a pointer"),
        (["--arch", "gfx90a", "--kernel", "scratch"], "is for gfx942, not gfx90a"),
        (["--grid", "0"], "--grid 0: one to three numbers"),
        (["--grid", "1,2,3,4"], "--grid 1,2,3,4: one to three numbers"),
        (["--block", "x"], "--block x: one to three numbers"),
        (["--arg", "nonsense"], "argument 'nonsense': write NAME:DTYPE[SHAPE]"),
        (["--arg", "a:f33[2]"], "no type 'f33'; there are i8, i16"),
        (["--arg", "a:f32[]"], "argument 'a:f32[]': the shape is one or more numbers"),
        (["--arg", "a:f32[2,0]"], "argument 'a:f32[2,0]': the shape is"),
        (["--arg", "f33=1"], "argument 'f33=1': no type 'f33'"),
        (["--buffer", "i32=1"], "buffer 'i32=1': write NAME:DTYPE[SHAPE]"),
        (["--buffer", "a:u8[4]", "--buffer", "a:u8[4]"], "two buffers are called 'a'"),
        (["--buffer", "a:u8[4]=maybe"], "buffer a: 'maybe' is no u8; write random, zeros"),
        (["--buffer", "a:u8[4]=256"], "buffer a: 256 does not fit u8 (0 to 255)"),
        (["--buffer", "a:f64[99999999999]"], "buffer a: 799999999992 bytes; at most"),
        (["--buffer", "a:u8[4]=@/no/file.npy"], "buffer a: /no/file.npy cannot be read as .npy"),
        (["--dump", "out"], "--dump out: write NAME=FILE.npy"),
        (["--dump", "out=x.npy"], "--dump out=x.npy: no buffer 'out'; there are: none"),
        (["--buffer", "a:u8[4]", "--dump", "a=/no/where/x.npy"], "/no/where is no directory"),
    ],
)  # fmt: skip
def test_bad_requests(options: list[str], message: str) -> None:
    result = emulate(stored(), *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("petitgen: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["i32=1", "i32=0"], "argument 0 (descriptor) of buffers is 16 bytes by value; 'i32=1' gives 4"),
        (["a:u8[4]", "i32=0"], "is 16 bytes by value; 'a:u8[4]' gives a pointer"),
        (["rsrc=b", "i32=0"], "argument 'rsrc=b': no buffer 'b' is declared; there are: none"),
        (["bytes=000", "i32=0"], "argument 'bytes=000': not an even number of hexadecimal digits"),
        (["bytes=" + 16 * "00", "i32=x"], "argument 'i32=x': 'x' is no i32"),
        (["bytes=" + 16 * "00", "i32=0x1ffffffff"], "does not fit i32"),
        (["bytes=" + 16 * "00", "i64=0"], "argument 1 (m) of buffers is 4 bytes by value; 'i64=0' gives 8"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_the_kernel(given: list[str], message: str) -> None:
    result = emulate(stored(), "--kernel", "buffers", *(word for text in given for word in ("--arg", text)))
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_by_value_where_a_pointer_is_wanted() -> None:
    run = ["--arg", "u64=0", "--arg", "w:i32[4]", "--arg", "i32=0"]
    result = emulate(stored(), "--kernel", "scratch", *run)
    assert "argument 0 (out) of scratch is a pointer (global_buffer); 'u64=0' gives 8 bytes" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "cannot be read as .npy"),
        (np.zeros(4, np.float64), "holds float64, the argument says f32"),
        (np.zeros((2, 2), np.float32), "has shape [2, 2], the argument says [4]"),
        (np.array([None] * 4), "cannot be read as .npy"),
        ({"x": np.zeros(4, np.float32)}, "is no .npy file but an archive"),
    ],
    ids=["bytes", "type", "shape", "objects", "archive"],
)
def test_files_that_do_not_fit_the_buffer(content: object, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        with file.open("wb") as out:
            np.savez(out, **content)
    else:
        np.save(file, content, allow_pickle=True)
    result = emulate(stored(), "--kernel", "scratch", "--buffer", f"a:f32[4]=@{file}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"petitgen: buffer a: {file} ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options", [[], [stored(), "--coverage"], [stored(), "--trace", "--json"], [stored(), "--seed", "-1"]]
)
def test_wrong_usage_is_status_2(options: list[str]) -> None:
    assert emulate(*options).exit_code == 2


# --- coverage -------------------------------------------------------------------------------------------


def test_coverage_adds_up() -> None:
    entries = json.loads(emulate("--coverage", "--json").output)
    for arch in ARCHS:
        states = [entry["state"] for entry in entries if entry["arch"] == arch]
        total = len(states)
        line = next(
            line for line in emulate("--coverage", "--arch", arch).output.splitlines() if line.startswith("all")
        )
        implemented = states.count("tested") + states.count("implemented")
        numbers = [
            total,
            implemented,
            states.count("tested"),
            states.count("missing"),
            states.count("excluded"),
        ]
        assert [int(word) for word in line.split()[1:]] == numbers


def test_coverage_lists_what_is_not_tested() -> None:
    entries = json.loads(emulate("--coverage", "--json", "--arch", "gfx90a").output)
    listed = emulate("--coverage", "--missing", "--arch", "gfx90a").output
    wanting = [entry for entry in entries if entry["state"] in ("missing", "implemented")]
    assert sum(line.endswith((" missing", " not tested")) for line in listed.splitlines()) == len(wanting)


def test_coverage_of_an_unknown_arch() -> None:
    result = emulate("--coverage", "--arch", "gfx1100")
    assert (result.exit_code, result.stderr) == (1, "petitgen: --arch gfx1100: there are gfx90a, gfx942\n")
