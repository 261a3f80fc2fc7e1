"""manifest.json: the contract between what builds kernels and what runs them.

One file an architecture, beside its .hsaco files. manifest.schema.json states the same form as a JSON schema
(draft 2020-12) for other tools. Every figure comes from the code object that was built, or from the spec it
was built from; nothing is guessed from a name.
"""

from __future__ import annotations

import itertools
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runtime.errors import ManifestError, ManifestVersionError

SCHEMA = 3
FILE_NAME = "manifest.json"

# Bytes an argument of each kind takes in the kernarg. A buffer is a 128-bit buffer resource descriptor.
ARGUMENT_SIZES: Mapping[str, int] = types.MappingProxyType({"buffer": 16, "u32": 4, "f32": 4})
ACTIVATIONS = ("bf16", "fp16", "fp8")
OUTPUTS = ("bf16", "fp16")
DIMENSIONS = ("m", "n", "k")
GEMMS = ("gemm",)  # ops whose problems are M, N and K
TILED = (*GEMMS, "grouped")  # ops whose kernels multiply with packed weights, tile by tile
GRID_DIMENSIONS = (*DIMENSIONS, "slices")  # of those
MAX_KERNARG = 1 << 16  # bytes: far more than any kernel takes; a damaged size must not be allocated
ALIGNMENTS = tuple(1 << bits for bits in range(13))  # bytes, up to a page
MAX_GRID = (1 << 31) - 1  # workgroups. Source: HIP's device properties, maxGridSize[0]


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument: `size` bytes of `kind` at byte `offset` of the kernarg.

    kind          see ARGUMENT_SIZES
    access        buffer: "read", "write" or "readwrite"; otherwise ""
    out_of_range  buffer: the kernel goes past its end on purpose (reads give 0, writes are dropped)
    alignment     buffer: what its base address must be a multiple of, bytes; otherwise 1
    max_bytes     buffer: the largest extent the kernel's offsets can address; otherwise 0
    """

    name: str
    kind: str
    offset: int
    size: int
    access: str
    out_of_range: bool
    alignment: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Kernarg:
    """The kernel argument segment: its size in bytes, and what lies where."""

    size: int
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the built kernel takes, from its metadata and kernel descriptor.

    registers       VGPRs and AGPRs together, a lane
    lds_bytes       a workgroup; scratch_bytes: a work-item
    waves_per_simd  how many fit at once, as far as registers and LDS decide
    wave_size, max_workgroup  work-items
    """

    registers: int
    agprs: int
    sgprs: int
    lds_bytes: int
    scratch_bytes: int
    vgpr_spills: int
    sgpr_spills: int
    waves_per_simd: int
    wave_size: int
    max_workgroup: int


@dataclass(frozen=True, slots=True)
class Compiler:
    """Who made the code object: "hipcc", "clang" or "ziglang", and the version line it prints."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|y - y64| <= unit * |y64| + accumulate * sum|a w|, elementwise.

    sums  what float32 loses at its lower end is granted for sums that are carried times this power of two
          (docs/verification.md)
    """

    unit: float
    accumulate: float
    sums: float


GridAxis = int | tuple[str, int]


@dataclass(frozen=True, slots=True)
class Grid:
    """Workgroups in x, y and z: a number, or (dimension, d): that dimension divided by d, rounded up.

    The dimensions of a GEMM are m, n, k and slices: how many workgroups share a tile of C along K.
    """

    x: GridAxis
    y: GridAxis
    z: GridAxis

    def size(self, *, slices: int = 1, **dimensions: int) -> tuple[int, int, int]:
        """The grid for a problem, in workgroups: grid.size(m=16, n=4096, k=4096, slices=2). KeyError for one it lacks."""
        dimensions["slices"] = slices

        def along(axis: GridAxis) -> int:
            return axis if isinstance(axis, int) else -(-dimensions[axis[0]] // axis[1])

        return along(self.x), along(self.y), along(self.z)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One built kernel. `name` is also its file's stem, its symbol and its key in the manifest.

    op, weights, activations  what it computes: gemm, nvfp4, bf16. weights of another op: the format that it makes or
                              reads, "" where there is none
    out                       the type of a GEMM's results; "" for other ops
    order                     the code order it reads weights in: one of runtime.formats.ORDER_SHAPES; "" if it reads none
    file, sha256, size        the code object, beside the manifest
    source, source_sha256     the HIP text it was compiled from
    target                    arch with the features the code object insists on: gfx942, gfx90a:xnack-
    block                     work-items a workgroup
    tile, constraints         positive numbers by name, for choosing a kernel. A GEMM has tile.m, .n, .k and .unit
                              (what K is divided in between slices) and constraints.k_multiple
    tolerance                 of a GEMM; None: results are the same bits as their definition's

    Kernels of ops that this runtime does not know are carried and never chosen.
    """

    name: str
    op: str
    weights: str
    activations: str
    out: str
    order: str
    symbol: str
    file: str
    sha256: str
    size: int
    source: str
    source_sha256: str
    target: str
    code_object_version: int
    compiler: Compiler
    flags: tuple[str, ...]
    resources: Resources
    kernarg: Kernarg
    tile: Mapping[str, int]
    block: int
    grid: Grid
    constraints: Mapping[str, int]
    tolerance: Tolerance | None

    @property
    def bounds(self) -> Tolerance:
        """The tolerance of a kernel that has one. ManifestError for one whose results are exact."""
        if self.tolerance is None:
            raise ManifestError(f"{self.name} has no tolerance: its results are exact")
        return self.tolerance


@dataclass(frozen=True, slots=True)
class Manifest:
    """All kernels built for one architecture.

    petitgen   version of the generator
    directory  where the files are; None when read from text
    """

    schema: int
    petitgen: str
    arch: str
    kernels: Mapping[str, Kernel]
    directory: Path | None = None

    @staticmethod
    def load(path: str | Path) -> Manifest:
        """Read a manifest.json, or the one in a directory. ManifestError if it is missing or wrong."""
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() or path.suffix != ".json" else path
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ManifestError(f"{file}: no such file; build the kernels with: petitgen build") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{file}: cannot be read: {error}") from error
        return parse(text, str(file), file.parent)

    def path(self, kernel: Kernel) -> Path:
        """Where the code object of `kernel` is."""
        return (self.directory or Path()) / kernel.file

    def to_json(self) -> str:
        """The text of manifest.json. Reproducible: keys in the order of the dataclasses, kernels by name."""
        kernels = {name: self.kernels[name] for name in sorted(self.kernels)}
        data = {"schema": self.schema, "petitgen": self.petitgen, "arch": self.arch, "kernels": kernels}
        return json.dumps(data, indent=1, default=_object) + "\n"


def _object(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, as json.dumps asks for them: without the copies that asdict makes."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def parse(text: str, where: str = FILE_NAME, directory: Path | None = None) -> Manifest:
    """A Manifest from the text of one; `where` names it in errors. ManifestError or ManifestVersionError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); build the kernels again") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise ManifestError(f"{where}: not a petitgen manifest: no 'schema' key")
    if data["schema"] != SCHEMA:
        raise ManifestVersionError(
            f"{where}: manifest schema {data['schema']!r}, this version reads {SCHEMA}; build again"
        )
    data = {"directory": directory, **data}
    manifest = typing.cast(Manifest, _dataclass(Manifest, data, where, ""))
    for key, kernel in manifest.kernels.items():
        _check_kernel(key, kernel, where)
    return manifest


def _check_kernel(key: str, kernel: Kernel, where: str) -> None:
    """What the types alone do not say."""
    place = f"{where}: kernels.{key}"
    if kernel.name != key:
        raise ManifestError(f"{place}.name: {kernel.name!r} is not the key it stands under")
    if Path(kernel.file).name != kernel.file or kernel.file in ("", ".."):
        raise ManifestError(f"{place}.file: {kernel.file!r} is not a plain file name")
    _check_launch(place, kernel)
    if kernel.op in TILED:
        _check_gemm(place, kernel)
    if kernel.tolerance is not None:
        _check_tolerance(place, kernel.tolerance)
    _check_kernarg(f"{place}.kernarg", kernel.kernarg)


def _check_tolerance(place: str, tolerance: Tolerance) -> None:
    for field in fields(Tolerance):
        value = getattr(tolerance, field.name)
        if not (math.isfinite(value) and value >= 0):
            raise ManifestError(f"{place}.tolerance.{field.name}: expected a finite number from 0, got {value}")
    if not tolerance.sums:
        raise ManifestError(f"{place}.tolerance.sums: expected a power of two, got 0")


def _check_kernarg(place: str, kernarg: Kernarg) -> None:
    """Arguments of known kinds, each by one name and in bytes of its own."""
    if not 0 <= kernarg.size <= MAX_KERNARG:
        raise ManifestError(f"{place}.size: expected at most {MAX_KERNARG} bytes, got {kernarg.size}")
    for argument in kernarg.args:
        size = ARGUMENT_SIZES.get(argument.kind)
        if size != argument.size:
            known = ", ".join(f"{kind} ({size} bytes)" for kind, size in ARGUMENT_SIZES.items())
            raise ManifestError(f"{place}: argument {argument.name!r} is {argument.size} bytes of"
                                f" {argument.kind!r}; this runtime knows {known}")  # fmt: skip
        if argument.offset < 0 or argument.offset + argument.size > kernarg.size:
            raise ManifestError(f"{place}: argument {argument.name!r} lies outside its {kernarg.size} bytes")
        if argument.alignment not in ALIGNMENTS:
            raise ManifestError(f"{place}: argument {argument.name!r} has alignment {argument.alignment}, which is no"
                                f" power of two up to {ALIGNMENTS[-1]}")  # fmt: skip
        if argument.max_bytes < 0:
            raise ManifestError(f"{place}: argument {argument.name!r} has max_bytes {argument.max_bytes}, below 0")
    in_order = sorted(kernarg.args, key=lambda argument: argument.offset)
    for one, other in itertools.pairwise(in_order):
        if one.offset + one.size > other.offset:
            raise ManifestError(f"{place}: arguments {one.name!r} and {other.name!r} overlap")
    names = [argument.name for argument in kernarg.args]
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"{place}: there are {names.count(name)} arguments {name!r}")


def _check_gemm(place: str, kernel: Kernel) -> None:
    """What is looked up by name to choose and launch one."""
    if kernel.activations not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ManifestError(f"{place}.activations: {kernel.activations!r}; this runtime knows {known}")
    if kernel.out not in OUTPUTS:
        raise ManifestError(f"{place}.out: {kernel.out!r}; this runtime knows {', '.join(OUTPUTS)}")
    if not kernel.order:
        raise ManifestError(f"{place}.order: a code order is needed, got ''")
    if kernel.tolerance is None:
        raise ManifestError(f"{place}.tolerance: an object is needed, got null")
    for name, numbers, wanted in (
        ("tile", kernel.tile, (*DIMENSIONS, "unit")),
        ("constraints", kernel.constraints, ("k_multiple",)),
    ):
        for key in wanted:
            if key not in numbers:
                raise ManifestError(f"{place}.{name}.{key} is missing")
    for axis in ("x", "y", "z"):
        size = getattr(kernel.grid, axis)
        if not isinstance(size, int) and size[0] not in GRID_DIMENSIONS:
            raise ManifestError(f"{place}.grid.{axis}: {size[0]!r} is no dimension: m, n, k and slices are")


def _check_launch(place: str, kernel: Kernel) -> None:
    """What a launch divides by."""
    for name, numbers in (("tile", kernel.tile), ("constraints", kernel.constraints)):
        for key, value in numbers.items():
            _check_positive(f"{place}.{name}.{key}", value)
    _check_positive(f"{place}.block", kernel.block)
    if kernel.block > kernel.resources.max_workgroup:
        raise ManifestError(f"{place}.block: the kernel was built for at most {kernel.resources.max_workgroup}"
                            f" work-items, got {kernel.block}")  # fmt: skip
    for axis in ("x", "y", "z"):
        size = getattr(kernel.grid, axis)
        count = size if isinstance(size, int) else size[1]
        _check_positive(f"{place}.grid.{axis}", count)
        if count > MAX_GRID:
            raise ManifestError(f"{place}.grid.{axis}: expected at most {MAX_GRID}, got {count}")


def _check_positive(place: str, value: int) -> None:
    if value < 1:
        raise ManifestError(f"{place}: expected at least 1, got {value}")


def _dataclass(cls: type, data: Any, where: str, path: str) -> Any:
    """An instance of the dataclass `cls` from a JSON object with exactly its fields."""
    if not isinstance(data, dict):
        raise ManifestError(f"{where}: {path or 'top'}: expected an object, got {data!r:.60}")
    hints = _hints(cls)
    names = list(hints)
    for name in names:
        if name not in data:
            raise ManifestError(f"{where}: {path + '.' if path else ''}{name} is missing")
    for name in data:
        if name not in names:
            raise ManifestError(f"{where}: {path + '.' if path else ''}{name} is not a known key")
    return cls(**{n: _value(hints[n], data[n], where, f"{path}.{n}" if path else n) for n in names})


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The fields of a dataclass and their types, which take long to find out."""
    kinds = typing.get_type_hints(cls)
    return {field.name: kinds[field.name] for field in fields(cls)}


def _value(kind: Any, data: Any, where: str, path: str) -> Any:
    """`data` as the annotated `kind`: a dataclass or none, a scalar, tuple[T, ...], Mapping[str, T] or GridAxis."""
    if kind == Tolerance | None:
        return None if data is None else _dataclass(Tolerance, data, where, path)
    if is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), data, where, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is GridAxis or kind == GridAxis:
        if _is_int(data):
            return data
        if isinstance(data, list) and [type(item) for item in data] == [str, int]:
            return data[0], data[1]
    elif origin is tuple and isinstance(data, list):
        return tuple(_value(arguments[0], item, where, f"{path}[{i}]") for i, item in enumerate(data))
    elif origin is Mapping and isinstance(data, dict):
        return {key: _value(arguments[1], item, where, f"{path}.{key}") for key, item in data.items()}
    elif kind is int and _is_int(data):
        return data
    elif kind is float and (_is_int(data) or isinstance(data, float)):
        return float(data)
    elif (kind in (str, bool) and isinstance(data, kind)) or kind == Path | None:
        return data
    name = getattr(kind, "__name__", str(kind))
    raise ManifestError(f"{where}: {path}: expected {name}, got {data!r:.60}")


def _is_int(data: Any) -> bool:
    return isinstance(data, int) and not isinstance(data, bool)
