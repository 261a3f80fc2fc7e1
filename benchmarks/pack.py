"""How long packing takes: a 28672 x 8192 weight (a gate or up projection of Llama-3-70B) in under 10 s.

python benchmarks/pack.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from runtime.packing import pack_nvfp4, unpack_nvfp4

LIMIT_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=28672)
    parser.add_argument("--k", type=int, default=8192)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 256, (args.n, args.k // 2), np.uint8)
    scales = rng.integers(0, 0x7F, (args.n, args.k // 16), np.uint8)
    start = time.perf_counter()
    packed = pack_nvfp4(weight, scales, 1.0)
    middle = time.perf_counter()
    same = np.array_equal(unpack_nvfp4(packed)[0], weight)
    end = time.perf_counter()
    print(f"{args.n} x {args.k}: packed in {middle - start:.2f} s, unpacked in {end - middle:.2f} s")
    return 0 if same and middle - start < LIMIT_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
