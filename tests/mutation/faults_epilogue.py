"""Faults in what happens to a result before it is rounded, in either loop."""

from __future__ import annotations

from dataclasses import replace

from .faults import DECODE, EPILOGUE, LATE, STREAMED_C, Fault, Plant

_FAULTS = [
    Fault("bias of the neighbour", EPILOGUE, "add<4>(y, e.bias, 0, n,", "add<4>(y, e.bias, 0, n + 4,"),
    Fault("bias by row", EPILOGUE, "add<4>(y, e.bias, 0, n,", "add<4>(y, e.bias, row * e.ldr * 2, n,"),
    Fault("no bias", EPILOGUE, "if (e.options & BIAS)", "if (e.options & BIAS && e.options & SWIGLU)", DECODE),
    Fault("bias past the last column", EPILOGUE, "load_b16(from, n + e < N ?", "load_b16(from, n + e < N - 1 ?"),
    Fault("halves of a pair exchanged", EPILOGUE, "y[0] += widen(four[0] & 0xffffu);", "y[0] += widen(four[0] >> 16);"),
    Fault("four at once at odd pitches", EPILOGUE, "(pitches & 3) == 0 &&", "", DECODE),
    Fault("activation before the bias", EPILOGUE, "  activate(y, e.options);\n", ""),
    Fault("SiLU for tanh", EPILOGUE, "options & SILU ? y[e] : cubic", "true ? y[e] : cubic"),
    Fault("GELU's tail of the other side", EPILOGUE, "x < 0 ? tail : 1.0f - tail", "x < 0 ? 1.0f - tail : tail"),
    Fault("GELU's tail for both sides", EPILOGUE, "x < 0 ? tail : 1.0f - tail", "tail"),
    Fault("GELU's polynomial to a coarse erfc", EPILOGUE, "p = p * t + {{ c }}f;", "p = p * t + {{ '%.3f' | format(c) }}f;"),
    Fault("sigmoid of twice", EPILOGUE, "x * -0x1.715476p+0f)); }", "x * -0x1.715476p+1f)); }"),
    Fault("gate and up exchanged", EPILOGUE, "y[0] = y[0] * sigmoid(y[0]) * y[1];", "y[0] = y[1] * sigmoid(y[1]) * y[0];"),
    Fault("the second gate of the first", EPILOGUE, "y[1] = y[2] * sigmoid(y[2]) * y[3];", "y[1] = y[2] * sigmoid(y[0]) * y[3];", DECODE),
    Fault("gated columns past the end", EPILOGUE, "half + i < columns ?", "half + i <= columns ?"),
    Fault("the residual of a gate at the column of the gate", EPILOGUE, "row * e.ldr * 2, half, columns", "row * e.ldr * 2, n, columns"),
    Fault("residual with C's pitch", EPILOGUE, "row * e.ldr * 2, n, e.N", "row * e.ldr, n, e.N"),
    Fault("residual before the activation", EPILOGUE, "  activate(y, e.options);\n",
          "  if (e.options & RESIDUAL) add<4>(y, e.residual, 0, n, e.N, false);\n  activate(y, e.options);\n"),
    Fault("late arguments: the residual for the bias", LATE, "{{ p.name }};",
          "{{ {'bias': 'residual', 'residual': 'bias'}.get(p.name, p.name) }};"),
    Fault("streamed: a row of the block too few", STREAMED_C, "row < MFMA; row += 8", "row < MFMA - 8; row += 8"),
    Fault("streamed: rows of the block in the wrong order", STREAMED_C, "e / 4 * 8 + lane / MFMA * 4 + e % 4) * MFMA",
          "e / 4 * 8 + lane / MFMA * 4 + (3 - e % 4)) * MFMA"),
    Fault("streamed: columns of C from the first", STREAMED_C, "n + j * MFMA + lane % 8 * 4, ldc", "n + lane % 8 * 4, ldc",
          Plant("gfx942", "nvfp4", "bf16", "streamed", 64, 256)),
]  # fmt: skip

EPILOGUE_FAULTS = [replace(fault, finished=True) for fault in _FAULTS]
