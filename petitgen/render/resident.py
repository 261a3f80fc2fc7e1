"""What the template of the resident loop sees: `k`, with every number already computed (templates/gemm/resident.hip.j2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petitgen.render.context import (
    ACCUMULATORS,
    C_TYPES,
    CONVERTS_FP8,
    MFMA,
    OPERANDS,
    Parameter,
    is_halved,
    purpose,
    tile_of,
)
from petitgen.render.epilogue import NORMAL_TAIL, options
from petitgen.render.tables import TABLES, dword
from petitgen.spec.model import GemmInstance, Tile
from runtime.formats import BRICK_K, BRICK_N, BYTES, FORMATS, MX_LARGEST

WIDTH = 16  # rows of the matrix instruction
_MFMA_K = {1: 32, 2: 16}  # by the bytes of an activation
_PAIR_K = 64  # of a pair of dwords of 4-bit codes

# Powers of two of what the matrix unit multiplies (templates/lib/codes.hip.j2): an E2M1 code in the position of the type.
# E4M3 codes decoded by templates/lib/fp8.hip.j2.
_CODE_EXPONENT = {"bf16": -126, "fp16": -14, "fp8": 0}
_DECODED_EXPONENT = {"bf16": -7, "fp16": -7, "fp8": 0}
# bf16 codes from a table have the one that suits the scales: sums of such products stay in f32, and so do they times a
# scale. It is even, so that the tables differ in few bytes.
_TABLE_EXPONENT = {"nvfp4": 60, "mxfp4": -18, "amdfp4": 0}
# What a scale has as f32, relative to its value: E4M3FN read as FNUZ; MX bytes, see runtime.formats.MX_LARGEST; E4M3 and UE5M3 as
# the exponent field of a f32. Small UE5M3 scales would take sums with small numbers to where f32 ends: they are multiplied.
_FNUZ = -1
_SCALE_EXPONENT = {"fp8": 0, "nvfp4": -120, "mxfp4": MX_LARGEST - 127, "amdfp4": -112}
_SCALE_RAISED = {"amdfp4": 127}
# As a byte with the exponent of fp16, and so of the codes that are multiplied with it: the largest is then 448 * 2^7. A is
# brought up to where its smallest number is normal, tiny scales to where their products with codes are.
_HALF_EXPONENT = 7
_RAISED = 10
_TINY_RAISED = 3
# What of 16 bytes of A goes to LDS together, by whether there are block scales and whether K is halved: as the weights lie.
_RUNS = {(True, False): "halves", (False, True): "halves", (False, False): "pieces", (True, True): "dwords"}
# The last bit of such a byte in a f32, where its exponent is that of the f32.
_SCALE_SHIFT = {"nvfp4": 20, "mxfp4": 23, "amdfp4": 20}
# Sums that workgroups exchange: those of the largest bf16 numbers (2^128) with the largest weights (6 * 2^17) would leave f32.
_KEPT_DOWN = 40

_SLICE_LOADS = 8  # of partial sums that a lane has on their way at once

# bytes a lane loads of a column's scales in one brick -> type, load
_SCALE_LOADS = {0: ("", ""), 8: ("u32x2", "load_b64"), 4: ("u32", "load_b32"), 2: ("u32", "load_b16"), 1: ("u32", "load_b8")}


@dataclass(frozen=True, slots=True)
class Widening:
    """The powers of two that rows of bf16 A are brought up by, so that what is made of them stays in f32.

    usual         of most rows, of tiny ones and of large ones
    below, large_from  which those are: by the exponent of the largest number of the row
    """

    usual: int
    tiny: int
    large: int
    below: int
    large_from: int


# Codes in bf16 position make products so small that all rows are brought up; those of a table do not.
_WIDENING = {
    "bf16": Widening(usual=63, tiny=126, large=0, below=-40, large_from=64),
    "table": Widening(usual=0, tiny=63, large=-70, below=-40, large_from=58),
}
_WIDENING[BYTES] = _WIDENING["table"]


@dataclass(frozen=True, slots=True)
class Sieve:
    """Passes over K that keep subnormal fp16 numbers from the matrix unit (templates/gemm/resident_sieve.hip.j2).

    unit         the power of two that sums have
    raised       the one that A is brought up by; factor: as a number; large: from where on fp16 then ends, as its bits
    tiny_raised  the one that tiny scales are brought up by; tiny_table: their bytes by the last three bits, 4 to 7 first
    """

    unit: int
    raised: int
    factor: str
    large: str
    tiny_raised: int
    tiny_table: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One matrix instruction: half `part` of the 16 bytes of A that were the `read`th to come from LDS, and codes, in C++."""

    read: int
    part: int
    code: str


@dataclass(frozen=True, slots=True)
class Part:
    """Matrix instructions that add up before one scaling."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class ResidentContext:
    """See the head of templates/gemm/resident.hip.j2 for what the numbers mean there."""

    name: str
    purpose: str
    how: str  # scales are applied
    arch: str
    weights: str
    activations: str
    activations_bf16: bool
    out_bf16: bool
    order: str
    product: str  # the template of a stage
    block_scales: bool
    row_scales: bool
    halved: bool  # K counts pairs of activations
    depth: str  # K, and the pitch of A
    pitch: str
    runs: str  # of A that go to LDS at once: halves, pieces or dwords of 16 bytes
    decodes: bool  # 8-bit codes become numbers of the type of A
    steps: tuple[Step, ...]  # of half a brick of 8-bit codes
    reads: str  # of LDS for these, or for a turn
    streams: str  # what load_weights takes
    pinned: str  # registers of a column of a stage
    class_scales: str  # where those of a row block's class begin
    brick_bytes: int
    tile: Tile
    threads: int
    rows: int
    columns: int
    pack: int  # row blocks of the matrix instruction that hold the same rows of A for different scale groups
    span: int
    parts: tuple[Part, ...]  # of one turn over `span` pairs of dwords
    lane_scales: int
    scale_bytes_type: str
    scale_load: str
    scale_share: str
    scale_reads: tuple[str, ...]
    largest_scale: int
    row_class: str
    partial_pieces: bool
    brick_k: int
    brick_scales: int
    column_scales: int
    accumulators: int
    weight_registers: int
    a_bytes: int
    partial_bytes: int
    lds_bytes: int
    mfma_builtin: str
    operand_type: str
    accumulator_type: str
    parameters: tuple[Parameter, ...]
    epilogue: tuple[tuple[str, int], ...]  # options by name and bit; none: results are stored as they are
    grouped: bool  # rows are sorted by expert
    tail: tuple[float, ...]  # of the normal distribution
    code_exponent: int
    table: tuple[str, ...]  # order table: bf16 codes 4 to 7 and 0 to 3, high bytes and then low ones
    converts_fp8: bool
    scale_shift: int
    scale_step: str  # what a scale is multiplied by, if it is
    fold: bool  # scales are multiplied with codes, not with sums
    sieve: Sieve | None
    normalize: bool  # codes are brought to their own size
    clear: bool  # rows of the matrix instruction that have no A are to be zero
    scale_exponent: int
    widen: bool
    widening: Widening | None
    tiny: str
    large: str
    mfma_rows: int
    left_exponent: int  # what sums are short of, widening aside
    left_large: int  # and those of a row of large numbers
    kept_down: int
    slices_together: int
    few_registers: bool  # what only the end needs is worked out, or read, there
    stage_parameters: str
    stage_arguments: str


def resident_context(instance: GemmInstance) -> ResidentContext:
    """Every number the resident loop places, for one instance."""
    t, weights, activations = tile_of(instance), instance.weights.name, instance.activations.name
    fmt, size = FORMATS[weights], instance.activations.bytes
    flushes = instance.arch.mfma_flushes_denormals and activations == "fp16"
    fold = instance.order == "window" and weights == "nvfp4"
    pack = 1 if fold or not fmt.block else max(_MFMA_K[size] // fmt.block, WIDTH // t.m, 1)
    rows = -(-t.m * pack // WIDTH)
    columns = t.n // t.waves_n // WIDTH
    split = pack > 1 and t.m >= WIDTH  # classes have row blocks of their own
    lane_scales = fmt.scales_per_brick // (1 if split else pack)
    part = fmt.block * pack // _MFMA_K[size]  # matrix instructions that one scaling takes in
    span = 2 if part > _PAIR_K // _MFMA_K[size] else 1
    scale_type, scale_load = _SCALE_LOADS[lane_scales]
    a_bytes, partial_bytes = rows * WIDTH * t.k * 2, t.waves_k * rows * WIDTH * t.n * 4
    widen = activations == "bf16"
    widening = _WIDENING[instance.order] if widen else None
    converts_fp8 = weights == "nvfp4" and instance.arch.name in CONVERTS_FP8
    code_exponent = _code_exponent(weights, activations, instance.order, flushes and not fold)
    raised = _SCALE_RAISED.get(weights, 0)
    scale_exponent = _HALF_EXPONENT if fold else _FNUZ if converts_fp8 else _SCALE_EXPONENT[weights] + raised
    halved = is_halved(instance)
    left_exponent = -code_exponent - scale_exponent
    return ResidentContext(
        name=instance.name,
        purpose=purpose(instance),
        how=_how(fmt.block),
        arch=instance.arch.name,
        weights=weights,
        activations=activations,
        activations_bf16=activations == "bf16",
        out_bf16=instance.out.name == "bf16",
        order=instance.order,
        product=f"gemm/resident_{'product' if fmt.block else 'plain'}.hip.j2",
        block_scales=fmt.block > 0,
        row_scales=any(argument.name == "r" for argument in instance.abi),
        halved=halved,
        depth="k / 2" if halved else "k",
        pitch="lda / 2" if halved else "lda",
        runs=_RUNS[fmt.block > 0, halved],
        decodes=not fmt.block and not halved,
        steps=_plain_steps(halved),
        reads=_reads(fmt.block, halved),
        streams="of_codes, of_scales, codes, scales" if fmt.block else "of_codes, codes",
        pinned='"+v"(x.codes[#]), "+v"(x.scales[#])' if fmt.block else '"+v"(x.codes[#][0]), "+v"(x.codes[#][1])',
        class_scales=f"i / {t.m // WIDTH} * {fmt.scales_per_brick // pack} + " if split else "",
        brick_bytes=fmt.brick_bytes,
        tile=t,
        threads=instance.block,
        rows=rows,
        columns=columns,
        pack=pack,
        span=span,
        parts=_parts(part, span, halved),
        lane_scales=lane_scales,
        scale_bytes_type=scale_type,
        scale_load=scale_load,
        scale_share="" if split else _scale_share(pack, lane_scales),
        scale_reads=_scale_reads(converts_fp8, fmt.block, pack, lane_scales),
        largest_scale=MX_LARGEST,
        row_class=_row_class(fmt.block * size // 2, pack),
        partial_pieces=t.m * t.k // 8 % instance.block != 0,
        brick_k=BRICK_K // (2 if halved else 1),
        brick_scales=BRICK_N * fmt.scales_per_brick,
        column_scales=fmt.scales_per_brick,
        accumulators=rows * columns * 4,
        weight_registers=columns * (fmt.bits + -(-lane_scales // 4)),
        a_bytes=a_bytes,
        partial_bytes=partial_bytes,
        lds_bytes=max(a_bytes, partial_bytes + (rows * WIDTH * 4 if widen else 0)),
        mfma_builtin=MFMA[activations, WIDTH],
        operand_type=OPERANDS[activations],
        accumulator_type=ACCUMULATORS[WIDTH],
        parameters=tuple(Parameter(C_TYPES[a.kind], a.name) for a in instance.abi),
        epilogue=options(instance),
        grouped=instance.grouped,
        tail=NORMAL_TAIL,
        code_exponent=code_exponent,
        table=TABLES[instance.order](code_exponent) if instance.order in TABLES else (),
        converts_fp8=converts_fp8,
        scale_shift=_SCALE_SHIFT.get(weights, 0),
        scale_step=_power(raised) if raised else "",
        fold=fold,
        sieve=_sieve(-left_exponent) if flushes else None,
        normalize=flushes and not fold,
        clear=t.m < WIDTH or pack > 1,
        scale_exponent=scale_exponent,
        widen=widen,
        widening=widening,
        tiny=_power(widening.below + widening.usual) if widening else "",
        large=_power(widening.large_from + widening.usual) if widening else "",
        mfma_rows=rows * WIDTH,
        left_exponent=left_exponent,
        left_large=left_exponent - (widening.large if widening else 0),
        kept_down=_KEPT_DOWN,
        slices_together=max(1, min(_SLICE_LOADS, _SLICE_LOADS * instance.block * 4 // (t.m * t.n))),
        few_registers=instance.arch.name == "gfx90a",
        stage_parameters=", Row& state" if widen else ", Sieve& state" if flushes else "",
        stage_arguments=", row" if widen else ", sieve" if flushes else "",
    )


def _power(exponent: int) -> str:
    return f"{float.hex(2.0**exponent)}f"


def _code_exponent(weights: str, activations: str, order: str, normalize: bool) -> int:
    if normalize:
        return 0
    if not FORMATS[weights].block:
        return _DECODED_EXPONENT[activations]
    return _TABLE_EXPONENT[weights] if order == "table" else _CODE_EXPONENT[activations]


def _sieve(products: int) -> Sieve:
    """products: the power of two that products of codes and scales have."""
    large = np.array(2.0 ** (16 - _RAISED), np.float16).view(np.uint16)
    # E4M3's subnormals are multiples of 2^-9
    tiny = np.arange(8) * 2.0 ** (_HALF_EXPONENT - 9 + _TINY_RAISED)
    places = (tiny.astype(np.float16).view(np.uint16) >> 7).astype(np.uint8)
    return Sieve(
        unit=products + _RAISED,
        raised=_RAISED,
        factor=f"{2.0**_RAISED}f",
        large=f"{int(large):#x}",
        tiny_raised=_TINY_RAISED,
        tiny_table=(dword(places[4:]), dword(places[:4])),
    )


def _how(block: int) -> str:
    if not block:
        return " There are no scales\n// within a column."
    return (
        " Their codes are not multiplied by\n"
        "// their scales: the matrix unit takes them as they are, and the sums of a scale group are scaled."
    )


def _reads(block: int, halved: bool) -> str:
    """Loads from LDS of a lane and 16 rows: for the 64 of K of half a brick of 8-bit codes, else for a turn."""
    if not block:
        return "1" if halved else "2"
    return "SPAN" if halved else "2 * SPAN"


def _parts(size: int, span: int, halved: bool) -> tuple[Part, ...]:
    """The matrix instructions of `span` pairs of dwords, by the scaling that takes `size` of them in."""
    if not size:
        return ()
    if halved:
        steps = [Step(pair, odd, f"codes[{pair}].code[{odd}]") for pair in range(span) for odd in range(2)]
    else:
        steps = [Step(c, g, f"codes[{c // 2}].code[{c % 2}][{g}]") for c in range(2 * span) for g in range(2)]
    return tuple(Part(tuple(steps[first : first + size])) for first in range(0, len(steps), size))


def _plain_steps(halved: bool) -> tuple[Step, ...]:
    """The matrix instructions of half a brick of 8-bit codes: two for 32 of K each, or four for 16 that have to be decoded."""
    if halved:
        return tuple(Step(0, g, f"bits<Operand>(u32x2{{codes[{2 * g}], codes[{2 * g + 1}]}})") for g in range(2))
    return tuple(Step(c, part, f"decode(codes[{2 * c + part}])") for c in range(2) for part in range(2))


def _scale_share(pack: int, lane_scales: int) -> str:
    """Where a lane's share of a column's scales begins: row block c of the sums is lane / 16 * 4 rows on."""
    return {1: "", 2: f" + lane / 32 * {lane_scales}", 4: f" + lane / 16 * {lane_scales}"}[pack]


def _scale_reads(converts_fp8: bool, block: int, pack: int, lane_scales: int) -> tuple[str, ...]:
    """C++ statements that fill scale[i], the scale of part i of a brick, from the lane's scale bytes.

    Group g of a brick has its byte at the bit-reversed place; row block c owns the groups of class c, which are
    neighbours there.
    """
    if not block:
        return ()
    groups = BRICK_K // block
    order = [_reversed_bits(g, groups) for g in range(groups)]  # group -> place
    of_class = groups // pack
    first = {place: g % pack * of_class + g // pack for g, place in enumerate(order) if place < lane_scales}  # place -> scale
    word = "bytes[{}]" if lane_scales == 8 else "bytes"
    if not converts_fp8:
        return tuple(f"  scale[{first[p]}] = scale_byte({word.format(p // 4)}, {p % 4});" for p in sorted(first))
    return tuple(
        f"  two_scales<{p // 2 % 2}>({word.format(p // 4)}, scale[{first[p]}], scale[{first[p + 1]}]);"
        for p in range(0, lane_scales, 2)
    )


def _row_class(block: int, pack: int) -> str:
    """The class of the scale group that 16-byte piece `index` belongs to, as C++."""
    group = f"index / {block // 8}" if block > 8 else "index"
    return {1: "0", 2: f"{group} % 2", 4: f"({group} % 2 * 2 + {group} / 2 % 2)"}[pack]


def _reversed_bits(value: int, count: int) -> int:
    bits = (count - 1).bit_length()
    return int(f"{value:0{bits}b}"[::-1], 2)
