"""The flags every compiler gets, whatever the route. Each one is there for a reason, said beside it."""

from __future__ import annotations

FLAGS: tuple[str, ...] = (
    "-x",
    "hip",
    "--offload-device-only",
    "--no-gpu-bundle-output",  # raw ELF; compilers that bundle all the same are unwrapped afterwards
    "-nogpulib",  # no device library: the sources use builtins only, so none need be installed
    "-nogpuinc",  # no HIP headers either
    "-nostdinc",
    "-O3",
    "-std=c++17",
    "-mcode-object-version=5",  # defaults differ: clang 19 makes v5, clang 22 v6
    "-fuse-cuid=none",  # the compilation unit id hashes the path: without it output depends on the directory
    "-fhip-kernel-arg-name",  # argument names in the metadata, so that the ABI is joined by name
)


def compile_flags(arch: str) -> tuple[str, ...]:
    """All flags for a kernel of `arch` (gfx90a, gfx942)."""
    return (*FLAGS, f"--offload-arch={arch}")
