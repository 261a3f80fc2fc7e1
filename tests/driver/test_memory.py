"""Memory of the virtual GPU: allocation, copies, fills and what HIP says about pointers. Expectations: HIP's documentation."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from .harness import Hip, client

pytestmark = pytest.mark.compiler

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, DEFAULT = 1, 2, 3, 4
INVALID_VALUE, OUT_OF_MEMORY, INVALID_PITCH, INVALID_DIRECTION = 1, 2, 12, 21
GIB = 1 << 30
size = ctypes.c_size_t


class Attributes(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("device", ctypes.c_int), ("device_pointer", ctypes.c_void_p),
        ("host_pointer", ctypes.c_void_p), ("managed", ctypes.c_int), ("flags", ctypes.c_uint),
    ]  # fmt: skip


@client
def test_an_allocation_is_aligned_and_its_own(hip: Hip) -> None:
    addresses = sorted(hip.malloc(n) for n in (1, 255, 256, 257, 100_000))
    assert all(at % 256 == 0 for at in addresses)
    assert len(set(addresses)) == 5


@client
def test_malloc_of_nothing_gives_a_null_pointer(hip: Hip) -> None:
    at = ctypes.c_void_p(1234)
    assert hip.hipMalloc(ctypes.byref(at), size(0)) == 0
    assert at.value is None
    assert hip.hipFree(None) == 0
    assert hip.hipMalloc(None, size(8)) == INVALID_VALUE


@client
def test_freed_memory_can_be_had_again(hip: Hip) -> None:
    for _ in range(50):
        hip.ok("hipFree", hip.malloc(GIB // 2))
    both = [hip.malloc(GIB // 2 - 4096) for _ in range(2)]
    at = ctypes.c_void_p()
    assert hip.hipMalloc(ctypes.byref(at), size(64 << 10)) == OUT_OF_MEMORY
    assert at.value is None
    assert hip.hipGetLastError() == OUT_OF_MEMORY
    hip.ok("hipFree", both[0])
    assert hip.malloc(64 << 10)


@client
def test_memory_in_use_is_counted(hip: Hip) -> None:
    def free() -> tuple[int, int]:
        free, total = size(), size()
        hip.ok("hipMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    assert free() == (GIB, GIB)
    at = hip.malloc(5000)
    assert free() == (GIB - 5000, GIB)
    hip.ok("hipFree", at)
    assert free() == (GIB, GIB)


@client
def test_free_of_what_was_never_allocated_is_an_error(hip: Hip) -> None:
    at = hip.malloc(1024)
    assert hip.hipFree(at + 256) == INVALID_VALUE
    assert hip.hipHostFree(at) == INVALID_VALUE
    hip.ok("hipFree", at)
    assert hip.hipFree(at) == INVALID_VALUE


@client
def test_bytes_travel_there_and_back(hip: Hip) -> None:
    data = np.random.default_rng(1).integers(0, 256, 70_000, np.uint8)
    first = hip.upload(data)
    second = hip.malloc(data.nbytes)
    for copy in (
        lambda: hip.hipMemcpy(second, first, size(data.nbytes), DEVICE_TO_DEVICE),
        lambda: hip.hipMemcpy(second, first, size(data.nbytes), DEFAULT),
        lambda: hip.hipMemcpyDtoD(second, first, size(data.nbytes)),
        lambda: hip.hipMemcpyAsync(second, first, size(data.nbytes), DEVICE_TO_DEVICE, None),
        lambda: hip.hipMemcpyDtoDAsync(second, first, size(data.nbytes), None),
        lambda: hip.hipMemcpyWithStream(second, first, size(data.nbytes), DEVICE_TO_DEVICE, None),
        lambda: hip.hipMemcpyPeer(second, 0, first, 0, size(data.nbytes)),
        lambda: hip.hipMemcpyPeerAsync(second, 0, first, 0, size(data.nbytes), None),
        lambda: hip.hipMemcpyHtoD(second, data.ctypes.data, size(data.nbytes)),
        lambda: hip.hipMemcpyHtoDAsync(second, data.ctypes.data, size(data.nbytes), None),
    ):
        hip.ok("hipMemset", second, 0, size(data.nbytes))
        assert copy() == 0
        out = np.zeros_like(data)
        hip.ok("hipMemcpyDtoH", out.ctypes.data, second, size(out.nbytes))
        np.testing.assert_array_equal(out, data)
        out[:] = 0
        hip.ok("hipMemcpyDtoHAsync", out.ctypes.data, second, size(out.nbytes), None)
        np.testing.assert_array_equal(out, data)


@client
def test_copies_past_an_end_are_refused_and_change_nothing(hip: Hip) -> None:
    data = np.arange(64, dtype=np.uint8)
    at = hip.upload(data)
    more = np.full(65, 9, np.uint8)
    assert hip.hipMemcpy(at, more.ctypes.data, size(65), HOST_TO_DEVICE) == INVALID_VALUE
    assert hip.hipMemcpy(more.ctypes.data, at + 1, size(64), DEVICE_TO_HOST) == INVALID_VALUE
    assert hip.hipMemcpy(more.ctypes.data, data.ctypes.data, size(8), HOST_TO_DEVICE) == INVALID_VALUE
    assert hip.hipMemcpy(at, data.ctypes.data, size(8), 7) == INVALID_DIRECTION
    assert hip.hipMemset(at, 0, size(65)) == INVALID_VALUE
    assert (more == 9).all()
    np.testing.assert_array_equal(hip.download(at, data), data)


HUGE = 1 << 63
TOO_LARGE = {  # products and sums of these wrap to small numbers in 64 bits
    "fill of rows": lambda hip, a, b: hip.hipMemset2D(a, size(HUGE), 0, size(16), size(3)),
    "fill of words": lambda hip, a, b: hip.hipMemsetD32(a, 7, size((1 << 62) + 4)),
    "fill of halves": lambda hip, a, b: hip.hipMemsetD16(a, 7, size(HUGE + 8)),
    "copy of rows": lambda hip, a, b: hip.hipMemcpy2D(a, size(HUGE), b, size(HUGE), size(16), size(3), DEVICE_TO_DEVICE),
    "copy of many rows": lambda hip, a, b: hip.hipMemcpy2D(a, size(256), b, size(256), size(16), size((1 << 56) + 1), DEFAULT),
    "copy of bytes": lambda hip, a, b: hip.hipMemcpyPeer(a, 0, b, 0, size(2**64 - 1)),
    "rows of a struct": lambda hip, a, b: hip.hipMemcpyParam2D(ctypes.byref(
        Memcpy2D(src_type=2, src_device=b, dst_type=2, dst_device=a, src_pitch=256, dst_pitch=256, dst_y=1 << 56, width=16, height=1))),
    "slices": lambda hip, a, b: hip.hipMemcpy3D(ctypes.byref(
        Memcpy3D(src=b, src_shape=(256, 256, 1), dst=a, dst_shape=(256, 256, 1 << 56), extent=(16, 1, 3), kind=DEVICE_TO_DEVICE))),
    "place in a box": lambda hip, a, b: hip.hipMemcpy3D(ctypes.byref(
        Memcpy3D(src=b, src_shape=(256, 256, 2), src_pos=(0, 0, 1 << 55), dst=a, dst_shape=(256, 256, 2), extent=(16, 1, 1),
                 kind=DEVICE_TO_DEVICE))),
    "rows that start on the host": lambda hip, a, b: hip.hipMemcpy2D(
        a, size(256), HOST_BYTES.ctypes.data, size(2**64 - HOST_BYTES.ctypes.data + b), size(16), size(2), HOST_TO_DEVICE),
}  # fmt: skip
HOST_BYTES = np.zeros(64, np.uint8)


@pytest.mark.parametrize("case", TOO_LARGE)
@client
def test_sizes_that_wrap_are_refused_and_change_nothing(hip: Hip, case: str) -> None:
    data = np.arange(1024, dtype=np.int32)
    to, source = hip.upload(data), hip.upload(data[::-1].copy())
    assert TOO_LARGE[case](hip, to, source) == INVALID_VALUE
    np.testing.assert_array_equal(hip.download(to, data), data)


@client
def test_host_memory_that_is_not_there_is_refused(hip: Hip) -> None:
    data = np.arange(4096, dtype=np.uint8)
    at = hip.upload(data)
    pages = mmap.mmap(-1, 3 * 4096)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, size, ctypes.c_int]
    assert protect(start + 4096, 4096, mmap.PROT_READ) == 0
    assert protect(start + 8192, 4096, 0) == 0
    assert hip.hipMemcpy(at, ctypes.c_void_p(16), size(16), HOST_TO_DEVICE) == INVALID_VALUE
    assert hip.hipMemcpy(ctypes.c_void_p(16), at, size(16), DEVICE_TO_HOST) == INVALID_VALUE
    assert hip.hipMemcpyAsync(start + 8192, at, size(16), DEVICE_TO_HOST, None) == INVALID_VALUE
    assert hip.hipMemcpy(start + 8192 - 8, at, size(16), DEVICE_TO_HOST) == INVALID_VALUE  # the second half of it
    assert hip.hipMemcpy(start + 4096, at, size(16), DEVICE_TO_HOST) == INVALID_VALUE  # read-only
    assert hip.hipMemcpy(start + 8192, data.ctypes.data, size(16), DEFAULT) == INVALID_VALUE
    np.testing.assert_array_equal(hip.download(at, data), data)
    hip.ok("hipMemcpy", at, start + 4096, size(16), HOST_TO_DEVICE)
    hip.ok("hipMemcpy", start, at + 2048, size(2048), DEVICE_TO_HOST)
    assert pages[:2048] == data[2048:].tobytes()
    assert not hip.download(at, data)[:16].any()


@client
def test_copies_of_rows(hip: Hip) -> None:
    rows, width, host_pitch, device_pitch = 5, 24, 32, 256
    host = np.random.default_rng(2).integers(0, 256, (rows, host_pitch), np.uint8)
    at = hip.malloc(rows * device_pitch)
    hip.ok("hipMemset", at, 0, size(rows * device_pitch))
    hip.ok(
        "hipMemcpy2D",
        at,
        size(device_pitch),
        host.ctypes.data,
        size(host_pitch),
        size(width),
        size(rows),
        HOST_TO_DEVICE,
    )
    there = hip.download(at, np.zeros((rows, device_pitch), np.uint8))
    np.testing.assert_array_equal(there[:, :width], host[:, :width])
    assert not there[:, width:].any()
    out = np.zeros((rows, width), np.uint8)
    hip.ok(
        "hipMemcpy2DAsync",
        out.ctypes.data,
        size(width),
        at,
        size(device_pitch),
        size(width),
        size(rows),
        DEVICE_TO_HOST,
        None,
    )
    np.testing.assert_array_equal(out, host[:, :width])
    assert hip.hipMemcpy2D(at, size(16), host.ctypes.data, size(32), size(24), size(5), HOST_TO_DEVICE) == INVALID_PITCH


class Memcpy2D(ctypes.Structure):
    _fields_ = [
        ("src_x", size), ("src_y", size), ("src_type", ctypes.c_int), ("src_host", ctypes.c_void_p), ("src_device", ctypes.c_void_p),
        ("src_array", ctypes.c_void_p), ("src_pitch", size), ("dst_x", size), ("dst_y", size), ("dst_type", ctypes.c_int),
        ("dst_host", ctypes.c_void_p), ("dst_device", ctypes.c_void_p), ("dst_array", ctypes.c_void_p), ("dst_pitch", size),
        ("width", size), ("height", size),
    ]  # fmt: skip


@client
def test_copies_described_by_a_struct(hip: Hip) -> None:
    host = np.arange(48, dtype=np.uint8).reshape(6, 8)
    at = hip.malloc(6 * 16)
    hip.ok("hipMemset", at, 0xEE, size(96))
    copy = Memcpy2D(src_x=2, src_y=1, src_type=1, src_host=host.ctypes.data, src_pitch=8,
                    dst_x=4, dst_y=2, dst_type=2, dst_device=at, dst_pitch=16, width=3, height=4)  # fmt: skip
    expected = np.full((6, 16), 0xEE, np.uint8)
    expected[2:6, 4:7] = host[1:5, 2:5]
    hip.ok("hipMemcpyParam2D", ctypes.byref(copy))
    np.testing.assert_array_equal(hip.download(at, expected), expected)
    hip.ok("hipMemset", at, 0xEE, size(96))
    hip.ok("hipMemcpyParam2DAsync", ctypes.byref(copy), None)
    np.testing.assert_array_equal(hip.download(at, expected), expected)


class Memcpy3D(ctypes.Structure):
    _fields_ = [
        ("src_array", ctypes.c_void_p), ("src_pos", size * 3), ("src", ctypes.c_void_p), ("src_shape", size * 3),
        ("dst_array", ctypes.c_void_p), ("dst_pos", size * 3), ("dst", ctypes.c_void_p), ("dst_shape", size * 3),
        ("extent", size * 3), ("kind", ctypes.c_int),
    ]  # fmt: skip


@pytest.mark.parametrize("call", ["hipMemcpy3D", "hipMemcpy3DAsync"])
@client
def test_copies_of_boxes(hip: Hip, call: str) -> None:
    host = np.arange(4 * 5 * 8, dtype=np.uint8).reshape(4, 5, 8)
    at = hip.malloc(3 * 4 * 16)
    hip.ok("hipMemset", at, 0, size(192))
    copy = Memcpy3D(src=host.ctypes.data, src_shape=(8, 8, 5), src_pos=(1, 1, 2), dst=at, dst_shape=(16, 16, 4), dst_pos=(3, 0, 1),
                    extent=(5, 3, 2), kind=HOST_TO_DEVICE)  # fmt: skip
    hip.ok(call, ctypes.byref(copy), *([None] if call.endswith("Async") else []))
    expected = np.zeros((3, 4, 16), np.uint8)
    expected[1:3, 0:3, 3:8] = host[2:4, 1:4, 1:6]
    np.testing.assert_array_equal(hip.download(at, expected), expected)


FILLS = {
    "hipMemset": (np.uint8, -2), "hipMemsetAsync": (np.uint8, 0x1FF), "hipMemsetD8": (np.uint8, 0xAB), "hipMemsetD8Async": (np.uint8, 1),
    "hipMemsetD16": (np.uint16, 0xBEEF), "hipMemsetD16Async": (np.uint16, 7), "hipMemsetD32": (np.uint32, 0x12345678),
    "hipMemsetD32Async": (np.uint32, -1),
}  # fmt: skip


@pytest.mark.parametrize("call", FILLS)
@client
def test_fills(hip: Hip, call: str) -> None:
    dtype, value = FILLS[call]
    at = hip.upload(np.zeros(100, dtype))
    hip.ok(call, at + 8, value, size(50), *([None] if call.endswith("Async") else []))
    expected = np.zeros(100, dtype)
    first = 8 // np.dtype(dtype).itemsize
    expected[first : first + 50] = np.array(value).astype(np.int64).astype(dtype)
    np.testing.assert_array_equal(hip.download(at, expected), expected)


@pytest.mark.parametrize("call", ["hipMemset2D", "hipMemset2DAsync"])
@client
def test_fills_of_rows(hip: Hip, call: str) -> None:
    at = hip.upload(np.zeros((6, 32), np.uint8))
    hip.ok(call, at, size(32), 5, size(20), size(4), *([None] if call.endswith("Async") else []))
    expected = np.zeros((6, 32), np.uint8)
    expected[:4, :20] = 5
    np.testing.assert_array_equal(hip.download(at, expected), expected)


@client
def test_pitched_allocations(hip: Hip) -> None:
    for call, extra in (("hipMallocPitch", ()), ("hipMemAllocPitch", (ctypes.c_uint(4),))):
        at, pitch = ctypes.c_void_p(), size()
        hip.ok(call, ctypes.byref(at), ctypes.byref(pitch), size(100), size(7), *extra)
        assert pitch.value >= 100
        assert pitch.value % 4 == 0
        hip.ok("hipMemset2D", at, pitch, 1, size(100), size(7))


@pytest.mark.parametrize(("width", "height"), [(2**64 - 11, 1), (2**64 - 256, 1), (2**63, 2), (1 << 40, 1 << 30)])
@client
def test_pitched_allocations_larger_than_any_memory(hip: Hip, width: int, height: int) -> None:
    at, pitch = ctypes.c_void_p(5), size(5)
    assert hip.hipMallocPitch(ctypes.byref(at), ctypes.byref(pitch), size(width), size(height)) == OUT_OF_MEMORY
    assert at.value is None


@client
def test_allocations_in_stream_order(hip: Hip) -> None:
    stream = hip.value("hipStreamCreate")
    at = hip.value("hipMallocAsync", size(64), stream)
    hip.ok("hipMemsetAsync", at, 3, size(64), stream)
    assert (hip.download(at, np.zeros(64, np.uint8)) == 3).all()
    hip.ok("hipFreeAsync", at, stream)
    assert hip.hipMemset(at, 0, size(1)) == INVALID_VALUE
    pool = hip.value("hipDeviceGetDefaultMemPool", 0)
    assert hip.value("hipDeviceGetMemPool", 0) == pool
    at = hip.value("hipMallocFromPoolAsync", size(64), pool, stream)
    threshold, used = ctypes.c_uint64(1 << 20), ctypes.c_uint64()
    hip.ok("hipMemPoolSetAttribute", pool, 4, ctypes.byref(threshold))
    hip.ok("hipMemPoolGetAttribute", pool, 4, ctypes.byref(used))
    assert used.value == 1 << 20
    hip.ok("hipMemPoolGetAttribute", pool, 7, ctypes.byref(used))
    assert used.value == 64
    hip.ok("hipMemPoolTrimTo", pool, size(0))
    hip.ok("hipFreeAsync", at, stream)
    hip.ok("hipStreamDestroy", stream)


@client
def test_pinned_host_memory_is_written_directly(hip: Hip) -> None:
    for call in ("hipHostMalloc", "hipHostAlloc", "hipMallocHost", "hipMemAllocHost"):
        with_flags = call in ("hipHostMalloc", "hipHostAlloc")
        at = hip.value(call, size(4096), *([ctypes.c_uint(2)] if with_flags else []))
        ctypes.memset(at, 0x5A, 4096)
        assert (hip.download(at, np.zeros(4096, np.uint8)) == 0x5A).all()
        assert hip.value("hipHostGetDevicePointer", at, 0) == at
        assert hip.value("hipHostGetFlags", at, kind=ctypes.c_uint) == (2 if with_flags else 0)
        assert hip.hipFree(at) == INVALID_VALUE
        hip.ok("hipHostFree" if with_flags else "hipFreeHost", at)


@client
def test_registered_host_memory(hip: Hip) -> None:
    block = (ctypes.c_char * 8192)()
    at = ctypes.addressof(block)
    assert hip.hipHostUnregister(at) == 713  # hipErrorHostMemoryNotRegistered
    hip.ok("hipHostRegister", at, size(8192), 0)
    assert hip.hipHostRegister(at + 100, size(10), 0) == 712  # hipErrorHostMemoryAlreadyRegistered
    assert (
        hip.hipHostGetDevicePointer(ctypes.byref(ctypes.c_void_p()), at, 0) == INVALID_VALUE
    )  # kernels cannot reach it
    hip.ok("hipHostUnregister", at)


@client
def test_what_hip_says_about_a_pointer(hip: Hip) -> None:
    hip.ok("hipSetDevice", 1)
    device, host = hip.malloc(1000), hip.value("hipHostMalloc", size(64), 0)
    managed = hip.value("hipMallocManaged", size(64), 1)
    hip.ok("hipMemAdvise", managed, size(64), 1, 0)
    hip.ok("hipMemPrefetchAsync", managed, size(64), 0, None)
    a = Attributes()
    hip.ok("hipPointerGetAttributes", ctypes.byref(a), device + 10)
    assert (a.type, a.device, a.device_pointer, a.host_pointer, a.managed) == (2, 1, device + 10, None, 0)
    hip.ok("hipPointerGetAttributes", ctypes.byref(a), host)
    assert (a.type, a.device_pointer, a.host_pointer) == (1, host, host)
    hip.ok("hipPointerGetAttributes", ctypes.byref(a), managed)
    assert (a.type, a.managed) == (3, 1)
    hip.ok("hipPointerGetAttributes", ctypes.byref(a), ctypes.addressof(a))
    assert (a.type, a.device_pointer) == (0, None)
    base, length = ctypes.c_void_p(), size()
    hip.ok("hipMemGetAddressRange", ctypes.byref(base), ctypes.byref(length), device + 999)
    assert (base.value, length.value) == (device, 1000)
    assert hip.hipMemGetAddressRange(ctypes.byref(base), ctypes.byref(length), device + 1000) == 500  # hipErrorNotFound
    hip.ok("hipMemPtrGetInfo", device, ctypes.byref(length))
    assert length.value == 1000
    ordinal = ctypes.c_int()
    hip.ok("hipPointerGetAttribute", ctypes.byref(ordinal), 9, device)
    assert ordinal.value == 1
    hip.ok("hipHostFree", host)


@client
def test_each_device_has_memory_of_its_own(hip: Hip) -> None:
    hip.malloc(GIB)
    at = ctypes.c_void_p()
    assert hip.hipMalloc(ctypes.byref(at), size(1)) == OUT_OF_MEMORY
    hip.ok("hipSetDevice", 1)
    assert hip.malloc(GIB)
    assert hip.value("hipExtMallocWithFlags", size(0), 0) == 0
