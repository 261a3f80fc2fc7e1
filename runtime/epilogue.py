"""What kernels can do to a result before they round it: the bits of their argument `options`.

In this order, in float32, with s the sum times the outer scale of its column:

    y = s + bias[n]                         BIAS
    y = y * sigmoid(y)                      SILU
    y = y * normal_cdf(y)                   GELU       (erf)
    y = y * sigmoid(1.5957691 (y + 0.044715 y^3))
                                            GELU_TANH
    y[j] = silu(y[2 j]) * y[2 j + 1]        SWIGLU     gate and up interleaved: C has N/2 columns
    y = y * weight[m]                       ROUTED     grouped GEMM only: the routing weight of the row
    y = y + residual[m, n]                  RESIDUAL

Bias and residual have the type of the activations. One activation at the most. Sources: Hendrycks and Gimpel, Gaussian
Error Linear Units, 2016 (GELU, and its tanh form); Shazeer, GLU Variants Improve Transformer, 2020 (SwiGLU).
"""

from __future__ import annotations

from enum import IntFlag

from runtime.errors import OperandError


class Epilogue(IntFlag):
    """Options of an epilogue."""

    BIAS = 1
    RESIDUAL = 2
    SILU = 4
    GELU = 8
    GELU_TANH = 16
    SWIGLU = 32
    ROUTED = 64

    def columns(self, n: int) -> int:
        """Of C, for a weight with n."""
        return n // 2 if self & Epilogue.SWIGLU else n


NONE = Epilogue(0)


def options_of(bias: object, residual: object, activation: object) -> Epilogue:
    """The options for these operands. activation: a name of ACTIVATIONS or None. OperandError for another."""
    options = (Epilogue.BIAS if bias is not None else NONE) | (Epilogue.RESIDUAL if residual is not None else NONE)
    if activation is None:
        return options
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise OperandError(f"no activation {activation!r:.60}: known are {', '.join(ACTIVATIONS)}")
    return options | ACTIVATIONS[activation]


def check_columns(n: int, options: Epilogue) -> None:
    """OperandError if a weight with n columns cannot be gate and up in turn."""
    if options & Epilogue.SWIGLU and n % 2:
        raise OperandError(f"swiglu takes gate and up in turn, but the weight has an odd N = {n}")


ACTIVATIONS = {"silu": Epilogue.SILU, "gelu": Epilogue.GELU, "gelu_tanh": Epilogue.GELU_TANH, "swiglu": Epilogue.SWIGLU}
