"""petitgen list and petitgen show"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

import click

from petitgen.build.state import Verified, built, file_state, verified
from petitgen.cli import options
from petitgen.cli.table import table
from petitgen.spec import ArrayInstance, GemmInstance, KernelInstance, load_catalog
from runtime.manifest import Kernel


@click.command("list")
@options.names
@options.arch
@click.option("--op", "ops", multiple=True, metavar="OP", help="Only kernels for this, e.g. gemm. Repeatable.")
@click.option("--format", "formats", multiple=True, metavar="FORMAT", help="Only this weight format. Repeatable.")
@click.option("--activations", multiple=True, metavar="TYPE", help="Only this type: bf16, fp16, fp8. Repeatable.")
@click.option("--matrix", is_flag=True, help="What can be computed, and with how many kernels: a table in Markdown.")
@options.generated
@options.configs
@options.as_json
def list_(
    names: tuple[str, ...],
    arch: str | None,
    ops: tuple[str, ...],
    formats: tuple[str, ...],
    activations: tuple[str, ...],
    matrix: bool,
    generated: Path,
    configs: Path | None,
    as_json: bool,
) -> None:
    """List the kernels there are: every NAME the specs ask for, whether it is built, and whether verified.

    \b
    built     yes; no; stale: its source has changed since;
              missing, damaged: so is the code object that was built
    verified  yes or FAILED, for the very code object that is there;
              no: not since it was built

    \b
    Examples:
      petitgen list
      petitgen list 'gemm_*_m16*' --arch gfx942
      petitgen list --format amdfp4 --activations fp16
      petitgen list --json | jq -r '.[] | select(.built == "no") | .name'
    """
    catalog = load_catalog(configs)
    instances = catalog.select(names, arch)
    for option, wanted, fact in (
        ("--op", ops, "op"),
        ("--format", formats, "format"),
        ("--activations", activations, "activations.name"),
    ):
        instances = _only(instances, option, wanted, attrgetter(fact), catalog.instances)
    if matrix:
        click.echo(support(instances))
        return
    archs = sorted({instance.arch.name for instance in instances})
    kernels = {name: kernel for one in archs for name, kernel in built(generated, one, _warn).items()}
    checks = {name: check for one in archs for name, check in verified(generated, one).items()}
    rows = [_state(instance, generated, kernels, checks) for instance in instances]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    columns = ("name", "built", "verified", "registers", "lds_bytes", "waves_per_simd")
    header = ("kernel", "built", "verified", "registers", "LDS", "waves/SIMD")
    click.echo(table(header, [["-" if row[key] is None else row[key] for key in columns] for row in rows]))
    count = sum(row["built"] == "yes" for row in rows)
    click.echo(
        f"{len(rows)} kernels, {count} built, {sum(row['verified'] == 'yes' for row in rows)} verified"
    )


def _warn(text: str) -> None:
    click.echo(f"petitgen: {text}", err=True)


def _only(
    instances: list[KernelInstance],
    option: str,
    wanted: tuple[str, ...],
    fact: Callable[[KernelInstance], str],
    every: Sequence[KernelInstance],
) -> list[KernelInstance]:
    """Those for which `fact` is one of the wanted; all if none is. UsageError for what no kernel has."""
    known = sorted({fact(instance) for instance in every} - {""})
    for name in wanted:
        if name not in known:
            raise click.UsageError(f"{option} {name}: no kernel has that; known are {', '.join(known)}")
    return [instance for instance in instances if not wanted or fact(instance) in wanted]


def support(instances: Sequence[KernelInstance]) -> str:
    """Kernels by op, weight format, activation type and architecture, as a table in Markdown. Empty: not there."""
    archs = sorted({instance.arch.name for instance in instances})
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for instance in instances:
        results = instance.out.name if isinstance(instance, GemmInstance) else instance.activations.name
        types = instance.activations.name if results == instance.activations.name else f"{instance.activations.name} to {results}"
        row = instance.op, instance.format, types
        counts.setdefault(row, Counter())[instance.arch.name] += 1
    lines = ["| op | weights | activations | " + " | ".join(archs) + " |", "|---|---|---|" + "---|" * len(archs)]
    lines += [
        f"| {' | '.join(row)} | " + " | ".join(str(found[arch] or "") for arch in archs) + " |"
        for row, found in counts.items()
    ]
    return "\n".join(lines)


@click.command()
@options.names
@options.arch
@options.configs
@click.option("--source", is_flag=True, help="Print the rendered HIP source instead.")
@options.as_json
def show(names: tuple[str, ...], arch: str | None, configs: Path | None, source: bool, as_json: bool) -> None:
    """Show what the specs say about kernels, or the HIP source that is rendered from it.

    \b
    Examples:
      petitgen show gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2
      petitgen show --source 'gemm_nvfp4_fp16__gfx90a_m16*'
      petitgen show --json --arch gfx942
    """
    from petitgen.render import render

    if not names and not arch:
        raise click.UsageError("name kernels to show (globs work), or an --arch; petitgen list has the names")
    instances = load_catalog(configs).select(names, arch)
    if as_json:
        data = [{**asdict(one), "block": one.block} for one in instances]
        if source:
            data = [{**facts, "source": render(one)} for facts, one in zip(data, instances, strict=True)]
        click.echo(json.dumps(data, indent=1))
        return
    for instance in instances:
        click.echo(render(instance) if source else _describe(instance))


def _state(
    instance: KernelInstance, generated: Path, kernels: Mapping[str, Kernel], checks: Mapping[str, Verified]
) -> dict[str, Any]:
    """One row: the spec's key facts, and what has become of it."""
    from petitgen.render import render

    kernel, check = kernels.get(instance.name), checks.get(instance.name)
    state, seen = "no", "no"
    if kernel is not None:
        file = file_state(generated / instance.arch.name, kernel)
        source = hashlib.sha256(render(instance).encode()).hexdigest()
        state = file if file != "ok" else "yes" if source == kernel.source_sha256 else "stale"
        if file == "ok" and check is not None and check.sha256 == kernel.sha256:
            seen = "yes" if check.ok else "FAILED"
    return {
        "name": instance.name,
        "arch": instance.arch.name,
        "contract": instance.contract,
        "built": state,
        "verified": seen,
        "registers": kernel.resources.registers if kernel else None,
        "lds_bytes": kernel.resources.lds_bytes if kernel else None,
        "waves_per_simd": kernel.resources.waves_per_simd if kernel else None,
    }


def _describe(instance: KernelInstance) -> str:
    """The spec of a kernel in a few lines."""
    limits, own = instance.limits, _OWN[type(instance)](instance)
    lines = [
        instance.name,
        f"  computes     {instance.contract} for {instance.arch.name} ({instance.arch.product})",
        f"  template     templates/{instance.template}",
        *own,
        f"  limits       {limits.registers} registers, {limits.lds_bytes} bytes of LDS,"
        f" {limits.scratch_bytes} of scratch, {limits.spills} spills",
        "  arguments",
    ]
    lines += [f"    {arg.name:4} {arg.kind:6} {arg.access:5} {arg.doc}" for arg in instance.abi]
    return "\n".join(lines)


def _gemm(instance: GemmInstance) -> list[str]:
    tile, constraints = instance.tile, instance.constraints
    return [
        f"  tile         {tile.m} x {tile.n} of C, {tile.k} of K staged, {tile.stages} stages,"
        f" MFMA {tile.mfma}x{tile.mfma}",
        f"  workgroup    {instance.block} work-items: waves {tile.waves_m} x {tile.waves_n} x {tile.waves_k}",
        f"  multiples    K of {constraints.k_multiple}, row pitch of A of {constraints.lda_multiple},"
        f" of C of {constraints.ldc_multiple}",
        f"  tolerance    {instance.tolerance.unit:g} |y| + {instance.tolerance.accumulate:g} sum |a w|",
    ]


def _array(instance: ArrayInstance) -> list[str]:
    axes = zip("xyz", instance.grid, strict=True)
    grid = [f"{name}: {axis if isinstance(axis, int) else f'{axis[0]} / {axis[1]}'}" for name, axis in axes]
    return [
        f"  workgroup    {instance.block} work-items",
        f"  grid         {', '.join(grid)}",
        "  tolerance    none: the bits of the definition",
    ]


_OWN: dict[type, Callable[[Any], list[str]]] = {GemmInstance: _gemm, ArrayInstance: _array}
