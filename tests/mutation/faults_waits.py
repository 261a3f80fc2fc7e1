"""Barriers, waits and fences left out. No result need show it: the sanitizer has to.

Not here: the acquire of the last workgroup of a tile. Only caches that are not kept coherent show it, and the emulated device
has none.
"""

from __future__ import annotations

from dataclasses import replace

from .faults import (
    DECODE,
    DECODE_16,
    DECODE_HALF,
    FLUSHING,
    PRELUDE,
    RESCUE,
    RESIDENT,
    RESIDENT_A,
    RESIDENT_SIEVE,
    SIFTING,
    SLICES,
    STREAMED,
    STREAMED_FOLD,
    STREAMED_SUMS,
    SUMS,
    Fault,
)

_WAITS = [
    Fault("no barrier at all", PRELUDE, '  asm volatile("s_barrier" ::: "memory");\n', ""),
    Fault("barriers without a wait for LDS", PRELUDE, "  __builtin_amdgcn_s_waitcnt(LDS_DONE);\n", ""),
    Fault("waits for LDS without a barrier, resident", PRELUDE, '  asm volatile("s_barrier" ::: "memory");\n', "", DECODE),
    Fault("the first A read early", STREAMED, "store_a(first_a, lds, place);\n  synchronize();", "store_a(first_a, lds, place);"),
    Fault("the next A read early", STREAMED_FOLD, "there to be read.\n      synchronize();", "there to be read.\n"),
    Fault("the next A read early, sums", STREAMED_SUMS, "there to be read.\n      synchronize();", "there to be read.\n", SUMS),
    Fault("the place of A used early", RESCUE, "  synchronize();  // nobody reads A any more\n", "", FLUSHING),
    Fault("what other waves met read early", RESCUE, "!= 0) != 0;\n  synchronize();", "!= 0) != 0;", FLUSHING),
    Fault("A stored where other waves still read what was met", RESCUE, "lds, i * 4);\n  synchronize();", "lds, i * 4);", FLUSHING),
    Fault("resident: A read early", RESIDENT_A, "  synchronize();\n  keep_order();  // a weaker", "  keep_order();  // a weaker", DECODE),
    Fault("resident: A replaced early", RESIDENT_A, "  synchronize();  // nobody reads the chunk before any more\n", "", DECODE),
    Fault("resident: sums in the place of A early", RESIDENT, "  synchronize();  // nobody reads A any more\n", "", DECODE_HALF),
    Fault("resident: sums read early", RESIDENT, "  synchronize();\n  f32x4 total", "  f32x4 total", DECODE),
    Fault("resident: largest numbers in the place of A early", RESIDENT_A, "lds + ROWS_PLACE;\n  synchronize();",
          "lds + ROWS_PLACE;", DECODE),
    Fault("resident: largest numbers before they are cleared", RESIDENT_A, "thread * 4) = 0;\n  synchronize();",
          "thread * 4) = 0;", DECODE),
    Fault("resident: largest numbers read early", RESIDENT_A, "SCOPE_WORKGROUP);\n  synchronize();", "SCOPE_WORKGROUP);", DECODE),
    Fault("resident: A in the place of largest numbers early", RESIDENT_A, "  synchronize();  // A may come there again\n", "", DECODE),
    Fault("resident: the place of A used early, passes", RESIDENT_SIEVE, "bit : 0;\n  synchronize();", "bit : 0;", SIFTING),
    Fault("resident: what other waves met read early", RESIDENT_SIEVE, "/ 64 * 4) = wave;\n  synchronize();", "/ 64 * 4) = wave;", SIFTING),
    Fault("resident: A in the place of what was met early", RESIDENT_SIEVE, "  synchronize();  // A may come there again\n", "", SIFTING),
    Fault("resident: A cleared early, passes", RESIDENT_SIEVE, "    synchronize();  // the next pass clears A\n", "", SIFTING),
    Fault("partial sums not released", SLICES, '  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent");\n', "", DECODE, True),
    Fault("arrival before all waves' sums", SLICES, "  synchronize();\n  if (thread == 0)", "  if (thread == 0)", DECODE_16, True),
    Fault("the arrival read early", SLICES, "= before;\n  }\n  synchronize();", "= before;\n  }\n", DECODE, True),
    Fault("the counter is no atomic", SLICES,
          "__hip_atomic_fetch_add(counter, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);\n",
          "*counter; *counter = before + 1;\n", DECODE, True),
]  # fmt: skip

WAITS = [replace(one, unseen=True) for one in _WAITS]
