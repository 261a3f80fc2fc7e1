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
STREAMED, STREAMED_A, STREAMED_W, STREAMED_FOLD, STREAMED_SUMS, STREAMED_C = (
    f"gemm/{name}.hip.j2"
    for name in ("streamed", "streamed_a", "streamed_w", "streamed_fold", "streamed_sums", "streamed_c")
)
RESIDENT, RESIDENT_A, RESIDENT_W, RESIDENT_PRODUCT, RESIDENT_SIEVE, RESIDENT_C = (
    f"gemm/{name}.hip.j2"
    for name in ("resident", "resident_a", "resident_w", "resident_product", "resident_sieve", "resident_c")
)
SLICES, STORE_C = (f"gemm/{name}.hip.j2" for name in ("slices", "store_c"))
NVFP4, MXFP4, PLACES, RESCUE, CODES, SCALES, BUFFER, MFMA, OUTPUT = (
    f"lib/{name}.hip.j2"
    for name in ("nvfp4", "mxfp4", "places", "rescue", "codes", "scales", "buffer", "mfma", "output")
)

# The kernels that faults are planted in: arch, weights, activations, loop.
PREFILL = ("gfx942", "nvfp4", "bf16", "streamed")
HALF = ("gfx942", "nvfp4", "fp16", "streamed")
FLUSHING = ("gfx90a", "nvfp4", "fp16", "streamed")
MX = ("gfx942", "mxfp4", "bf16", "streamed")
SUMS = ("gfx942", "mxfp4", "fp16", "streamed")
TABLE = ("gfx90a", "nvfp4", "bf16", "streamed")
DECODE = ("gfx942", "nvfp4", "bf16", "resident")
DECODE_MX = ("gfx942", "mxfp4", "bf16", "resident")
DECODE_TABLE = ("gfx90a", "nvfp4", "bf16", "resident")
DECODE_PASSES = ("gfx90a", "nvfp4", "fp16", "resident")


@dataclass(frozen=True)
class Fault:
    name: str
    template: str
    old: str
    new: str
    kernel: tuple[str, str, str, str] = PREFILL


FAULTS = [
    # A of the streamed loop
    Fault("swizzle on one side only", STREAMED_A, "p.target = row * A_PITCH + ((chunk ^ (row & 7)) << 4)",
          "p.target = row * A_PITCH + ((chunk ^ (row & 3)) << 4)"),
    Fault("K tail of A not masked", STREAMED_A, "inside ? p.source[i] : OUT_OF_RANGE", "p.source[i]"),
    Fault("quads of A mixed up", STREAMED_A, "low = {x[0], x[1]}, high = {x[2], x[3]}",
          "low = {x[2], x[3]}, high = {x[0], x[1]}"),
    Fault("offsets in A of 24 bits", STREAMED_A, "p.source[i] = ((row + i * A_PASS) * lda + p.k) * 2",
          "p.source[i] = (((row + i * A_PASS) * lda + p.k) * 2) & 0xffffffu"),
    Fault("row pitch of A taken for K", STREAMED, "place_a(thread, lda)", "place_a(thread, K)"),
    Fault("steps of A one too far ahead", STREAMED_FOLD, "end - k0 - ({{ i + 1 }} + A_AHEAD) * TILE_K",
          "end - k0 - ({{ i + 2 }} + A_AHEAD) * TILE_K"),
    # W of the streamed loop
    Fault("bricks along N rounded down", STREAMED, "tiles_n = (N + 15) / 16", "tiles_n = N / 16"),
    Fault("columns of a 32-wide tile mixed up", STREAMED, "lane / 32 * 512", "lane / 32 * 256"),
    Fault("quads of W mixed up", STREAMED_W, "q * 256 + HALF", "(1 - q) * 256 + HALF"),
    Fault("the first half of a brick for both", STREAMED_W, "HALF * 8", "0"),
    Fault("scales do not advance", STREAMED_W, "    advance(s);\n", ""),
    Fault("waves along N start at the same column", STREAMED, "* TILE_N + wave_n * WAVE_N", "* TILE_N"),
    # the streamed loop
    Fault("the loop ends one turn early", STREAMED, "k0 < end; k0 += STAGES * TILE_K",
          "k0 + STAGES * TILE_K < end; k0 += STAGES * TILE_K"),
    Fault("a sub-step's A for the next one too", STREAMED_FOLD, "fragments.offset[2]", "fragments.offset[1]"),
    Fault("a sub-step's weights for the next one too", STREAMED_FOLD, "scale_weights<2>", "scale_weights<1>"),
    Fault("both halves of a brick with the scales of one", STREAMED_FOLD, "convert_scales<{{ (i + 1) % 2 }}>",
          "convert_scales<0>"),
    Fault("one row of blocks twice", STREAMED_SUMS, "fragments, {{ r.next_chunk }}, {{ r.next_row }}",
          "fragments, {{ r.next_chunk }}, 0", SUMS),
    Fault("the last block's sum left out", STREAMED_SUMS,
          "add_scaled<2>(sum[ROWS - 1][COLUMNS - 1], part, scale[1][COLUMNS - 1]);", "", SUMS),
    Fault("a chunk's last block with the next chunk's scale", STREAMED_SUMS,
          "j == 0 && ROW == 0 ? 1 - CHUNK : CHUNK", "CHUNK", SUMS),
    Fault("quads of a chunk mixed up", STREAMED_SUMS, "w[T / 2][T % 2], now", "w[T / 2][1 - T % 2], now", SUMS),
    # C
    Fault("N tail of C not masked", STORE_C, "n + e < N ? row_offset + (n + e) * 2 : OUT_OF_RANGE",
          "row_offset + (n + e) * 2"),
    Fault("N tail of C not masked where four are stored at once", STORE_C,
          "n < N ? row_offset + n * 2 : OUT_OF_RANGE", "row_offset + n * 2"),
    Fault("row pitch of C taken for N", STREAMED_C, "row * ldc * 2", "row * N * 2"),
    Fault("offsets in C of 20 bits", STREAMED_C, "row * ldc * 2", "(row * ldc * 2) & 0xfffffu"),
    Fault("outer scale of the neighbour", STREAMED_C, "load_b32(o, (n + j * MFMA + lane % MFMA) * 4)",
          "load_b32(o, (n + j * MFMA + (lane % MFMA ^ 1)) * 4)"),
    Fault("rows turned the wrong way", STREAMED_C, "SWAP_ONE = 0xb1", "SWAP_ONE = 0x4e"),
    Fault("sums without what the dequantization left over", STREAMED_C, " * outer * {{ k.factor_last }}", " * outer"),
    Fault("four stored at once where N is even", STREAMED, "((N | ldc) & 3) == 0", "((N | ldc) & 1) == 0"),
    Fault("four stored at once whatever N is", STREAMED, "((N | ldc) & 3) == 0", "(ldc & 3) == 0"),
    Fault("the first eight tiles along N only", STREAMED, "workgroup_id_x() * TILE_N", "workgroup_id_x() % 8 * TILE_N"),
    Fault("the first eight tiles along M only", STREAMED, "workgroup_id_y() * TILE_M;",
          "workgroup_id_y() % 8 * TILE_M;"),
    # slices
    Fault("the last units of K in no slice", STREAMED, "(units + slices - 1) / slices * UNIT", "units / slices * UNIT"),
    Fault("A from the beginning of K in every slice", STREAMED, "(m0 * lda + begin) * 2", "m0 * lda * 2"),
    Fault("partial sums of all slices in one place", STREAMED, "(slice * tiles + tile) * C_BYTES", "tile * C_BYTES"),
    Fault("a slice's sums left out", STREAMED_C, "slice < slices; ++slice", "slice + 1 < slices; ++slice"),
    Fault("one counter for all tiles", SLICES, "counters[0]) + tile", "counters[0])"),
    Fault("nobody is the last to arrive", SLICES, "lds, 0)) == slices - 1", "lds, 0)) == slices"),
    # number formats
    Fault("one group's scale for two", NVFP4, "scales.pair[SUB / 2][SUB % 2]", "scales.pair[SUB / 2][0]"),
    Fault("signs of codes dropped", NVFP4, "codes & 0x81c00000u", "codes & 0x01c00000u"),
    Fault("scales of odd groups from even ones", NVFP4, "int even = bytes[0], odd = bytes[1]",
          "int even = bytes[0], odd = bytes[0]"),
    Fault("the lowest bit of scales dropped", NVFP4, "0x3f803f80u", "0x3f003f00u", HALF),
    Fault("the odd dword's codes with the even one's scale", NVFP4, "constexpr int ODD = SUB / 2", "constexpr int ODD = 0",
          HALF),
    Fault("codes left subnormal where they are flushed", NVFP4, "  code *= up;\n", "", FLUSHING),
    Fault("scale bytes in the order of blocks", MXFP4, "PLACE = BLOCK / 2 + BLOCK % 2 * 2", "PLACE = BLOCK", MX),
    Fault("one block's scale for two", MXFP4, "scales.pair[SUB / 2]", "scales.pair[0]", MX),
    Fault("the smallest MXFP4 scales dropped", MXFP4, "& 0xffu) << 23", "& 0xfeu) << 23", SUMS),
    Fault("signs of unscaled codes dropped", MXFP4, "codes & CODE;", "codes & CODE & 0x7fff7fffu;", SUMS),
    Fault("codes of two dwords mixed up", PLACES, "rotate_right(rest, 6)", "rotate_right(p, 6)"),
    Fault("nibbles in the wrong order", PLACES, "return {x, x << 8}", "return {x, x >> 8}", HALF),
    Fault("3 looked up as 4", PLACES, "FROM_2 = 0x46444240u", "FROM_2 = 0x46444440u", TABLE),
    # the rescue of subnormal activations
    Fault("subnormal activations flushed", RESCUE, "(w.subnormal & 0x7fff7fffu) != 0", "false", FLUSHING),
    Fault("a second pass without the first's share", STREAMED, "sum[i][j] *= RESCUE;", "sum[i][j] *= 2 * RESCUE;", FLUSHING),
    Fault("subnormals looked for in low halves", RESCUE, "w.subnormal & 0x7fff7fffu", "w.subnormal & 0x7fffu", FLUSHING),
    Fault("subnormals looked for in two of four dwords", STREAMED_A, "d < 4; ++d", "d < 2; ++d", FLUSHING),
    Fault("subnormals brought up by half of what is made good", RESCUE, "w.factor = 0x64006400", "w.factor = 0x60006000",
          FLUSHING),
    Fault("the smallest subnormal not looked for", RESCUE, "w.subnormal & 0x7fff7fffu", "w.subnormal & 0x7ffe7ffeu",
          FLUSHING),
    Fault("subnormals looked for by the first wave alone", RESCUE, "i < {{ k.tile.waves }}; ++i", "i < 1; ++i", FLUSHING),
    Fault("normal numbers in the second pass too", RESCUE, "  w.normal = 0;\n", "", FLUSHING),
    # what both loops use
    Fault("M tail of C: descriptor a little too long", BUFFER, "bytes = words[2]", "bytes = words[2] + 256"),
    Fault("descriptors of 24 bits", BUFFER, "bytes = words[2]", "bytes = words[2] & 0xffffffu"),
    Fault("out of range in small buffers only", BUFFER, "OUT_OF_RANGE = 0x80000000u", "OUT_OF_RANGE = 0x100000u"),
    Fault("out of range within 16 MiB only", BUFFER, "OUT_OF_RANGE = 0x80000000u", "OUT_OF_RANGE = 0x1000000u"),
    Fault("MFMA operands exchanged", MFMA, "(weights, activations, sum", "(activations, weights, sum"),
    Fault("bf16 results cut instead of rounded", OUTPUT, "b + 0x7fffu + ((b >> 16) & 1u)", "b"),
    Fault("fp16 results rounded toward zero", OUTPUT, "return bits<unsigned short>((_Float16)x);",
          "return bits<u32>(__builtin_amdgcn_cvt_pkrtz(x, 0.0f)) & 0xffffu;", HALF),
    # the resident loop
    Fault("a slice from the beginning of K", RESIDENT, "begin = slice * share", "begin = 0", DECODE),
    Fault("row pitch of A taken for K, resident", RESIDENT_A, "((m0 + row) * lda + at_k) * 2", "((m0 + row) * (end - k0) + at_k) * 2",
          DECODE),
    Fault("K tail of A not masked, resident", RESIDENT_A, "at_k < end ? ((m0 + row) * lda + at_k) * 2 : OUT_OF_RANGE",
          "((m0 + row) * lda + at_k) * 2", DECODE),
    Fault("weights do not advance", RESIDENT_W, "s.base += s.step", "s.base += 0", DECODE),
    Fault("the last turn of a stage left out", RESIDENT_PRODUCT, "scale_turn(sum, TURNS - 1, done[(TURNS - 1) % 2], scale);",
          "", DECODE),
    Fault("a partial sum left out", RESIDENT_C, "part < WAVES_K * {{ k.pack }}", "part < WAVES_K * {{ k.pack }} - 1", DECODE),
    Fault("codes of two dwords mixed up, resident", CODES, "rotate_right(rest, 6)", "rotate_right(p, 6)", DECODE),
    Fault("scales of two groups exchanged", SCALES, "  low = two[0];\n  high = two[1];", "  low = two[1];\n  high = two[0];",
          DECODE),
    Fault("MXFP4 scales from the next byte", SCALES, "bytes >> (8 * place)", "bytes >> (8 * (place ^ 1))", DECODE_MX),
    Fault("low bytes of codes from 2 on for all", CODES, "{{ k.table[3] }}", "{{ k.table[2] }}", DECODE_TABLE),
    # what makes passes over K of its own
    Fault("signs of large numbers of A dropped", RESIDENT_SIEVE, ": pair & part;", ": pair & part & 0x7fff7fffu;", DECODE_PASSES),
    Fault("only the usual scales", RESIDENT_SIEVE, "TINY_SCALES) ? raised & tiny : scales & ~tiny", "TINY_SCALES) ? 0 : scales & ~tiny",
          DECODE_PASSES),
    Fault("usual scales with tiny ones", RESIDENT_SIEVE, "TINY_SCALES) ? raised & tiny : scales & ~tiny",
          "TINY_SCALES) ? raised & tiny : scales", DECODE_PASSES),
    Fault("sums in the power of the pass before", RESIDENT_SIEVE,
          "multiply_sums(sum, __builtin_amdgcn_ldexpf(1.0f, exponent - sieve.exponent));", "", DECODE_PASSES),
    Fault("passes without Inf and NaN", RESIDENT_SIEVE, "LAST_PASS = 1 + INFINITE_A", "LAST_PASS = INFINITE_A", DECODE_PASSES),
    Fault("numbers out of range looked for by one wave", RESIDENT_SIEVE, "i < THREADS / 64; ++i", "i < 1; ++i", DECODE_PASSES),
]  # fmt: skip


def instance_of(arch: str, weights: str, activations: str, loop: str) -> KernelInstance:
    """The smallest kernel with these properties."""
    fitting = [
        one
        for one in load_catalog().select(arch=arch)
        if (one.weights.name, one.activations.name, one.tile.loop) == (weights, activations, loop)
    ]
    return min(fitting, key=lambda one: (one.tile.m * one.tile.n, one.tile.k, one.name))


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
    path = templates / STREAMED
    text = path.read_text()
    step = "k0 < end; k0 += STAGES * TILE_K"
    assert text.count(step) == 1
    path.write_text(text.replace(step, "k0 < end; k0 += k0"))
    report = verified(instance_of(*PREFILL), templates, tmp_path / "generated")
    assert [bool(case.error) for case in report.cases] == [True]
    assert "endless loop" in report.cases[0].error


def test_there_are_faults_of_every_kind():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 14
    templates = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")}
    # The prelude holds the barrier: results do not show that it is gone, the sanitizer does. The order of instructions
    # that lib/mix asks for changes no result.
    assert {fault.template for fault in FAULTS} == templates - {"lib/prelude.hip.j2", "lib/mix.hip.j2"}
