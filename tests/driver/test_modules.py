"""Modules, launches and occupancy of the virtual GPU."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .harness import ARCHES, Dim3, Hip, client, kernel_file

pytestmark = pytest.mark.compiler

INVALID_VALUE, INVALID_IMAGE, NO_BINARY, FILE_NOT_FOUND, INVALID_HANDLE, NOT_FOUND = 1, 200, 209, 301, 400, 500
BUFFER_POINTER, BUFFER_SIZE, END = 1, 2, 3
unsigned = ctypes.c_uint


class Pair(ctypes.Structure):
    _fields_ = [("first", ctypes.c_short), ("second", ctypes.c_double)]


@pytest.mark.parametrize("device", [0, 1])
@client
def test_arguments_of_many_sizes(hip: Hip, device: int) -> None:
    hip.ok("hipSetDevice", device)
    mixed = hip.function(hip.module(ARCHES[device]), "mixed")
    a = np.random.default_rng(3).standard_normal(200, np.float32)
    there, out = hip.upload(a), hip.malloc(800)
    status = hip.launch(mixed, 4, ctypes.c_void_p(there), ctypes.c_void_p(out), ctypes.c_uint8(200), Pair(-3, 0.25), ctypes.c_float(2.0),
                        unsigned(200))  # fmt: skip
    assert status == 0
    np.testing.assert_array_equal(
        hip.download(out, a), a * np.float32(2) + np.float32(-3) + np.float32(0.25) + np.float32(200)
    )


@pytest.mark.parametrize("device", [0, 1])
@client
def test_what_the_loader_places(hip: Hip, device: int) -> None:
    hip.ok("hipSetDevice", device)
    module = hip.module(ARCHES[device])
    a, b = np.random.default_rng(4).integers(-999, 999, (2, 64)).astype(np.int32)
    first, second, out = hip.upload(a), hip.upload(b), hip.malloc(256)
    pointers = [ctypes.c_void_p(address) for address in (first, second, out)]
    numbers = [ctypes.c_int(value) for value in (3, -7, 11)]
    assert hip.launch(hip.function(module, "three_ints"), 1, *pointers, *numbers) == 0
    np.testing.assert_array_equal(hip.download(out, a), a * 3 - b * 7 + 11)
    pick = np.arange(64, dtype=np.int32) % 3
    at = hip.upload(pick)
    assert hip.launch(hip.function(module, "by_pointer"), 1, ctypes.c_void_p(at)) == 0
    np.testing.assert_array_equal(hip.download(at, pick), np.choose(pick, [500, 5, 50]))


@client
def test_arguments_as_one_buffer(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    at = hip.upload(np.arange(100, dtype=np.int32))
    packed = ctypes.create_string_buffer(struct.pack("<QiI", at, 7, 100), 16)
    size = ctypes.c_size_t(16)
    extra = (ctypes.c_void_p * 5)(BUFFER_POINTER, ctypes.addressof(packed), BUFFER_SIZE, ctypes.addressof(size), END)
    hip.ok("hipModuleLaunchKernel", add, 2, 1, 1, 64, 1, 1, 0, None, None, extra)
    np.testing.assert_array_equal(hip.download(at, np.zeros(100, np.int32)), np.arange(100) + 7)
    # Grids of these two are in work-items, and events stand around the launch.
    start, stop = (ctypes.c_void_p(hip.value("hipEventCreate")) for _ in range(2))  # on the stack: see Hip.launch
    hip.ok("hipExtModuleLaunchKernel", add, 128, 1, 1, 64, 1, 1, ctypes.c_size_t(0), None, None, extra, start, stop, 0)
    hip.ok("hipHccModuleLaunchKernel", add, 128, 1, 1, 64, 1, 1, ctypes.c_size_t(0), None, None, extra, None, None)
    np.testing.assert_array_equal(hip.download(at, np.zeros(100, np.int32)), np.arange(100) + 21)
    hip.ok("hipEventElapsedTime", ctypes.byref(ctypes.c_float()), start, stop)
    size.value = 12
    assert hip.hipModuleLaunchKernel(add, 2, 1, 1, 64, 1, 1, 0, None, None, extra) == INVALID_VALUE
    assert (
        hip.hipExtModuleLaunchKernel(add, 100, 1, 1, 64, 1, 1, ctypes.c_size_t(0), None, None, extra, None, None, 0)
        == INVALID_VALUE
    )


@client
def test_malformed_extra_is_refused_and_not_read_beyond_its_pairs(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    at = hip.upload(np.zeros(64, np.int32))
    packed = ctypes.create_string_buffer(struct.pack("<QiI", at, 7, 64), 16)
    size = ctypes.c_size_t(16)
    data, length = (BUFFER_POINTER, ctypes.addressof(packed)), (BUFFER_SIZE, ctypes.addressof(size))
    pages = mmap.mmap(-1, 8192)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(start + 4096, 4096, 0) == 0  # nothing behind the first page can be read

    def launch(*words: int) -> int:
        extra = (ctypes.c_void_p * len(words)).from_address(start + 4096 - 8 * len(words))
        extra[:] = words
        return hip.hipModuleLaunchKernel(add, 1, 1, 1, 64, 1, 1, 0, None, None, extra)

    assert launch(*data, *length, BUFFER_POINTER) == INVALID_VALUE
    assert launch(*data, *length, BUFFER_SIZE) == INVALID_VALUE
    assert launch(*data, *length, 77) == INVALID_VALUE
    assert launch(*data, BUFFER_SIZE, 0) == INVALID_VALUE
    assert not hip.download(at, np.zeros(64, np.int32)).any()
    assert launch(*length, *data, END) == 0
    assert (hip.download(at, np.zeros(64, np.int32)) == 7).all()


@client
def test_lds_that_the_launch_brings(hip: Hip) -> None:
    turn = hip.function(hip.module(), "turn")
    at = hip.upload(np.arange(64, dtype=np.int32))
    assert hip.launch(turn, 1, ctypes.c_void_p(at), lds=256) == 0
    np.testing.assert_array_equal(hip.download(at, np.zeros(64, np.int32)), np.roll(np.arange(64), -1))
    assert hip.launch(turn, 1, ctypes.c_void_p(at), lds=65537) == INVALID_VALUE


@client
def test_shapes_no_device_can_run_are_refused(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    at = hip.upload(np.zeros(64, np.int32))
    arguments = (ctypes.c_void_p(at), ctypes.c_int(1), unsigned(64))
    assert hip.launch(add, 0, *arguments) == INVALID_VALUE
    assert hip.launch(add, 1, *arguments, block=0) == INVALID_VALUE
    assert hip.launch(add, 1, *arguments, block=65) == INVALID_VALUE  # compiled for at most 64
    assert hip.launch(at, 1, *arguments) == INVALID_HANDLE
    assert hip.hipModuleLaunchKernel(add, 1, 1, 1, 64, 1, 1, 0, None, None, None) == INVALID_VALUE  # no arguments
    assert not hip.download(at, np.zeros(64, np.int32)).any()
    assert hip.launch(add, 1, *arguments) == 0  # none of this lasts


@pytest.mark.parametrize("call", ["hipModuleLoadData", "hipModuleLoadDataEx"])
@client
def test_modules_from_memory(hip: Hip, call: str) -> None:
    image = Path(kernel_file("gfx942")).read_bytes()
    more = (0, None, None) if call.endswith("Ex") else ()
    module = hip.value(call, image, *more)
    assert hip.function(module, "add")
    bundle = offload_bundle(
        {f"hipv4-amdgcn-amd-amdhsa--{arch}": Path(kernel_file(arch)).read_bytes() for arch in ARCHES}
    )
    for device in (0, 1):
        hip.ok("hipSetDevice", device)
        assert hip.function(hip.value(call, bundle, *more), "mixed")


def offload_bundle(entries: dict[str, bytes]) -> bytes:
    """source: clang documentation, "Clang Offload Bundler": magic, count, (offset, size, length, id) each, blobs."""
    head = 32 + sum(24 + len(name) for name in entries)
    table, blobs = b"", b""
    for name, blob in entries.items():
        table += struct.pack("<QQQ", head + len(blobs), len(blob), len(name)) + name.encode()
        blobs += blob
    return b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(entries)) + table + blobs


FAR = (2**64 - 8, 2**64 - 4096, 2**63, 1 << 47, 1 << 29)  # offsets outside the image; added to, some wrap


def damages(elf: bytes) -> Iterator[bytes]:
    """Code objects and bundles one of whose offsets or sizes points elsewhere. source: System V ABI, ELF-64 structures."""
    programs, sections = (struct.unpack_from("<Q", elf, at)[0] for at in (32, 40))
    bundle = offload_bundle({"host-x86_64-unknown-linux--": b"", "hipv4-amdgcn-amd-amdhsa--gfx942": elf})
    places = {
        elf: (32, 40, programs + 8, programs + 32, sections + 64 + 24, sections + 64 + 32),
        bundle: (24, 32, 40, 48),
    }
    for image, offsets in places.items():
        for offset in offsets:
            for value in FAR:
                yield image[:offset] + struct.pack("<Q", value) + image[offset + 8 :]
    # An entry whose offset and size cancel out, and one whose name takes the table back to its start.
    yield bundle[:32] + struct.pack("<QQ", 2**64 - 4096, 8192) + bundle[48:]
    yield bundle[:24] + struct.pack("<QQQQ", 64, 0, 0, 2**64 - 24) + bundle[56:]


@client
def test_modules_that_are_none(hip: Hip) -> None:
    from petitgen.driver import control

    out = ctypes.byref(ctypes.c_void_p())
    assert hip.hipModuleLoad(out, b"/nonexistent/file.hsaco") == FILE_NOT_FOUND
    assert "/nonexistent/file.hsaco" in control.story()
    assert hip.hipModuleLoadData(out, b"\0" * 64) == INVALID_IMAGE
    assert hip.hipModuleLoad(out, kernel_file("gfx90a").encode()) == NO_BINARY
    assert "gfx90a" in control.story()
    data = Path(kernel_file("gfx942")).read_bytes()
    cut = Path(kernel_file("gfx942")).with_name("cut.hsaco")
    for length in (0, 3, 60, 200, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        assert hip.hipModuleLoad(out, str(cut).encode()) == INVALID_IMAGE
    for damage in damages(data):
        cut.write_bytes(damage)
        assert hip.hipModuleLoad(out, str(cut).encode()) == INVALID_IMAGE
        assert str(cut) in control.story()
        assert hip.hipModuleLoadData(out, damage) == INVALID_IMAGE
    damaged = bytearray(data)
    damaged[0x40:0x100] = bytes(0xC0)  # no program headers
    assert hip.hipModuleLoadData(out, bytes(damaged)) == INVALID_IMAGE
    assert control.live()["modules"] == 0


@client
def test_functions_and_their_attributes(hip: Hip) -> None:
    module = hip.module()
    race, mixed = hip.function(module, "race"), hip.function(module, "mixed")
    assert hip.hipModuleGetFunction(ctypes.byref(ctypes.c_void_p()), module, b"absent") == NOT_FOUND
    assert hip.value("hipModuleGetFunctionCount", module, kind=unsigned) == 11

    def attribute(function: int, number: int) -> int:
        return hip.value("hipFuncGetAttribute", number, function, kind=ctypes.c_int)

    assert (attribute(race, 0), attribute(mixed, 0)) == (128, 64)  # threads a block
    assert (attribute(race, 1), attribute(mixed, 1)) == (256, 0)  # LDS
    assert attribute(mixed, 3) == 0  # scratch
    assert 0 < attribute(mixed, 4) <= 512  # registers
    assert hip.hipFuncGetAttribute(ctypes.byref(ctypes.c_int()), 99, mixed) == INVALID_VALUE
    block = (ctypes.c_char * 64)()
    hip.ok("hipFuncGetAttributes", block, race)
    binary, _, _, _, dynamic, threads, registers, _, _, shared = struct.unpack_from("<iiQQiiiiixxxxQ", block)
    assert (threads, shared, dynamic) == (128, 256, 65536 - 256)
    assert registers == attribute(race, 4)
    assert binary == attribute(race, 6)
    hip.ok("hipFuncSetAttribute", race, 8, 4096)
    hip.ok("hipFuncSetCacheConfig", race, 1)
    hip.ok("hipFuncSetSharedMemConfig", race, 1)


@client
def test_variables_of_a_module(hip: Hip) -> None:
    module = hip.module()
    at, size = ctypes.c_void_p(), ctypes.c_size_t()
    hip.ok("hipModuleGetGlobal", ctypes.byref(at), ctypes.byref(size), module, b"counter")
    assert size.value == 4
    value = np.zeros(1, np.int32)
    assert hip.download(at.value, value)[0] == 41
    value[0] = 99
    hip.ok("hipMemcpyHtoD", at.value, value.ctypes.data, ctypes.c_size_t(4))
    out = hip.upload(np.zeros(1, np.int32))
    assert hip.launch(hip.function(module, "count"), 1, ctypes.c_void_p(out), block=1) == 0
    assert hip.download(out, value)[0] == 100
    assert hip.download(at.value, value)[0] == 100
    assert hip.hipModuleGetGlobal(ctypes.byref(at), ctypes.byref(size), module, b"absent") == NOT_FOUND
    first = at.value
    other = hip.module()  # loaded again: variables of its own
    hip.ok("hipModuleGetGlobal", ctypes.byref(at), ctypes.byref(size), other, b"counter")
    assert hip.download(at.value, value)[0] == 41
    hip.ok("hipModuleUnload", module)
    assert hip.hipMemcpyDtoH(value.ctypes.data, first, ctypes.c_size_t(4)) == INVALID_VALUE


@client
def test_an_unloaded_module_is_gone(hip: Hip) -> None:
    module = hip.module()
    add = hip.function(module, "add")
    hip.ok("hipModuleUnload", module)
    assert hip.hipModuleUnload(module) == INVALID_HANDLE
    assert hip.launch(add, 1, ctypes.c_void_p(0), ctypes.c_int(0), unsigned(0)) == INVALID_HANDLE


@client
def test_a_module_belongs_to_the_device_it_was_loaded_on(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    hip.ok("hipSetDevice", 1)
    assert hip.launch(add, 1, ctypes.c_void_p(0), ctypes.c_int(0), unsigned(0)) == INVALID_HANDLE


@client
def test_occupancy(hip: Hip) -> None:
    race = hip.function(hip.module(), "race")  # few registers, 256 bytes of LDS, two waves a block
    out = ctypes.c_int
    for call, more in (
        ("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", ()),
        ("hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", (0,)),
        ("hipOccupancyMaxActiveBlocksPerMultiprocessor", ()),
        ("hipOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", (0,)),
    ):
        assert hip.value(call, race, 128, ctypes.c_size_t(0), *more, kind=out) == 16  # 4 SIMDs of 8 waves each
        assert hip.value(call, race, 128, ctypes.c_size_t(16128), *more, kind=out) == 4  # 64 KiB of LDS / 16 KiB
        assert hip.value(call, race, 128, ctypes.c_size_t(65536), *more, kind=out) == 0
    for call, more in (
        ("hipModuleOccupancyMaxPotentialBlockSize", ()),
        ("hipModuleOccupancyMaxPotentialBlockSizeWithFlags", (0,)),
        ("hipOccupancyMaxPotentialBlockSize", ()),
    ):
        grid, block = out(), out()
        hip.ok(call, ctypes.byref(grid), ctypes.byref(block), race, ctypes.c_size_t(0), 0, *more)
        assert (grid.value, block.value) == (16 * 304, 128)


@client
def test_host_functions_nobody_registered(hip: Hip) -> None:
    launch = hip.library["hipLaunchKernel"]  # an object of its own: what is said of its arguments stays here
    launch.argtypes = [ctypes.c_void_p, Dim3, Dim3, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    one = Dim3(1, 1, 1)
    add = hip.function(hip.module(), "add")
    at = hip.upload(np.zeros(64, np.int32))
    values = (ctypes.c_void_p(at), ctypes.c_int(4), unsigned(64))
    pointers = (ctypes.c_void_p * 3)(*map(ctypes.addressof, values))
    assert launch(add, one, Dim3(64, 1, 1), ctypes.addressof(pointers), 0, None) == 0
    assert (hip.download(at, np.zeros(64, np.int32)) == 4).all()
    assert launch(at, one, one, None, 0, None) == 98  # hipErrorInvalidDeviceFunction
    assert launch(add, Dim3(0, 1, 1), one, ctypes.addressof(pointers), 0, None) == 9  # hipErrorInvalidConfiguration
