"""petitgen: ahead-of-time FP4/FP8 GEMM kernels for AMD gfx90a and gfx942."""

__version__ = "0.1.0"
