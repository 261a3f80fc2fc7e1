"""How fast the emulator is: wave-instructions a second for a compiled kernel of ALU and memory work, by waves
in flight, with and without the sanitizer, where the time goes by mnemonic, matrix instructions a second, and time
and peak memory of a verified GEMM.

    python benchmarks/emulator.py [--arch gfx942] [--gemm 16,8192,8192] [--mnemonics 15] [--profile]

It runs from a clone with the packages of pyproject.toml, installed or not. The GEMM is one of the built kernels
(`petitgen build`) and is left out where there are none.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone, installed or not

from petitgen.emulator import LaunchResult, launch
from petitgen.emulator.state import Group, Observer
from petitgen.isa import CodeObject
from petitgen.isa.model import Instruction
from petitgen.toolchain import choose
from petitgen.verify.runner import run
from petitgen.verify.shapes import Shape
from petitgen.verify.targets import select

ROOT = Path(__file__).resolve().parents[1]
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
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();  // nobody writes the next round's tile before all have read this one
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
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


class Clock(Observer):
    """Seconds by mnemonic: from one instruction to the next, so that a branch pays for choosing what runs next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps: Counter[str] = Counter()
        self._running: str | None = None
        self._since = 0.0

    def instruction(self, group: Group, instruction: Instruction) -> None:
        """See Observer."""
        now = time.perf_counter()
        if self._running is not None:
            self.seconds[self._running] += now - self._since
        self._running = instruction.mnemonic
        self.steps[self._running] += 1
        self._since = time.perf_counter()

    def access(self, *_: Any) -> None:
        """See Observer; not of interest."""

    def out_of_range(self, *_: Any) -> None:
        """See Observer; not of interest."""


def timed(
    code: CodeObject, kernel: str, grid: int, block: int, args: list[Any], **options: Any
) -> tuple[LaunchResult, float]:
    """A launch and its seconds, the second of two: the first compiles."""
    launch(code, kernel, grid, block, args)
    start = time.perf_counter()
    result = launch(code, kernel, grid, block, args, **options)
    return result, time.perf_counter() - start


def mix(code: CodeObject, waves: int, rounds: int, **options: Any) -> tuple[LaunchResult, float]:
    """Run the mix with `waves` waves in flight."""
    block, grid = (256, waves // 4) if waves >= 4 else (64, waves)
    data = np.random.default_rng(0).integers(0, 1 << 32, (grid * 256, 4), dtype=np.uint64).astype(np.uint32)
    args = [data, np.zeros((grid * 256, 4), np.float32), np.uint32(rounds)]
    return timed(code, "mix", grid, block, args, **options)


def matrix(code: CodeObject, waves: int, rounds: int) -> tuple[LaunchResult, float]:
    """Run matrix instructions on `waves` waves."""
    data = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32).view(np.uint32) >> 16
    out = np.zeros((waves * 64, 4), np.float32)
    return timed(code, "matrix", waves, 64, [data.astype(np.uint16), out, np.uint32(rounds)])


def print_rates(code: CodeObject) -> None:
    """Wave-instructions a second of the mix, by waves in flight, plain and sanitized."""
    print(f"{'waves':>6} {'':9} {'wave-instr':>11} {'seconds':>8} {'M/s':>7} {'us/step':>8}")
    plain = [(waves, False, 64) for waves in (1, 4, 64, 256, 1024)]
    for waves, sanitize, rounds in [*plain, (256, True, 16), (1024, True, 16)]:
        result, seconds = mix(code, waves, rounds, sanitize=sanitize)
        steps = result.total / waves
        print(
            f"{waves:6} {'sanitized' if sanitize else '':9} {result.total:11} {seconds:8.3f} "
            f"{result.total / seconds / 1e6:7.2f} {seconds / steps * 1e6:8.2f}"
        )
        for finding in result.findings:
            print(f"       {finding}")
    for waves in (4, 64, 256):
        result, seconds = matrix(code, waves, 64)
        count = sum(n for name, n in result.executed.items() if name.startswith("v_mfma"))
        print(f"v_mfma 16x16x16 bf16, {waves} waves: {count / seconds:,.0f} a second")


def print_mnemonics(code: CodeObject, count: int) -> None:
    """Where the time of the mix goes at 256 waves."""
    clock = Clock()
    mix(code, 256, 64, observer=clock)
    total = sum(clock.seconds.values())
    print(f"\n{'mnemonic, 256 waves':28} {'steps':>7} {'us/step':>8} {'share':>6}")
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])[:count]:
        steps = clock.steps[name]
        print(f"{name:28} {steps:7} {seconds / steps * 1e6:8.2f} {seconds / total:6.1%}")


def _verified(arch: str, name: str, shape: tuple[int, int, int]) -> tuple[bool, list[str], int, float, int]:
    """Verify one built kernel: right, what is wrong, wave-instructions, seconds, peak memory in bytes."""
    (report,) = run(select(ROOT / "generated", [name], arch), shapes=[Shape(*shape)], jobs=1).kernels
    (case,) = report.cases
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return case.ok, case.findings, case.instructions, case.seconds, peak


def print_gemm(arch: str, name: str, shape: tuple[int, int, int]) -> None:
    """A GEMM against its float64 reference, in a process of its own for the sake of its peak memory."""
    size = "x".join(map(str, shape))
    if not (ROOT / "generated" / arch / f"{name}.hsaco").is_file():
        print(f"\nGEMM {size}: {name} is not built; run: petitgen build {name}")
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        ok, wrong, count, seconds, peak = pool.submit(_verified, arch, name, shape).result()
    print(f"\nGEMM {size}, {name}: {'right' if ok else 'WRONG'}")
    print(f"{count:,} wave-instructions, {seconds:.1f} s with inputs and reference, peak {peak / 2**30:.2f} GiB")
    for line in wrong:
        print(f"       {line}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="gfx942", choices=("gfx90a", "gfx942"))
    parser.add_argument("--gemm", default="16,8192,8192", metavar="M,N,K", help="shape; empty: leave it out")
    parser.add_argument("--kernel", help="the built kernel to verify; default: a bf16 one with a tile of 16 rows")
    parser.add_argument("--mnemonics", type=int, default=15, help="how many to list; 0: leave it out")
    parser.add_argument("--profile", action="store_true", help="profile the mix at 256 waves")
    options = parser.parse_args()
    code = build(options.arch)
    print_rates(code)
    if options.mnemonics:
        print_mnemonics(code, options.mnemonics)
    if options.profile:
        mix(code, 256, 4)
        profile = cProfile.Profile()
        profile.runcall(mix, code, 256, 64)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        print(Counter(mix(code, 256, 1)[0].executed).most_common())
    if options.gemm:
        m, n, k = (int(part) for part in options.gemm.split(","))
        name = options.kernel or f"gemm_nvfp4_bf16__{options.arch}_m64n128k64_w1x4x1"
        print_gemm(options.arch, name, (m, n, k))


if __name__ == "__main__":
    main()
