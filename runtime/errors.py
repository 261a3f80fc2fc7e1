"""Errors of the runtime: each says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class RuntimeLibraryError(Exception):
    """Base of every error the runtime raises."""


class PackError(RuntimeLibraryError, ValueError):
    """Checkpoint tensors that cannot be packed: wrong shape, dtype or value."""


class DescriptorError(RuntimeLibraryError, ValueError):
    """A buffer that no 128-bit buffer resource descriptor can describe."""


class ManifestError(RuntimeLibraryError, ValueError):
    """A manifest.json that is missing, damaged or not of the form this runtime reads."""


class ManifestVersionError(ManifestError):
    """A manifest.json written by another version of petitgen: build the kernels again."""


class KernelsNotFoundError(RuntimeLibraryError, LookupError):
    """No kernels built for this architecture in any of the directories looked in."""


class TunedTableError(RuntimeLibraryError, ValueError):
    """A table of tuned choices that is missing, or damaged: says where."""


class ArchError(RuntimeLibraryError, ValueError):
    """No device of the architecture asked for, or kernels that were built for another one."""


class CodeObjectError(RuntimeLibraryError):
    """A .hsaco that is missing, truncated or not the one the manifest speaks of."""


class ShapeError(RuntimeLibraryError, ValueError):
    """A problem that no kernel of the library takes: says which constraint it breaks."""


class OperandError(RuntimeLibraryError, ValueError):
    """An argument of the wrong type, dtype, shape, layout, alignment or device."""


class ClosedError(RuntimeLibraryError):
    """The library was closed, or belongs to the process this one was forked from."""


class DeviceError(RuntimeLibraryError):
    """No device to run on; base of the reasons."""


class NoDeviceError(DeviceError):
    """HIP found no GPU."""


class DeviceResetError(DeviceError):
    """The device was reset: what was on it is gone. Make arrays, device weights and plans again; the library, packed
    weights and host arrays are good as they are."""


class HipLibraryError(DeviceError):
    """hip-python, or the libamdhip64 it should talk to, is missing, or it is not the right one."""


class HipError(RuntimeLibraryError):
    """A HIP call failed.

    call     the function: hipModuleLaunchKernel
    code     the name of the error: hipErrorLaunchFailure
    kernels  names of the kernels launched before it on the device, the latest last. Kernels run asynchronously:
             an error that one of them caused is told by a later call.
    """

    def __init__(self, call: str, code: str, doing: str = "", kernels: Sequence[str] = ()) -> None:
        self.call, self.code, self.kernels = call, code, tuple(kernels)
        message = f"{call} failed with {code}"
        if doing:
            message += f", {doing}"
        if kernels:
            message += f"; kernels launched before it, the latest last: {', '.join(kernels)}"
        super().__init__(message)


class DeviceMemoryError(HipError, MemoryError):
    """The device has not enough memory left."""


class VirtualDeviceWarning(UserWarning):
    """Said once: there is no GPU of the architecture, kernels run on the virtual one."""
