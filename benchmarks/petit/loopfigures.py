"""Hot loops of both sides beside each other: counts from the code objects, and llvm-mca's time."""

from __future__ import annotations

from collections.abc import Iterator

import loops

from petit import chooser, turns
from petit.checks import Used
from petit.sides import Setting, ours_of, petit_of
from petitgen.isa import CodeObject

SMALLEST_MATRIX = 16  # rows of the smallest matrix instruction: a wave multiplies as many, present or not


def measure(setting: Setting, kernels: Used) -> Iterator[tuple[str, loops.Figures]]:
    """(name, figures) of every kernel of a run: Petit's first."""
    kind = chooser.kind(setting.arch, setting.weights, setting.activations)
    for tile in kernels.tiles:
        yield f"Petit {tile}", turns.measure(petit_of(setting.wheel).gemms[kind][tile], kind, tile)
    manifest, _ = ours_of(setting.generated, setting.arch, setting.compute_units)
    for kernel, _ in kernels.kernels:
        rows = max(kernel.tile["m"], SMALLEST_MATRIX) // kernel.tile["waves_m"]
        found = loops.measure(CodeObject.load(manifest.path(kernel)), kernel.symbol, rows)
        if found:
            yield kernel.name, found


NOTE = "VALU/8: the whole innermost loop; where a chunk of A is one turn of ours, with the staging of A (targets.py has both)"
HEADER = f"{'hot loop':48} {'VALU/8':>6} {'registers':>9} {'scratch B':>9} {'waves':>5} {'MFMA bound / llvm-mca':>22}"


def text(name: str, f: loops.Figures) -> str:
    """One kernel in a line; under HEADER."""
    per_8 = f"{f.valu_per_8:6.2f}" if f.valu_per_8 else f"{'-':>6}"
    ratio = f"{f.efficiency:22.3f}" if f.efficiency else f"{'-':>22}"
    return f"{name:48} {per_8} {f.registers:9} {f.scratch_bytes:9} {f.waves:5} {ratio}"
