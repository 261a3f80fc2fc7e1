"""Tiny kernels with the shape of real ones, so that a build takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from petitgen.spec import load_catalog
from petitgen.spec.model import Argument, KernelInstance

MakeInstance = Callable[..., KernelInstance]

ABI = (
    Argument("a", "buffer", "read", out_of_range=True, alignment=16, max_bytes=1 << 20, doc="in"),
    Argument("c", "buffer", "write", alignment=4, max_bytes=1 << 20, doc="out"),
    Argument("n", "u32", doc="elements"),
)

SOURCE = """\
typedef unsigned u32;
typedef u32 u32x4 __attribute__((ext_vector_type(4)));
static __attribute__((device)) __amdgpu_buffer_rsrc_t rsrc(u32x4 d) {{
  void *base = (void *)(((unsigned long long)(d[1] & 0xffff) << 32) | d[0]);
  return __builtin_amdgcn_make_buffer_rsrc(base, 0, d[2], d[3]);
}}
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, {block})))
void {name}(u32x4 a, u32x4 c, u32 n) {{
  u32 at = __builtin_amdgcn_workitem_id_x() * 4;
  u32 v = __builtin_amdgcn_raw_buffer_load_b32(rsrc(a), at, 0, 0);
  {body}
  __builtin_amdgcn_raw_buffer_store_b32(v + n, rsrc(c), at, 0, 0);
}}
"""


def source(instance: KernelInstance, body: str = "") -> str:
    """HIP text of a kernel that adds n to every element of a; `body` may change v before."""
    return SOURCE.format(name=instance.name, block=instance.block, body=body)


@pytest.fixture(scope="session")
def make_instance() -> MakeInstance:
    """make_instance("one", arch="gfx942", limits={...}): named one, the rest like a real instance."""
    catalog = load_catalog()

    def make(name: str, arch: str = "gfx942", limits: dict[str, int] | None = None) -> KernelInstance:
        model = next(one for one in catalog.gemms if one.arch.name == arch)
        return replace(model, name=name, abi=ABI, limits=replace(model.limits, **(limits or {})))

    return make


def tree(directory: Path) -> dict[str, bytes]:
    """Relative path -> content of every file but the lock."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
