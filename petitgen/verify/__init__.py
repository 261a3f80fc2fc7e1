"""Verification of built kernels: inputs, float64 references, comparison.

    from petitgen.verify import run, select
    report = run(select(Path("generated"), ["gemm_nvfp4_*"], arch="gfx942"))

Names load on first use, so that asking for the command line's help does not load numpy and the emulator.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from petitgen.verify.case import Case
    from petitgen.verify.runner import KernelReport, Report, run
    from petitgen.verify.shapes import Shape, parse_shape
    from petitgen.verify.targets import Target, gemms, select

_HOMES = {
    "Case": "case",
    "KernelReport": "runner",
    "Report": "runner",
    "run": "runner",
    "Shape": "shapes",
    "parse_shape": "shapes",
    "Target": "targets",
    "gemms": "targets",
    "select": "targets",
}

__all__ = ["Case", "KernelReport", "Report", "Shape", "Target", "gemms", "parse_shape", "run", "select"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
