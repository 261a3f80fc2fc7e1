"""Kernels that exist on paper: manifests with the ABI of the GEMM kernels and files of any bytes beside them."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

TWO_GIB = 2**31
BUFFERS = {"a": (16, TWO_GIB), "w": (16, 2**32 - 1), "s": (8, 2**32 - 1), "o": (16, 2**32 - 1), "c": (8, TWO_GIB)}
SHARED = {"p": (16, 2**32 - 1), "t": (4, 2**32 - 1)}  # of kernels whose workgroups can share a tile
ACCESS = {"c": "write", "p": "readwrite", "t": "readwrite"}
SCALARS = ("m", "n", "k", "lda", "ldc")
CODE = b"\x7fELF and so on"


def kernel(
    tile_m: int, tile_n: int, arch: str = "gfx942", activations: str = "bf16", split: bool = False, **changes: Any
) -> dict[str, Any]:
    """The manifest's entry of a kernel. split: of one whose workgroups can share a tile. changes: other values for its
    keys."""
    name = f"gemm_nvfp4_{activations}__{arch}_m{tile_m}n{tile_n}k64_w1x4x1"
    buffers, scalars = {**BUFFERS, **(SHARED if split else {})}, (*SCALARS, *(("slices",) if split else ()))
    arguments = [
        {
            "name": buffer,
            "kind": "buffer",
            "offset": 16 * index,
            "size": 16,
            "access": ACCESS.get(buffer, "read"),
            "out_of_range": True,
            "alignment": alignment,
            "max_bytes": largest,
        }
        for index, (buffer, (alignment, largest)) in enumerate(buffers.items())
    ] + [
        {
            "name": scalar,
            "kind": "u32",
            "offset": 16 * len(buffers) + 4 * index,
            "size": 4,
            "access": "",
            "out_of_range": False,
            "alignment": 1,
            "max_bytes": 0,
        }
        for index, scalar in enumerate(scalars)
    ]
    zeros = dict.fromkeys(
        ("registers", "agprs", "sgprs", "lds_bytes", "scratch_bytes", "vgpr_spills", "sgpr_spills"), 0
    )
    entry = {
        "name": name,
        "op": "gemm",
        "weights": "nvfp4",
        "activations": activations,
        "out": activations,
        "order": "fp16",
        "symbol": name,
        "file": f"{name}.hsaco",
        "sha256": hashlib.sha256(CODE).hexdigest(),
        "size": len(CODE),
        "source": f"{name}.hip",
        "source_sha256": "",
        "target": arch,
        "code_object_version": 5,
        "compiler": {"name": "none", "version": "0"},
        "flags": [],
        "resources": {**zeros, "waves_per_simd": 1, "wave_size": 64, "max_workgroup": 256},
        "kernarg": {"size": 16 * len(buffers) + 4 * len(scalars), "args": arguments},
        "tile": {"m": tile_m, "n": tile_n, "k": 64, "unit": 128},
        "block": 256,
        "grid": {"x": ["n", tile_n], "y": ["m", tile_m], "z": ["slices", 1] if split else 1},
        "constraints": {"k_multiple": 16, "lda_multiple": 8, "ldc_multiple": 1, "max_pitch": 1 << 22},
        "tolerance": {"unit": 2.0**-8, "accumulate": 2.0**-20, "sums": 2.0**-8},
    }
    return copy.deepcopy({**entry, **changes})


def manifest(*kernels: dict[str, Any], arch: str = "gfx942", schema: int = 3) -> str:
    """The text of a manifest.json."""
    return json.dumps(
        {"schema": schema, "petitgen": "0", "arch": arch, "kernels": {entry["name"]: entry for entry in kernels}}
    )


def write(folder: Path, *kernels: dict[str, Any], arch: str = "gfx942", schema: int = 3) -> Path:
    """A directory with a manifest and its code objects."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in kernels:
        (folder / entry["file"]).write_bytes(CODE)
    (folder / "manifest.json").write_text(manifest(*kernels, arch=arch, schema=schema))
    return folder
