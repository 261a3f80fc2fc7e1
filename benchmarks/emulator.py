"""How fast the emulator is: wave-instructions a second for a compiled kernel of ALU and memory work, by waves
in flight, and matrix instructions a second.

    python benchmarks/emulator.py [--arch gfx942] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from petitgen.emulator import LaunchResult, launch
from petitgen.isa import CodeObject
from petitgen.toolchain import choose

SOURCE = r"""
typedef unsigned u32;
typedef unsigned u32x4 __attribute__((ext_vector_type(4)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef short bf16x4 __attribute__((ext_vector_type(4)));
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void

// Loads, LDS, integer and float arithmetic in a loop: what a dequantizing kernel does between matrix
// instructions.
KERNEL mix(const u32x4 *in, f32x4 *out, u32 rounds) {
  __attribute__((shared)) static u32x4 tile[256];
  u32 t = __builtin_amdgcn_workitem_id_x(), base = __builtin_amdgcn_workgroup_id_x() * 256;
  f32x4 acc = 0;
  for (u32 r = 0; r < rounds; r++) {
    u32x4 v = in[base + ((t + r * 64) & 255)];
    tile[t] = v;
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
    u32x4 w = tile[t ^ 64];
    for (int k = 0; k < 4; k++) {
      u32 bits = ((w[k] >> 3) & 0x007fffffu) | 0x3f000000u;
      u32 other = (v[k] << 5) ^ (w[k] & 0xf0f0f0f0u);
      float scale = __builtin_bit_cast(float, bits);
      acc[k] = acc[k] * scale + (float)(other >> 8) * 0.5f;
      acc[k] = acc[k] > 1e6f ? acc[k] * 0.001f : acc[k] + 1.0f;
    }
  }
  out[base + t] = acc;
}

KERNEL matrix(const bf16x4 *in, f32x4 *out, u32 rounds) {
  u32 t = __builtin_amdgcn_workitem_id_x();
  bf16x4 a = in[t], b = in[t + 64];
  f32x4 c[4] = {0, 0, 0, 0};
  for (u32 r = 0; r < rounds; r++)
    for (int k = 0; k < 4; k++) c[k] = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c[k], 0, 0, 0);
  out[__builtin_amdgcn_workgroup_id_x() * 64 + t] = c[0] + c[1] + c[2] + c[3];
}
"""


def build(arch: str) -> CodeObject:
    """The two kernels above."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "bench.hip"
        source.write_text(SOURCE)
        return CodeObject.load(choose(arch).selected.compile(source, arch))


def timed(code: CodeObject, kernel: str, grid: int, block: int, args: list) -> tuple[LaunchResult, float]:  # type: ignore[type-arg]
    """A launch and its seconds, the second of two: the first compiles."""
    launch(code, kernel, grid, block, args)
    start = time.perf_counter()
    result = launch(code, kernel, grid, block, args)
    return result, time.perf_counter() - start


def mix(code: CodeObject, waves: int, rounds: int) -> tuple[LaunchResult, float]:
    """Run the mix with `waves` waves in flight."""
    block, grid = (256, waves // 4) if waves >= 4 else (64, waves)
    data = np.random.default_rng(0).integers(0, 1 << 32, (grid * 256, 4), dtype=np.uint64).astype(np.uint32)
    return timed(code, "mix", grid, block, [data, np.zeros((grid * 256, 4), np.float32), np.uint32(rounds)])


def matrix(code: CodeObject, waves: int, rounds: int) -> tuple[LaunchResult, float]:
    """Run matrix instructions on `waves` waves."""
    data = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32).view(np.uint32) >> 16
    out = np.zeros((waves * 64, 4), np.float32)
    return timed(code, "matrix", waves, 64, [data.astype(np.uint16), out, np.uint32(rounds)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="gfx942", choices=("gfx90a", "gfx942"))
    parser.add_argument("--profile", action="store_true", help="profile the mix at 256 waves")
    options = parser.parse_args()
    code = build(options.arch)
    print(f"{'waves':>6} {'wave-instr':>11} {'seconds':>8} {'M/s':>7} {'us/step':>8}")
    for waves in (1, 4, 64, 256, 1024):
        result, seconds = mix(code, waves, 64)
        steps = result.total / waves
        print(
            f"{waves:6} {result.total:11} {seconds:8.3f} {result.total / seconds / 1e6:7.2f} "
            f"{seconds / steps * 1e6:8.2f}"
        )
    for waves in (4, 64, 256):
        result, seconds = matrix(code, waves, 64)
        count = sum(n for name, n in result.executed.items() if name.startswith("v_mfma"))
        print(f"v_mfma 16x16x16 bf16, {waves} waves: {count / seconds:,.0f} a second")
    if options.profile:
        mix(code, 256, 4)
        profile = cProfile.Profile()
        profile.runcall(mix, code, 256, 64)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        print(Counter(mix(code, 256, 1)[0].executed).most_common())


if __name__ == "__main__":
    main()
