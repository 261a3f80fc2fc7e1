"""Rendered sources: golden texts, purity, and errors that name the template."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from petitgen.errors import RenderError
from petitgen.paths import TEMPLATES
from petitgen.render import render
from petitgen.spec import load_catalog

GOLDEN = Path(__file__).parent.parent / "golden"

# One kernel a family and arch at least; between them both activation types and both ways to scale.
KERNELS = [
    "gemm_nvfp4_bf16__gfx942_m128n256k64_w1x4x1",
    "gemm_nvfp4_fp16__gfx90a_m64n256k64_w1x4x1",
    "gemm_mxfp4_fp16__gfx942_m128n128k64_w1x4x1",
    "gemm_mxfp4_bf16__gfx90a_m64n128k64_w1x4x1",
    "gemm_amdfp4_fp16__gfx90a_m128n128k64_w1x4x1",
    "gemm_amdfp4_fp16__gfx942_m4n64k512_w1x2x2",
    "gemm_fp8_fp8_bf16__gfx942_m64n128k128_w1x4x1",
    "gemm_fp8_fp16__gfx90a_m16n64k512_w1x4x1",
    "gemm_nvfp4_fp8_bf16__gfx942_m16n64k512_w1x2x2",
    "gemm_nvfp4_fp8_bf16__gfx942_m64n128k64_w1x4x1",
    "grouped_nvfp4_bf16__gfx942_m16n64k512_w1x2x2",
    "grouped_nvfp4_fp16__gfx90a_m64n128k64_w1x4x1",
    "quantize_nvfp4_bf16__gfx942_rows",
    "quantize_amdfp4_fp16__gfx90a_columns",
    "dequantize_mxfp4_fp16__gfx942_eights",
    "amax_bf16__gfx90a_flat",
    "rowquantize_fp8_bf16__gfx90a_tokens",
]


def instance(name: str):
    (found,) = load_catalog().select([name])
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_golden(name: str):
    """PETITGEN_UPDATE_GOLDEN=1 rewrites the golden texts: read the difference before committing it."""
    path = GOLDEN / f"{name}.hip"
    text = render(instance(name))
    if os.environ.get("PETITGEN_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_golden_covers_every_family_and_arch():
    def family(i):
        return i.op, i.format, i.arch.name

    chosen, catalog = [instance(name) for name in KERNELS], load_catalog()
    assert {family(i) for i in chosen if i in catalog.gemms} == {family(i) for i in catalog.gemms}
    assert {i.template for i in chosen} == {i.template for i in catalog.instances}  # of one that serves all archs, one
    assert {path.stem for path in GOLDEN.glob("*.hip")} == set(KERNELS)


def test_every_instance_renders_whole_and_differs():
    texts = {i.name: render(i) for i in load_catalog().instances}
    assert len(set(texts.values())) == len(texts)
    for name, text in texts.items():
        assert f"void {name}(" in text
        assert not re.search(r"\{\{|\{%|//%|\bNone\b|Undefined", text)
        assert text.endswith("}\n")
        assert not re.search(r"[ \t]\n", text)


def test_rendering_does_not_depend_on_the_process():
    """Hash randomisation, working directory and locale leave no trace."""
    program = (
        "from petitgen.spec import load_catalog; from petitgen.render import render; import hashlib;"
        "print(hashlib.sha256(''.join(map(render, load_catalog().instances)).encode()).hexdigest())"
    )
    root = str(TEMPLATES.parent)
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed, "LC_ALL": locale},
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed, cwd, locale in (("1", "/", "C"), ("2", root, "C.UTF-8"))
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{{ k.tile.m }}", "{{ k.tile.q }}", r"gemm/streamed\.hip\.j2: .*attribute .q"),
        ("//% endif", "//% endwhile", r"streamed\.hip\.j2:\d+: Encountered unknown tag 'endwhile'"),
    ],
)
def test_a_broken_template_is_named(tmp_path: Path, old: str, new: str, message: str):
    templates = Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))
    path = templates / "gemm" / "streamed.hip.j2"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RenderError, match=message):
        render(instance(KERNELS[0]), templates)
