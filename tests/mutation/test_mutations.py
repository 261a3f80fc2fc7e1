"""Faults planted in the templates, one at a time: each still builds, and verification has to find it.

A fault is the text it replaces. When a template changes, the text may be gone: bring the fault up to date
then, so that it is planted exactly once again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from petitgen.build.run import build
from petitgen.paths import TEMPLATES
from petitgen.render import render
from petitgen.spec import load_catalog
from petitgen.spec.model import KernelInstance
from petitgen.verify import KernelReport, Target, run

# Template files, below templates/.
GEMM, STAGE_A, STAGE_W, PRODUCT, PARTIAL_SUMS, STORE_C = (
    f"gemm/{name}.hip.j2" for name in ("gemm", "stage_a", "stage_w", "product", "partial_sums", "store_c")
)
NVFP4, BUFFER, MFMA, OUTPUT, SUBNORMAL = (
    f"lib/{name}.hip.j2" for name in ("nvfp4", "buffer", "mfma", "output", "subnormal")
)

# The kernels that faults are planted in: arch, activations, MFMA size, whether waves divide K.
DECODE = ("gfx942", "bf16", 16, True)
PREFILL = ("gfx942", "bf16", 32, False)
HALF = ("gfx942", "fp16", 16, True)
FLUSHING = ("gfx90a", "fp16", 16, True)


@dataclass(frozen=True)
class Fault:
    name: str
    template: str
    old: str
    new: str
    kernel: tuple[str, str, int, bool] = DECODE


FAULTS = [
    Fault("swizzle on one side only", STAGE_A, "p.target[i] = row * A_PITCH + ((chunk ^ (row & 7)) << 4)",
          "p.target[i] = row * A_PITCH + ((chunk ^ (row & 3)) << 4)"),
    Fault("K tail of A not masked", STAGE_A, "inside ? p.source[i] + k0 * 2 : OUT_OF_RANGE",
          "p.source[i] + k0 * 2"),
    Fault("N tail of C not masked", STORE_C, "n + e < N ? row_offset + (n + e) * 2 : OUT_OF_RANGE",
          "row_offset + (n + e) * 2"),
    Fault("N tail of C not masked where four are stored at once", STORE_C,
          "n < N ? row_offset + n * 2 : OUT_OF_RANGE", "row_offset + n * 2"),
    Fault("M tail: descriptor a little too long", BUFFER, "bytes = words[2]", "bytes = words[2] + 256"),
    Fault("row pitch of A taken for K", GEMM, "place_a(thread, m0, lda)", "place_a(thread, m0, K)"),
    Fault("row pitch of C taken for N", STORE_C, "(m + i * MFMA) * ldc * 2", "(m + i * MFMA) * N * 2"),
    Fault("bricks along N rounded down", GEMM, "tiles_n = (N + 15) / 16", "tiles_n = N / 16"),
    Fault("columns of a 32-wide tile mixed up", GEMM, "lane / 32 * 512", "lane / 32 * 256", PREFILL),
    Fault("weights advance by one wave's bricks", STAGE_W, "p.codes += p.brick_codes * (BRICKS * WAVES_K)",
          "p.codes += p.brick_codes * BRICKS"),
    Fault("scales do not advance", STAGE_W, "p.scales += p.brick_scales * (BRICKS * WAVES_K);", ""),
    Fault("every wave starts at the same K", GEMM, "first = wave_k * BRICKS * tiles_n + n0 / 16",
          "first = n0 / 16"),
    Fault("the loop ends one turn early", GEMM, "k0 < K; k0 += STAGES * STAGE_K",
          "k0 + STAGES * STAGE_K < K; k0 += STAGES * STAGE_K"),
    Fault("both steps read one LDS buffer", GEMM, "lds + now % 2 * A_BYTES", "lds", PREFILL),
    Fault("one group's scale for two", PRODUCT, "(pair[2], pair[3], scales[j].pair[1])",
          "(pair[2], pair[3], scales[j].pair[0])"),
    Fault("the odd dword's codes with the even one's scale", PRODUCT, "w[j][q][0] = dequantize<ODD>",
          "w[j][q][0] = dequantize<0>"),
    Fault("a partial sum left out", PARTIAL_SUMS, "other < WAVES_K - 1", "other < WAVES_K - 2"),
    Fault("partial sums of all waves in one place", PARTIAL_SUMS, "mine, (wave_k - 1) * SLICE", "mine, 0 * SLICE"),
    Fault("outer scale of the neighbour", STORE_C, "const u32 word = outer_bits[e]",
          "const u32 word = outer_bits[e ^ 1]"),
    Fault("outer scale without what the dequantization left over", GEMM,
          "const float factor = {{ k.exponents.outer_factor }};", "const float factor = 1;"),
    Fault("nibbles in the wrong order", NVFP4, "pair[1] = bits<f16x2>((q << 8) & CODE)",
          "pair[1] = bits<f16x2>((q >> 8) & CODE)"),
    Fault("code signs dropped", NVFP4, "CODE = 0x8e008e00u", "CODE = 0x0e000e00u", HALF),
    Fault("scale signs dropped", NVFP4, "0xbf80bf80u", "0x3f803f80u"),
    Fault("subnormal scales dropped", NVFP4, "return bits<f16x2>(bits<u32>(shifted) & 0xbf80bf80u) * step",
          "const u32 kept = bits<u32>(shifted) & 0xbf80bf80u;\n"
          "  return bits<f16x2>((kept & 0x3c003c00u) ? kept : 0) * step"),
    Fault("MFMA operands exchanged", MFMA, "(weights, activations, sum", "(activations, weights, sum"),
    Fault("bf16 results cut instead of rounded", OUTPUT, "b + 0x7fffu + ((b >> 16) & 1u)", "b"),
    Fault("fp16 results rounded toward zero", OUTPUT, "return bits<unsigned short>((_Float16)x);",
          "return bits<u32>(__builtin_amdgcn_cvt_pkrtz(x, 0.0f)) & 0xffffu;", HALF),
    Fault("subnormal activations flushed", SUBNORMAL, "w.smallest[0] <= LARGEST || w.smallest[1] <= LARGEST",
          "w.smallest[0] > 0xffff", FLUSHING),
    Fault("a second pass without the first's share", GEMM, "sum[i][j] *= RESCUE", "sum[i][j] *= 2 * RESCUE",
          FLUSHING),
    Fault("four stored at once where N is even", GEMM, "((N | ldc) & 3) == 0", "((N | ldc) & 1) == 0"),
    Fault("four stored at once whatever N is", GEMM, "((N | ldc) & 3) == 0", "(ldc & 3) == 0"),
    Fault("the first four tiles along N only", GEMM, "workgroup_id_x()", "workgroup_id_x() % 4"),
    Fault("the first eight tiles along N only", GEMM, "workgroup_id_x()", "workgroup_id_x() % 8", PREFILL),
    Fault("the first four tiles along M only", GEMM, "workgroup_id_y()", "workgroup_id_y() % 4"),
    Fault("the first eight tiles along M only", GEMM, "workgroup_id_y()", "workgroup_id_y() % 8", PREFILL),
    Fault("subnormals looked for in low halves", SUBNORMAL, "w.smallest[0] <= LARGEST || w.smallest[1] <= LARGEST",
          "w.smallest[0] <= LARGEST", FLUSHING),
    Fault("subnormals looked for in two of four dwords", STAGE_A, "d < 4; ++d", "d < 2; ++d", FLUSHING),
    Fault("large subnormals not looked for", SUBNORMAL, "LARGEST = 0x3ff - 1", "LARGEST = 0x1ff", FLUSHING),
    Fault("the largest subnormal not looked for", SUBNORMAL, "LARGEST = 0x3ff - 1", "LARGEST = 0x3ff - 2", FLUSHING),
    Fault("the smallest subnormal not looked for", SUBNORMAL, "pair & 0x7fff7fffu", "pair & 0x7ffe7ffeu", FLUSHING),
    Fault("subnormals looked for by the first wave alone", SUBNORMAL, "i < {{ k.tile.waves }}; ++i", "i < 1; ++i", FLUSHING),
    Fault("subnormals looked for in the first step alone", GEMM,
          "store_a(ahead[slot], lds + next % 2 * A_BYTES, place{{ k.watching }})",
          "if (seen.rescue) store_a(ahead[slot], lds + next % 2 * A_BYTES, place{{ k.watching }});\n"
          "        else store_a(ahead[slot], lds + next % 2 * A_BYTES, place)", FLUSHING),
    Fault("offsets in A of 24 bits", STAGE_A, "p.source[i] = ((m0 + row) * lda + p.k) * 2",
          "p.source[i] = (((m0 + row) * lda + p.k) * 2) & 0xffffffu"),
    Fault("offsets in C of 20 bits", STORE_C, "(m + i * MFMA) * ldc * 2", "((m + i * MFMA) * ldc * 2) & 0xfffffu"),
    Fault("descriptors of 24 bits", BUFFER, "bytes = words[2]", "bytes = words[2] & 0xffffffu"),
    Fault("out of range in small buffers only", BUFFER, "OUT_OF_RANGE = 0x80000000u", "OUT_OF_RANGE = 0x100000u"),
    Fault("out of range within 16 MiB only", BUFFER, "OUT_OF_RANGE = 0x80000000u", "OUT_OF_RANGE = 0x1000000u"),
]  # fmt: skip


def instance_of(arch: str, activations: str, mfma: int, split_k: bool) -> KernelInstance:
    """The smallest kernel with these properties."""
    fitting = [
        one
        for one in load_catalog().select(arch=arch)
        if (one.activations.name, one.tile.mfma, one.tile.waves_k > 1) == (activations, mfma, split_k)
    ]
    return min(fitting, key=lambda one: (one.tile.m * one.tile.n * max(one.tile.k, 128), one.name))


def verified(instance: KernelInstance, templates: Path, work: Path) -> KernelReport:
    """Build one kernel from `templates` and verify it, up to the first thing that is wrong."""
    made = build([instance], [instance], work, render=lambda one: render(one, templates))
    assert not made.failed, made.failed[0].error
    target = Target(work / instance.arch.name / "manifest.json", instance.name)
    return run([target], jobs=1, stop_early=True).kernels[0]


@pytest.mark.compiler
@pytest.mark.parametrize("kernel", sorted({fault.kernel for fault in FAULTS}), ids=str)
def test_without_a_fault_the_kernel_is_right(kernel, tmp_path):
    report = verified(instance_of(*kernel), TEMPLATES, tmp_path)
    assert report.ok, [case.findings for case in report.cases if not case.ok]


@pytest.mark.compiler
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_found(fault, tmp_path):
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    path = templates / fault.template
    text = path.read_text()
    assert text.count(fault.old) == 1, f"the fault is not planted exactly once: {fault.old!r}"
    path.write_text(text.replace(fault.old, fault.new))
    report = verified(instance_of(*fault.kernel), templates, tmp_path / "generated")
    assert not report.ok
    assert any(case.mismatch or case.trespasses for case in report.cases), "found, but not by its result"


@pytest.mark.compiler
def test_a_kernel_that_never_ends_is_stopped(tmp_path):
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    path = templates / GEMM
    text = path.read_text()
    step = "k0 < K; k0 += STAGES * STAGE_K"
    assert text.count(step) == 1
    path.write_text(text.replace(step, "k0 < K; k0 += k0"))
    report = verified(instance_of(*DECODE), templates, tmp_path / "generated")
    assert [bool(case.error) for case in report.cases] == [True]
    assert "endless loop" in report.cases[0].error


def test_there_are_faults_of_every_kind():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 14
    templates = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")}
    # The prelude holds the barrier: results do not show that it is gone, the sanitizer does.
    assert {fault.template for fault in FAULTS} == templates - {"lib/prelude.hip.j2"}
