"""Write tests/isa/vectors/<arch>.txt: random encodings of every form of every row, with LLVM's text.

    python -m tests.isa.make_vectors            (needs llvm-mc-19)

One line an instruction: its bytes in hexadecimal, then what llvm-mc prints. Encodings that LLVM refuses are
left out; the seed is fixed, so the files change only with the tables or with LLVM. The tables say where
fields are, the text is LLVM's alone.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from petitgen.isa.formats import ARCHS, FLAT_SEGMENTS, FORMATS, LITERAL, Code, Field
from petitgen.isa.forms import Form, form_table
from petitgen.isa.tables import ADDRESS, IMMEDIATE, IMPLICIT

from .llvm import llvm_mc

VECTORS = Path(__file__).parent / "vectors"
PER_FORM, TRIES = 2, 40
CONSTANTS = [*range(128, 209), *range(240, 249)]
SCALARS = [*range(100), 106, 107, 112, 120, 124, 126, 127, 235, 236, 251, 252, 253]
FLOATS = ("f16", "f32", "f64", "mix", "pk_f16", "pk_f32")
DPP_CONTROLS = [
    *range(0x101, 0x110),
    *range(0x111, 0x120),
    *range(0x121, 0x130),
    *range(0x140, 0x144),
    0x130,
    0x138,
]
SHARED_PREFIX = {"VOP3B": "VOP3", "MAI": "VOP3P", "ACCVGPR": "VOP3P", "SCRATCH": "FLAT", "GLOBAL": "FLAT"}
SECOND_WORD = {"SDWA": 249, "DPP": 250}
Draw = random.Random


def register(field: Field, rng: Draw) -> int:
    """A number for a register field, legal for most widths more often than not."""
    align = rng.choice((-1, -2, -4))
    match field.code:
        case Code.SRC9:
            vector = 256 + (rng.randrange(224) & align)
            literal = [LITERAL] if field.low == 0 else []
            return rng.choice([vector, vector, rng.choice(CONSTANTS), rng.choice(SCALARS) & align, *literal])
        case Code.SSRC:
            return rng.choice(
                [rng.choice(CONSTANTS), rng.choice(SCALARS) & align, *([LITERAL] if field.low < 16 else [])]
            )
        case Code.SDST:
            return rng.choice([rng.randrange(80) & align, 106])
        case Code.VGPR:
            return rng.randrange(224) & align
        case _:
            return rng.randrange(20)


def plain_sources(form: Form) -> list[str]:
    """The sources of a row that have a field each."""
    skip = IMPLICIT | ADDRESS | IMMEDIATE
    sources = [word for word in form.row.src if word not in skip]
    return [*sources, "mask"] if "vcc" in form.row.src and form.format.name in ("VOP3", "VOP3B") else sources


def modifiers(form: Form, rng: Draw) -> int:
    """Random modifier bits: neg and abs only where a source is a float, sext only where it is not."""
    bits = 0
    sources = plain_sources(form)
    floats = [word in FLOATS or "floatmods" in form.row.flags for word in sources]
    fields = dict(form.format.mods)
    if form.format.name == "VOP3P":
        fields |= {"op_sel_hi": Field(59, 2), "op_sel_hi_2": Field(14, 1)}
    for name, field in fields.items():
        value = rng.randrange(field.mask + 1)
        source = int(name[3]) if name[:3] == "src" else 0
        kind = name.partition("_")[2] if name[:3] == "src" else name
        if kind in ("neg", "abs") and field.width > 1:
            value &= sum(1 << i for i, is_float in enumerate(floats) if is_float)
        elif source >= len(sources) or (
            kind in ("neg", "abs", "sext") and floats[source] != (kind != "sext")
        ):
            continue
        if kind in ("sel", "dst_sel"):
            value %= 7
        elif kind == "dst_unused":
            value %= 3
        elif kind == "dpp_ctrl":
            value = rng.choice([value & 255, rng.choice(DPP_CONTROLS), 0x150 + value % 16])
        elif (
            kind not in ("row_mask", "bank_mask", "op_sel_hi", "op_sel_hi_2", "format", "imm")
            and rng.random() < 0.6
        ):
            continue
        bits |= value << field.low
    return bits


def used_roles(form: Form) -> set[str]:
    """Register fields that the form uses; LLVM wants the others to be 0."""
    used = set(("src0", "src1", "src2")[: len(plain_sources(form))])
    if form.format.name in ("VOP1", "VOP3") and ("sdst:b32" in form.row.dst or "mask" in form.row.dst):
        used.add("sdst")
    elif form.row.dst or form.format.name == "SOPK":
        used |= set(form.format.dst)
    words = form.row.src
    used |= {
        role
        for word, role in zip(
            (w for w in words if w not in IMPLICIT | ADDRESS), form.format.src, strict=False
        )
    }
    for word, roles in {
        "addr": ("addr", "vaddr"),
        "gws": ("addr",),
        "saddr": ("saddr", "sbase"),
        "rsrc": ("srsrc", "sbase"),
        "soff": ("soffset",),
    }.items():
        used |= set(roles) if word in words else set()
    return used


def encode(key: tuple[str, int], form: Form, rng: Draw) -> bytes:
    """One random encoding of a form."""
    format_ = form.format
    base, _, second = key[0].partition("_")
    prefix = FORMATS[SHARED_PREFIX.get(format_.name, base)].prefix
    raw = int(prefix.ljust(32, "0"), 2) | key[1] << format_.opcode.low | modifiers(form, rng)
    raw |= SECOND_WORD.get(second, 0)
    if base in FLAT_SEGMENTS:
        raw |= FLAT_SEGMENTS.index(base) << 14
    if "gds_only" in form.row.flags:
        raw |= 1 << format_.mods["gds"].low
    for role in sorted(used_roles(form) & set(format_.fields)):
        field = format_.fields[role]
        number = 127 if role == "saddr" and base != "SMEM" and rng.random() < 0.5 else register(field, rng)
        raw |= number << field.low
        if field.acc >= 0 and rng.random() < 0.3:
            raw |= 1 << field.acc
    if format_.name in ("SOPK", "SOPP") and form.row.src:
        raw |= rng.choice([rng.randrange(1 << 16), rng.randrange(256), 0])
    size = form.size(raw & 0xFFFFFFFF)
    if size == 8 and format_.words == 1:
        raw = raw & 0xFFFFFFFF | rng.getrandbits(32) << 32
    return raw.to_bytes(8, "little")[:size]


def accepted(text: str, form: Form) -> bool:
    """Not what LLVM prints for a register that gfx9 does not have."""
    return text.split()[0] == form.name and "null" not in text


def vectors(arch: str) -> Iterator[tuple[bytes, str]]:
    """(bytes, text) of PER_FORM encodings of every form."""
    forms = list(form_table(arch).items())
    drawn = []
    for key, form in forms:
        rng = random.Random(f"{arch} {key}")
        drawn += [encode(key, form, rng) for _ in range(TRIES)]
    texts = llvm_mc(drawn, arch)
    for i, (key, form) in enumerate(forms):
        mine = zip(drawn[i * TRIES : (i + 1) * TRIES], texts[i * TRIES : (i + 1) * TRIES], strict=True)
        legal = dict.fromkeys((code, text) for code, text in mine if text and accepted(text, form))
        if not legal:
            print(f"{arch}: no legal encoding drawn for {key} {form.name}", file=sys.stderr)
        yield from list(legal)[:PER_FORM]


def main() -> None:
    """Write both files."""
    VECTORS.mkdir(exist_ok=True)
    for arch in ARCHS:
        lines = [f"{code.hex()} {text}" for code, text in vectors(arch)]
        (VECTORS / f"{arch}.txt").write_text("\n".join(lines) + "\n")
        print(f"{arch}: {len(lines)} instructions")


if __name__ == "__main__":
    main()
