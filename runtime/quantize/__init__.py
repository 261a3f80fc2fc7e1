"""Quantizers on torch tensors, on any device: floats to NVFP4, MXFP4 and AMD-FP4 and back.

    from runtime.quantize import checkpoint, dequantize, quantize
    q = quantize("nvfp4", weight)                        # weight [N, K]
    packed = runtime.pack(q.format, *checkpoint(q))
    y = dequantize(q, torch.bfloat16)

What they compute, bit by bit, is defined in docs/quantization.md. Importing this package needs torch; `import runtime`
does not.
"""

from __future__ import annotations

from runtime.quantize.amdfp4 import convert_from_amdfp4, convert_to_amdfp4
from runtime.quantize.tensors import Quantized, checkpoint, dequantize, quantize

__all__ = ["Quantized", "checkpoint", "convert_from_amdfp4", "convert_to_amdfp4", "dequantize", "quantize"]
