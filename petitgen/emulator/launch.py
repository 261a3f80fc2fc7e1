"""launch(): run a kernel of a code object on the emulated device."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from petitgen.emulator import dispatch as entry
from petitgen.emulator import kernarg
from petitgen.emulator.kernarg import Dim3
from petitgen.emulator.locate import Locator
from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.program import Program
from petitgen.emulator.sanitizer import Finding, Sanitizer
from petitgen.emulator.sanitizer.lines import with_sources
from petitgen.emulator.scheduler import Scheduler
from petitgen.emulator.state import Group, Observer
from petitgen.errors import EmulationError
from petitgen.isa import CodeObject, Kernel
from petitgen.isa.relocations import relocations

PROGRAMS = 64  # compiled kernels kept


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What a launch did.

    executed  wave-instructions by mnemonic (an instruction that W waves execute counts W)
    total     their sum
    waves     number of waves launched
    findings  what the sanitizer found, by pc
    bank_conflicts  with a sanitizer: offset of an LDS instruction from the kernel's entry -> disassembly,
                    wave-instructions, cycles lost to bank conflicts
    misaligned      with a sanitizer: offset of a load or store -> disassembly, wave-instructions and lanes whose
                    address is no multiple of 4 or of a smaller element, which takes more transactions
    """

    kernel: str
    executed: Counter[str] = field(repr=False)
    total: int
    waves: int
    findings: tuple[Finding, ...] = ()
    bank_conflicts: dict[int, tuple[str, int, int]] = field(default_factory=dict, repr=False)
    misaligned: dict[int, tuple[str, int, int]] = field(default_factory=dict, repr=False)


class LoadedCode:
    """A code object in device memory: its image at `base`, relocated, for launches that share its variables.

    CodeObjectError if a relocation is unknown or refers to what the code object does not define.
    `launch` loads and unloads a code object by itself when given a path, bytes or CodeObject.
    """

    def __init__(self, code: CodeObject, memory: DeviceMemory) -> None:
        self.code = code
        self.memory = memory
        size = max((address + len(data) for address, data in code.segments), default=0)
        moved = relocations(code)
        self.base = memory.allocate(bytes(size))  # what no segment fills is 0
        for address, data in code.segments:
            memory.write(self.base + address, data)
        for relocation in moved:
            memory.write(self.base + relocation.address, relocation.value(self.base))

    def unload(self) -> None:
        """Free the image."""
        self.memory.free(self.base)


_programs: OrderedDict[tuple[str, str], Program] = OrderedDict()


def _program(code: CodeObject, kernel: Kernel) -> Program:
    key = (code.sha256, kernel.name)
    if key not in _programs:
        _programs[key] = Program(code, kernel)
        if len(_programs) > PROGRAMS:
            _programs.popitem(last=False)
    _programs.move_to_end(key)
    return _programs[key]


def launch(
    code_object: str | PathLike[str] | bytes | CodeObject | LoadedCode,
    kernel: str | None,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any] | bytes,
    dynamic_lds: int = 0,
    *,
    memory: DeviceMemory | None = None,
    observer: Observer | None = None,
    limit: int | None = None,
    sanitize: bool | Sanitizer = False,
) -> LaunchResult:
    """Run `kernel` to its end and write buffer arguments back.

    code_object  path or bytes (ELF or offload bundle), a CodeObject, or LoadedCode
    kernel       symbol, or None when the code object has one kernel
    grid, block  workgroups, and work-items a workgroup: int or up to three numbers (x, y, z)
    args         in kernarg order: numpy arrays are device buffers, written back in place; numpy scalars,
                 ints and bytes go by value (an int for a pointer is a device address). Or bytes: the whole
                 explicit kernarg segment.
    dynamic_lds  bytes of LDS beyond what the kernel declares
    memory       where buffers are; give one to allocate beforehand and keep contents across launches
    observer     watches every instruction (slow)
    limit        most wave-instructions to execute
    sanitize     look for faults that results do not show (petitgen.emulator.sanitizer); a Sanitizer says how
    Raises EmulationError for a fault of the kernel or of the arguments, CodeObjectError or DecodeError for a
    bad code object.
    """
    memory = memory or (code_object.memory if isinstance(code_object, LoadedCode) else DeviceMemory())
    owned = not isinstance(code_object, LoadedCode)
    loaded = code_object if isinstance(code_object, LoadedCode) else LoadedCode(_code(code_object), memory)
    try:
        return _launch(
            loaded,
            kernel,
            _dim3(grid, "grid"),
            _dim3(block, "block"),
            args,
            dynamic_lds,
            observer,
            limit,
            sanitize,
        )
    finally:
        if owned:
            loaded.unload()


@contextmanager
def prepared(
    loaded: LoadedCode,
    kernel: Kernel,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any] | bytes,
    dynamic_lds: int = 0,
) -> Iterator[entry.Dispatch]:
    """The dispatch of a launch, for those who run it, or a part of it, in their own way; arguments as launch().

    Buffers are not copied back.
    """
    grid, block = _dim3(grid, "grid"), _dim3(block, "block")
    lds = _checked_lds(kernel, block, dynamic_lds)
    segment = kernarg.build(kernel, args, grid, block, dynamic_lds, loaded.memory)
    try:
        with _dispatch(loaded, kernel, grid, block, lds, bytes(segment.data), None) as run:
            yield run
    finally:
        segment.free(loaded.memory)


def _launch(
    loaded: LoadedCode,
    name: str | None,
    grid: Dim3,
    block: Dim3,
    args: Sequence[Any] | bytes,
    dynamic_lds: int,
    observer: Observer | None,
    limit: int | None,
    sanitize: bool | Sanitizer,
) -> LaunchResult:
    code, memory = loaded.code, loaded.memory
    kernel = code.kernel(name)
    sanitizer = sanitize if isinstance(sanitize, Sanitizer) else Sanitizer() if sanitize else None
    observer = _together(observer, sanitizer)
    if sanitizer is None:
        memory.unwritten.assume_written()
    lds = _checked_lds(kernel, block, dynamic_lds)
    segment = kernarg.build(kernel, args, grid, block, dynamic_lds, memory)
    scheduler = Scheduler(_program(code, kernel), limit)
    waves, locate = 0, Locator(code, kernel)
    try:
        with _dispatch(loaded, kernel, grid, block, lds, bytes(segment.data), observer) as run:
            if sanitizer is not None:
                sanitizer.start(run)
            for batch in run.batches():
                waves += batch.waves
                batch.locate = locate
                if sanitizer is not None:
                    sanitizer.batch(batch)
                scheduler.run(batch, run.entry)
        segment.write_back(memory)
    except EmulationError as fault:
        if sanitizer is not None:
            fault.findings = with_sources(sanitizer.findings(), code, kernel)
        raise
    finally:
        segment.free(memory)
    executed = scheduler.executed()
    findings = with_sources(sanitizer.findings(), code, kernel) if sanitizer else ()
    banks, misaligned = (sanitizer.bank_conflicts(), sanitizer.misaligned()) if sanitizer else ({}, {})
    return LaunchResult(kernel.name, executed, executed.total(), waves, findings, banks, misaligned)


@contextmanager
def _dispatch(
    loaded: LoadedCode, kernel: Kernel, grid: Dim3, block: Dim3, lds: int, kernarg_data: bytes, observer: Observer | None
) -> Iterator[entry.Dispatch]:
    """The dispatch, with its kernel arguments, queue and packet in device memory while it runs."""
    memory, private = loaded.memory, _scratch(kernel)
    held: list[int] = []
    try:
        held.append(kernarg.place(kernarg_data, memory))
        held.append(memory.allocate(entry.queue_record()))
        descriptor = loaded.base + _descriptor_address(loaded.code, kernel)
        held.append(memory.allocate(entry.aql_packet(grid, block, private, lds, descriptor, held[0])))
        yield entry.Dispatch(
            kernel,
            loaded.code.arch,
            grid,
            block,
            lds,
            private,
            kernarg=held[0],
            packet=held[2],
            queue=held[1],
            load_base=loaded.base,
            memory=memory,
            observer=observer,
        )
    finally:
        for address in held:
            memory.free(address)


class _Both(Observer):
    """Two observers of one run."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self.observers = first, second

    def instruction(self, group: Group, instruction: Any) -> None:
        for observer in self.observers:
            observer.instruction(group, instruction)

    def access(self, *event: Any) -> None:
        for observer in self.observers:
            observer.access(*event)

    def out_of_range(self, *event: Any) -> None:
        for observer in self.observers:
            observer.out_of_range(*event)


def _together(first: Observer | None, second: Observer | None) -> Observer | None:
    if first is None or second is None:
        return first or second
    return _Both(first, second)


def _code(source: str | PathLike[str] | bytes | CodeObject) -> CodeObject:
    return source if isinstance(source, CodeObject) else CodeObject.load(source)


def _dim3(value: int | Sequence[int], what: str) -> Dim3:
    numbers = [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise EmulationError(f"{what} {value!r}: one to three numbers, each at least 1")
    x, y, z = (*numbers, 1, 1)[:3]
    return x, y, z


def _checked_lds(kernel: Kernel, block: Dim3, dynamic_lds: int) -> int:
    items = block[0] * block[1] * block[2]
    if items > kernel.resources.max_flat_workgroup_size:
        most = kernel.resources.max_flat_workgroup_size
        raise EmulationError(
            f"{kernel.name}: a block of {items} work-items; the kernel is compiled for at most {most}"
        )
    wanted = kernel.descriptor.group_segment_fixed_size + dynamic_lds
    if dynamic_lds < 0 or wanted > entry.LDS_LIMIT:
        raise EmulationError(
            f"{kernel.name}: {wanted} bytes of LDS asked, a workgroup has at most {entry.LDS_LIMIT}"
        )
    return -(-wanted // entry.LDS_GRANULE) * entry.LDS_GRANULE


def _scratch(kernel: Kernel) -> int:
    """Bytes of scratch a lane gets."""
    dynamic = entry.DYNAMIC_STACK if kernel.resources.uses_dynamic_stack else 0
    return -(-kernel.descriptor.private_segment_fixed_size // 4) * 4 + dynamic


def _descriptor_address(code: CodeObject, kernel: Kernel) -> int:
    return kernel.entry - kernel.descriptor.kernel_code_entry_byte_offset
