"""What templates/gemm/epilogue.hip.j2 places."""

from __future__ import annotations

from petitgen.spec.model import GemmInstance
from runtime.epilogue import Epilogue

_GROUPED = Epilogue.ROUTED  # what only rows that are sorted by expert have

# p(t) for erfc(z) = t e^(p(t) - z^2), t = 1 / (1 + z / 2): least squares at Chebyshev nodes for t from 0.12 (z = 14.7, where
# erfc is below float32) to 1, lowest power first. Relative error 2e-6 where erfc is above 1e-6, which is what float32 makes of z^2.
NORMAL_TAIL = (
    -1.26544082,
    0.997986734,
    0.397921443,
    -0.0532830171,
    0.376201719,
    -1.02998197,
    0.768410981,
    -0.191815898,
)


def options(instance: GemmInstance) -> tuple[tuple[str, int], ...]:
    """What a kernel can do to its results, by name and bit."""
    if not instance.epilogue:
        return ()
    return tuple((str(o.name), o.value) for o in Epilogue if instance.grouped or not o & _GROUPED)
