"""What a launch is made of: kernel arguments, layouts, pointers; and that the benchmark of it runs."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import runtime
from runtime.errors import ManifestError, OperandError, ShapeError
from runtime.hip import Epoch
from runtime.kernarg import kernarg
from runtime.launch import Launcher, State, stream_handle
from runtime.manifest import parse
from runtime.memory import dtype_name, layout
from runtime.select import Problem
from runtime.weights import DeviceWeight, from_tensors, part_bytes
from tests.runtime.manifests import kernel, manifest


def entry(**changes):
    (one,) = parse(manifest(kernel(16, 32, **changes))).kernels.values()
    return one


WEIGHT = DeviceWeight("nvfp4", 40, 144, ((0x7F0011223300, 6144), (0x7F0011224B00, 768), (0x7F0011224E00, 160)), 0, None)


def test_the_kernel_arguments_word_by_word():
    """Buffer resources as the CDNA3 ISA document has them (9.1.8): base, num_records, word 3 for raw dwords."""
    got = kernarg(entry(), Problem("gemm_nvfp4_bf16", 5, 40, 144, 152, 48), WEIGHT, "gfx942")
    words = struct.unpack("<26I", got)
    raw = 0x00020000
    assert words[0:4] == (0, 0, (4 * 152 + 144) * 2, raw)
    assert words[4:8] == (0x11223300, 0x7F00, 6144, raw)
    assert words[8:12] == (0x11224B00, 0x7F00, 768, raw)
    assert words[12:16] == (0x11224E00, 0x7F00, 160, raw)
    assert words[16:20] == (0, 0, (4 * 48 + 40) * 2, raw)
    assert words[20:] == (5, 40, 144, 152, 48, 0)


def test_arguments_stand_where_the_manifest_says():
    moved = entry()
    arguments = [
        {**{f: getattr(a, f) for f in a.__dataclass_fields__}, "offset": a.offset + 32} for a in moved.kernarg.args
    ]
    shifted = entry(kernarg={"size": 132, "args": arguments[::-1]})
    problem = Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40)
    assert kernarg(shifted, problem, WEIGHT, "gfx942")[32:132] == kernarg(moved, problem, WEIGHT, "gfx942")[:100]


def test_an_argument_from_the_future_is_refused():
    strange = {"name": "bias", "kind": "u32", "offset": 100, "size": 4, "access": "", "out_of_range": False}
    known = kernel(16, 32)["kernarg"]["args"]
    future = entry(kernarg={"size": 104, "args": [*known, {**strange, "alignment": 1, "max_bytes": 0}]})
    with pytest.raises(ManifestError, match=r"an argument bias \(u32\) that this runtime does not know"):
        kernarg(future, Problem("gemm_nvfp4_bf16", 1, 40, 144, 144, 40), WEIGHT, "gfx942")


def test_a_launch_in_the_middle_of_another_has_arguments_of_its_own():
    """As two threads may: the second starts when the first has written its addresses and HIP has not read them."""
    seen, pending = [], [(0x3000, 0x4000)]

    def launch(function, *grid_and_rest):
        if pending:
            launcher.run(*pending.pop(), 0)
        extra = grid_and_rest[-1]
        seen.append(struct.unpack_from("<Q56xQ", ctypes.string_at(extra[1], 100)))
        assert (extra[0], extra[2], extra[4]) == (1, 2, 3)
        assert ctypes.c_size_t.from_address(extra[3]).value == 100
        return (0,)

    hip = SimpleNamespace(launch=launch, success=0, streams={0: 0}, device_count=1, extra=lambda array: array)
    hip.epoch = Epoch
    problem = Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40)
    launcher = Launcher(hip, State(0), None, entry(), problem, WEIGHT, "gfx942")
    launcher.run(0x1000, 0x2000, 0)
    launcher.run(0x5000, 0x6000, 0)
    assert seen == [(0x3000, 0x4000), (0x1000, 0x2000), (0x5000, 0x6000)]


def driverless(problem: Problem, **changes) -> Launcher:
    """A launcher whose driver takes everything."""
    hip = SimpleNamespace(launch=lambda *_: (0,), success=0, streams={0: 0}, device_count=1, extra=lambda array: array)
    hip.epoch = Epoch
    return Launcher(hip, State(0), None, entry(**changes), problem, WEIGHT, "gfx942")


@pytest.mark.parametrize(
    ("x", "out", "message"),
    [
        (0, 0x2000, "x starts at 0x0, where no device has memory"),
        (0x1000, 0, "out starts at 0x0, where no device has memory"),
        (-0x1000, 0x2000, "x starts at -0x1000, where no device has memory"),
        (0x1000 + (1 << 48), 0x2000, "x starts at 0x1000000001000, .* has 48 bits"),
        (0x1000, 0x2000 + (1 << 70), "out starts at 0x4.*2000, .* has 48 bits"),
        (0x1008, 0x2000, "x starts at 0x1008: gemm.* needs a multiple of 16 bytes"),
        (0x1000, 0x2004, "out starts at 0x2004: gemm.* needs a multiple of 8 bytes"),
        (0x1000, 0x1000, "out at 0x1000 overlaps x at 0x1000"),
        (0x1000, 0x1000 + 5 * 288 - 8, "overlaps x"),  # its first bytes are the last of x
        (0x1000 + 5 * 80 - 16, 0x1000, "overlaps x"),  # its last bytes are the first of x
    ],
)
def test_addresses_where_nothing_can_be_are_refused(x, out, message):
    launcher = driverless(Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40))
    with pytest.raises(OperandError, match=message):
        launcher.run(x, out, 0)


def test_out_may_begin_where_x_ends_and_lie_between_its_rows():
    neighbours = driverless(Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40))
    neighbours.run(0x1000, 0x1000 + 5 * 144 * 2, 0)
    neighbours.run(0x1000 + 5 * 40 * 2, 0x1000, 0)
    columns = driverless(Problem("gemm_nvfp4_bf16", 5, 40, 144, 184, 184))  # x[:, :144] and x[:, 144:] of one matrix
    columns.run(0x1000, 0x1000 + 144 * 2, 0)
    with pytest.raises(OperandError, match="overlaps x"):
        columns.run(0x1000, 0x1000 + 140 * 2, 0)
    with pytest.raises(OperandError, match="overlaps x"):
        columns.run(0x1000, 0x1000 + 148 * 2, 0)  # runs into the next row of x


def test_a_launch_too_large_for_the_packet_is_refused():
    with pytest.raises(ShapeError, match="a launch has at most 4294967295 work-items in a direction"):
        driverless(Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40), grid={"x": (1 << 31) - 1, "y": 1, "z": 1})


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"codes": (0x1001, 6144)}, OperandError, "codes of the weight start at 0x1001: .* a multiple of 16 bytes"),
        ({"scales": (0x1004, 768)}, OperandError, "scales of the weight start at 0x1004: .* a multiple of 8 bytes"),
        ({"outer": (0x1008, 160)}, OperandError, "outer of the weight start at 0x1008: .* a multiple of 16 bytes"),
        (
            {"codes": (0x1000, 1 << 32)},
            ShapeError,
            "codes of the weight take 4294967296 bytes, 4294967295 is the limit",
        ),
    ],
)
def test_a_weight_that_lies_where_the_kernel_cannot_read_it(parts, error, message):
    where = {"codes": WEIGHT.codes, "scales": WEIGHT.scales, "outer": WEIGHT.outer, **parts}
    weight = DeviceWeight("nvfp4", 40, 144, tuple(where.values()), 0, None)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        kernarg(entry(), Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40), weight, "gfx942")


def test_streams_are_numbers_or_what_libraries_call_one():
    pytest.importorskip("hip")
    from hip import hip  # 10.x has no module of the name hip.hip

    for stream in (77, np.int64(77), SimpleNamespace(cuda_stream=77), hip.ihipStream_t(77)):
        assert stream_handle(stream, None) == 77
    for stream in (True, 1.5, "77", object(), [77], -5, 1 << 64, SimpleNamespace(cuda_stream="77")):
        with pytest.raises(OperandError, match="stream"):
            stream_handle(stream, None)


@pytest.mark.parametrize(
    ("shape", "stride", "wanted"),
    [
        ((4, 32), (40, 1), (4, 32, 40)),
        ((1, 32), (7, 1), (1, 32, 32)),  # a single row: its pitch is never stepped
        ((4, 1), (3, 9), (4, 1, 3)),  # a single column: its stride is never stepped
        ((0, 32), (0, 1), (0, 32, 32)),
    ],
)
def test_layouts(shape, stride, wanted):
    assert layout(SimpleNamespace(shape=shape, stride=lambda: stride), "x") == wanted


@pytest.mark.parametrize(
    ("shape", "stride", "message"),
    [
        ((4, 32), (1, 4), r"x has strides \[1, 4\]: the elements of a row have to be neighbours; use x.contiguous\(\)"),
        ((4, 32), (0, 1), r"x has strides \[0, 1\]: its rows overlap"),
        ((32,), (1,), r"x has shape \[32\]: a matrix is needed"),
        ((2, 3, 32), (96, 32, 1), r"x has shape \[2, 3, 32\]"),
    ],
)
def test_layouts_that_no_kernel_reads(shape, stride, message):
    with pytest.raises(OperandError, match=message):
        layout(SimpleNamespace(shape=shape, stride=lambda: stride), "x")


def test_device_arrays_say_what_is_wrong():
    with pytest.raises(OperandError, match="two dimensions"):
        runtime.DeviceArray(0, (4,), "bf16")  # type: ignore[arg-type]
    with pytest.raises(OperandError, match="pitch 31 is less than the 32 elements of a row"):
        runtime.DeviceArray(0, (4, 32), "bf16", 31)
    with pytest.raises(OperandError, match="dtype int8 is none a kernel multiplies"):
        runtime.DeviceArray(0, (4, 32), np.dtype(np.int8))
    for address, shape, more, message in [
        ("0", (4, 32), {}, "address is '0', a str: a whole number is needed"),
        (1.5, (4, 32), {}, "address is 1.5"),
        (-4096, (4, 32), {}, "256 bytes at -0x1000 on device 0: .* 48 bits"),
        (1 << 48, (4, 32), {}, "256 bytes at 0x1000000000000"),
        (0, (1 << 40, 1 << 40), {}, "their addresses have 48 bits"),
        (0, (4.5, 32), {}, r"shape\[0\] is 4.5"),
        (0, "ab", {}, r"shape\[0\] is 'a'"),
        (0, 7, {}, "shape 7: a DeviceArray has two dimensions"),
        (0, (-1, 4), {}, r"shape \[-1, 4\]: sizes start at 0"),
        (0, (4, 32), {"device": "cuda"}, "device is 'cuda'"),
        (0, (4, 32), {"device": -1}, "on device -1: devices count from 0"),
        (0, (4, 32), {"pitch": 40.0}, "pitch is 40.0"),
        (0, (4, 32), {"dtype": []}, r"dtype \[\] is none a kernel multiplies"),
    ]:
        with pytest.raises(OperandError, match=message):
            runtime.DeviceArray(address, shape, **{"dtype": "bf16", **more})
    array = runtime.DeviceArray(0, (4, 32), np.float16, 40)  # a class, not a dtype: named all the same
    assert (array.dtype, array.nbytes) == ("fp16", (3 * 40 + 32) * 2)


def test_names_of_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = [np.float16, np.dtype("float16"), "fp16", "float16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)]
    assert [dtype_name(kind) for kind in kinds] == ["fp16"] * 4 + ["bf16"] * 2


def test_weights_that_are_on_the_device_already():
    def tensor(nbytes: int, address: int, device: int = 0, shape: tuple[int, ...] = ()):
        return SimpleNamespace(
            nbytes=nbytes,
            shape=shape,
            data_ptr=lambda: address,
            get_device=lambda: device,
            is_contiguous=lambda: True,
        )

    # [40, 144]: two bricks of 128 along K, three of 16 along N; 1024 bytes of codes and 128 of scales each
    assert part_bytes("nvfp4", 40, 144) == (6 * 1024, 6 * 128, 160)
    codes = tensor(6144, 0x1000, shape=(2, 3, 64, 16))
    scales, outer = tensor(768, 0x3000), tensor(160, 0x4000, shape=(40,))
    weight = from_tensors("nvfp4", 144, codes, scales, outer)
    assert (weight.n, weight.k, weight.codes, weight.outer) == (40, 144, (0x1000, 6144), (0x4000, 160))
    assert weight.order == "fp16"
    assert from_tensors("nvfp4", 144, tensor(6144, 0x1000, shape=(2, 3, 64, 2, 8)), scales, outer).order == "bf16"
    with pytest.raises(OperandError, match=r"codes has shape \[6144\], which tells the order"):
        from_tensors("nvfp4", 144, tensor(6144, 0x1000, shape=(6144,)), scales, outer)
    with pytest.raises(OperandError, match=r"scales has 767 bytes: a packed nvfp4 weight \[40, 144\] has 768"):
        from_tensors("nvfp4", 144, codes, tensor(767, 0), outer)
    with pytest.raises(OperandError, match="scales is on device 1, codes on 0"):
        from_tensors("nvfp4", 144, codes, tensor(768, 0, 1), outer)
    integers = SimpleNamespace(**vars(outer), dtype="torch.int32")  # of as many bytes
    with pytest.raises(OperandError, match=r"outer is \[40\] int32: float32 \[N\] is needed"):
        from_tensors("nvfp4", 144, codes, scales, integers)
    with pytest.raises(OperandError, match="outer is a NoneType: a tensor on a device is needed"):
        from_tensors("nvfp4", 144, codes, scales, None)


@pytest.mark.compiler
def test_pointers_of_hip_python_are_taken(lib):
    pointer = lib.hip.call("hipMalloc", 4 * 32 * 2)
    array = runtime.DeviceArray(pointer, (4, 32), "fp16", device=lib.device)
    assert array.address == int(pointer)
    assert array.owner is pointer
    with lib.hip.on(lib.device):
        lib.hip.call("hipMemset", pointer, 0x3C, 4 * 32 * 2)
    assert (lib.numpy(array).view(np.uint16) == 0x3C3C).all()
    lib.hip.call("hipFree", pointer)


@pytest.mark.compiler
def test_the_benchmark_prints_costs_side_by_side(python, built):
    script = (Path(__file__).parents[2] / "benchmarks" / "launch.py").read_text()
    text = python(script, "--generated", built, "--rounds", 1).stdout
    rows = dict(re.findall(r"^(.+?) {2,}([\d.]+)", text, re.MULTILINE))
    assert {"hip-python alone, every argument prepared", "plan(x, out)", "lib.gemm(x, w, out=out)"} <= set(rows)
    assert any("tuple of ctypes" in name for name in rows)
    assert all(float(microseconds) > 0 for microseconds in rows.values())
