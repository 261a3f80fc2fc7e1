"""torch operator of FP8 activations: petitgen::gemm_fp8, for eager torch and torch.compile(fullgraph=True).

    codes, scales, outer = runtime.ops.tensors(packed, "cuda", "fp8")
    y = torch.ops.petitgen.gemm_fp8(x, x_scale, codes, scales, outer, dtype=torch.bfloat16)    # or float16

x is float8_e4m3fnuz or its codes as uint8 [M, K], x_scale float32 [M] or [M, 1]; format is fp8, nvfp4 or mxfp4. Tensors of weights are
treated as those of petitgen::gemm (runtime/ops.py). gfx942 only. Inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime import ops
from runtime.errors import OperandError

_SCHEMA = (
    "gemm_fp8(Tensor x, Tensor x_scale, Tensor codes, Tensor scales, Tensor outer, Tensor? bias=None, str format='fp8', *,"
    " ScalarType dtype, Tensor? residual=None, str? activation=None) -> Tensor"
)
_FP8 = (torch.float8_e4m3fnuz, torch.uint8)
_RESULTS = (torch.bfloat16, torch.float16)

_library = torch.library.Library("petitgen", "FRAGMENT")
_library.define(_SCHEMA)


def _run(
    x: Tensor,
    x_scale: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "fp8",
    *,
    dtype: torch.dtype,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    library = ops.library_of(x.get_device())
    numbers = x.view(torch.float8_e4m3fnuz) if x.dtype == torch.uint8 else x
    weight = ops.weight_of(library, numbers, codes, scales, outer, format)
    return library.gemm(
        x, weight, bias, residual=residual, activation=activation, x_scale=x_scale, dtype=dtype
    )


def _fake(
    x: Tensor,
    x_scale: Tensor,
    codes: Tensor,
    scales: Tensor,
    outer: Tensor,
    bias: Tensor | None = None,
    format: str = "fp8",
    *,
    dtype: torch.dtype,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Refuses while tracing what no kernel takes."""
    if x.dim() != 2 or x.dtype not in _FP8:
        raise OperandError(f"x is {list(x.shape)} {x.dtype}: float8_e4m3fnuz [M, K] is needed, or its codes as uint8")
    if dtype not in _RESULTS:
        raise OperandError(f"dtype is {dtype}: results are bfloat16 or float16")
    if x_scale.dtype != torch.float32 or x_scale.dim() not in (1, 2):
        raise OperandError(f"x_scale is {list(x_scale.shape)} {x_scale.dtype}: float32 [M] or [M, 1] is needed")
    columns = ops.check_weight(x, codes, scales, outer, bias, format, residual, activation, dtype)
    return x.new_empty((x.shape[0], columns), dtype=dtype)


for _key in ("CPU", "CUDA"):  # ROCm's torch calls its devices cuda
    _library.impl("gemm_fp8", _run, _key)
torch.library.register_fake("petitgen::gemm_fp8", _fake, lib=_library)
