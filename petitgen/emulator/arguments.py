"""Kernel arguments as text, for the command line: parsed, made into arrays, placed in device memory.

    NAME:DTYPE[SHAPE]            a pointer to a buffer with nothing in it
    NAME:DTYPE[SHAPE]=INIT       a pointer to a buffer; INIT: random, zeros, ones, iota, a number, @FILE.npy
    DTYPE=VALUE                  a scalar by value
    bytes=HEX                    bytes by value
    ptr=NAME                     a pointer to a buffer declared before
    rsrc=NAME                    the 128-bit buffer resource descriptor of a buffer declared before

DTYPE is one of `TYPES`; SHAPE is numbers with commas between. Every fault is an EmulationError that quotes
the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import DeviceMemory
from petitgen.errors import EmulationError
from petitgen.isa import Kernel, KernelArg

_INTEGERS = {
    f"{sign}{bits}": f"{name}{bits}"
    for sign, name in (("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}
_SMALL_FLOATS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
TYPES: Mapping[str, np.dtype[Any]] = {
    **{name: np.dtype(long) for name, long in _INTEGERS.items()},
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _SMALL_FLOATS},
}
INITS = "random, zeros, ones, iota, a number, @FILE.npy"
MOST_BYTES = 1 << 34  # of one buffer: a slip of the pen, not a test, beyond that

_BUFFER = re.compile(
    r"(?P<name>[A-Za-z_]\w*):(?P<type>\w+)\[(?P<shape>[^\]]*)\](?:=(?P<init>.*))?", re.DOTALL
)
_VALUE = re.compile(r"(?P<kind>\w+)=(?P<value>.*)", re.DOTALL)
Resource = Callable[[int, int, str], bytes]  # (address, bytes, arch) -> 16 bytes


@dataclass(frozen=True, slots=True)
class BufferSpec:
    """A buffer to make. `init` None: nothing in it."""

    name: str
    type: str
    shape: tuple[int, ...]
    init: str | None

    @property
    def dtype(self) -> np.dtype[Any]:
        return TYPES[self.type]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """A scalar or bytes by value; kind "ptr" and "rsrc" name a buffer instead."""

    kind: str
    value: str


Spec = BufferSpec | ValueSpec


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A buffer in device memory, and the bytes it began with (None: nothing)."""

    spec: BufferSpec
    address: int
    before: NDArray[Any] | None

    def read(self, memory: DeviceMemory) -> NDArray[Any]:
        """What is in it now, in its shape and type."""
        return memory.read(self.address, self.spec.dtype, self.spec.shape)


# --- text ------------------------------------------------------------------------------------------------


def parse(text: str) -> Spec:
    """One argument."""
    if match := _BUFFER.fullmatch(text):
        return BufferSpec(
            match["name"], _type(match["type"], text), _shape(match["shape"], text), match["init"]
        )
    if match := _VALUE.fullmatch(text):
        if match["kind"] not in ("bytes", "ptr", "rsrc"):
            _type(match["kind"], text)
        return ValueSpec(match["kind"], match["value"])
    raise EmulationError(
        f"argument {text!r}: write NAME:DTYPE[SHAPE] or NAME:DTYPE[SHAPE]=INIT for a buffer, "
        "DTYPE=VALUE for a scalar, bytes=HEX, ptr=NAME or rsrc=NAME"
    )


def parse_buffer(text: str) -> BufferSpec:
    """A buffer that arguments may name."""
    spec = parse(text)
    if not isinstance(spec, BufferSpec):
        raise EmulationError(f"buffer {text!r}: write NAME:DTYPE[SHAPE] or NAME:DTYPE[SHAPE]=INIT")
    return spec


def _type(name: str, text: str) -> str:
    if name not in TYPES:
        raise EmulationError(f"argument {text!r}: no type {name!r}; there are {', '.join(TYPES)}")
    return name


def _shape(numbers: str, text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(number) for number in numbers.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise EmulationError(
            f"argument {text!r}: the shape is one or more numbers, each at least 1, as in f32[16,64]"
        )
    return shape


# --- contents --------------------------------------------------------------------------------------------


def contents(spec: BufferSpec, rng: np.random.Generator) -> NDArray[Any] | None:
    """The array a buffer begins with, None for nothing. `random`: normal floats, integers of any bits."""
    if spec.nbytes > MOST_BYTES:
        raise EmulationError(f"buffer {spec.name}: {spec.nbytes} bytes; at most {MOST_BYTES}")
    init, shape, dtype = spec.init, spec.shape, spec.dtype
    if init is None:
        return None
    if init == "random":
        if dtype.kind in "iu":
            return rng.integers(0, 256, spec.nbytes, np.uint8).view(dtype).reshape(shape)
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if init == "iota":
        return np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    if init.startswith("@"):
        return _from_file(spec, init[1:])
    number = {"zeros": "0", "ones": "1"}.get(init, init)
    return np.full(shape, scalar(spec.type, number, f"buffer {spec.name}", INITS))


def _from_file(spec: BufferSpec, name: str) -> NDArray[Any]:
    try:
        array = np.load(name, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise EmulationError(f"buffer {spec.name}: {name} cannot be read as .npy: {reason}") from None
    if not isinstance(array, np.ndarray):
        raise EmulationError(f"buffer {spec.name}: {name} is no .npy file but an archive of several arrays")
    if array.dtype != spec.dtype and not (
        array.dtype.kind in "uV" and _bits_of(spec.dtype).itemsize == array.itemsize
    ):
        raise EmulationError(f"buffer {spec.name}: {name} holds {array.dtype}, the argument says {spec.type}")
    if array.shape != spec.shape:
        raise EmulationError(
            f"buffer {spec.name}: {name} has shape {list(array.shape)}, the argument says {list(spec.shape)}"
        )
    return np.ascontiguousarray(array).view(spec.dtype)


def save(array: NDArray[Any], file: Path) -> None:
    """Write .npy. Types that numpy does not know are written as their bits, u8 or u16, and read back so."""
    own = array.dtype.kind == "V" or array.dtype.isbuiltin != 1
    try:
        with file.open("wb") as out:
            np.save(out, array.view(_bits_of(array.dtype)) if own else array, allow_pickle=False)
    except OSError as error:
        raise EmulationError(f"{file}: cannot be written: {error.strerror}") from None


def _bits_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def scalar(type_: str, text: str, what: str, allowed: str = "") -> Any:
    """A numpy scalar from text. EmulationError where it is no number, or does not fit the type."""
    dtype = TYPES[type_]
    expected = f"; write {allowed}" if allowed else ""
    try:
        number = int(text, 0) if dtype.kind in "iu" else float(text)
    except ValueError:
        raise EmulationError(f"{what}: {text!r} is no {type_}{expected}") from None
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if not info.min <= number <= info.max:
            raise EmulationError(f"{what}: {text} does not fit {type_} ({info.min} to {info.max})")
    return np.asarray(number).astype(dtype)[()]


# --- the launch ------------------------------------------------------------------------------------------


def place(specs: Sequence[BufferSpec], memory: DeviceMemory, seed: int) -> dict[str, Buffer]:
    """The buffers by name. Each has random numbers of its own, so that one more argument changes no other."""
    placed: dict[str, Buffer] = {}
    for number, spec in enumerate(specs):
        if spec.name in placed:
            raise EmulationError(
                f"two buffers are called {spec.name!r}; ptr={spec.name} names the first a second time"
            )
        array = contents(spec, np.random.default_rng([seed, number]))
        placed[spec.name] = Buffer(spec, memory.allocate(spec.nbytes if array is None else array), array)
    return placed


def kernel_arguments(
    kernel: Kernel, specs: Sequence[Spec], buffers: Mapping[str, Buffer], arch: str, resource: Resource
) -> list[Any]:
    """Values for launch(), each checked against the kernel's metadata."""
    wanted = [arg for arg in kernel.args if not arg.hidden]
    if len(specs) != len(wanted):
        listed = (
            ", ".join(f"{arg.name or number} {_kind(arg)}" for number, arg in enumerate(wanted)) or "none"
        )
        raise EmulationError(
            f"kernel {kernel.name} takes {len(wanted)} arguments, {len(specs)} given; it wants: {listed}"
        )
    values = []
    for number, (spec, arg) in enumerate(zip(specs, wanted, strict=True)):
        value = _value(spec, buffers, arch, resource)
        what = f"argument {number}{f' ({arg.name})' if arg.name else ''} of {kernel.name}"
        given = "a pointer" if isinstance(value, int) else f"{len(value)} bytes by value"
        if _is_pointer(arg) != isinstance(value, int) or (
            isinstance(value, bytes) and len(value) != arg.size
        ):
            raise EmulationError(f"{what} is {_kind(arg)}; {_text(spec)!r} gives {given}")
        values.append(value)
    return values


def _value(spec: Spec, buffers: Mapping[str, Buffer], arch: str, resource: Resource) -> int | bytes:
    """A device address, or bytes."""
    if isinstance(spec, BufferSpec):
        return buffers[spec.name].address
    if spec.kind in ("ptr", "rsrc"):
        if spec.value not in buffers:
            known = ", ".join(buffers) or "none"
            raise EmulationError(
                f"argument {_text(spec)!r}: no buffer {spec.value!r} is declared; there are: {known}"
            )
        buffer = buffers[spec.value]
        return buffer.address if spec.kind == "ptr" else resource(buffer.address, buffer.spec.nbytes, arch)
    if spec.kind == "bytes":
        try:
            return bytes.fromhex(spec.value)
        except ValueError:
            raise EmulationError(
                f"argument {_text(spec)!r}: not an even number of hexadecimal digits"
            ) from None
    return bytes(scalar(spec.kind, spec.value, f"argument {_text(spec)!r}").tobytes())


def _text(spec: Spec) -> str:
    if isinstance(spec, ValueSpec):
        return f"{spec.kind}={spec.value}"
    return f"{spec.name}:{spec.type}[{','.join(map(str, spec.shape))}]"


def _is_pointer(arg: KernelArg) -> bool:
    return arg.value_kind != "by_value"


def _kind(arg: KernelArg) -> str:
    return f"a pointer ({arg.value_kind})" if _is_pointer(arg) else f"{arg.size} bytes by value"
