"""Code objects on devices: loaded when first needed, once a process and device, unloaded with their last user."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import CodeObjectError
from runtime.hip import Hip
from runtime.manifest import Kernel, Manifest


@dataclass(slots=True)
class _Loaded:
    """A module on a device. `image` is kept: HIP may look at it as long as the module lives."""

    module: Any
    function: Any
    image: bytes
    users: set[int] = field(default_factory=set)


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
            loaded = self._loaded.get(key)
            if loaded is None:
                loaded = self._loaded[key] = _load(hip, manifest, kernel, device)
            loaded.users.add(user)
            return loaded.function

    def release(self, hip: Hip, user: int) -> None:
        """Unload what no library but `user` needs."""
        with self.lock:
            for key, loaded in list(self._loaded.items()):
                loaded.users.discard(user)
                if not loaded.users:
                    del self._loaded[key]
                    hip.release("hipModuleUnload", loaded.module)

    def __len__(self) -> int:
        return len(self._loaded)


def _load(hip: Hip, manifest: Manifest, kernel: Kernel, device: int) -> _Loaded:
    image = read(manifest, kernel)
    doing = f"loading {kernel.name} on device {device}"
    with hip.on(device):
        module = hip.load_module(image, doing)
        try:
            return _Loaded(module, hip.function(module, kernel.symbol, doing), image)
        except BaseException:
            hip.release("hipModuleUnload", module)
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
