"""The worker's side of a device: its memory, the modules loaded on it, and launches."""

from __future__ import annotations

import io
import mmap
import os
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from petitgen.driver import protocol
from petitgen.driver.protocol import Change
from petitgen.emulator import DeviceMemory, LoadedCode, launch
from petitgen.emulator.sanitizer import Sanitizer
from petitgen.errors import DecodeError, EmulationError
from petitgen.isa import CodeObject, Kernel


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A code object in device memory, and its kernels in the order the client counts them."""

    code: LoadedCode
    kernels: tuple[Kernel, ...]


class Device:
    """Device `number` of architecture `arch`; code, arguments and scratch go into its window of the arena."""

    def __init__(self, number: int, arch: str, arena: mmap.mmap, window: int) -> None:
        self.number = number
        self.arch = arch
        self.memory = DeviceMemory(arena, (number * window, (number + 1) * window))
        self._modules: dict[int, LoadedModule] = {}
        self._all: dict[int, tuple[int, int]] = {}  # address -> owner and size of every allocation there is
        self._peers: set[int] = set()

    # --- memory ------------------------------------------------------------------------------------------

    def change(self, change: Change, owner: int, address: int, size: int) -> None:
        """Allocations come and go; kernels here see those of this device, of its peers, and pinned host memory."""
        if change is Change.ADOPT:
            self._all[address] = (owner, size)
            if self._sees(owner):
                self.memory.adopt(address, size)
        elif change is Change.RELEASE:
            self._all.pop(address, None)
            self.memory.release(address)
        elif owner == self.number:
            self._change_peer(change, address)

    def _sees(self, owner: int) -> bool:
        return owner in (self.number, protocol.EVERY_DEVICE) or owner in self._peers

    def _change_peer(self, change: Change, peer: int) -> None:
        theirs = [(address, size) for address, (owner, size) in self._all.items() if owner == peer]
        if change is Change.PEER_ON:
            self._peers.add(peer)
            for address, size in theirs:
                self.memory.adopt(address, size)
        else:
            self._peers.discard(peer)
            for address, _ in theirs:
                self.memory.release(address)

    # --- modules -----------------------------------------------------------------------------------------

    def load(self, number: int, image: bytes) -> str:
        """Load a code object as module `number`; returns its description (see protocol)."""
        code = CodeObject.load(image, self.arch)
        loaded = LoadedModule(LoadedCode(code, self.memory), tuple(code.kernels.values()))
        self._modules[number] = loaded
        size = max((address + len(data) for address, data in code.segments), default=0)
        lines = [f"image {loaded.code.base} {size}"]
        lines += [f"variable {name} {loaded.code.base + at} {length}" for name, at, length in _variables(code)]
        return "\n".join([*lines, *map(_describe, loaded.kernels)])

    def unload(self, number: int) -> None:
        """Unload module `number`, if it was loaded here."""
        loaded = self._modules.pop(number, None)
        if loaded is not None:
            loaded.code.unload()

    # --- launches ----------------------------------------------------------------------------------------

    def launch(self, body: bytes) -> str:
        """Run a kernel. Returns what the sanitizer has against it, or nothing; EmulationError for a fault."""
        number, index, *shape, dynamic_lds, size, _ = protocol.LAUNCH.unpack_from(body)
        arguments = body[protocol.LAUNCH.size : protocol.LAUNCH.size + size]
        loaded = self._modules.get(number)
        if loaded is None:
            raise EmulationError("the module was loaded before the emulator's process was lost: load it again")
        kernel = loaded.kernels[index]
        limit = os.environ.get("PETITGEN_VIRTUAL_LIMIT")
        try:
            result = launch(
                loaded.code, kernel.name, shape[:3], shape[3:], arguments, dynamic_lds,
                limit=int(limit) if limit else None, sanitize=_sanitizer(kernel, arguments),
            )  # fmt: skip
        except (EmulationError, DecodeError) as error:
            found = "".join(f"\n  {finding}" for finding in getattr(error, "findings", ()))
            until = f"\nthe sanitizer found until then{found}" if found else ""
            raise EmulationError(f"kernel {kernel.name} on device {self.number}: {error}{until}") from None
        if not result.findings:
            return ""
        found = "\n".join(f"  {finding}" for finding in result.findings)
        return f"kernel {kernel.name} on device {self.number}: the sanitizer found\n{found}"


def _sanitizer(kernel: Kernel, arguments: bytes) -> Sanitizer | bool:
    """Descriptors among the arguments are taken to be exact: accesses past their ends are how kernels do tails."""
    if os.environ.get("PETITGEN_VIRTUAL_SANITIZE", "0") in ("", "0"):
        return False
    by_value = [a for a in kernel.args if a.value_kind == "by_value" and a.size == 16]
    return Sanitizer(intended=[arguments[a.offset : a.offset + a.size] for a in by_value])


def _describe(kernel: Kernel) -> str:
    used = kernel.resources
    explicit = [arg for arg in kernel.args if not arg.hidden]
    fields = [
        kernel.name, max(kernel.descriptor.kernarg_size, used.kernarg_segment_size), used.max_flat_workgroup_size,
        kernel.descriptor.vgpr_count, used.sgpr_count, kernel.descriptor.group_segment_fixed_size,
        kernel.descriptor.private_segment_fixed_size, len(explicit),
    ]  # fmt: skip
    return " ".join(map(str, ["kernel", *fields, *(n for arg in explicit for n in (arg.offset, arg.size))]))


def _variables(code: CodeObject) -> list[tuple[str, int, int]]:
    """(name, virtual address, bytes) of what __device__ variables there are. Kernel descriptors are none."""
    descriptors = {kernel.symbol for kernel in code.kernels.values()}
    found = []
    for section in ELFFile(io.BytesIO(code.elf)).iter_sections():
        if isinstance(section, SymbolTableSection) and section.name == ".dynsym":
            for symbol in section.iter_symbols():
                if (
                    symbol["st_info"]["type"] == "STT_OBJECT"
                    and symbol["st_shndx"] != "SHN_UNDEF"
                    and symbol.name not in descriptors
                ):
                    found.append((symbol.name, symbol["st_value"], symbol["st_size"]))
    return found
