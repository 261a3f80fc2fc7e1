"""The matrix, and what a wrong file under configs/ says: file, key path, value, what is allowed."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from petitgen.errors import SpecError
from petitgen.names import parse
from petitgen.paths import CONFIGS
from petitgen.spec import load_catalog


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIGS, tmp_path / "configs"))


FAMILY = Path("kernels/gemm.yaml")


def edit(configs: Path, file: Path | str, change) -> None:
    path = configs / file
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def named_by(family: dict) -> set[str]:
    """Every kernel that the file of a GEMM family asks for."""
    names = {
        f"{family['op']}_{weights}_{activations}{f'_{out}' if out else ''}__{arch}"
        f"_m{tile['m']}n{tile['n']}k{tile['k']}_w{'x'.join(map(str, tile['waves']))}"
        for arch in family["archs"]
        for weights in family["weights"]
        for activations in family["activations"]
        for out in family.get("outputs", [""])
        for tile in family["tiles"]
        if arch in tile.get("archs", family["archs"])
    }
    return {name for name in names if not any(fnmatchcase(name, rule["kernels"]) for rule in family["exclude"])}


def test_every_combination_is_an_instance_once():
    families = [yaml.safe_load(path.read_text()) for path in sorted((CONFIGS / "kernels").glob("*.yaml"))]
    expected = [name for family in families if "tiles" in family for name in named_by(family)]
    names = [i.name for i in load_catalog().tiled]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(expected)
    assert len(names) > 200
    assert {i.tile.m for i in load_catalog().gemms} >= {16, 128}


def test_a_tile_is_one_line_of_yaml(configs: Path):
    before = {i.name for i in load_catalog(configs).gemms}
    text = (configs / FAMILY).read_text()
    line = "  - {loop: streamed, m: 64, n: 64, k: 64, waves: [1, 2, 1], mfma: 32, stages: 2, a_ahead: 2, occupancy: 1}\n"
    (configs / FAMILY).write_text(text.replace("tiles:\n", "tiles:\n" + line))
    new = {i.name for i in load_catalog(configs).gemms} - before
    assert new == {
        f"gemm_{weights}_{activations}__{arch}_m64n64k64_w1x2x1"
        for weights in ("nvfp4", "mxfp4", "amdfp4")
        for activations in ("bf16", "fp16")
        for arch in ("gfx90a", "gfx942")
    }


def test_k_is_whole_scale_blocks():
    multiples = {(i.weights.name, i.constraints.k_multiple) for i in load_catalog().gemms}
    assert multiples == {("nvfp4", 16), ("mxfp4", 32), ("amdfp4", 16), ("fp8", 16)}


def test_activations_of_any_size_are_promised_by_loop(configs: Path):
    def promised(root: Path) -> set[tuple[str, bool]]:
        return {(i.tile.loop, i.whole_range) for i in load_catalog(root).gemms if i.activations.name != "fp8"}

    assert promised(configs) == {("resident", True), ("streamed", False)}
    text = (configs / FAMILY).read_text()
    (configs / FAMILY).write_text(text.replace("whole_range: [resident]", "whole_range: [streamed]"))
    (configs / "kernels/gemm_w8a16.yaml").unlink()
    assert promised(configs) == {("resident", False), ("streamed", True)}


def test_results_have_a_type_of_their_own_where_a_family_names_some():
    for instance in load_catalog().gemms:
        assert parse(instance.name).out == (instance.out.name if instance.activations.name == "fp8" else "")
        assert instance.tolerance.unit == {"bf16": 2.0**-8, "fp16": 2.0**-11}[instance.out.name]


QUANTIZE = Path("kernels/quantize.yaml")


def test_kernels_that_go_over_arrays_are_formats_types_archs_and_variants():
    expected = {
        f"quantize_{form}_{activations}__{arch}_{variant}"
        for form in ("nvfp4", "mxfp4", "amdfp4")
        for activations in ("bf16", "fp16")
        for arch in ("gfx90a", "gfx942")
        for variant in ("rows", "columns")
    }
    found = [one for one in load_catalog().instances if one.op == "quantize"]
    assert {one.name for one in found} == expected
    assert all(one.name.split("__")[0] == one.contract == f"quantize_{one.format}_{one.activations.name}" for one in found)
    assert {one.contract for one in load_catalog().select(["amax_*"])} == {"amax_bf16", "amax_fp16"}


def test_names_are_built_and_parsed_alike():
    for instance in load_catalog().gemms:
        name = parse(instance.name)
        assert str(name) == instance.name
        assert (name.arch, name.activations, name.tile[0]) == (
            instance.arch.name,
            instance.activations.name,
            instance.tile.m,
        )
    with pytest.raises(SpecError, match="'gemm_nvfp4_bf16' is no kernel name"):
        parse("gemm_nvfp4_bf16")


def test_select_takes_globs_and_arch():
    catalog = load_catalog()
    chosen = catalog.select(["*__gfx942_*"])
    assert chosen == [i for i in catalog.instances if i.arch.name == "gfx942"] == catalog.select(arch="gfx942")
    assert catalog.select(["gemm_*__gfx942_*"]) == [i for i in catalog.gemms if i.arch.name == "gfx942"]
    with pytest.raises(SpecError, match="unknown arch 'gfx1100': known are gfx90a, gfx942"):
        catalog.select(arch="gfx1100")
    with pytest.raises(SpecError, match=r"no kernel matches 'gemm_nvfp4_bf16__gfx942_m17n\*'; close to it: gemm_nvfp4"):
        catalog.select(["gemm_nvfp4_bf16__gfx942_m17n*"])


def streamed(family: dict) -> dict:
    """The last tile, which is for prefill."""
    assert family["tiles"][-1]["loop"] == "streamed"
    return family["tiles"][-1]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (FAMILY, lambda d: d["tiles"][0].update(mfma=8), r"gemm\.yaml: tiles\[0\]\.mfma: 8 is not allowed; one of 16, 32 is"),
        (FAMILY, lambda d: d["tiles"][2].update(depth=3), r"tiles\[2\]: unknown key 'depth'; allowed: a_ahead, archs, k, loop, m"),
        (FAMILY, lambda d: d["tiles"][1].pop("waves"), r"tiles\[1\]: missing key 'waves'"),
        (FAMILY, lambda d: d["tiles"][0].update(m="16"), r"tiles\[0\]\.m: '16' is not allowed; integer is"),
        (FAMILY, lambda d: d["tiles"][0].update(stages=0), r"tiles\[0\]\.stages: 0 is not allowed; 1 or more is"),
        (FAMILY, lambda d: streamed(d).update(m=80), r"tiles\[\d+\]: m: 80 is no multiple of waves m x mfma = 32"),
        (
            FAMILY,
            lambda d: streamed(d).update(k=128),
            r"tiles\[\d+\]: k: 128 is not allowed with a streamed loop; 64 is, 128 bytes of a row",
        ),
        (FAMILY,
         lambda d: streamed(d).update(m=512, waves=[4, 4, 1]), r"m x k: two buffers of A need 131072 bytes of LDS; gfx90a has 65536"),
        (FAMILY, lambda d: streamed(d).update(stages=3, a_ahead=3), r"tiles\[\d+\]: stages: 3 is odd"),
        (FAMILY, lambda d: streamed(d).update(stages=4, a_ahead=3), r"tiles\[\d+\]: a_ahead: 3 does not divide the 4 steps"),
        (FAMILY, lambda d: streamed(d).update(widen="bf16"), r"tiles\[\d+\]\.widen: 'bf16' is not allowed; one of 'fp16' is"),
        ("kernels/gemm_nvfp4_fp8.yaml", lambda d: streamed(d).pop("widen"), r"tiles\[\d+\]: widen: fp16 is needed of a streamed loop"),
        (FAMILY, lambda d: streamed(d).update(widen="fp16"), r"tiles\[\d+\]: widen: only a streamed loop widens, FP8 activations of nvfp4"),
        (FAMILY, lambda d: d["tiles"][0].update(occupancy=9), r"tiles\[0\]: occupancy: 9 is not allowed; 1 to 8 is"),
        (FAMILY, lambda d: streamed(d).update(n=128, occupancy=3), r"tiles\[\d+\]: occupancy: 3 waves a SIMD do not fit: with 32768 bytes"),
        (FAMILY, lambda d: d.update(whole_range=["all"]), r"whole_range\[0\]: 'all' is not allowed; one of 'resident', 'streamed' is"),
        (FAMILY, lambda d: d["tiles"].append(d["tiles"][0]), r"two tiles give the same kernel name"),
        (FAMILY, lambda d: d.update(archs=["gfx906"]), r"archs: 'gfx906' is not in archs\.yaml; allowed: gfx90a, gfx942"),
        (FAMILY, lambda d: d.update(outputs=["fp6"]), r"activations: 'fp6' is not in formats\.yaml"),
        (FAMILY, lambda d: d["abi"].append("q"), r"abi: 'q' is not in arguments\.yaml; allowed: a, w, s, o"),
        (FAMILY, lambda d: d["abi"].append("a"), "abi: .* is not allowed; needed: uniqueItems"),
        ("arguments.yaml", lambda d: d["arguments"]["a"].update(alignment=3), r"arguments\.a\.alignment: 3 is not allowed; one of 1, 2"),
        ("arguments.yaml", lambda d: d["arguments"]["a"].pop("kind"), r"arguments\.a: missing key 'kind'"),
        (FAMILY, lambda d: d.update(exclude=[{"kernels": "*"}]), r"exclude\[0\]: missing key 'why'"),
        (FAMILY, lambda d: d.update(exclude=[{"kernels": "*", "why": ""}]), r"exclude\[0\]\.why: '' is not allowed"),
        (
            FAMILY,
            lambda d: d.update(exclude=[{"kernels": "*gfx1100*", "why": "not supported"}]),
            r"exclude\[0\]\.kernels: '\*gfx1100\*' matches no kernel: remove the rule",
        ),
        (FAMILY, lambda d: d["tiles"][0].update(k=512.0), r"tiles\[0\]\.k: 512\.0 is not allowed; integer is"),
        (FAMILY, lambda d: streamed(d).update(m=256), r"tiles\[\d+\]: m x n: 256 x 256 over 1 x 4 waves needs 256 accumulators"),
        (FAMILY, lambda d: d.update(op="Ge mm"), r"op: 'Ge mm' is not allowed; a text that matches"),
        (FAMILY, lambda d: d["constraints"].update(k_multiple=8), r"constraints: unknown key 'k_multiple'"),
        (FAMILY, lambda d: streamed(d).update(mfma=16), r"tiles\[\d+\]: mfma: 16 is not allowed with a streamed loop; 32 is"),
        (FAMILY, lambda d: streamed(d).update(waves=[1, 4, 2]), r"tiles\[\d+\]: waves: 2 along k; a streamed loop has one"),
        (FAMILY, lambda d: streamed(d).update(waves=[4, 4, 1]), r"tiles\[\d+\]: m: 32 rows a wave; a streamed loop has 64 at least"),
        (FAMILY, lambda d: streamed(d).update(n=512), r"tiles\[\d+\]: n: 128 columns a wave; offsets of a load reach 64"),
        (FAMILY, lambda d: d.update(exclude=[{"kernels": "*", "why": " "}]), r"exclude\[0\]\.why: ' ' is not allowed"),
        (FAMILY, lambda d: d.update(exclude=[{"kernels": "*", "why": "all"}]), r"exclude: leaves no kernel"),
        (QUANTIZE, lambda d: d["kernels"][0].update(threads=96), r"kernels\[0\]\.threads: 96 is not allowed"),
        (QUANTIZE, lambda d: d["kernels"][0].update(tile=3), r"kernels\[0\]: unknown key 'tile'; allowed: archs, grid, numbers"),
        (QUANTIZE, lambda d: d["kernels"].append(d["kernels"][0]), r"two tiles give the same kernel name"),
        (QUANTIZE, lambda d: d.update(op="fold"), r"op: 'fold' is not allowed; one of gemm, grouped, quantize"),
        (QUANTIZE, lambda d: d.update(activations=["fp6"]), r"activations: 'fp6' is not in formats\.yaml; allowed: bf16, fp16"),
        ("archs.yaml", lambda d: d["archs"]["gfx942"].update(wave_size=32), r"archs\.yaml: archs\.gfx942\.wave_size: 32 is not allowed"),
        ("formats.yaml", lambda d: d["weights"].update(int4={"macros": "x"}) or None, None),
    ],
)
def test_a_wrong_value_is_named(configs: Path, file, change, message: str | None):
    edit(configs, file, change)
    if message is None:  # an unused format is no error
        assert load_catalog(configs).gemms
        return
    with pytest.raises(SpecError, match=message):
        load_catalog(configs)


def test_an_exclude_takes_kernels_out(configs: Path):
    everything = load_catalog(configs).gemms
    edit(configs, FAMILY, lambda d: d.update(exclude=[{"kernels": "*fp16__gfx90a*", "why": "a test"}]))
    rest = load_catalog(configs).gemms
    assert {i.name for i in everything} - {i.name for i in rest} == {
        i.name
        for i in everything
        if i.activations.name == "fp16" and i.arch.name == "gfx90a" and i.weights.name != "fp8"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("op: [", r"gemm\.yaml: not YAML"),
        ("op: gemm\nop: gemm\n", r"key 'op' is given twice"),
        ("? [a, b]\n: 1\n", r"a key must be a plain text"),
        ("- 1\n", r"the file: \[1\] is not allowed; object is"),
        ("", r"the file: None is not allowed; object is"),
    ],
)
def test_a_broken_file_is_named(configs: Path, text: str, message: str):
    (configs / FAMILY).write_text(text)
    with pytest.raises(SpecError, match=message):
        load_catalog(configs)


def test_missing_files_are_named(configs: Path):
    for family in (configs / "kernels").iterdir():
        family.unlink()
    with pytest.raises(SpecError, match="holds no kernel family"):
        load_catalog(configs)
    (configs / "archs.yaml").unlink()
    with pytest.raises(SpecError, match=r"archs\.yaml: No such file"):
        load_catalog(configs)
