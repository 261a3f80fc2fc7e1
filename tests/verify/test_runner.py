"""From manifest to report, with a Python function in the place of the device."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import struct
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from petitgen.cli import main
from petitgen.emulator.sanitizer import Finding
from petitgen.errors import EmulationError, VerifyError
from petitgen.spec import load_catalog
from petitgen.verify import Shape, Target, run, select
from petitgen.verify.inputs import Checkpoint, Problem, make_problem
from petitgen.verify.reference import evaluate
from petitgen.verify.runner import verify_kernel
from runtime import manifest
from runtime.packing import PackedWeight, unpack_nvfp4

ITEM = 2  # bytes of a bf16
MAX_BYTES = 2**31
CODE = b"not really a code object"
NAME = "gemm_nvfp4_bf16__gfx942_made_up"


def made_up_kernel() -> manifest.Kernel:
    """A kernel whose arguments stand in an order and at offsets of their own."""
    kinds = {"m": "u32", "c": "buffer", "lda": "u32", "a": "buffer", "s": "buffer", "o": "buffer", "k": "u32"}
    kinds |= {"w": "buffer", "ldc": "u32", "n": "u32"}
    args, offset = [], 0
    for name, kind in kinds.items():
        size = {"buffer": 16, "u32": 4}[kind]
        offset = -(-offset // size) * size
        facts = {
            "name": name,
            "kind": kind,
            "offset": offset,
            "size": size,
            "access": "",
            "out_of_range": True,
        }
        args.append(manifest.Argument(**facts, alignment=4, max_bytes=MAX_BYTES if kind == "buffer" else 0))
        offset += size
    facts = {
        "name": NAME,
        "op": "gemm",
        "weights": "nvfp4",
        "activations": "bf16",
        "out": "bf16",
        "order": "fp16",
        "symbol": "symbol_of_it",
        "file": f"{NAME}.hsaco",
        "sha256": hashlib.sha256(CODE).hexdigest(),
        "size": len(CODE),
        "source": f"{NAME}.hip",
        "source_sha256": "",
        "target": "gfx942",
        "code_object_version": 5,
        "compiler": manifest.Compiler("clang", "1"),
        "flags": (),
        "resources": manifest.Resources(8, 0, 8, 0, 0, 0, 0, 8, 64, 256),
        "kernarg": manifest.Kernarg(offset + 4, tuple(args)),
        "tile": {"m": 4, "n": 8, "k": 32, "stages": 1, "unit": 128},
        "block": 128,
        "grid": manifest.Grid(("n", 8), ("m", 4), 1),
        "constraints": {"k_multiple": 16, "lda_multiple": 8, "ldc_multiple": 1, "max_pitch": 2048},
        "tolerance": manifest.Tolerance(2.0**-8, 2.0**-20, 2.0**-8),
    }
    return manifest.Kernel(**facts)


@pytest.fixture
def generated(tmp_path) -> Path:
    """A generated/ directory with the made-up kernel for gfx942."""
    folder = tmp_path / "generated" / "gfx942"
    folder.mkdir(parents=True)
    listing = manifest.Manifest(manifest.SCHEMA, "0", "gfx942", {NAME: made_up_kernel()})
    (folder / manifest.FILE_NAME).write_text(listing.to_json())
    (folder / f"{NAME}.hsaco").write_bytes(CODE)
    return folder.parent


class Device:
    """Computes C from what stands in memory, found through the kernel arguments alone."""

    def __init__(self, after=lambda memory, c, ldc: None, faults=()):
        self.after = after
        self.faults = faults
        self.launches = []
        self.sanitizers = []

    def __call__(self, code_object, symbol, grid, block, kernarg, *, memory, limit, sanitize):
        where = {argument.name: argument for argument in made_up_kernel().kernarg.args}
        scalars = {n: struct.unpack_from("<I", kernarg, where[n].offset)[0] for n in ("m", "n", "k", "lda", "ldc")}
        buffers = {name: self.resource(kernarg, where[name].offset) for name in "awsoc"}
        assert limit > 1000
        self.launches.append((code_object, symbol, grid, block, scalars, {k: v[1] for k, v in buffers.items()}))
        c = self.multiply(memory, buffers, **scalars)
        for i, row in enumerate(c):
            memory.write(buffers["c"][0] + i * scalars["ldc"] * ITEM, row)
        self.after(memory, buffers["c"][0], scalars["ldc"])
        self.sanitizers.append((sanitize, kernarg))
        return SimpleNamespace(total=7, findings=self.faults)

    @staticmethod
    def resource(kernarg, offset):
        """Base address and size in bytes of a raw buffer descriptor (CDNA3 ISA, section 9.1.8)."""
        low, high, size, _ = struct.unpack_from("<4I", kernarg, offset)
        assert high >> 16 == 0  # stride
        return high << 32 | low, size

    @staticmethod
    def multiply(memory, buffers, m, n, k, lda, ldc):
        address, size = buffers["a"]
        assert size == ((m - 1) * lda + k) * ITEM
        assert buffers["c"][1] == ((m - 1) * ldc + n) * ITEM
        a = np.stack([memory.read(address + i * lda * ITEM, ml_dtypes.bfloat16, k) for i in range(m)])
        read = {name: memory.read(buffers[name][0], np.uint8, buffers[name][1]) for name in "wso"}
        bricks = (-(-k // 128), -(-n // 16))
        codes, scales = read["w"].reshape(*bricks, 64, 16), read["s"].reshape(*bricks, 16, 8)
        outer = read["o"].view(np.float32)
        packed = PackedWeight("nvfp4", n, k, codes, scales, outer, np.float32(1))
        weights = Checkpoint(*unpack_nvfp4(packed)[:2], outer)
        template = make_problem(Shape(m, n, k), "bf16")
        y = evaluate(Problem(template.shape, template.float_type, a, weights, (), ()), False).y
        with np.errstate(over="ignore", invalid="ignore"):
            return y.astype(np.float32).astype(ml_dtypes.bfloat16)


@pytest.fixture
def device(monkeypatch):
    def use(after=lambda memory, c, ldc: None, faults=()):
        fake = Device(after, faults)
        monkeypatch.setattr("petitgen.verify.device.launch", fake)
        return fake

    return use


def test_a_right_device_passes_at_every_shape(device, generated):
    fake = device()
    report = run(select(generated), jobs=1)
    assert report.ok
    (kernel,) = report.kernels
    assert (kernel.name, kernel.arch) == (NAME, "gfx942")
    assert len(kernel.cases) == len(fake.launches) == 19
    assert {case.instructions for case in kernel.cases} == {7}
    strided = [(c.shape.k, c.lda, c.shape.n, c.ldc) for c in kernel.cases if c.shape.pad_c]
    assert strided == [(48, 72, 9, 12), (48, 48, 10, 14), (48, 56, 16, 24), (48, 2048, 10, 2048)]


@pytest.mark.parametrize("promised", [True, False, None])
def test_activations_are_as_large_as_the_spec_promises(device, generated, monkeypatch, promised):
    """None: the kernel is in no spec."""
    device()
    largest = []

    def noted(*args, **kwargs):
        problem = make_problem(*args, **kwargs)
        a = np.abs(problem.a.astype(float))
        largest.append(a[np.isfinite(a)].max())
        return problem

    kernels = () if promised is None else (SimpleNamespace(name=NAME, whole_range=promised),)
    catalog = SimpleNamespace(tiled=kernels, archs=load_catalog().archs)
    monkeypatch.setattr("petitgen.verify.gemm._catalog", lambda: catalog)
    monkeypatch.setattr("petitgen.verify.gemm.make_problem", noted)
    assert all(case.ok for case in verify_kernel(select(generated)[0], [Shape(40, 3, 64)]).cases)
    assert largest == [255 * 2.0**120 if promised else 2.0**64]


def test_the_launch_is_the_manifests(device, generated):
    fake = device()
    run(select(generated), shapes=[Shape(5, 17, 48, pad_a=1, pad_c=1)], jobs=1)
    ((path, symbol, grid, block, scalars, sizes),) = fake.launches
    assert (path, symbol) == (generated / "gfx942" / f"{NAME}.hsaco", "symbol_of_it")
    assert (grid, block) == ((3, 2, 1), 128)
    assert scalars == {"m": 5, "n": 17, "k": 48, "lda": 56, "ldc": 18}
    assert sizes == {"a": (4 * 56 + 48) * 2, "c": (4 * 18 + 17) * 2, "w": 2048, "s": 256, "o": 68}


def poke(offset, value=b"\0\0"):
    """Write two bytes `offset` bytes from the start of C after the launch."""
    return lambda memory, c, ldc: memory.write(c + offset, value)


@pytest.mark.parametrize(
    ("offset", "finding"),
    [
        (-2, "buffer c: 2 bytes changed that must not, the first at 2 bytes before its start"),
        ((4 * 18 + 17) * 2, "buffer c: 2 bytes changed that must not, the first at 0 bytes past its end"),
        (
            17 * 2,
            "buffer c: 2 bytes changed that must not, the first at byte 34 of 178",
        ),  # the gap after row 0
    ],
)
def test_a_write_outside_c_is_a_finding(device, generated, offset, finding):
    device(poke(offset))
    report = run(select(generated), shapes=[Shape(5, 17, 48, pad_c=1)], jobs=1)
    assert not report.ok
    assert report.kernels[0].cases[0].findings == [finding]


def test_an_element_never_written_is_a_finding(device, generated):
    device(poke(2 * 18 * 2 + 6, b"\x5a\x5a"))
    report = run(select(generated), shapes=[Shape(5, 17, 48, pad_c=1)], jobs=1)
    mismatch = report.kernels[0].cases[0].mismatch
    assert mismatch is not None
    assert (mismatch.index, mismatch.count, mismatch.total) == ((2, 3), 1, 85)


def test_what_the_device_refuses_is_a_finding_and_the_other_shapes_go_on(device, generated):
    calls = itertools.count()

    def fail_once(memory, c, ldc):
        if next(calls) == 0:
            raise EmulationError("buffer_store_short at pc 0x40: no such address")

    device(fail_once)
    cases = run(select(generated), jobs=1).kernels[0].cases
    assert [case.ok for case in cases] == [False] + [True] * 18
    assert cases[0].findings == ["buffer_store_short at pc 0x40: no such address"]
    calls = itertools.count()
    assert len(run(select(generated), jobs=1, stop_early=True).kernels[0].cases) == 1


def test_a_code_object_of_ones_own_takes_the_place_of_the_manifests(device, generated, tmp_path):
    fake = device()
    mine = tmp_path / "mine.hsaco"
    mine.write_bytes(b"other")
    assert run([Target(generated / "gfx942/manifest.json", NAME, mine)], shapes=[Shape(1, 1, 16)], jobs=1).ok
    assert fake.launches[0][0] == mine


def test_what_cannot_be_verified_is_refused_before_anything_runs(device, generated):
    fake = device()
    with pytest.raises(VerifyError, match="K has to be a multiple of 16, it is 24"):
        run(select(generated), shapes=[Shape(1, 1, 24)], jobs=1)
    with pytest.raises(VerifyError, match=r"no kernel 'gemm_x'"):
        run([Target(generated / "gfx942/manifest.json", "gemm_x")])
    with pytest.raises(VerifyError, match=r"matches no built kernel; did you mean gemm_nvfp4_bf16__gfx942_made_up\?"):
        select(generated, ["gemm_nvfp4_bf16__gfx942_mode_up"])
    with pytest.raises(VerifyError, match="petitgen build"):
        select(generated, arch="gfx90a")
    object_file = generated / "gfx942" / f"{NAME}.hsaco"
    object_file.write_bytes(b"stale")
    with pytest.raises(VerifyError, match="not the code object its manifest describes"):
        run(select(generated))
    object_file.unlink()
    with pytest.raises(VerifyError, match="no such code object"):
        run(select(generated))
    assert not fake.launches


FAULT = Finding("race", "reads LDS too early", "symbol_of_it", 0x40, "ds_read_b32 v0, v1", 0, 1, 1, 3)


def test_the_sanitizer_is_on_only_when_asked_for(device, generated):
    fake = device()
    assert run(select(generated), shapes=[Shape(2, 2, 16)], jobs=1).ok
    assert [sanitize for sanitize, _ in fake.sanitizers] == [False]


def test_the_sanitizer_knows_the_buffers_that_may_be_left(device, generated, monkeypatch):
    facts = made_up_kernel()
    kept = [dataclasses.replace(a, out_of_range=a.name in "ac" and a.kind == "buffer") for a in facts.kernarg.args]
    kernarg = dataclasses.replace(facts.kernarg, args=tuple(kept))
    monkeypatch.setattr(Target, "kernel", lambda self: dataclasses.replace(facts, kernarg=kernarg))
    fake = device()
    assert run(select(generated), shapes=[Shape(2, 2, 16)], jobs=1, sanitize=True).ok
    ((sanitizer, segment),) = fake.sanitizers
    at = {a.name: a.offset for a in kept}
    assert sanitizer.intended == {segment[at["a"] : at["a"] + 16], segment[at["c"] : at["c"] + 16]}


def test_what_the_sanitizer_finds_makes_a_case_wrong(device, generated):
    device(faults=(FAULT,))
    report = run(select(generated), shapes=[Shape(2, 2, 16)], jobs=1, sanitize=True)
    assert not report.ok
    assert report.kernels[0].cases[0].findings == [str(FAULT)]


def test_what_it_found_before_the_device_refused_is_kept(device, generated):
    def refuse(memory, c, ldc):
        error = EmulationError("no such address")
        error.findings = (FAULT,)
        raise error

    device(refuse)
    (case,) = run(select(generated), shapes=[Shape(2, 2, 16)], jobs=1, sanitize=True).kernels[0].cases
    assert case.findings == ["no such address", str(FAULT)]


def test_the_command_prints_what_the_sanitizer_found(device, generated):
    device(faults=(FAULT,))
    options = ("--generated", str(generated), "--shape", "2,2,16", "--sanitize")
    result = invoke(*options)
    assert result.exit_code == 1
    assert "race: symbol_of_it+0x40 `ds_read_b32 v0, v1`: reads LDS too early" in result.output
    (case,) = json.loads(invoke(*options, "--json").output)["kernels"][0]["cases"]
    assert case["faults"][0]["check"] == "race"


def invoke(*args):
    return CliRunner().invoke(main, ["verify", "--jobs", "1", *args])


def test_shapes_and_slices_are_for_gemms_that_take_them(device, generated):
    """Beside the kernel one for K in steps of 32, and one that is no GEMM; all are the same code."""
    one = made_up_kernel()
    wider = dataclasses.replace(one, name=f"{NAME}_wider", constraints={**one.constraints, "k_multiple": 32})
    other = dataclasses.replace(one, name="amax_bf16__gfx942_made_up", op="amax")
    listing = manifest.Manifest(manifest.SCHEMA, "0", "gfx942", {each.name: each for each in (one, wider, other)})
    (generated / "gfx942" / manifest.FILE_NAME).write_text(listing.to_json())
    device()
    here = ("--generated", str(generated))
    result = invoke(*here, "--shape", "5,17,48", "--shape", "5,17,64", "--slices", "1")
    assert result.exit_code == 0, result.output
    counts = dict(line.split()[:2] for line in result.output.splitlines()[1:3])
    assert counts == {NAME: "2", f"{NAME}_wider": "1"}
    assert f"1 left out, which others take. The first: {NAME}_wider at M = 5, N = 17, K = 48: K has" in result.output
    assert "2 of 2 kernels verified" in result.output
    data = json.loads(invoke(*here, "--shape", "5,17,48", "--json").output)
    assert [kernel["name"] for kernel in data["kernels"]] == [NAME]
    assert len(data["skipped"]) == 1
    for options, message in (
        (("--slices", "2"), "slices has to be 1"),
        (("*_wider", "--shape", "5,17,48"), "K has to be a multiple of 32"),
        (("amax*", "--shape", "5,17,48"), "--shape and --slices are of GEMMs"),
    ):
        result = invoke(*here, *options)
        assert result.exit_code == 1
        assert message in result.output
    del listing.kernels[NAME], listing.kernels[wider.name]
    (generated / "gfx942" / manifest.FILE_NAME).write_text(listing.to_json())
    assert "none of 1 kernels is a GEMM" in invoke(*here, "--slices", "1").output


def test_the_command_prints_a_table_and_notes_the_outcome(device, generated):
    device()
    result = invoke("--generated", str(generated))
    assert result.exit_code == 0, result.output
    assert "1 of 1 kernels verified" in result.output
    noted = json.loads((generated / "gfx942" / "verified.json").read_text())[NAME]
    assert (noted["ok"], noted["cases"]) == (True, 19)


def test_the_command_fails_with_index_expected_and_got(device, generated):
    device(lambda memory, c, ldc: memory.write(c, b"\x80\x7f"))  # Inf
    result = invoke("--generated", str(generated), "--shape", "2,2,16")
    assert result.exit_code == 1
    assert "WRONG" in result.output
    assert "2x2x16 (lda 16, ldc 2): C[0, 0] is inf, expected " in result.output
    assert re.search(r"; 1 of 4 elements are wrong \(A row: [a-z ]+, W row: [a-z ]+\)\n", result.output)
    assert not (generated / "gfx942" / "verified.json").exists()


def test_the_command_answers_in_json(device, generated):
    device(poke(-2))
    result = invoke("--generated", str(generated), "--shape", "2,2,16", "--json")
    assert result.exit_code == 1
    data = json.loads(result.output)
    assert data["ok"] is False
    others = dict.fromkeys(("pad_a", "pad_c", "lone", "options"), 0)
    assert data["kernels"][0]["cases"][0]["shape"] == {"m": 2, "n": 2, "k": 16, "slices": 1, **others}
    assert "2 bytes before its start" in data["kernels"][0]["cases"][0]["trespasses"][0]


def test_a_manifest_without_kernels_is_refused_in_one_line(generated):
    empty = manifest.Manifest(manifest.SCHEMA, "0", "gfx942", {})
    (generated / "gfx942" / manifest.FILE_NAME).write_text(empty.to_json())
    result = invoke("--generated", str(generated))
    assert result.exit_code == 1
    assert result.output == f"petitgen: {generated}: no kernels built; build them with: petitgen build\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--shape", "1,1,8"], "multiple of 16"),
        (["--shape", "1,1"], "M,N,K"),
        (["--shape", "99999999999,1,16"], "C takes 199999999998 bytes, 2147483648 is the limit"),
        (["--shape", "1,99999999999,16"], "at most 2048 elements apart, these are 16 and 99999999999"),
        (["--shape", "20000,20000,2000000"], "at most 2048 elements apart"),
        (["--shape", "2000000,2048,16"], "C takes 8192000000 bytes, 2147483648 is the limit"),
        (["gemm_fp8*"], "matches no built kernel"),
        (["--arch", "gfx90a"], "no kernels built for gfx90a"),
    ],
)
def test_the_command_refuses_in_one_line(generated, args, message):
    result = invoke("--generated", str(generated), *args)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.splitlines()) == 1
