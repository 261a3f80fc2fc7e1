"""hip-python, bound to one libamdhip64: the only module that imports hip.

Works with hip-python 7.x and 10.x, on ROCm's libamdhip64 and on the virtual GPU's. hip-python opens whatever
`libamdhip64.so` the system's search order gives it, which can be another one than the library that torch brought along;
two HIP runtimes in one process do not know each other's memory. So the library that is mapped already is the one that
hip-python is pointed to, and after the first call exactly one may be there.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.discover import LIBRARY, mapped_libraries
from runtime.errors import ClosedError, DeviceMemoryError, HipError, HipLibraryError, NoDeviceError

_MOST_STREAMS = 1024
_RELAXED = 2  # hipStreamCaptureModeRelaxed. Source: hip_runtime_api.h

# A release that failed for one of these was not looked at: it is tried again. After any other error the handle or the
# device is gone, and a second try might hit what somebody else has got at that address.
_TRY_AGAIN = frozenset({"hipErrorStreamCaptureUnsupported", "hipErrorStreamCaptureImplicit"})


@dataclass(slots=True, eq=False)
class Epoch:
    """A device from one reset to the next. What was made in an epoch that is over is gone: memory, code objects.

    faults  sticky errors of the device that were told already
    """

    device: int
    over: bool = False
    faults: set[str] = field(default_factory=set)


class Hip:
    """What the runtime needs of HIP: every call checked, handles released on the device they belong to.

    library  the file of the mapped libamdhip64
    launch   hipModuleLaunchKernel, unchecked; compare what it returns with `success`
    """

    def __init__(self, module: ModuleType, library: Path) -> None:
        self._module = module
        self.library = library
        self.virtual = is_virtual(library)
        self.launch: Callable[..., tuple[Any]] = module.hipModuleLaunchKernel
        self.success = module.hipError_t.hipSuccess
        self.forked = False
        self._pending: list[tuple[str, Any, Epoch]] = []
        self._epochs: dict[int, Epoch] = {}
        self._addresses: dict[int, Epoch] = {}
        self.streams: dict[int, Any] = {}
        self.device_count: int = self.call("hipGetDeviceCount")

    def call(self, name: str, *arguments: Any, doing: str = "", kernels: Sequence[str] = ()) -> Any:
        """HIP's function `name`; returns its result without the status. Raises HipError."""
        if self.forked:
            raise ClosedError("HIP was in use when this process was forked and does not survive that: start processes"
                              " with multiprocessing's 'spawn', or load in the child only")  # fmt: skip
        try:
            status, *values = getattr(self._module, name)(*arguments)
        except (AttributeError, RuntimeError) as error:  # no such library, or no such symbol in it
            raise HipLibraryError(f"hip-python cannot call {name}: {error}") from error
        if status is not self.success:
            raise self.error(name, status, doing, kernels)
        if name == "hipDeviceReset":
            self.lost(self.current_device())
        return values[0] if len(values) == 1 else tuple(values)

    def error(
        self, call: str, status: Any, doing: str = "", kernels: Sequence[str] = (), device: int | None = None
    ) -> HipError:
        """The exception for a status, of the current device if not of `device`.

        Takes the error off HIP's own list, where torch would find it and be puzzled.
        """
        self._module.hipGetLastError()
        code = getattr(status, "name", str(status))
        if code == "hipErrorNoDevice":
            raise NoDeviceError(f"HIP finds no GPU ({call}: {code}, {_which(self)})")
        if code in _FAULTS:
            self.epoch(self._module.hipGetDevice()[1] if device is None else device).faults.add(code)
        if self.virtual and code in _TOLD:
            doing = f"{doing}; {_story(self.library)}".removeprefix("; ")
        kind = DeviceMemoryError if code == "hipErrorOutOfMemory" else HipError
        return kind(call, code, doing, kernels)

    # ---- devices ------------------------------------------------------------------------------
    def current_device(self) -> int:
        return self.call("hipGetDevice")

    def set_device(self, device: int) -> None:
        self.call("hipSetDevice", device, doing=f"choosing device {device}")

    def target(self, device: int) -> str:
        """The architecture with its features, as in gfx90a:sramecc+:xnack-."""
        try:
            properties = self.call("hipGetDeviceProperties", device)
        except TypeError:  # hip-python 7.x fills what it is given
            properties = self._module.hipDeviceProp_t()
            self.call("hipGetDeviceProperties", properties, device)
        name = properties.gcnArchName
        return name.decode() if isinstance(name, bytes) else str(name)

    def compute_units(self, device: int) -> int:
        attribute = self._module.hipDeviceAttribute_t.hipDeviceAttributeMultiprocessorCount
        return self.call("hipDeviceGetAttribute", attribute, device)

    def on(self, device: int) -> _On:
        """with hip.on(1): the calls inside are made on that device."""
        return _On(self, device)

    # ---- resets -------------------------------------------------------------------------------
    def reset(self, device: int) -> None:
        """hipDeviceReset: what is on the device is gone, also what others than this runtime have there."""
        with self.on(device):
            self.call("hipDeviceReset", doing=f"resetting device {device}")

    def epoch(self, device: int) -> Epoch:
        """What the device is in now."""
        return self._epochs.get(device) or self._epochs.setdefault(device, Epoch(device))

    def lost(self, device: int) -> None:
        """The device was reset: nothing that was made on it may be used or given back any more."""
        epoch = self._epochs.pop(device, None)
        if epoch is not None:
            epoch.over = True
            self._addresses = {a: e for a, e in list(self._addresses.items()) if e is not epoch}

    # ---- memory -------------------------------------------------------------------------------
    def malloc(self, size: int, device: int) -> tuple[int, Epoch]:
        """The address of `size` bytes on the current device, which is `device`, and the epoch it is good for."""
        self.collect()
        address = int(self.call("hipMalloc", max(size, 1), doing=f"asking for {size} bytes"))
        if address in self._addresses:  # nobody gave it back: somebody has reset the device
            self.lost(device)
        epoch = self._epochs.get(device) or self.epoch(device)
        self._addresses[address] = epoch
        return address, epoch

    def copy(self, to: int, source: int, size: int, kind: str, stream: int | None = None, **what: Any) -> None:
        """kind: HostToDevice, DeviceToHost or DeviceToDevice. Without a stream it is done when this returns."""
        direction = getattr(self._module.hipMemcpyKind, f"hipMemcpy{kind}")
        if stream is None:
            self.call("hipMemcpy", to, source, size, direction, **what)
        else:
            self.call("hipMemcpyAsync", to, source, size, direction, stream, **what)

    def zero(self, address: int, size: int) -> None:
        """Fill memory of the current device with zeros; they are there when this returns.

        On a stream of its own, which no capture and no other stream's work stands before.
        """
        stream = self.call("hipStreamCreateWithFlags", self._module.hipStreamNonBlocking)
        try:
            self.call("hipMemsetAsync", address, 0, size, stream)
            self.call("hipStreamSynchronize", stream)
        finally:
            self.call("hipStreamDestroy", stream)

    def relaxed_capture(self) -> _Relaxed:
        """with hip.relaxed_capture(): memory may be allocated though this thread captures a graph, and is no part of
        it. Source: hipThreadExchangeStreamCaptureMode, hipStreamCaptureModeRelaxed."""
        return _Relaxed(self.library)

    # ---- code objects -------------------------------------------------------------------------
    def load_module(self, image: bytes, doing: str) -> Any:
        self.collect()
        return self.call("hipModuleLoadData", image, doing=doing)

    def extra(self, array: Any) -> Any:
        """The form of launch parameters that hip-python takes without looking at them again; keep `array` alive."""
        package = self._module.__name__.rpartition(".")[0]  # hip (7.x) or rocm.bindings (10.x)
        return import_module(f"{package}._hip_helpers").HipModuleLaunchKernel_extra(array)

    def stream(self, handle: int) -> Any:
        """A stream as hip-python takes it fastest; numbers cost it half a microsecond."""
        stream = self.streams.get(handle)
        if stream is None:
            if len(self.streams) >= _MOST_STREAMS:
                self.streams.clear()
            stream = self.streams[handle] = self._module.ihipStream_t(handle)
        return stream

    def function(self, module: Any, symbol: str, doing: str) -> Any:
        return self.call("hipModuleGetFunction", module, symbol.encode(), doing=doing)

    # ---- streams ------------------------------------------------------------------------------
    def synchronize(self, stream: int | None, kernels: Sequence[str] = ()) -> None:
        """Wait for a stream, or for the whole current device."""
        if stream is None:
            self.call("hipDeviceSynchronize", kernels=kernels)
        else:
            self.call("hipStreamSynchronize", stream, kernels=kernels)

    def is_capturing(self, stream: int) -> bool:
        if stream == 0:  # the null stream cannot be captured
            return False
        return (
            self.call("hipStreamIsCapturing", stream) != self._module.hipStreamCaptureStatus.hipStreamCaptureStatusNone
        )

    def begin_capture(self, stream: Any) -> None:
        """Launches on `stream` go into a graph until hipStreamEndCapture; other threads are not affected."""
        mode = self._module.hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        self.call("hipStreamBeginCapture", stream, mode)

    # ---- giving back --------------------------------------------------------------------------
    def release(self, call: str, handle: Any, epoch: Epoch) -> None:
        """hipFree or hipModuleUnload, from wherever the garbage collector happens to run: never raises.

        Nothing is done when the device was reset since: the handle is nobody's, or already somebody else's.
        """
        self._pending.append((call, handle, epoch))
        self.collect()

    def collect(self) -> None:
        """Give back what is waiting; what HIP refuses for the moment waits on."""
        for _ in range(len(self._pending)):
            try:
                call, handle, epoch = self._pending.pop(0)
            except IndexError:  # another thread was faster
                return
            if epoch.over:
                continue
            try:
                # Before the call: from the moment it is free another thread may be given the same address.
                known = self._addresses.pop(handle, None) if call == "hipFree" else None
                self.call(call, handle)
            except HipError as error:
                if error.code in _TRY_AGAIN:
                    self._pending.append((call, handle, epoch))
                    if known is not None:
                        self._addresses[handle] = known
            except (HipLibraryError, NoDeviceError, ClosedError):
                pass  # the driver is gone, or what it held belongs to the parent process


class _On:
    """Makes a device the current one and restores the one before."""

    __slots__ = ("_before", "_device", "_hip")

    def __init__(self, hip: Hip, device: int) -> None:
        self._hip, self._device, self._before = hip, device, device

    def __enter__(self) -> None:
        if self._hip.device_count > 1:
            self._before = self._hip.current_device()
            if self._before != self._device:
                self._hip.set_device(self._device)

    def __exit__(self, *_: object) -> None:
        if self._before != self._device:
            self._hip.set_device(self._before)


class _Relaxed:
    """The thread's capture mode, relaxed and put back. By ctypes: hip-python 10.x has the call without its argument."""

    __slots__ = ("_exchange", "_mode")

    def __init__(self, library: Path) -> None:
        self._exchange = ctypes.CDLL(str(library)).hipThreadExchangeStreamCaptureMode
        self._mode = ctypes.c_int(_RELAXED)

    def __enter__(self) -> None:
        self._exchange(ctypes.byref(self._mode))  # leaves the mode before in its place

    def __exit__(self, *_: object) -> None:
        self._exchange(ctypes.byref(self._mode))


# ---- which library --------------------------------------------------------------------------------
_bound: Hip | None = None
_tried = False  # whether a real GPU was looked for: that maps a library for good
_lock = threading.Lock()


def bind(virtual: bool = False, arch: str | None = None) -> Hip:
    """The process's HIP, bound on the first call. virtual: map the virtual GPU's library, unless it is there.
    arch: the architecture that matters, if the virtual GPU's devices are still to be chosen.

    Raises HipLibraryError (no hip-python, no libamdhip64, more than one, another than the virtual one) and
    NoDeviceError.
    """
    global _bound, _tried
    with _lock:
        if _bound is None or (virtual and not _bound.virtual):
            path = _activate(arch) if virtual else None
            _tried = not virtual
            _bound = _bind(path)
        return _bound


def _bind(path: Path | None) -> Hip:
    module = _import()
    before = [path] if path else mapped_libraries()
    if len(before) > 1:
        raise HipLibraryError(_several(before))
    if before:
        _steer(module, before[0])
    try:
        module.hipGetDeviceCount()
    except RuntimeError as error:
        raise HipLibraryError(f"{LIBRARY} cannot be opened ({error}): install ROCm, or use device='virtual'") from error
    after = mapped_libraries()
    if len(after) > 1:
        raise HipLibraryError(_several(after))
    if not after:
        raise HipLibraryError(f"hip-python opened no {LIBRARY} that /proc/self/maps shows")
    return Hip(module, after[0])


def _import() -> ModuleType:
    try:
        from hip import hip
    except ImportError as error:
        raise HipLibraryError(f"hip-python cannot be imported ({error}): pip install hip-python") from error
    return hip


def _steer(module: ModuleType, path: Path) -> None:
    """Make hip-python open this file, whatever the search order says. Without effect once it has opened one."""
    if module.__name__ == "hip.hip":
        from hip import chip  # 7.x opens the file of this name at the first call

        chip.DLL = os.fsencode(path)
        return
    from rocm.bindings.util import paths  # 10.x asks this module at the first call

    original = paths.get_library_path

    def get_library_path(shortname: str, *args: Any, **kwargs: Any) -> bytes:
        return os.fsencode(path) if shortname == "amdhip64" else original(shortname, *args, **kwargs)

    paths.get_library_path = get_library_path


def _several(libraries: Sequence[Path]) -> str:
    return (f"{len(libraries)} HIP runtimes are mapped in this process, which do not know each other's memory: "
            f"{', '.join(map(str, libraries))}. Import torch before anything that uses hip-python, and have both"
            " built for one ROCm, or remove one from LD_LIBRARY_PATH")  # fmt: skip


def _which(hip: Hip) -> str:
    if hip.virtual:
        story = _story(hip.library).strip()
        return f"the virtual GPU's library {hip.library}" + (f", which says: {story}" if story else "")
    return f"library {hip.library}; a new process with device='virtual' runs on the emulator"


# ---- the virtual GPU --------------------------------------------------------------------------------
ARCHS = ("gfx942", "gfx90a")  # what the virtual GPU has, one device each, unless the environment says otherwise
_DEVICES = "PETITGEN_VIRTUAL_DEVICES"
# What a device says to every call from then on.
_FAULTS = frozenset({"hipErrorLaunchFailure", "hipErrorIllegalAddress", "hipErrorDeinitialized"})
# Errors of which the virtual GPU has told more when it returned them.
_TOLD = _FAULTS | {"hipErrorNotFound", "hipErrorNotInitialized", "hipErrorInitializationError", "hipErrorInvalidImage",
                   "hipErrorNoBinaryForGpu", "hipErrorSharedObjectInitFailed"}  # fmt: skip


def _activate(arch: str | None) -> Path:
    """Map the virtual GPU's library, `arch` first among its devices; its path."""
    try:
        from petitgen import driver
        from petitgen.errors import DriverError
    except ImportError as error:
        raise HipLibraryError(f"the virtual GPU comes with petitgen, which cannot be imported: {error}") from error
    chosen = driver.is_active() or os.environ.get(_DEVICES)
    try:
        driver.activate(None if chosen else sorted(ARCHS, key=lambda name: name != arch))
        return driver.library()
    except DriverError as error:
        why = ""
        if _tried and any(not is_virtual(library) for library in mapped_libraries()):
            why = (" It was mapped when runtime.load looked for a real GPU in this process, and cannot be unmapped: a"
                   " new process that asks for device='virtual' at once gets it.")  # fmt: skip
        raise HipLibraryError(f"{error}{why}") from error


def is_virtual(library: Path) -> bool:
    """Whether a libamdhip64 is the virtual GPU's."""
    return hasattr(ctypes.CDLL(str(library)), "petitgen_virtual_story")


def _story(library: Path) -> str:
    """What the virtual GPU last had to say."""
    text = ctypes.create_string_buffer(4096)
    ctypes.CDLL(str(library)).petitgen_virtual_story(text, ctypes.c_size_t(len(text)))
    return text.value.decode(errors="replace")


# ---- fork -------------------------------------------------------------------------------------------
def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    if _bound is not None:
        _bound.forked = True


os.register_at_fork(after_in_child=_after_fork)
