"""Code objects: the ELF files (.hsaco) that hold GPU kernels.

Source: LLVM "User Guide for AMDGPU Backend": ELF Code Object, Note Records (metadata V3-V6), Kernel
Descriptor.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import msgpack
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment, Segment

from petitgen.errors import CodeObjectError
from petitgen.isa.bundle import unbundle
from petitgen.isa.descriptor import SIZE as DESCRIPTOR_SIZE
from petitgen.isa.descriptor import KernelDescriptor, parse_descriptor

EM_AMDGPU, ELFOSABI_AMDGPU_HSA = 224, 64
NT_AMDGPU_METADATA = 32
MACHINES = {0x03F: "gfx90a", 0x04C: "gfx942"}  # EF_AMDGPU_MACH
SETTINGS = {0: "unsupported", 1: "any", 2: "off", 3: "on"}  # code object v4 and later, two bits a feature
ABI_TO_VERSION = {1: 3, 2: 4, 3: 5, 4: 6}
MAX_IMAGE = 1 << 30  # bytes; more than any real code object, small enough to refuse a corrupt size


@dataclass(frozen=True, slots=True)
class KernelArg:
    """One entry of .args: bytes `offset` to `offset + size` of the kernarg segment.

    Names are empty where the compiler gave none.
    """

    name: str
    offset: int
    size: int
    value_kind: str
    address_space: str = ""
    access: str = ""

    @property
    def hidden(self) -> bool:
        """Filled in by the runtime, not by the caller."""
        return self.value_kind.startswith("hidden_")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the compiler says a kernel uses: registers a lane or wave, bytes, work-items."""

    vgpr_count: int
    agpr_count: int
    sgpr_count: int
    vgpr_spill_count: int
    sgpr_spill_count: int
    group_segment_fixed_size: int
    private_segment_fixed_size: int
    kernarg_segment_size: int
    kernarg_segment_align: int
    wavefront_size: int
    max_flat_workgroup_size: int
    uses_dynamic_stack: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel. `entry` is the virtual address of its first instruction, `code` its instructions."""

    name: str
    symbol: str
    descriptor: KernelDescriptor
    args: tuple[KernelArg, ...]
    entry: int
    code: bytes
    resources: Resources
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """A function symbol: virtual address and bytes."""

    name: str
    address: int
    size: int


_lock = threading.Lock()
_parsed: OrderedDict[bytes, CodeObject] = OrderedDict()
_KEPT = 64  # verification loads one for each problem


@dataclass(frozen=True, eq=False)
class CodeObject:
    """A loaded code object. Of the same bytes it is the same object.

    arch       gfx90a or gfx942
    features   {"xnack": "any" | "on" | "off" | "unsupported", "sramecc": ...}
    version    code object version, 3-6
    kernels    by name, in metadata order
    segments   (virtual address, bytes) of everything loadable, zero-filled to its size in memory
    functions  every function symbol with code, by address
    elf        the raw ELF (without the offload bundle)
    """

    arch: str
    features: Mapping[str, str]
    version: int
    kernels: Mapping[str, Kernel]
    segments: tuple[tuple[int, bytes], ...]
    functions: tuple[Function, ...]
    metadata: Mapping[str, Any]
    elf: bytes

    @classmethod
    def load(cls, source: str | PathLike[str] | bytes, arch: str | None = None) -> CodeObject:
        """Read a file or bytes: a raw ELF or an offload bundle (`arch` picks the entry if there are several).

        Raises CodeObjectError, in one line, for anything that is no AMDGPU code object of a known arch.
        """
        where, data = _read(source)
        elf = unbundle(data, arch, where)
        try:
            loaded = _parsed.get(elf) or _parse(cls, elf, where)
        except CodeObjectError:
            raise
        except _PARSER_FAULTS as fault:
            reason = " ".join(str(fault).split()) or type(fault).__name__
            raise CodeObjectError(f"{where}: damaged or truncated ELF ({reason}); build it again") from None
        if arch is not None and loaded.arch != arch.partition(":")[0]:
            raise CodeObjectError(f"{where}: is for {loaded.arch}, not {arch}")
        with _lock:
            _parsed[elf] = loaded
            if len(_parsed) > _KEPT:
                _parsed.popitem(last=False)
        return loaded

    @cached_property
    def sha256(self) -> str:
        """Of the raw ELF, in hexadecimal."""
        return hashlib.sha256(self.elf).hexdigest()

    def kernel(self, name: str | None = None) -> Kernel:
        """The kernel of that name, or the only one. CodeObjectError if there is none such."""
        if name is None and len(self.kernels) == 1:
            return next(iter(self.kernels.values()))
        if name is None or name not in self.kernels:
            known = ", ".join(self.kernels) or "none"
            asked = "several kernels, name one" if name is None else f"no kernel {name!r}"
            raise CodeObjectError(f"{asked}; the code object has: {known}")
        return self.kernels[name]

    def function_at(self, address: int) -> Function | None:
        """The function that an address is in, None if no symbol says."""
        index = bisect.bisect_right(self.functions, address, key=lambda f: f.address) - 1
        found = self.functions[index] if index >= 0 else None
        return found if found is not None and address < found.address + found.size else None

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the loaded image. CodeObjectError outside of it."""
        return _image(self.segments, address, size, "code object")


# What pyelftools and msgpack raise on bytes that are no ELF or no msgpack; neither has one base class.
_PARSER_FAULTS = (
    ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, OverflowError,
    struct.error,
    UnicodeDecodeError, msgpack.UnpackException, MemoryError, OSError, RecursionError, ZeroDivisionError,
)  # fmt: skip


def _read(source: str | PathLike[str] | bytes) -> tuple[str, bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "code object", bytes(source)
    try:
        return str(source), Path(source).read_bytes()
    except OSError as fault:
        raise CodeObjectError(f"{source}: cannot be read ({fault.strerror})") from None


def _parse(cls: type[CodeObject], elf_bytes: bytes, where: str) -> CodeObject:
    if elf_bytes[:4] != b"\x7fELF":
        raise CodeObjectError(f"{where}: not an ELF file (starts with {elf_bytes[:4].hex() or 'nothing'})")
    elf = ELFFile(io.BytesIO(elf_bytes))
    header = elf.header
    machine = elf_bytes[18] | elf_bytes[19] << 8
    not_ours = f"{where}: ELF for machine {header['e_machine']}, not an AMDGPU HSA code object"
    if elf.elfclass != 64 or machine != EM_AMDGPU or elf_bytes[7] != ELFOSABI_AMDGPU_HSA:
        raise CodeObjectError(not_ours)
    flags = header["e_flags"]
    if flags & 0xFF not in MACHINES:
        known = ", ".join(MACHINES.values())
        raise CodeObjectError(f"{where}: AMDGPU machine {flags & 0xFF:#x} is not supported ({known} are)")
    abi = elf_bytes[8]
    if abi not in ABI_TO_VERSION:
        raise CodeObjectError(f"{where}: code object ABI {abi} is not supported (versions 3 to 6 are)")
    program = list(elf.iter_segments())
    segments = tuple(_loaded(program, len(elf_bytes), where))
    symbols = _symbols(elf)
    metadata = _metadata(program, where)
    kernels = {}
    for entry in metadata.get("amdhsa.kernels", []):
        kernel = _kernel(entry, symbols, segments, where)
        kernels[kernel.name] = kernel
    functions = tuple(
        Function(name, value, size) for name, (value, size, kind) in symbols.items() if kind == "STT_FUNC"
    )
    return cls(
        arch=MACHINES[flags & 0xFF],
        features=_features(flags, abi),
        version=ABI_TO_VERSION[abi],
        kernels=kernels,
        segments=segments,
        functions=tuple(sorted(functions, key=lambda f: f.address)),
        metadata=metadata,
        elf=elf_bytes,
    )


def _features(flags: int, abi: int) -> dict[str, str]:
    if ABI_TO_VERSION[abi] == 3:
        return {"xnack": "on" if flags & 0x100 else "off", "sramecc": "on" if flags & 0x200 else "off"}
    return {"xnack": SETTINGS[flags >> 8 & 3], "sramecc": SETTINGS[flags >> 10 & 3]}


def _loaded(program: Sequence[Segment], size: int, where: str) -> Iterator[tuple[int, bytes]]:
    """Address and bytes of what a loader maps."""
    for segment in program:
        if segment["p_type"] != "PT_LOAD":
            continue
        end = segment["p_offset"] + segment["p_filesz"]
        if end > size:
            raise CodeObjectError(f"{where}: truncated: a segment ends at byte {end} of {size}")
        if segment["p_memsz"] > MAX_IMAGE or segment["p_filesz"] > segment["p_memsz"]:
            raise CodeObjectError(f"{where}: damaged: a segment of {segment['p_memsz']} bytes")
        yield segment["p_vaddr"], segment.data().ljust(segment["p_memsz"], b"\0")


def _symbols(elf: ELFFile) -> dict[str, tuple[int, int, str]]:
    """{name: (address, size, type)} from .symtab and .dynsym."""
    found = {}
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            for symbol in section.iter_symbols():
                if symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
                    found[symbol.name] = (symbol["st_value"], symbol["st_size"], symbol["st_info"]["type"])
    return found


def _metadata(program: Sequence[Segment], where: str) -> dict[str, Any]:
    for segment in program:
        for note in segment.iter_notes() if isinstance(segment, NoteSegment) else ():
            if note["n_name"] == "AMDGPU" and note["n_type"] in (NT_AMDGPU_METADATA, "NT_AMDGPU_METADATA"):
                unpacked = msgpack.unpackb(_note_bytes(note), raw=False)
                if not isinstance(unpacked, dict):
                    raise CodeObjectError(f"{where}: damaged: the metadata note holds no map")
                return unpacked
    raise CodeObjectError(f"{where}: no AMDGPU metadata note; only code object versions 3 to 6 are supported")


def _note_bytes(note: Mapping[str, Any]) -> bytes:
    data = note["n_descdata"]
    return data if isinstance(data, bytes) else data.encode("latin-1")


def _image(segments: tuple[tuple[int, bytes], ...], address: int, size: int, where: str) -> bytes:
    for start, data in segments:
        if start <= address and address + size <= start + len(data):
            return data[address - start : address - start + size]
    end = address + size
    raise CodeObjectError(f"{where}: addresses {address:#x} to {end:#x} are not in a loadable segment")


def _kernel(
    entry: Mapping[str, Any],
    symbols: Mapping[str, tuple[int, int, str]],
    segments: tuple[tuple[int, bytes], ...],
    where: str,
) -> Kernel:
    name, symbol = entry[".name"], entry[".symbol"]
    if symbol not in symbols:
        raise CodeObjectError(f"{where}: kernel {name} has no descriptor symbol {symbol}")
    address = symbols[symbol][0]
    descriptor = parse_descriptor(_image(segments, address, DESCRIPTOR_SIZE, where), f"{where}: {name}")
    start = address + descriptor.kernel_code_entry_byte_offset
    size = symbols.get(name, (start, 0, ""))[1]
    args = tuple(_argument(arg) for arg in entry.get(".args", []))
    code = _image(segments, start, size, where)
    return Kernel(name, symbol, descriptor, args, start, code, _resources(entry), entry)


def _argument(arg: Mapping[str, Any]) -> KernelArg:
    access = arg.get(".actual_access", arg.get(".access", ""))
    space = arg.get(".address_space", "")
    return KernelArg(arg.get(".name", ""), arg[".offset"], arg[".size"], arg[".value_kind"], space, access)


def _resources(entry: Mapping[str, Any]) -> Resources:
    return Resources(
        vgpr_count=entry[".vgpr_count"],
        agpr_count=entry.get(".agpr_count", 0),
        sgpr_count=entry[".sgpr_count"],
        vgpr_spill_count=entry.get(".vgpr_spill_count", 0),
        sgpr_spill_count=entry.get(".sgpr_spill_count", 0),
        group_segment_fixed_size=entry[".group_segment_fixed_size"],
        private_segment_fixed_size=entry[".private_segment_fixed_size"],
        kernarg_segment_size=entry[".kernarg_segment_size"],
        kernarg_segment_align=entry[".kernarg_segment_align"],
        wavefront_size=entry[".wavefront_size"],
        max_flat_workgroup_size=entry[".max_flat_workgroup_size"],
        uses_dynamic_stack=bool(entry.get(".uses_dynamic_stack", False)),
    )
