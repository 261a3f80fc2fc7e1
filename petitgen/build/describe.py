"""A built code object joined with its spec: the manifest entry, or why the object may not be shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from petitgen.errors import BuildError
from petitgen.isa import CodeObject
from petitgen.spec.model import ArrayInstance, GemmInstance, KernelInstance
from petitgen.spec.occupancy import room
from petitgen.toolchain.compiler import Compiler
from petitgen.toolchain.flags import compile_flags
from runtime import manifest


def describe(instance: KernelInstance, source: str, code: bytes, compiler: Compiler) -> manifest.Kernel:
    """The manifest entry of the code object `code` that was compiled from `source`.

    BuildError if it is for another arch, lacks the kernel, exceeds its limits or disagrees with the ABI;
    CodeObjectError if it cannot be read.
    """
    built = CodeObject.load(code)
    _check_object(instance, built)
    kernel = built.kernels[instance.name]
    resources = _resources(instance, kernel)
    faults = _over_limits(instance, resources, kernel) or _abi_faults(instance, kernel.args)
    if faults:
        raise BuildError("; ".join(faults))
    return manifest.Kernel(
        name=instance.name,
        op=instance.op,
        weights=instance.format,
        activations=instance.activations.name,
        symbol=kernel.name,
        file=f"{instance.name}.hsaco",
        sha256=hashlib.sha256(code).hexdigest(),
        size=len(code),
        source=f"{instance.name}.hip",
        source_sha256=hashlib.sha256(source.encode()).hexdigest(),
        target=target_id(built),
        code_object_version=built.version,
        compiler=manifest.Compiler(**compiler.identity),
        flags=compile_flags(instance.arch.name),
        resources=resources,
        kernarg=_kernarg(instance, kernel),
        block=instance.block,
        **_LAUNCH[type(instance)](instance),
    )


def _gemm(instance: GemmInstance) -> dict[str, Any]:
    """What the manifest says of a GEMM alone. Grid z: as many workgroups a tile as are asked for, if it takes the number."""
    tile = instance.tile
    slices = ("slices", 1) if any(argument.name == "slices" for argument in instance.abi) else 1
    return {
        "out": instance.out.name,
        "order": instance.order,
        "tile": tile.figures(),
        "grid": manifest.Grid(x=("n", tile.n), y=("m", tile.m), z=slices),
        "constraints": asdict(instance.constraints),
        "tolerance": manifest.Tolerance(**asdict(instance.tolerance)),
    }


def _array(instance: ArrayInstance) -> dict[str, Any]:
    """Its results are exact: there is no tolerance."""
    grid = manifest.Grid(*instance.grid)
    return {"out": "", "order": "", "tile": dict(instance.numbers), "grid": grid, "constraints": {}, "tolerance": None}


_LAUNCH: dict[type, Callable[[Any], dict[str, Any]]] = {GemmInstance: _gemm, ArrayInstance: _array}


def target_id(built: CodeObject) -> str:
    """Arch and features the object insists on, as LLVM writes them: gfx942, gfx90a:sramecc+:xnack-."""
    signs = {"on": "+", "off": "-"}
    insists = [f":{name}{signs[value]}" for name, value in sorted(built.features.items()) if value in signs]
    return built.arch + "".join(insists)


def _check_object(instance: KernelInstance, built: CodeObject) -> None:
    if built.arch != instance.arch.name:
        raise BuildError(f"compiled for {built.arch}, not {instance.arch.name}")
    if instance.name not in built.kernels:
        has = ", ".join(built.kernels) or "none"
        raise BuildError(f"the code object has no kernel of that name, only {has}")


def _resources(instance: KernelInstance, kernel: Any) -> manifest.Resources:
    built, arch = kernel.resources, instance.arch
    # Waves by what the hardware is told to allocate: it may be more than the metadata's registers.
    allocated = kernel.descriptor.vgpr_count
    lds = built.group_segment_fixed_size
    return manifest.Resources(
        registers=built.vgpr_count,  # counts the unified file on gfx90a and later: AGPRs are in it
        agprs=built.agpr_count,
        sgprs=built.sgpr_count,
        lds_bytes=lds,
        scratch_bytes=built.private_segment_fixed_size,
        vgpr_spills=built.vgpr_spill_count,
        sgpr_spills=built.sgpr_spill_count,
        waves_per_simd=room(arch, allocated, built.sgpr_count, lds, instance.block).waves_per_simd,
        wave_size=built.wavefront_size,
        max_workgroup=built.max_flat_workgroup_size,
    )


def _over_limits(instance: KernelInstance, used: manifest.Resources, kernel: Any) -> list[str]:
    """Everything the kernel takes beyond what its spec or its arch allows, with the figures."""
    limits, arch = instance.limits, instance.arch
    table = (
        ("registers (VGPR + AGPR)", used.registers, min(limits.registers, arch.registers)),
        ("bytes of LDS", used.lds_bytes, min(limits.lds_bytes, arch.lds_bytes)),
        ("bytes of scratch a lane", used.scratch_bytes, limits.scratch_bytes),
        ("spilled registers", used.vgpr_spills + used.sgpr_spills, limits.spills),
        ("work-items a workgroup", instance.block, used.max_workgroup),
    )
    faults = [f"{value} {what}, limit {limit}" for what, value, limit in table if value > limit]
    if used.wave_size != arch.wave_size:
        faults.append(f"wave size {used.wave_size}, {arch.name} runs {arch.wave_size}")
    if not faults and used.waves_per_simd < 1:
        faults.append(f"a workgroup of {instance.block} work-items does not fit a CU")
    if kernel.resources.uses_dynamic_stack:
        faults.append("uses a stack of unknown size (recursion or a call that was not inlined)")
    return faults


def _abi_faults(instance: KernelInstance, args: Any) -> list[str]:
    """Where the kernel's explicit arguments differ from the spec's ABI: count, names, order, sizes."""
    explicit = [arg for arg in args if not arg.value_kind.startswith("hidden_")]
    wanted = [(arg.name, manifest.ARGUMENT_SIZES[arg.kind]) for arg in instance.abi]
    found = [(arg.name, arg.size) for arg in explicit]
    if found == wanted:
        return []

    def text(pairs: list[tuple[str, int]]) -> str:
        return ", ".join(f"{name} ({size} bytes)" for name, size in pairs) or "none"

    return [f"arguments differ from the ABI in the spec: compiled {text(found)}; spec {text(wanted)}"]


def _kernarg(instance: KernelInstance, kernel: Any) -> manifest.Kernarg:
    args = tuple(
        manifest.Argument(
            name=wanted.name,
            kind=wanted.kind,
            offset=found.offset,
            size=found.size,
            access=wanted.access,
            out_of_range=wanted.out_of_range,
            alignment=wanted.alignment,
            max_bytes=wanted.max_bytes if wanted.kind == "buffer" else 0,
        )
        for wanted, found in zip(instance.abi, kernel.args, strict=False)  # hidden arguments come last
    )
    return manifest.Kernarg(size=kernel.resources.kernarg_segment_size, args=args)
