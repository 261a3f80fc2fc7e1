"""runtime.load: which HIP, which device, which kernels."""

from __future__ import annotations

import warnings
from pathlib import Path

from runtime import kernels
from runtime.discover import mapped_libraries, present_archs
from runtime.errors import OperandError, VirtualDeviceWarning
from runtime.hip import bind
from runtime.library import Library

DEVICES = ("auto", "hip", "virtual")


def load(arch: str | None = None, device: str = "auto", directory: str | Path | None = None) -> Library:
    """The kernels built for `arch`, on the devices that run them.

    arch       gfx90a or gfx942; None: that of the current device
    device     "hip": whatever libamdhip64 gives; "virtual": the emulated GPU; "auto": a GPU of that architecture,
               else the virtual one, saying so once (VirtualDeviceWarning)
    directory  of kernels; see runtime.kernels.find for where they are looked for without

    Nothing is loaded on a device before the first launch that needs it. Raises HipLibraryError, NoDeviceError,
    ArchError, KernelsNotFoundError, ManifestError, ManifestVersionError.
    """
    if device not in DEVICES:
        raise OperandError(f"device {device!r}: one of {', '.join(DEVICES)} is meant")
    if arch is not None and not isinstance(arch, str):
        raise OperandError(f"arch is {arch!r:.60}: a name is needed, as in gfx942")
    if directory is not None and not isinstance(directory, (str, Path)):
        raise OperandError(f"directory is {directory!r:.60}: a path is needed")
    if device != "virtual" and arch is not None:
        kernels.find(arch, directory)  # say what is missing before a GPU is looked for
    virtual = device == "virtual" or (device == "auto" and _falls_back(arch))
    hip = bind(virtual, arch)
    targets = [hip.target(index) for index in range(hip.device_count)]
    if arch is None:
        arch = targets[hip.current_device()].split(":")[0]
    manifest = kernels.find(arch, directory)
    return Library(hip, manifest, targets)


_said = False


def _falls_back(arch: str | None) -> bool:
    """Whether "auto" means the virtual GPU. Says so, once."""
    global _said
    if mapped_libraries():
        return False  # torch's, or the virtual one: there is no choice any more
    present = present_archs()
    if arch in present or (arch is None and present):
        return False
    if not _said:
        _said = True
        warnings.warn(
            f"no {arch or 'AMD'} GPU here: kernels run on the virtual one, which is slow; device='virtual' says that"
            " this is meant",
            VirtualDeviceWarning,
            stacklevel=3,
        )
    return True
