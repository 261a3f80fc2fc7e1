"""Kernel names: built and parsed here and nowhere else.

    <op>_<weights>_<activations>[_<out>]__<arch>_<tile>_<waves>        gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2
    <op>_<format>_<activations>__<arch>_<variant>                      quantize_nvfp4_bf16__gfx942_rows

Left of the double underscore the contract (what is computed), right of it the implementation (how). <out> is there where
results have another type than activations. The one string is file stem, kernel symbol, manifest key, command-line argument and pytest id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from petitgen.errors import SpecError

_NAME = re.compile(
    r"(?P<op>[a-z]+)_(?P<weights>[a-z0-9]+)_(?P<activations>[a-z0-9]+)(?:_(?P<out>[a-z0-9]+))?"
    r"__(?P<arch>gfx[0-9a-f]+)_m(?P<m>\d+)n(?P<n>\d+)k(?P<k>\d+)_w(?P<wm>\d+)x(?P<wn>\d+)x(?P<wk>\d+)"
)


@dataclass(frozen=True, slots=True)
class KernelName:
    """The parts of a kernel name. tile: m, n, k; waves: along m, n, k; out: type of the results, that of activations if empty."""

    op: str
    weights: str
    activations: str
    arch: str
    tile: tuple[int, int, int]
    waves: tuple[int, int, int]
    out: str = ""

    def __str__(self) -> str:
        m, n, k = self.tile
        waves = "x".join(map(str, self.waves))
        out = f"_{self.out}" if self.out not in ("", self.activations) else ""
        return f"{self.op}_{self.weights}_{self.activations}{out}__{self.arch}_m{m}n{n}k{k}_w{waves}"


@dataclass(frozen=True, slots=True)
class ArrayName:
    """The parts of the name of a kernel that goes over arrays. format: "" where it has none."""

    op: str
    format: str
    activations: str
    arch: str
    variant: str

    def __str__(self) -> str:
        contract = "_".join(part for part in (self.op, self.format, self.activations) if part)
        return f"{contract}__{self.arch}_{self.variant}"


def parse(name: str) -> KernelName:
    """The parts of a GEMM's `name`; SpecError if it is none."""
    found = _NAME.fullmatch(name)
    if not found:
        raise SpecError(
            f"{name!r} is no kernel name: <op>_<weights>_<activations>[_<out>]__<arch>_m<M>n<N>k<K>_w<M>x<N>x<K> is"
            " expected"
        )
    part = found.groupdict()
    return KernelName(
        part["op"],
        part["weights"],
        part["activations"],
        part["arch"],
        (int(part["m"]), int(part["n"]), int(part["k"])),
        (int(part["wm"]), int(part["wn"]), int(part["wk"])),
        part["out"] or "",
    )
