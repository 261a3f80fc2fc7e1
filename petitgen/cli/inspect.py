"""petitgen inspect"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from petitgen.build.describe import target_id
from petitgen.build.state import file_state
from petitgen.cli import options
from petitgen.cli.table import table
from petitgen.errors import BuildError
from petitgen.isa import CodeObject, Instruction, disassemble
from petitgen.spec import load_catalog
from petitgen.spec.occupancy import room
from runtime.manifest import FILE_NAME, Manifest

# Class of an instruction by its encoding; the exceptions, by mnemonic prefix, come first.
BY_PREFIX = (
    (("v_mfma", "v_smfmac"), "MFMA"),
    (("v_accvgpr",), "AGPR move"),
    (("s_waitcnt", "s_nop", "s_sleep"), "wait"),
    (("s_barrier",), "barrier"),
    (("s_cbranch", "s_branch", "s_setpc", "s_swappc", "s_call", "s_endpgm"), "branch"),
    (("scratch_",), "scratch"),
)
BY_ENCODING = {
    **dict.fromkeys(("VOP1", "VOP2", "VOPC", "VOP3", "VOP3P", "MAI", "SDWA", "DPP", "VINTRP"), "VALU"),
    **dict.fromkeys(("SOP1", "SOP2", "SOPC", "SOPK", "SOPP"), "SALU"),
    **dict.fromkeys(("MUBUF", "MTBUF", "FLAT", "GLOBAL", "SCRATCH"), "VMEM"),
    "SMEM": "SMEM",
    "DS": "LDS",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a code object says about one of its kernels.

    mix, mnemonics  instructions by class and by mnemonic: as they stand in the text, not as executed
    """

    name: str
    file: str
    target: str
    code_object_version: int
    code_bytes: int
    resources: dict[str, Any]
    waves_per_simd: int
    kernarg: list[dict[str, Any]]
    mix: dict[str, int]
    mnemonics: dict[str, int]


@click.command()
@options.names
@options.arch
@options.generated
@click.option("--asm", is_flag=True, help="Print the disassembly.")
@options.as_json
def inspect(names: tuple[str, ...], arch: str | None, generated: Path, asm: bool, as_json: bool) -> None:
    """Read built code objects: resources, occupancy, kernel arguments, instructions by class.

    NAMES are kernels below generated/, or code object files of anyone's making for gfx90a or gfx942. A kernel
    whose code object is missing or damaged is not read, and makes the exit status 1.

    \b
    Examples:
      petitgen inspect 'gemm_nvfp4_bf16__gfx942_m16*'
      petitgen inspect --asm gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2
      petitgen inspect --json some/other.hsaco
    """
    wanted = list(_files(names, arch, generated))
    found = [(file, kernel) for file, state in wanted if state == "ok" for kernel in _kernels(file)]
    unread = [(file, state) for file, state in wanted if state != "ok"]
    if as_json:
        data = []
        for file, (built, kernel) in found:
            facts = {**asdict(_facts(file, built, kernel)), "state": "ok"}
            data.append({**facts, "asm": [one.text for one in _code(built, kernel)]} if asm else facts)
        data += [{"name": file.stem, "file": str(file), "state": state} for file, state in unread]
        click.echo(json.dumps(data, indent=1))
    else:
        for file, (built, kernel) in found:
            click.echo(_text(_facts(file, built, kernel)))
            if asm:
                click.echo("\n".join(f"  {one.pc:6x}  {one.text}" for one in _code(built, kernel)))
    for file, state in unread:
        click.echo(f"petitgen: {file}: {state}; build it again with: petitgen build {file.stem}", err=True)
    if unread:
        sys.exit(1)


def _files(names: Iterable[str], arch: str | None, generated: Path) -> Iterator[tuple[Path, str]]:
    """Code objects for the given names or file names, and their states (petitgen.build.state.file_state).

    BuildError for a name that nothing was built for.
    """
    names = tuple(names)
    for name in names:
        if name.endswith((".hsaco", ".co", ".o")) or "/" in name:
            yield Path(name), "ok"  # nothing says what it should be
    globs = [name for name in names if not (name.endswith((".hsaco", ".co", ".o")) or "/" in name)]
    if names and not globs:
        return
    manifests = [Manifest.load(path) for path in sorted(generated.glob(f"{arch or '*'}/{FILE_NAME}"))]
    if not manifests:
        raise BuildError(f"{generated}: nothing is built{f' for {arch}' if arch else ''}; run petitgen build")
    built = {name: (one, kernel) for one in manifests for name, kernel in one.kernels.items()}
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in built):
            raise BuildError(f"{generated}: no built kernel matches {glob!r}; petitgen list shows all")
    for name, (one, kernel) in built.items():
        if not globs or any(fnmatchcase(name, glob) for glob in globs):
            path = one.path(kernel)
            yield path, file_state(path.parent, kernel)


def _kernels(file: Path) -> list[tuple[CodeObject, Any]]:
    built = CodeObject.load(file)
    return [(built, kernel) for kernel in built.kernels.values()]


def _code(built: CodeObject, kernel: Any) -> list[Instruction]:
    return disassemble(kernel.code, built.arch, kernel.entry)


def _facts(file: Path, built: CodeObject, kernel: Any) -> Facts:
    code = _code(built, kernel)
    used = kernel.resources
    arch = load_catalog().archs[built.arch]
    limits = (kernel.descriptor.vgpr_count, used.sgpr_count, used.group_segment_fixed_size, used.max_flat_workgroup_size)
    return Facts(
        name=kernel.name,
        file=str(file),
        target=target_id(built),
        code_object_version=built.version,
        code_bytes=len(kernel.code),
        resources=asdict(used),
        waves_per_simd=room(arch, *limits).waves_per_simd,
        kernarg=[asdict(arg) for arg in kernel.args],
        mix=dict(Counter(classify(one) for one in code).most_common()),
        mnemonics=dict(Counter(one.mnemonic for one in code).most_common()),
    )


def classify(instruction: Instruction) -> str:
    """MFMA, VALU, SALU, VMEM, LDS, ... : which part of the machine an instruction keeps busy."""
    return unit(instruction.mnemonic, instruction.encoding)


def unit(mnemonic: str, encoding: str) -> str:
    """classify() for a mnemonic and any of its encodings."""
    for prefixes, name in BY_PREFIX:
        if mnemonic.startswith(prefixes):
            return name
    return BY_ENCODING[encoding]


def _text(facts: Facts) -> str:
    used = facts.resources
    spills = used["vgpr_spill_count"] + used["sgpr_spill_count"]
    total = sum(facts.mix.values())
    lines = [
        facts.name,
        f"  file       {facts.file}: {facts.target}, code object v{facts.code_object_version}",
        f"  registers  {used['vgpr_count']} a lane ({used['agpr_count']} AGPRs), {used['sgpr_count']} SGPRs,"
        f" {spills} spills",
        f"  memory     {used['group_segment_fixed_size']} bytes of LDS a workgroup,"
        f" {used['private_segment_fixed_size']} of scratch a lane",
        f"  occupancy  {facts.waves_per_simd} waves a SIMD,"
        f" workgroups of up to {used['max_flat_workgroup_size']} work-items",
        "  arguments  "
        + ", ".join(f"{arg['name']} {arg['size']} B at {arg['offset']}" for arg in facts.kernarg),
        f"  code       {facts.code_bytes} bytes, {total} instructions",
    ]
    rows = [(name, count, f"{100 * count / total:.0f}%") for name, count in facts.mix.items()]
    mix = table(("class", "instructions", "share"), rows)
    return "\n".join(lines) + "\n" + "\n".join("    " + line for line in mix.splitlines())
