"""Device memory: allocations that free themselves, and matrices in them."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.descriptors import ADDRESS_BITS, extent
from runtime.errors import DeviceResetError, OperandError
from runtime.hip import Hip

ITEM_BYTES = 2  # bf16 and fp16
ITEM_SIZES = {"bf16": 2, "fp16": 2, "fp8": 1, "f32": 4}  # bytes of an element of a DeviceArray
_NAMES = {"bfloat16": "bf16", "float16": "fp16", "bf16": "bf16", "fp16": "fp16"}
_HELD = {"float8_e4m3fnuz": "fp8", "fp8": "fp8", "float32": "f32", "f32": "f32"}  # beside those that are multiplied alone
KNOWN_DTYPES: dict[Any, str] = {}  # what dtype_name has answered


def dtype_name(dtype: Any) -> str:
    """bf16 or fp16, from a name or from a dtype of numpy, ml_dtypes or torch. OperandError for any other."""
    try:
        name = KNOWN_DTYPES.get(dtype)
    except TypeError:  # not hashable, so no dtype
        raise OperandError(f"dtype {dtype!r:.60} is none a kernel multiplies: bfloat16 and float16 are") from None
    if name is None:
        text = getattr(dtype, "__name__", str(dtype))  # np.float16 is a class, the others print their name
        name = _NAMES.get(text.removeprefix("torch."))
        if name is None:
            fp8 = "; FP8 activations need a scale a row: lib.gemm(x, w, x_scale=...)" if text.removeprefix("torch.") in _BYTES else ""
            raise OperandError(f"dtype {dtype} is none a kernel multiplies: bfloat16 and float16 are{fp8}")
        KNOWN_DTYPES[dtype] = name
    return name


def array_dtype(dtype: Any) -> str:
    """What a DeviceArray can hold: one of ITEM_SIZES, from a name or a dtype of numpy, ml_dtypes or torch. fp8 is E4M3FNUZ.
    OperandError for any other."""
    text = getattr(dtype, "__name__", str(dtype)).removeprefix("torch.")
    return _HELD.get(text) or dtype_name(dtype)


_BYTES = ("fp8", "float8_e4m3fnuz", "float8_e4m3fn", "uint8")  # what FP8 activations may come as
_HIP_PYTHON = ("hip", "rocm")  # the packages of its releases 7 and 10


def number(value: Any, what: str) -> int:
    """A whole number, also one of numpy, or an address or handle that hip-python has given. OperandError for others,
    and for bool: True is no size and no stream."""
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool) and hasattr(value, "__index__"):
            return operator.index(value)
        if type(value).__module__.split(".")[0] in _HIP_PYTHON:
            return int(value)
    except (TypeError, ValueError):
        pass
    raise OperandError(f"{what} is {value!r:.60}, a {type(value).__name__}: a whole number is needed")


def numpy_dtype(name: str) -> np.dtype:
    """The numpy dtype of one of ITEM_SIZES; bf16 and fp8 are those of ml_dtypes."""
    plain = {"fp16": np.float16, "f32": np.float32}.get(name)
    if plain is not None:
        return np.dtype(plain)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16 if name == "bf16" else ml_dtypes.float8_e4m3fnuz)


class Allocation:
    """`size` bytes on a device, freed when the object goes. `address` is at least 256-byte aligned."""

    __slots__ = ("__weakref__", "address", "device", "epoch", "hip", "size")

    def __init__(self, hip: Hip, size: int, device: int) -> None:
        self.hip, self.size, self.device = hip, size, device
        with hip.on(device):
            self.address, self.epoch = hip.malloc(size, device)
            # Not at exit: a process that ends gives everything back, and HIP may be gone before Python is.
            weakref.finalize(self, hip.release, "hipFree", self.address, self.epoch).atexit = False

    @property
    def lost(self) -> bool:
        """Whether a reset of the device has taken it."""
        return self.epoch.over

    def write(self, data: NDArray[np.uint8], offset: int = 0, stream: int | None = None) -> None:
        """Copy contiguous host bytes to `offset`."""
        if data.size:
            self.hip.copy(self.address + offset, data.ctypes.data, data.size, "HostToDevice", stream)

    def read(self, into: NDArray[np.uint8], stream: int | None = None, kernels: Sequence[str] = ()) -> None:
        """Copy from the start to contiguous host bytes. With a stream: they are there once it is synchronized."""
        if into.size:
            self.hip.copy(into.ctypes.data, self.address, into.size, "DeviceToHost", stream, kernels=kernels)


class DeviceArray:
    """A matrix in device memory, rows `pitch` elements apart: for users of hip-python without torch.

    address  of element [0, 0]
    dtype    one of ITEM_SIZES: "bf16" or "fp16"; "fp8" (E4M3FNUZ) and "f32" for gemm with x_scale
    owner    kept alive with the array: whatever holds the memory; None if the caller looks after it

    Has of torch.Tensor's methods those that a launch asks for.
    """

    __slots__ = ("__weakref__", "address", "device", "dtype", "owner", "pitch", "shape")

    requires_grad = False

    def __init__(
        self,
        address: Any,
        shape: tuple[int, int],
        dtype: Any,
        pitch: int | None = None,
        device: int = 0,
        owner: Any = None,
    ) -> None:
        """address: an int, or a pointer object of hip-python. OperandError for what is no such matrix."""
        self.address = address if type(address) is int else number(address, "address")
        self.device = device if type(device) is int else number(device, "device")
        try:
            rows, columns = shape
        except (TypeError, ValueError):
            raise OperandError(f"shape {shape!r:.60}: a DeviceArray has two dimensions") from None
        if type(rows) is not int or type(columns) is not int:
            rows, columns = number(rows, "shape[0]"), number(columns, "shape[1]")
        self.shape, self.dtype = (rows, columns), array_dtype(dtype)
        if rows < 0 or columns < 0:
            raise OperandError(f"shape {list(self.shape)}: sizes start at 0")
        self.pitch = columns if pitch is None else number(pitch, "pitch")
        end = self.address + rows * self.pitch * ITEM_SIZES[self.dtype]
        if self.device < 0 or self.address < 0 or end > 1 << ADDRESS_BITS:
            raise OperandError(f"{self.nbytes} bytes at {self.address:#x} on device {self.device}: devices count from"
                               f" 0, and their addresses have {ADDRESS_BITS} bits")  # fmt: skip
        if self.pitch < self.shape[1]:
            raise OperandError(f"pitch {self.pitch} is less than the {self.shape[1]} elements of a row")
        self.owner = address if owner is None and not hasattr(address, "__index__") else owner

    def data_ptr(self) -> int:
        """The address. DeviceResetError if what is there went with a reset of the device: another may have it by now."""
        owner = self.owner
        if type(owner) is Allocation and owner.epoch.over:
            raise DeviceResetError(f"{self!r} is gone: the device was reset since it was made")
        return self.address

    def stride(self) -> tuple[int, int]:
        """In elements."""
        return self.pitch, 1

    def get_device(self) -> int:
        return self.device

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to past the last."""
        return extent(*self.shape, self.pitch, ITEM_SIZES[self.dtype])

    def __repr__(self) -> str:
        return f"DeviceArray({list(self.shape)} {self.dtype}, pitch {self.pitch}, device {self.device})"


def allocate(hip: Hip, shape: tuple[int, int], dtype: Any, pitch: int | None, device: int) -> DeviceArray:
    """An uninitialised matrix in memory of its own."""
    array = DeviceArray(0, shape, dtype, pitch, device)
    array.owner = Allocation(hip, array.nbytes, device)
    array.address = array.owner.address
    return array


def layout(x: Any, name: str) -> tuple[int, int, int]:
    """(rows, columns, pitch in elements) of a matrix whose rows are contiguous: torch.Tensor or DeviceArray.

    The pitch of a single row is its length: whatever its stride is, nobody takes that step.
    """
    shape, stride = tuple(x.shape), tuple(x.stride())
    if len(shape) != 2:
        raise OperandError(f"{name} has shape {list(shape)}: a matrix is needed, reshape it to two dimensions")
    rows, columns = shape
    if columns > 1 and stride[1] != 1:
        raise OperandError(f"{name} has strides {list(stride)}: the elements of a row have to be neighbours;"
                           f" use {name}.contiguous()")  # fmt: skip
    if rows <= 1:
        return rows, columns, columns
    if stride[0] < columns:
        raise OperandError(f"{name} has strides {list(stride)}: its rows overlap; use {name}.contiguous()")
    return rows, columns, stride[0]
