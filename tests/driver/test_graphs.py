"""Graphs of the virtual GPU that are built node by node."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from .harness import Dim3, Hip, client

pytestmark = pytest.mark.compiler

INVALID_VALUE = 1
KERNEL, MEMCPY, MEMSET, HOST, EMPTY = 0, 1, 2, 3, 5
size = ctypes.c_size_t
byref = ctypes.byref


class KernelParams(ctypes.Structure):
    _fields_ = [
        ("block", Dim3), ("extra", ctypes.c_void_p), ("func", ctypes.c_void_p), ("grid", Dim3), ("params", ctypes.c_void_p),
        ("lds", ctypes.c_uint),
    ]  # fmt: skip


class MemsetParams(ctypes.Structure):
    _fields_ = [
        ("dst", ctypes.c_void_p), ("element", ctypes.c_uint), ("height", size), ("pitch", size), ("value", ctypes.c_uint), ("width", size),
    ]  # fmt: skip


class HostParams(ctypes.Structure):
    _fields_ = [("fn", ctypes.c_void_p), ("data", ctypes.c_void_p)]


class Memcpy3D(ctypes.Structure):
    _fields_ = [
        ("src_array", ctypes.c_void_p), ("src_pos", size * 3), ("src", ctypes.c_void_p), ("src_shape", size * 3),
        ("dst_array", ctypes.c_void_p), ("dst_pos", size * 3), ("dst", ctypes.c_void_p), ("dst_shape", size * 3),
        ("extent", size * 3), ("kind", ctypes.c_int),
    ]  # fmt: skip


class Builder:
    """Adds nodes to a graph."""

    def __init__(self, hip: Hip) -> None:
        self.hip, self.graph = hip, hip.value("hipGraphCreate", 0)

    def add(self, call: str, after: tuple[int, ...], *parameters: object) -> int:
        nodes = (ctypes.c_void_p * max(len(after), 1))(*after)
        return self.hip.value(call, self.graph, nodes, size(len(after)), *parameters)

    def fill(self, at: int, value: int, count: int, *after: int, element: int = 1) -> int:
        return self.add("hipGraphAddMemsetNode", after, byref(MemsetParams(at, element, 1, 0, value, count)))

    def copy(self, to: int, source: int, count: int, *after: int) -> int:
        return self.add("hipGraphAddMemcpyNode1D", after, ctypes.c_void_p(to), ctypes.c_void_p(source), size(count), 4)


def kernel(function: int, at: int, value: int, count: int = 64) -> tuple[KernelParams, object]:
    values = (ctypes.c_void_p(at), ctypes.c_int(value), ctypes.c_uint(count))
    pointers = (ctypes.c_void_p * 3)(*map(ctypes.addressof, values))
    params = KernelParams(Dim3(64, 1, 1), None, function, Dim3(1, 1, 1), ctypes.addressof(pointers), 0)
    return params, (values, pointers)


@client
def test_a_graph_of_every_kind_of_node(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    build, seen = Builder(hip), []
    at, out = hip.malloc(256), np.zeros(64, np.int32)
    params, keep = kernel(add, at, 40)
    host = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: seen.append(data))
    fill = build.fill(at, 2, 64, element=4)
    run = build.add("hipGraphAddKernelNode", (fill,), byref(params))
    empty = build.add("hipGraphAddEmptyNode", (run,))
    copy = build.copy(out.ctypes.data, at, 256, empty)
    last = build.add("hipGraphAddHostNode", (copy,), byref(HostParams(ctypes.cast(host, ctypes.c_void_p).value, 77)))
    del keep
    kinds = []
    for node in (fill, run, empty, copy, last):
        kind = ctypes.c_int()
        hip.ok("hipGraphNodeGetType", node, byref(kind))
        kinds.append(kind.value)
    assert kinds == [MEMSET, KERNEL, EMPTY, MEMCPY, HOST]
    exec_ = hip.value("hipGraphInstantiateWithFlags", build.graph, ctypes.c_ulonglong(0))
    hip.ok("hipGraphUpload", exec_, None)
    hip.ok("hipGraphLaunch", exec_, None)
    assert (out == 42).all()
    assert seen == [77]
    hip.ok("hipGraphDestroy", build.graph)  # what was instantiated stands on its own
    out[:] = 0
    hip.ok("hipGraphLaunch", exec_, None)
    assert (out == 42).all()
    hip.ok("hipGraphExecDestroy", exec_)
    assert hip.hipGraphLaunch(exec_, None) == INVALID_VALUE
    assert hip.hipGraphDestroy(build.graph) == INVALID_VALUE


@client
def test_edges_decide_the_order_not_the_order_of_adding(hip: Hip) -> None:
    at = hip.malloc(8)
    build = Builder(hip)
    late, middle, early = build.fill(at, 3, 2), build.fill(at, 2, 4), build.fill(at, 1, 8)
    pairs = [(early, middle), (middle, late)]
    sources, targets = ((ctypes.c_void_p * 2)(*side) for side in zip(*pairs, strict=True))
    hip.ok("hipGraphAddDependencies", build.graph, sources, targets, size(2))
    exec_ = hip.value("hipGraphInstantiate", build.graph, None, None, size(0))
    hip.ok("hipGraphLaunch", exec_, None)
    assert list(hip.download(at, np.zeros(8, np.uint8))) == [3, 3, 2, 2, 1, 1, 1, 1]
    count = size(4)
    roots = (ctypes.c_void_p * 4)()
    hip.ok("hipGraphGetRootNodes", build.graph, roots, byref(count))
    assert (count.value, roots[0]) == (1, early)
    before, count = (ctypes.c_void_p * 2)(), size(2)
    hip.ok("hipGraphNodeGetDependencies", late, before, byref(count))
    assert (count.value, before[0]) == (1, middle)
    hip.ok("hipGraphAddDependencies", build.graph, (ctypes.c_void_p * 1)(late), (ctypes.c_void_p * 1)(early), size(1))
    assert (
        hip.hipGraphInstantiate(byref(ctypes.c_void_p()), build.graph, None, None, size(0)) == INVALID_VALUE
    )  # a circle
    hip.ok("hipGraphExecDestroy", exec_)
    hip.ok("hipGraphDestroy", build.graph)


@client
def test_changes_to_nodes_and_to_executable_graphs(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    build = Builder(hip)
    at, other, out = hip.malloc(256), hip.upload(np.full(64, 500, np.int32)), np.zeros(64, np.int32)
    fill = build.fill(at, 1, 64, element=4)
    params, _keep = kernel(add, at, 10)
    run = build.add("hipGraphAddKernelNode", (fill,), byref(params))
    copy = build.copy(out.ctypes.data, at, 256, run)
    exec_ = hip.value("hipGraphInstantiate", build.graph, None, None, size(0))
    clone = hip.value("hipGraphClone", build.graph)

    def result() -> int:
        hip.ok("hipGraphLaunch", exec_, None)
        assert (out == out[0]).all()
        return int(out[0])

    assert result() == 11
    more, _keep2 = kernel(add, at, 20)
    hip.ok("hipGraphExecKernelNodeSetParams", exec_, run, byref(more))
    assert result() == 21
    hip.ok("hipGraphExecMemsetNodeSetParams", exec_, fill, byref(MemsetParams(at, 4, 1, 0, 3, 64)))
    assert result() == 23
    hip.ok(
        "hipGraphExecMemcpyNodeSetParams1D",
        exec_,
        copy,
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_void_p(other),
        size(256),
        4,
    )
    assert result() == 500
    hip.ok("hipGraphExecDestroy", exec_)
    got = KernelParams()
    hip.ok("hipGraphKernelNodeGetParams", run, byref(got))
    assert (got.func, got.block.x, got.grid.x) == (add, 64, 1)
    hip.ok("hipGraphKernelNodeSetParams", run, byref(more))
    hip.ok("hipGraphMemsetNodeSetParams", fill, byref(MemsetParams(at, 4, 1, 0, 6, 64)))
    set_ = MemsetParams()
    hip.ok("hipGraphMemsetNodeGetParams", fill, byref(set_))
    assert (set_.dst, set_.element, set_.value, set_.width) == (at, 4, 6, 64)
    exec_ = hip.value("hipGraphInstantiate", build.graph, None, None, size(0))
    assert result() == 26
    hip.ok(
        "hipGraphMemcpyNodeSetParams1D", copy, ctypes.c_void_p(out.ctypes.data), ctypes.c_void_p(other), size(256), 4
    )
    hip.ok("hipGraphExecDestroy", exec_)
    exec_ = hip.value("hipGraphInstantiate", clone, None, None, size(0))  # made before the changes
    assert result() == 11
    for call, handle in (("hipGraphExecDestroy", exec_), ("hipGraphDestroy", clone), ("hipGraphDestroy", build.graph)):
        hip.ok(call, handle)


@client
def test_a_copy_of_a_box_as_a_node(hip: Hip) -> None:
    build = Builder(hip)
    host = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    at = hip.upload(np.zeros((2, 3, 8), np.uint8))
    box = Memcpy3D(src=host.ctypes.data, src_shape=(4, 4, 3), dst=at, dst_shape=(8, 8, 3), extent=(4, 2, 2), kind=1)
    build.add("hipGraphAddMemcpyNode", (), byref(box))
    exec_ = hip.value("hipGraphInstantiate", build.graph, None, None, size(0))
    hip.ok("hipGraphLaunch", exec_, None)
    expected = np.zeros((2, 3, 8), np.uint8)
    expected[:, :2, :4] = host[:, :2]
    np.testing.assert_array_equal(hip.download(at, expected), expected)
    hip.ok("hipGraphExecDestroy", exec_)
    hip.ok("hipGraphDestroy", build.graph)


@client
def test_wrong_nodes_are_refused(hip: Hip) -> None:
    build, other = Builder(hip), Builder(hip)
    at = hip.malloc(16)
    foreign = other.fill(at, 0, 16)
    out = ctypes.c_void_p()
    nodes = (ctypes.c_void_p * 1)(foreign)
    params = MemsetParams(at, 1, 1, 0, 0, 16)
    assert hip.hipGraphAddMemsetNode(byref(out), build.graph, nodes, size(1), byref(params)) == INVALID_VALUE
    params.width = 17
    assert hip.hipGraphAddMemsetNode(byref(out), build.graph, None, size(0), byref(params)) == INVALID_VALUE
    params.width, params.element = 4, 3
    assert hip.hipGraphAddMemsetNode(byref(out), build.graph, None, size(0), byref(params)) == INVALID_VALUE
    count = size()
    hip.ok("hipGraphGetNodes", build.graph, None, byref(count))
    assert count.value == 0
    for graph in (build.graph, other.graph):
        hip.ok("hipGraphDestroy", graph)
