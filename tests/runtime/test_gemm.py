"""lib.gemm and plans against float64: host arrays, device arrays with pitches, tensors, graphs."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import runtime
from runtime.errors import ClosedError, OperandError, ShapeError
from tests.runtime.problems import case

pytestmark = pytest.mark.compiler

# M from one row to several tiles, N odd, K of one block and off every multiple
SHAPES = [(1, 33, 16), (3, 1, 144), (16, 200, 272), (17, 31, 528), (70, 65, 80)]


@pytest.mark.parametrize("activations", ["bf16", "fp16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_host_arrays(lib, shape, activations):
    one = case(*shape, activations)
    y = lib.gemm(one.x, one.weight)
    one.check(lib, y)
    again = np.full_like(y, 7)
    assert lib.gemm(one.x, one.weight.to(lib, activations=activations), out=again) is again
    assert np.array_equal(again.view(np.uint16), y.view(np.uint16))


@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_device_arrays_with_pitches_touch_nothing_between_rows(lib, activations):
    one = case(19, 37, 144, activations)
    x = lib.array(one.x, pitch=144 + 24)
    wide = lib.array(np.full((19, 45), 3, one.x.dtype))
    out = runtime.DeviceArray(wide.address, (19, 37), activations, 45, wide.device, wide)
    assert lib.gemm(x, one.weight, out=out) is out
    one.check(lib, lib.numpy(out))
    assert (lib.numpy(wide)[:, 37:] == 3).all()


def test_a_result_is_made_when_none_is_given(lib):
    one = case(5, 48, 64)
    y = lib.gemm(lib.array(one.x), one.weight)
    assert isinstance(y, runtime.DeviceArray)
    assert (y.shape, y.dtype, y.pitch) == ((5, 48), "bf16", 48)
    one.check(lib, lib.numpy(y))


def test_the_pitch_of_a_single_row_does_not_matter(lib):
    one = case(1, 48, 64)
    x = lib.array(one.x, pitch=71)  # no multiple of 8
    one.check(lib, lib.numpy(lib.gemm(x, one.weight)))
    out = lib.empty((1, 48), "bf16", pitch=99)
    lib.plan(one.weight, 1, lda=71)(x, out)
    one.check(lib, lib.numpy(out))


def test_no_rows_give_no_rows(lib):
    one = case(1, 48, 64)
    assert lib.gemm(one.x[:0], one.weight).shape == (0, 48)
    assert lib.gemm(lib.empty((0, 64), "bf16"), one.weight).shape == (0, 48)
    assert lib.plan(one.weight, 0)(lib.empty((0, 64), "bf16"), lib.empty((0, 48), "bf16")).shape == (0, 48)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_rows_of_a_host_array_need_not_be_neighbours(lib, kind):
    one = case(8, 20, 64)
    rows = np.zeros((8, 96), one.x.dtype)
    rows[:, 16:80] = one.x
    out = np.zeros((8, 40), one.x.dtype)
    if kind == "numpy":
        lib.gemm(rows[:, 16:80], one.weight, out=out[:, ::2])
    else:
        torch = pytest.importorskip("torch")
        tensor, result = (torch.from_numpy(v.view(np.int16)).view(torch.bfloat16) for v in (rows, out))
        y = lib.gemm(tensor[:, 16:80], one.weight, out=result[:, ::2])
        assert y.dtype == torch.bfloat16
    one.check(lib, np.ascontiguousarray(out[:, ::2]))
    assert not out[:, 1::2].any()


def test_tensors_on_the_host(lib):
    torch = pytest.importorskip("torch")
    one = case(5, 48, 64)
    x = torch.from_numpy(one.x.view(np.int16)).view(torch.bfloat16)
    y = lib.gemm(x, one.weight)
    assert (y.device.type, y.dtype) == ("cpu", torch.bfloat16)
    one.check(lib, y.view(torch.int16).numpy().view(one.x.dtype))
    with pytest.raises(OperandError, match=r"use torch.no_grad\(\) or x.detach\(\)"):
        lib.gemm(x.requires_grad_(), one.weight)


@pytest.mark.gpu
def test_tensors_on_the_device_are_not_copied(lib):
    torch = pytest.importorskip("torch")
    one = case(5, 48, 64)
    x = torch.from_numpy(one.x.view(np.int16)).view(torch.bfloat16).to(f"cuda:{lib.device}")
    with torch.cuda.stream(torch.cuda.Stream(x.device)) as stream:
        y = lib.gemm(x, one.weight)
        assert y.device == x.device
        stream.synchronize()
    one.check(lib, y.cpu().view(torch.int16).numpy().view(one.x.dtype))


# ---- plans and graphs -------------------------------------------------------------------------------
def test_a_plan_launches_what_select_says(lib):
    one = case(20, 64, 128)
    plan = lib.plan(one.weight, 20)
    assert plan.selection == lib.select("gemm_nvfp4_bf16", 20, 64, 128)
    out = lib.empty((20, 64), "bf16")
    assert plan(lib.array(one.x), out) is out
    one.check(lib, lib.numpy(out))


@pytest.mark.parametrize("tile", ["m64n128k64", "m64n256k64", "m128n128k64"])
def test_a_plan_takes_the_kernel_it_is_told(lib, tile):
    one = case(20, 64, 128)
    (name,) = (name for name in lib.kernels if tile in name and "bf16" in name)
    plan = lib.plan(one.weight, 20, kernel=name)
    assert plan.selection.kernel.name == name
    out = lib.empty((20, 64), "bf16")
    plan(lib.array(one.x), out)
    one.check(lib, lib.numpy(out))
    with pytest.raises(OperandError, match="no kernel 'gemm'"):
        lib.plan(one.weight, 20, kernel="gemm")


def test_a_plan_refuses_what_it_was_not_made_for(lib):
    one = case(4, 64, 128)
    plan = lib.plan(one.weight, 4, lda=136)
    x, out = lib.array(one.x, pitch=136), lib.empty((4, 64), "bf16")
    plan(x, out)
    wrong = [
        (lib.array(one.x), out),
        (lib.empty((3, 128), "bf16", 136), out),
        (x, lib.empty((4, 63), "bf16")),
        (x, lib.empty((4, 64), "bf16", 65)),
        (x, lib.empty((4, 64), "fp16")),
        (lib.empty((4, 128), "fp16", 136), out),
    ]
    for bad_x, bad_out in wrong:
        with pytest.raises(OperandError, match=r"the plan is for x \[4, 128\] with strides \[136, 1\]"):
            plan(bad_x, bad_out)


def test_launches_are_captured_into_a_graph(lib):
    one = case(4, 64, 128)
    hip = lib.hip
    x, out, kept = lib.array(one.x), lib.empty((4, 64), "bf16"), lib.empty((4, 64), "bf16")
    plan, weight = lib.plan(one.weight, 4), one.weight.to(lib)
    lib.gemm(x, weight, out=kept)  # its code object is loaded and its launch prepared outside the capture
    lib.synchronize()
    from hip import hip as names

    with hip.on(lib.device):
        stream = hip.call("hipStreamCreate")
        hip.call("hipStreamBeginCapture", stream, names.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
        plan(x, out, stream)
        lib.gemm(x, weight, out=kept, stream=stream)
        with pytest.raises(OperandError, match="host arrays cannot be part of a graph"):
            lib.gemm(one.x, weight, stream=stream)
        graph = hip.call("hipStreamEndCapture", stream)
        executable = hip.call("hipGraphInstantiateWithFlags", graph, 0)
        for values in (np.zeros_like(one.x), one.x):  # the graph reads x when it is launched
            bits = np.ascontiguousarray(values).view(np.uint8)
            hip.copy(x.address, bits.ctypes.data, bits.size, "HostToDevice")
            hip.call("hipGraphLaunch", executable, stream)
            lib.synchronize(stream)
        for handle, end in (
            (executable, "hipGraphExecDestroy"),
            (graph, "hipGraphDestroy"),
            (stream, "hipStreamDestroy"),
        ):
            hip.call(end, handle)
    one.check(lib, lib.numpy(out))
    one.check(lib, lib.numpy(kept))


# ---- what is refused --------------------------------------------------------------------------------
def test_operands_that_do_not_fit_are_refused(lib):
    one = case(4, 64, 128)
    x, w = lib.array(one.x), one.weight
    refused = [
        ((one.x.astype(np.float32), w), {}, "dtype float32 is none a kernel multiplies"),
        (([[1.0]], w), {}, "dtype list is none a kernel multiplies"),
        ((one.x[:, :64], w), {}, r"x has shape \[4, 64\]: \[M, 128\] is needed"),
        ((lib.empty((4, 64), "bf16"), w), {}, r"x has K = 64, the weight \[64, 128\] has K = 128"),
        ((x, one.x), {}, "w is a ndarray: runtime.pack makes a PackedWeight"),
        ((x, w), {"out": lib.empty((4, 63), "bf16")}, r"out is \[4, 63\] bf16 .*\[4, 64\] bf16"),
        ((x, w), {"out": lib.empty((4, 64), "fp16")}, r"out is \[4, 64\] fp16"),
        ((one.x, w), {"out": np.zeros((4, 64), np.float16)}, r"out is \[4, 64\] float16"),
        ((one.x, w), {"out": lib.empty((4, 64), "bf16")}, "out is a DeviceArray, x a ndarray"),
        ((x, w), {"out": np.zeros((4, 64), one.x.dtype)}, "out is a ndarray, x is on device"),
    ]
    for arguments, named, message in refused:
        with pytest.raises(OperandError, match=message):
            lib.gemm(*arguments, **named)


def test_what_is_nonsense_is_said_to_be(lib):
    """One type of error for whatever comes in at the front, never what Python or numpy make of it inside."""
    one = case(4, 64, 128)
    x, out, w, host = lib.array(one.x), lib.empty((4, 64), "bf16"), one.weight, one.x
    plan = lib.plan(w, 4)
    readonly = np.zeros((4, 64), host.dtype)
    readonly.setflags(write=False)
    nonsense = [
        (lambda: plan(host, readonly), "a plan takes DeviceArrays"),
        (lambda: plan(x, None), "out a NoneType: a plan takes DeviceArrays"),
        (lambda: plan(x, out, stream=True), "stream is True"),
        (lambda: lib.plan(w, "16"), "m is '16', a str"),
        (lambda: lib.plan(w, 2.5), "m is 2.5, a float"),
        (lambda: lib.plan(w, -1), "sizes start at 1"),
        (lambda: lib.plan(w, 4, lda=128.0), "lda is 128.0"),
        (lambda: lib.plan(w, 4, dtype=[]), r"dtype \[\] is none"),
        (lambda: lib.plan(w, 4, kernel=[]), r"no kernel \[\]"),
        (lambda: lib.select("gemm_nvfp4_bf16", 1.5, 16, 64), "m is 1.5"),
        (lambda: lib.select("gemm_nvfp4_bf16", 4, 16, 64, lda=16), "cannot be nearer to each other"),
        (lambda: lib.select(None, 1, 16, 64), "contract is None"),
        (lambda: lib.upload(host), "w is a ndarray"),
        (lambda: w.to(None), "library is a NoneType: what runtime.load returns"),
        (lambda: lib.numpy(host), "array is a ndarray"),
        (lambda: lib.numpy(runtime.DeviceArray(x.address, (4, 128), "bf16", device=99)), "none of this library's"),
        (lambda: lib.empty((1 << 40, 1 << 40), "bf16"), "addresses have 48 bits"),
        (lambda: lib.synchronize("a"), "stream is 'a'"),
        (lambda: lib.gemm(host, w, bias="abc"), "bias is <U3: real numbers are needed"),
        (lambda: lib.gemm(host, w, bias=np.ones(64, complex)), "bias is complex128"),
        (lambda: lib.gemm(host, w, bias=np.array([None] * 64)), "bias is object"),
        (lambda: lib.gemm(host, w, out=readonly), "out is read-only"),
        (lambda: lib.gemm(host, w, stream=object()), "stream is <object"),
        (lambda: lib.gemm(x, w, out=runtime.DeviceArray(x.address, (4, 64), "bf16", device=x.device)), "overlaps x"),
        (lambda: lib.gemm(runtime.DeviceArray(0, (4, 128), "bf16", device=x.device), w), "x starts at 0x0"),
    ]
    for call, message in nonsense:
        with pytest.raises(OperandError, match=message):
            call()
    one.check(lib, lib.gemm(host, w))


def test_tensors_without_dense_memory_on_the_host_are_refused(lib):
    torch = pytest.importorskip("torch")
    one = case(4, 64, 128)
    x, w = torch.zeros(4, 128, dtype=torch.bfloat16), one.weight
    for call, message in [
        (lambda: lib.gemm(x.to("meta"), w), "x is a torch.strided tensor on meta: a dense one is needed"),
        (lambda: lib.gemm(x.to_sparse(), w), "x is a torch.sparse_coo tensor on cpu"),
        (
            lambda: lib.gemm(x, w, out=torch.empty(4, 64, dtype=x.dtype, device="meta")),
            "out is a torch.strided .* meta",
        ),
        (lambda: lib.gemm(x, w, bias=torch.ones(64, dtype=torch.complex64)), "bias is torch.complex64"),
        (lambda: lib.gemm(x, w, bias=torch.ones(64, device="meta")), "bias is torch.float32 on meta"),
        (lambda: lib.gemm(x, w, out=torch.zeros(4, 64, dtype=x.dtype, requires_grad=True)), "requires a gradient"),
        (lambda: lib.gemm(x, w, torch.zeros(64, requires_grad=True)), "requires a gradient"),
        (lambda: lib.gemm(x, w, residual=torch.zeros(4, 64, dtype=x.dtype, requires_grad=True)), "requires a gradient"),
        (lambda: lib.gemm(x, w, out=torch.zeros(4, 1, dtype=x.dtype).expand(4, 64)), "its elements share memory"),
    ]:
        with pytest.raises(OperandError, match=message):
            call()


def test_a_plan_gives_no_gradient(lib):
    torch = pytest.importorskip("torch")
    one = case(4, 64, 128)
    plan, out = lib.plan(one.weight, 4), lib.empty((4, 64), "bf16")

    class Trained(runtime.DeviceArray):
        requires_grad = True

    source = lib.array(one.x)
    x = Trained(source.address, source.shape, "bf16", device=source.device)
    with pytest.raises(OperandError, match="requires a gradient"):
        plan(x, out)
    with torch.no_grad():
        plan(x, out, stream=0)
    one.check(lib, lib.numpy(out))


def test_pitches_and_addresses_that_a_kernel_cannot_take_are_refused_before_the_launch(lib):
    one = case(4, 64, 128)
    with pytest.raises(ShapeError, match="rows of A have to be a multiple of 8 elements apart, they are 129 apart"):
        lib.gemm(lib.empty((4, 128), "bf16", 129), one.weight)
    store = lib.empty((4, 160), "bf16")
    for offset, name, need in ((8, "x", 16), (4, "out", 8)):
        moved = runtime.DeviceArray(store.address + offset, (4, 128 if name == "x" else 64), "bf16", 160, store.device)
        arguments = {"x": lib.array(one.x), "out": lib.empty((4, 64), "bf16"), name: moved}
        with pytest.raises(OperandError, match=f"{name} starts at 0x.*a multiple of {need} bytes"):
            lib.gemm(w=one.weight, **arguments)


def test_a_closed_library_launches_nothing(load, arch):
    lib = load(arch)
    one = case(4, 64, 128)
    x, w, out = lib.array(one.x), one.weight.to(lib), lib.empty((4, 64), "bf16")
    plan = lib.plan(w, 4)
    lib.gemm(x, w, out=out)
    lib.close()
    lib.close()
    for launch in (lambda: lib.gemm(x, w, out=out), lambda: plan(x, out), lambda: lib.gemm(one.x, one.weight)):
        with pytest.raises(ClosedError, match=r"the library was closed: runtime.load gives a new one"):
            launch()
    with load(arch) as new:  # a weight outlives the library that brought it to the device
        new.gemm(x, w, out=out)
        one.check(new, new.numpy(out))


@pytest.mark.parametrize("load", ["virtual"], indirect=True)  # a machine seldom has GPUs of both architectures
def test_a_weight_on_a_device_of_another_library_is_refused(load):
    with load("gfx942") as one, load("gfx90a") as other:
        if one.device == other.device:
            pytest.skip("this process was given one virtual device only")
        problem = case(4, 64, 128)
        weight = problem.weight.to(one)
        launches = [
            lambda: other.plan(weight, 4),
            lambda: other.gemm(problem.x, weight),
            lambda: other.gemm(other.array(problem.x), weight),
            lambda: other.gemm(one.array(problem.x), weight),
        ]
        for launch in launches:
            with pytest.raises(OperandError, match=r"device \d is none of this library's|the weight on device \d"):
                launch()
        problem.check(one, one.gemm(problem.x, weight))
        problem.check(other, other.gemm(problem.x, problem.weight))


# ---- what is alive ----------------------------------------------------------------------------------
def test_device_copies_go_with_what_they_were_made_of(lib, alive):
    gc.collect()
    before = alive("allocations")
    one = case(4, 64, 128)
    lib.gemm(one.x, one.weight)
    lib.gemm(one.x, one.weight)
    assert alive("allocations") == before + 1  # one copy of the weight
    kept = one.weight.to(lib)
    del one
    gc.collect()
    assert alive("allocations") == before + 1  # the one that to() gave
    del kept
    gc.collect()
    assert alive("allocations") == before


def test_code_objects_are_loaded_once_and_go_with_the_last_library(lib, alive, load, built):
    gc.collect()
    one, before = case(4, 64, 128), alive("modules")
    first, second = (load(lib.arch) for _ in range(2))
    assert alive("modules") == before  # not before a launch needs them
    for _ in range(2):
        first.gemm(one.x, one.weight)
        second.gemm(one.x, one.weight)
    assert alive("modules") == before + 1
    first.close()
    assert alive("modules") == before + 1
    one.check(second, second.gemm(one.x, one.weight))
    del second
    gc.collect()
    assert alive("modules") == before
