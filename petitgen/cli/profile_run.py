"""What petitgen profile models: kernels of a manifest at shapes, or a kernel of any code object."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from petitgen.build.state import file_state
from petitgen.cli.options import numbers
from petitgen.emulator import DeviceMemory
from petitgen.emulator.arguments import BufferSpec, kernel_arguments, parse, parse_buffer, place
from petitgen.errors import BuildError, PetitgenError, ProfileError, VerifyError
from petitgen.isa import CodeObject
from petitgen.profiler import Launch, Problem, profile, profile_gemm
from petitgen.profiler.report import Entry, Failed
from petitgen.profiler.timing import load_timing
from petitgen.verify import Shape, Target, parse_shape, select
from runtime.descriptors import buffer_resource
from runtime.errors import RuntimeLibraryError, ShapeError
from runtime.manifest import GEMMS
from runtime.select import contract_of, force, problem_of, refusal
from runtime.workspace import splits


@dataclass(frozen=True, slots=True)
class Request:
    """How every launch of a call is modelled. slices, compute_units: None for what the runtime and the product have."""

    slices: int | None
    compute_units: int | None
    timeline: bool


@dataclass(frozen=True, slots=True)
class FileLaunch:
    """A launch of a kernel of any code object, as the options have it."""

    kernel: str | None = None
    arch: str | None = None
    grid: str = "1"
    block: str = "64"
    arguments: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    dynamic_lds: int = 0
    flops: float | None = None
    bytes: float | None = None

    @property
    def given(self) -> bool:
        """Whether any of it was; --arch also says which kernels of a manifest."""
        return self != FileLaunch(arch=self.arch)


def profile_built(
    names: Sequence[str], shapes: Sequence[str], arch: str | None, generated: Path, request: Request
) -> tuple[list[Entry], list[Failed]]:
    """Each kernel at each shape, the fastest first. An error of one among several is noted, of the only one raised.

    VerifyError for names that match nothing, a text that is no shape, or where nothing is built.
    """
    parsed = [parse_shape(text) for text in shapes]
    targets = select(generated, names, arch)
    entries: list[Entry] = []
    failed: list[Failed] = []
    for shape in parsed:
        found = []
        for target in targets:
            try:
                found.append(_profile_one(target, shape, request))
            except (PetitgenError, RuntimeLibraryError) as error:
                if len(targets) * len(parsed) == 1:
                    raise
                failed.append(Failed(target.name, (shape.m, shape.n, shape.k), str(error)))
        entries += sorted(found, key=lambda one: one.profile.time_us)
    return entries, failed


def refuse_others(targets: Sequence[Target]) -> None:
    """ProfileError where none of the kernels has an M, N and K."""
    if targets and not any(target.kernel().op in GEMMS for target in targets):
        kernel = targets[0].kernel()
        raise ProfileError(f"{kernel.name}: the op {kernel.op} has no M, N and K. Model its code object, with a grid and its arguments"
                           f" (petitgen show {kernel.name}): petitgen profile {targets[0].path} --block {kernel.block} --grid ..."
                           " --buffer NAME:SPEC --arg rsrc=NAME ...")  # fmt: skip


def shapeless(names: Sequence[str], arch: str | None, generated: Path) -> None:
    """As refuse_others, of kernels named without a shape; that is missing where this returns."""
    with suppress(VerifyError):  # nothing built, or nothing so named: there is no kernel to tell of
        refuse_others(select(generated, names, arch))


def _profile_one(target: Target, shape: Shape, request: Request) -> Entry:
    kernel, directory = target.kernel(), target.manifest.parent
    refuse_others([target])
    state = file_state(directory, kernel)
    if state != "ok":
        raise BuildError(f"{directory / kernel.file}: {state}; build it again with: petitgen build {kernel.name}")
    slices = _slices(target, shape, request)
    made = profile_gemm(
        kernel, directory, shape.m, shape.n, shape.k, slices,
        compute_units=request.compute_units, timeline=request.timeline,
    )  # fmt: skip
    return Entry(kernel.name, (shape.m, shape.n, shape.k), slices, made)


def _slices(target: Target, shape: Shape, request: Request) -> int:
    """The number asked for, or what the runtime would take for this kernel. ShapeError if it cannot take the problem."""
    kernel = target.kernel()
    problem = problem_of(contract_of(kernel), shape.m, shape.n, shape.k, None, None)
    units = load_timing(target.arch, request.compute_units).compute_units
    wanted = request.slices or (None if splits(kernel) else 1)
    reason = refusal(kernel, problem, wanted or 1)
    if reason is not None:
        raise ShapeError(f"{kernel.name} does not take {shape}: {reason}")
    return force(kernel, problem, target.arch, units, wanted).slices


# --- a kernel of any code object --------------------------------------------------------------------------


def profile_file(file: Path, launch: FileLaunch, request: Request) -> Entry:
    """One kernel of a code object file. EmulationError for arguments that do not fit it."""
    grid, block = numbers(launch.grid, "--grid"), numbers(launch.block, "--block")
    arguments = [parse(text) for text in launch.arguments]
    declared = [*map(parse_buffer, launch.buffers), *(one for one in arguments if isinstance(one, BufferSpec))]
    code = CodeObject.load(file, launch.arch)
    kernel = code.kernel(launch.kernel)
    memory = DeviceMemory()
    placed = place(declared, memory, seed=0)
    values = kernel_arguments(kernel, arguments, placed, code.arch, buffer_resource)
    made = profile(
        Launch(code, kernel.name, values, grid, block, launch.dynamic_lds, memory),
        problem=_problem(kernel.name, launch),
        compute_units=request.compute_units,
        timeline=request.timeline,
    )
    return Entry(kernel.name, None, None, made)


def _problem(name: str, launch: FileLaunch) -> Problem | None:
    """What was said of the work; None if nothing was: then there are no rooflines."""
    if launch.flops is None and launch.bytes is None:
        return None
    return Problem(name, launch.flops or 0.0, launch.bytes or 0.0)
