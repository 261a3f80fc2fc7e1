"""Float atomics of FLAT, GLOBAL and MUBUF, with and without the old value, against numpy's scalars, one lane
after the other."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from .test_memory import LANE, RNG, Device, block, returning

PACKED = {"pk_add_f16": np.float16, "pk_add_bf16": ml_dtypes.bfloat16}
PLAIN = {"add_f32": np.float32, "add_f64": np.float64, "min_f64": np.float64, "max_f64": np.float64}
ONLY_GFX942 = {("flat", "add_f32"), ("flat", "pk_add_f16"), ("flat", "pk_add_bf16"), ("global", "pk_add_bf16")}
CASES = [
    (arch, family, name)
    for arch in ("gfx90a", "gfx942")
    for family in ("global", "flat", "buffer")
    for name in (*PLAIN, *PACKED)
    if (family, name) != ("buffer", "pk_add_bf16") and (arch == "gfx942" or (family, name) not in ONLY_GFX942)
]
WORDS = 5  # addresses; the last lies past the end of the buffer


def combine(name: str, old: np.ndarray, data: np.ndarray) -> np.ndarray:
    """The new elements, each rounded once to the type in memory."""
    if name.startswith("pk_"):
        return (old.astype(np.float64) + data.astype(np.float64)).astype(old.dtype)
    return {"add": old + data, "min": np.minimum(old, data), "max": np.maximum(old, data)}[name[:3]]


def bits(values: np.ndarray) -> list[int]:
    return np.ascontiguousarray(values).view(np.uint8).ravel().tolist()


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize(("arch", "family", "name"), CASES)
def test_colliding_lanes(arch, family, name, returns):
    dtype = PACKED.get(name) or PLAIN[name]
    width = 2 if name in PACKED else 1  # elements at an address
    size = np.dtype(dtype).itemsize * width
    m = Device(arch)
    start, data = (RNG.standard_normal((n, width)).astype(dtype) for n in (WORDS, 64))
    m.memory.write(m.address, np.ascontiguousarray(start).view(np.uint8))
    where = RNG.integers(0, WORDS, 64)
    mask = int(RNG.integers(1 << 62)) | 1 << 63
    m.pair(126, mask)
    m.pointers(0, where * size)
    m.v[2] = where * size
    m.resource(8, (WORDS - 1) * size)
    raw = np.ascontiguousarray(data).view(np.uint32).reshape(64, -1)
    m.v[4 : 4 + size // 4] = raw.T[:, None, :]
    end, out = (" " + returning(arch) if returns else ""), (block(12, size) + ", " if returns else "")
    m.run(
        {
            "global": f"global_atomic_{name} {out}v[0:1], {block(4, size)}, off{end}",
            "flat": f"flat_atomic_{name} {out}v[0:1], {block(4, size)}{end}",
            "buffer": f"buffer_atomic_{name} {block(4, size)}, v2, s[8:11], 0 offen{end}",
        }[family]
    )
    first, memory = (4 if family == "buffer" else 12), start.copy()
    for lane in LANE[[bool(mask >> int(lane) & 1) for lane in LANE]]:
        dropped = family == "buffer" and where[lane] == WORDS - 1
        old = memory[where[lane]].copy()
        if not dropped:
            memory[where[lane]] = combine(name, old, data[lane])
        if returns:
            got = bits(m.v[first : first + size // 4, 0, lane])
            assert got == ([0] * size if dropped else bits(old)), lane
    assert m.memory.read(m.address, np.uint8, WORDS * size).tolist() == bits(memory)
