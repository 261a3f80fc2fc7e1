"""Manifests: read back as written, and refused with a place and a reason when wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import runtime.manifest
from runtime.errors import ManifestError, ManifestVersionError, ShapeError
from runtime.manifest import Manifest, parse
from runtime.select import Problem, choose, contract_of

NAME = "gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2"
BUFFER = {"kind": "buffer", "size": 16, "alignment": 16, "max_bytes": 4096}
NUMBER = {"kind": "u32", "size": 4, "access": "", "out_of_range": False, "alignment": 1, "max_bytes": 0}
KERNEL: dict[str, Any] = {
    "name": NAME,
    "op": "gemm",
    "weights": "nvfp4",
    "activations": "bf16",
    "out": "bf16",
    "order": "fp16",
    "symbol": NAME,
    "file": f"{NAME}.hsaco",
    "sha256": "ab" * 32,
    "size": 4096,
    "source": f"{NAME}.hip",
    "source_sha256": "cd" * 32,
    "target": "gfx942:sramecc+:xnack-",
    "code_object_version": 5,
    "compiler": {"name": "hipcc", "version": "clang version 19.1.7"},
    "flags": ["-O3"],
    "resources": {
        "registers": 96,
        "agprs": 0,
        "sgprs": 32,
        "lds_bytes": 16384,
        "scratch_bytes": 0,
        "vgpr_spills": 0,
        "sgpr_spills": 0,
        "waves_per_simd": 4,
        "wave_size": 64,
        "max_workgroup": 256,
    },
    "kernarg": {
        "size": 36,
        "args": [
            {"name": "a", "offset": 0, "access": "read", "out_of_range": True, **BUFFER},
            {"name": "c", "offset": 16, "access": "write", "out_of_range": False, **BUFFER},
            {"name": "m", "offset": 32, **NUMBER},
        ],
    },
    "tile": {"m": 16, "n": 64, "k": 512, "unit": 512},
    "block": 256,
    "grid": {"x": ["n", 64], "y": ["m", 16], "z": 1},
    "constraints": {"k_multiple": 16},
    "tolerance": {"unit": 0.00390625, "accumulate": 9.5367431640625e-07, "sums": 0.00390625},
}
GOOD: dict[str, Any] = {"schema": 3, "petitgen": "0.1.0", "arch": "gfx942", "kernels": {NAME: KERNEL}}
SCHEMA = json.loads((Path(runtime.manifest.__file__).parent / "manifest.schema.json").read_text())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(GOOD)


def test_round_trip() -> None:
    manifest = parse(json.dumps(GOOD))
    assert json.loads(manifest.to_json()) == GOOD
    assert parse(manifest.to_json()).to_json() == manifest.to_json()


def test_kernels_are_written_in_order_of_name() -> None:
    first, last = {**KERNEL, "name": "a"}, {**KERNEL, "name": "b"}
    one = parse(json.dumps({**GOOD, "kernels": {"b": last, "a": first}}))
    other = parse(json.dumps({**GOOD, "kernels": {"a": first, "b": last}}))
    assert one.to_json() == other.to_json()


def test_facts_are_typed() -> None:
    kernel = parse(json.dumps(GOOD)).kernels[NAME]
    assert kernel.kernarg.args[0].out_of_range is True
    assert kernel.flags == ("-O3",)
    assert kernel.tile["n"] == 64
    assert kernel.grid.size(m=17, n=64, k=16) == (1, 2, 1)
    assert kernel.grid.size(m=1, n=65, k=16) == (2, 1, 1)


def test_load_from_directory_or_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD))
    for path in (tmp_path, tmp_path / "manifest.json", str(tmp_path)):
        manifest = Manifest.load(path)
        assert manifest.path(manifest.kernels[NAME]) == tmp_path / f"{NAME}.hsaco"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file; build the kernels with: petitgen build"):
        Manifest.load(tmp_path / "gfx942")


def test_other_version() -> None:
    with pytest.raises(ManifestVersionError, match="manifest schema 4, this version reads 3"):
        parse(json.dumps({**GOOD, "schema": 4}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"kernels": {}}'])
def test_not_a_manifest(text: str) -> None:
    with pytest.raises(ManifestError, match=r"somewhere\.json: "):
        parse(text, "somewhere.json")


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "missing": (lambda k: k.pop("sha256"), f"kernels.{NAME}.sha256 is missing"),
    "unknown": (lambda k: k.update(color=1), f"kernels.{NAME}.color is not a known key"),
    "type": (lambda k: k.update(block="256"), "block: expected int, got '256'"),
    "bool is no number": (
        lambda k: k["resources"].update(sgprs=True),
        "resources.sgprs: expected int, got True",
    ),
    "axis": (lambda k: k["grid"].update(x=["n"]), "grid.x"),
    "axis of text": (lambda k: k["grid"].update(x="n"), "grid.x"),
    "flags": (lambda k: k.update(flags=[1]), r"flags\[0\]: expected str"),
    "tile": (lambda k: k["tile"].update(m=None), "tile.m: expected int"),
    "no depth": (lambda k: k["tile"].pop("k"), "tile.k is missing"),
    "tile of nothing": (lambda k: k["tile"].update(n=0), "tile.n: expected at least 1, got 0"),
    "no multiple": (lambda k: k["constraints"].clear(), "constraints.k_multiple is missing"),
    "multiple of 0": (lambda k: k["constraints"].update(lda_multiple=0), "lda_multiple: expected at least 1"),
    "block": (lambda k: k.update(block=0), "block: expected at least 1, got 0"),
    "axis along p": (lambda k: k["grid"].update(y=["p", 16]), "grid.y: 'p' is no dimension"),
    "axis by 0": (lambda k: k["grid"].update(y=["m", 0]), "grid.y: expected at least 1, got 0"),
    "axis of 0": (lambda k: k["grid"].update(z=0), "grid.z: expected at least 1, got 0"),
    "activations": (lambda k: k.update(activations="fp32"), "activations: 'fp32'; this runtime knows bf16, fp16"),
    "kind": (lambda k: k["kernarg"]["args"][2].update(kind="u64"), "'u64'"),
    "size": (lambda k: k["kernarg"]["args"][0].update(size=8), "'a' is 8 bytes of 'buffer'"),
    "a huge grid": (lambda k: k["grid"].update(z=2**40), "grid.z: expected at most 2147483647, got 1099511627776"),
    "a huge kernarg": (lambda k: k["kernarg"].update(size=2**40), "kernarg.size: expected at most 65536 bytes"),
    "more than it was built for": (lambda k: k.update(block=4096), "block: the kernel was built for at most 256"),
    "alignment": (
        lambda k: k["kernarg"]["args"][0].update(alignment=3),
        "'a' has alignment 3, which is no power of two",
    ),
    "extent": (lambda k: k["kernarg"]["args"][0].update(max_bytes=-1), "'a' has max_bytes -1, below 0"),
    "tolerance": (lambda k: k["tolerance"].update(unit=-1.0), "tolerance.unit: expected a finite number from 0"),
    "no output": (lambda k: k.update(out="fp8"), "out: 'fp8'; this runtime knows bf16, fp16"),
    "no order": (lambda k: k.update(order=""), "order: a code order is needed"),
    "no tolerance": (lambda k: k.update(tolerance=None), "tolerance: an object is needed, got null"),
    "sums": (lambda k: k["tolerance"].update(sums=0), "tolerance.sums: expected a power of two, got 0"),
    "path": (lambda k: k.update(file="../x.hsaco"), "not a plain file name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what: str) -> None:
    """The loader says where and what, and the JSON schema refuses the same."""
    change, message = WRONG[what]
    data = copy.deepcopy(GOOD)
    change(data["kernels"][NAME])
    with pytest.raises(ManifestError, match=message):
        parse(json.dumps(data))
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def an_array() -> dict[str, Any]:
    """A manifest that has, beside a GEMM, a kernel of an op that no runtime knows."""
    data = copy.deepcopy(GOOD)
    name = "fold_bf16__gfx942_rows"
    grid = {"x": ["rows", 4], "y": 1, "z": ["depth", 2]}
    own = {"name": name, "op": "fold", "weights": "", "out": "", "order": "", "tile": {}}
    own |= {"constraints": {}, "tolerance": None}
    data["kernels"][name] = {**copy.deepcopy(KERNEL), **own, "grid": grid}
    return data


def test_kernels_of_other_ops_have_neither_tile_nor_tolerance() -> None:
    data = an_array()
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    manifest = parse(json.dumps(data))
    assert json.loads(manifest.to_json())["kernels"] == dict(sorted(data["kernels"].items()))
    kernel = manifest.kernels["fold_bf16__gfx942_rows"]
    assert kernel.grid.size(rows=9, depth=1) == (3, 1, 1)
    with pytest.raises(ManifestError, match="fold_bf16__gfx942_rows has no tolerance"):
        _ = kernel.bounds
    data["kernels"][kernel.name]["grid"]["z"] = ["depth", 0]
    with pytest.raises(ManifestError, match=r"grid\.z: expected at least 1, got 0"):
        parse(json.dumps(data))
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_kernels_of_other_ops_are_never_chosen_for_a_gemm() -> None:
    kernels = parse(json.dumps(an_array())).kernels.values()
    found = choose(kernels, Problem("gemm_nvfp4_bf16", 4, 64, 64, 64, 64), "gfx942", 304)
    assert found.kernel.name == NAME
    with pytest.raises(ShapeError, match="no kernel for fold_bf16 on gfx942"):
        choose(kernels, Problem("fold_bf16", 4, 64, 64, 64, 64), "gfx942", 304)
    assert contract_of(next(kernel for kernel in kernels if kernel.op == "fold")) == "fold_bf16"


def test_argument_outside_the_kernarg() -> None:
    data = copy.deepcopy(GOOD)
    data["kernels"][NAME]["kernarg"]["size"] = 35
    with pytest.raises(ManifestError, match="'m' lies outside its 35 bytes"):
        parse(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k["kernarg"]["args"][1].update(offset=8), "arguments 'a' and 'c' overlap"),
        (lambda k: k["kernarg"]["args"][1].update(name="a"), "there are 2 arguments 'a'"),
        (
            lambda k: k["tolerance"].update(unit=float("nan")),
            "tolerance.unit: expected a finite number from 0, got nan",
        ),
        (lambda k: k["tolerance"].update(accumulate=float("inf")), "tolerance.accumulate: expected a finite number"),
        (lambda k: k.update(file=".."), "'..' is not a plain file name"),
    ],
)
def test_wrong_in_ways_a_schema_cannot_say(change: Change, message: str) -> None:
    data = copy.deepcopy(GOOD)
    change(data["kernels"][NAME])
    with pytest.raises(ManifestError, match=message):
        parse(json.dumps(data))


def test_json_of_any_depth_is_refused() -> None:
    with pytest.raises(ManifestError, match="not JSON"):
        parse("[" * 100_000)


def test_name_is_the_key() -> None:
    with pytest.raises(ManifestError, match="is not the key it stands under"):
        parse(json.dumps({**GOOD, "kernels": {"other": KERNEL}}))


def test_every_key_is_required() -> None:
    """Each key of a kernel is missed by name when it is gone, by the loader and by the schema."""
    for key in KERNEL:
        kernel = {name: value for name, value in KERNEL.items() if name != key}
        data = {**GOOD, "kernels": {NAME: kernel}}
        with pytest.raises(ManifestError, match=f"{key} is missing"):
            parse(json.dumps(data))
        assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_runtime_alone_reads_manifests() -> None:
    """An engine need not have what the generator needs."""
    import subprocess
    import sys

    script = (
        "import sys; import runtime.manifest\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'petitgen', 'jsonschema', 'numpy', 'yaml'}))"
    )
    root = Path(runtime.manifest.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
