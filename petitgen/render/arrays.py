"""What the templates of kernels that go over arrays see: `k` (templates/quantize)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from petitgen.render.context import C_TYPES, CONVERTS_FP8, Parameter
from petitgen.spec.model import ArrayInstance
from runtime.conversions import EIGHT, ROWS, WAVE, Conversion, RowConversion
from runtime.formats import FORMATS


@dataclass(frozen=True, slots=True)
class ScaleType:
    """Scales with three bits of mantissa. bias of their exponents; zero_byte: a block of zeros has the byte 0."""

    bias: int
    smallest: int  # as a power of two
    largest: float
    nan: int
    zero_byte: bool = False
    signed: bool = False


_SCALES = {
    "e4m3fn": ScaleType(bias=7, smallest=-9, largest=448.0, nan=0x7F, zero_byte=True, signed=True),
    "ue5m3": ScaleType(bias=15, smallest=-17, largest=114688.0, nan=0xFF),
}
_E8M0_NAN = 0xFF
_LARGEST_CODE = 6
_INFINITE = {"bf16": 0x7F80, "fp16": 0x7C00}


@dataclass(frozen=True, slots=True)
class ArrayContext:
    """block: elements that share a scale; lanes: work-items, of eight elements, that do. across: eights of a row that a wave
    of the kernel for columns has; row_bits: of the lanes that have the other rows. The rest: the heads of the templates."""

    name: str
    form: str
    activations: str
    bf16: bool
    threads: int
    occupancy: int
    loads: int
    parameters: tuple[Parameter, ...]
    bits: type[IntFlag]
    row_bits_of: type[IntFlag]
    converts_fp8: bool
    infinite: int  # as 16 bits
    block: int
    lanes: int
    across: int
    row_bits: tuple[int, ...]
    outer: bool
    limit: str
    smallest: str
    per_smallest: str
    largest: str
    rebias: int
    nan: int
    zero_byte: bool
    signed_scale: bool
    scale_power: str


def array_context(instance: ArrayInstance) -> ArrayContext:
    """Every number that they place, for one instance."""
    fmt = FORMATS.get(instance.form)
    block = fmt.block if fmt else EIGHT
    scale = _SCALES.get(fmt.scale if fmt else "", ScaleType(0, 0, 0.0, _E8M0_NAN))
    across = WAVE * ROWS // max(block, ROWS)
    name = instance.activations.name
    return ArrayContext(
        name=instance.name,
        form=instance.form,
        activations=name,
        bf16=name == "bf16",
        threads=instance.threads,
        occupancy=instance.occupancy,
        loads=instance.numbers.get("loads", 1),
        parameters=tuple(Parameter(C_TYPES[argument.kind], argument.name) for argument in instance.abi),
        bits=Conversion,
        row_bits_of=RowConversion,
        converts_fp8=instance.arch.name in CONVERTS_FP8,
        infinite=_INFINITE[name],
        block=block,
        lanes=block // EIGHT,
        across=across,
        row_bits=tuple(bit for bit in (1, 2, 4, 8, 16, 32) if bit >= across),
        outer=fmt is not None and fmt.outer_scale,
        limit=f"{scale.largest * _LARGEST_CODE!r}f",
        smallest=f"0x1p{scale.smallest}f",
        per_smallest=f"0x1p{-scale.smallest}f",
        largest=f"{scale.largest!r}f",
        rebias=(127 - scale.bias) << 3,
        nan=scale.nan,
        zero_byte=scale.zero_byte,
        signed_scale=scale.signed,
        scale_power=f"0x1p{127 - scale.bias}f",
    )
