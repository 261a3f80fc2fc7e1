"""Code objects on devices: loaded when first needed, once a process and device, unloaded with their last user."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import CodeObjectError, HipError
from runtime.hip import Epoch, Hip
from runtime.manifest import Kernel, Manifest

# What HIP says to a module that it does not know.
_UNKNOWN = frozenset({"hipErrorInvalidHandle", "hipErrorInvalidResourceHandle"})


@dataclass(slots=True)
class _Loaded:
    """A module on a device. `image` is kept: HIP may look at it as long as the module lives."""

    module: Any
    function: Any
    image: bytes
    symbol: str
    epoch: Epoch
    users: set[int] = field(default_factory=set)

    def is_known(self, hip: Hip) -> bool:
        """Whether HIP still knows the module. HipError if it cannot tell."""
        try:
            with hip.on(self.epoch.device):
                hip.function(self.module, self.symbol, "looking whether the device was reset")
        except HipError as error:
            if error.code not in _UNKNOWN:
                raise
            return False
        return True


class Modules:
    """All code objects this process has loaded, keyed by device and sha256."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may close a library while this thread loads for another.
        self.lock = threading.RLock()
        self._loaded: dict[tuple[int, str], _Loaded] = {}

    def function(self, hip: Hip, manifest: Manifest, kernel: Kernel, device: int, user: int) -> Any:
        """The hipFunction_t of a kernel on a device, for the library `user`. CodeObjectError or HipError."""
        with self.lock:
            key = device, kernel.sha256
            self.check(hip, device)
            loaded = self._loaded.get(key)
            if loaded is None:
                loaded = self._loaded[key] = _load(hip, manifest, kernel, device)
            loaded.users.add(user)
            return loaded.function

    def check(self, hip: Hip, device: int) -> bool:
        """Whether what was loaded on a device is still there. If not, somebody has reset it: everything is let go.

        Nothing tells a process that its device was reset; a code object that HIP does not know any more does.
        """
        with self.lock:
            for (where, _), loaded in self._loaded.items():
                if where == device and not loaded.epoch.over:
                    if not loaded.is_known(hip):
                        hip.lost(device)
                    break  # they were loaded in one epoch: one speaks for all
            gone = [key for key, loaded in self._loaded.items() if loaded.epoch.over and key[0] == device]
            for key in gone:
                del self._loaded[key]
            return not gone

    def release(self, hip: Hip, user: int) -> None:
        """Unload what no library but `user` needs."""
        with self.lock:
            for key, loaded in list(self._loaded.items()):
                loaded.users.discard(user)
                if not loaded.users:
                    del self._loaded[key]
                    hip.release("hipModuleUnload", loaded.module, loaded.epoch)

    def __len__(self) -> int:
        return len(self._loaded)


def _load(hip: Hip, manifest: Manifest, kernel: Kernel, device: int) -> _Loaded:
    image = read(manifest, kernel)
    doing = f"loading {kernel.name} on device {device}"
    epoch = hip.epoch(device)
    with hip.on(device):
        module = hip.load_module(image, doing)
        try:
            return _Loaded(module, hip.function(module, kernel.symbol, doing), image, kernel.symbol, epoch)
        except BaseException:
            hip.release("hipModuleUnload", module, epoch)
            raise


def read(manifest: Manifest, kernel: Kernel) -> bytes:
    """The bytes of a code object, which are what the manifest says or CodeObjectError."""
    path = manifest.path(kernel)
    remedy = "build again: petitgen build --arch " + manifest.arch
    try:
        image = path.read_bytes()
    except OSError as error:
        raise CodeObjectError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if len(image) != kernel.size:
        raise CodeObjectError(f"{path}: {len(image)} bytes, the manifest says {kernel.size}; {remedy}")
    if hashlib.sha256(image).hexdigest() != kernel.sha256:
        raise CodeObjectError(f"{path}: its sha256 is not the manifest's, it was changed or damaged; {remedy}")
    return image


LOADED = Modules()


def after_fork(reset: Callable[[], None] | None = None) -> None:
    """In a child process: what was loaded belongs to the parent."""
    LOADED.lock = threading.RLock()
    LOADED._loaded.clear()
    if reset:
        reset()
