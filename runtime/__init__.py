"""What an inference engine imports: weights packed, kernels built ahead of time loaded and launched.

    import runtime
    lib = runtime.load("gfx942")
    w = runtime.pack("nvfp4", weight, weight_scale, weight_scale_2)
    y = lib.gemm(x, w)

Names are imported when they are first used: `import runtime` loads neither HIP nor torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.gate_up import pack_gate_up
    from runtime.library import Library
    from runtime.loading import load
    from runtime.memory import DeviceArray
    from runtime.packing import PackedWeight, pack
    from runtime.plan import Plan
    from runtime.select import Selection
    from runtime.sorting import Sorting, sort_by_expert
    from runtime.stacks import DeviceStack, PackedStack, stack
    from runtime.weights import DeviceWeight

_HOME = {
    "DeviceArray": "memory",
    "DeviceStack": "stacks",
    "DeviceWeight": "weights",
    "Library": "library",
    "PackedStack": "stacks",
    "PackedWeight": "packing",
    "Plan": "plan",
    "Selection": "select",
    "Sorting": "sorting",
    "load": "loading",
    "pack": "packing",
    "pack_gate_up": "gate_up",
    "sort_by_expert": "sorting",
    "stack": "stacks",
}

__all__ = [
    "DeviceArray",
    "DeviceStack",
    "DeviceWeight",
    "Library",
    "PackedStack",
    "PackedWeight",
    "Plan",
    "Selection",
    "Sorting",
    "load",
    "pack",
    "pack_gate_up",
    "sort_by_expert",
    "stack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"runtime.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
