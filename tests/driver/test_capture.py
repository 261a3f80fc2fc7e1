"""Stream capture on the virtual GPU: what becomes a graph, and what is not allowed meanwhile."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from .harness import Hip, client

pytestmark = pytest.mark.compiler

GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
NONE, ACTIVE, INVALIDATED = 0, 1, 2
UNSUPPORTED, INVALID, MERGE, UNMATCHED, UNJOINED = 900, 901, 902, 903, 904
ISOLATION, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = 905, 906, 907, 908
ILLEGAL_STATE = 401
NON_BLOCKING = 1
size = ctypes.c_size_t


def begin(hip: Hip, mode: int = GLOBAL, flags: int = NON_BLOCKING) -> int:
    stream = hip.value("hipStreamCreateWithFlags", flags)
    hip.ok("hipStreamBeginCapture", stream, mode)
    return stream


def end(hip: Hip, stream: int) -> tuple[int, int]:
    graph = ctypes.c_void_p()
    return hip.hipStreamEndCapture(stream, ctypes.byref(graph)), graph.value or 0


def status(hip: Hip, stream: int) -> int:
    out = ctypes.c_int()
    hip.ok("hipStreamIsCapturing", stream, ctypes.byref(out))
    return out.value


def run(hip: Hip, graph: int, times: int = 1) -> None:
    exec_ = hip.value("hipGraphInstantiate", graph, None, None, size(0))
    for _ in range(times):
        hip.ok("hipGraphLaunch", exec_, None)
    hip.ok("hipGraphExecDestroy", exec_)
    hip.ok("hipGraphDestroy", graph)


@client
def test_captured_work_runs_when_the_graph_does(hip: Hip) -> None:
    add = hip.function(hip.module(), "add")
    host = np.full(64, 5, np.int32)
    at, out = hip.malloc(256), np.zeros(64, np.int32)
    hip.ok("hipMemset", at, 0, size(256))
    stream = begin(hip)
    assert status(hip, stream) == ACTIVE
    value = ctypes.c_int(30)
    hip.ok("hipMemcpyAsync", at, host.ctypes.data, size(256), 1, stream)
    assert hip.launch(add, 1, ctypes.c_void_p(at), value, ctypes.c_uint(64), stream=stream) == 0
    hip.ok("hipMemsetD32Async", at + 252, 1000, size(1), stream)
    assert hip.launch(add, 1, ctypes.c_void_p(at), value, ctypes.c_uint(64), stream=stream) == 0
    hip.ok("hipMemcpyAsync", out.ctypes.data, at, size(256), 2, stream)
    value.value = -1  # arguments are taken when they are captured
    code, graph = end(hip, stream)
    assert code == 0
    assert status(hip, stream) == NONE
    assert not out.any()
    count = size()
    hip.ok("hipGraphGetNodes", graph, None, ctypes.byref(count))
    assert count.value == 5
    run(hip, graph, times=2)
    assert (out[:63] == 65).all()
    assert out[63] == 1030


@client
def test_a_fork_that_is_joined(hip: Hip) -> None:
    """Edges of the graph: first -> (left, right) -> last."""
    at = hip.upload(np.zeros(4, np.uint8))
    main, side = begin(hip), hip.value("hipStreamCreateWithFlags", NON_BLOCKING)
    forked, joined = (hip.value("hipEventCreate") for _ in range(2))
    hip.ok("hipMemsetAsync", at, 1, size(4), main)
    hip.ok("hipEventRecord", forked, main)
    hip.ok("hipStreamWaitEvent", side, forked, 0)
    assert status(hip, side) == ACTIVE
    hip.ok("hipMemsetAsync", at, 2, size(1), main)
    hip.ok("hipMemsetAsync", at + 1, 3, size(1), side)
    hip.ok("hipEventRecord", joined, side)
    assert hip.hipEventSynchronize(joined) == CAPTURED_EVENT
    assert hip.hipEventQuery(joined) == CAPTURED_EVENT
    hip.ok("hipStreamWaitEvent", main, joined, 0)
    identity, tails, graph_ = ctypes.c_ulonglong(), size(), ctypes.c_void_p()
    state, dependencies = ctypes.c_int(), ctypes.c_void_p()
    outs = (state, identity, graph_, dependencies, tails)
    hip.ok("hipStreamGetCaptureInfo_v2", main, *map(ctypes.byref, outs))
    assert (state.value, tails.value) == (ACTIVE, 2)
    other = ctypes.c_ulonglong()
    hip.ok("hipStreamGetCaptureInfo", side, ctypes.byref(state), ctypes.byref(other))
    assert other.value == identity.value
    hip.ok("hipMemsetAsync", at + 3, 4, size(1), main)
    assert end(hip, side)[0] == UNMATCHED
    code, graph = end(hip, main)
    assert code == 0
    assert status(hip, side) == NONE
    edges = size()
    hip.ok("hipGraphGetEdges", graph, None, None, ctypes.byref(edges))
    assert edges.value == 4
    run(hip, graph)
    assert list(hip.download(at, np.zeros(4, np.uint8))) == [2, 3, 1, 4]


@client
def test_a_fork_that_is_not_joined(hip: Hip) -> None:
    at = hip.malloc(4)
    main, side = begin(hip), hip.value("hipStreamCreateWithFlags", NON_BLOCKING)
    event = hip.value("hipEventCreate")
    hip.ok("hipEventRecord", event, main)
    hip.ok("hipStreamWaitEvent", side, event, 0)
    hip.ok("hipMemsetAsync", at, 3, size(1), side)
    assert end(hip, main) == (UNJOINED, 0)
    assert status(hip, side) == NONE
    assert hip.hipStreamWaitEvent(side, event, 0) == CAPTURED_EVENT


CALLS = {
    "hipMalloc": lambda hip: hip.hipMalloc(ctypes.byref(ctypes.c_void_p()), size(8)),
    "hipHostMalloc": lambda hip: hip.hipHostMalloc(ctypes.byref(ctypes.c_void_p()), size(8), 0),
    "hipMemcpy": lambda hip: hip.hipMemcpy(None, None, size(0), 4),
    "hipMemset": lambda hip: hip.hipMemset(None, 0, size(0)),
    "hipDeviceSynchronize": lambda hip: hip.hipDeviceSynchronize(),
    "hipModuleLoadData": lambda hip: hip.hipModuleLoadData(ctypes.byref(ctypes.c_void_p()), b"\0" * 64),
}


@pytest.mark.parametrize("call", CALLS)
@client
def test_unsafe_calls_end_a_global_capture(hip: Hip, call: str) -> None:
    stream = begin(hip, GLOBAL)
    assert CALLS[call](hip) == UNSUPPORTED
    assert status(hip, stream) == INVALIDATED
    assert end(hip, stream) == (INVALID, 0)
    assert CALLS[call](hip) != UNSUPPORTED


@client
def test_who_may_make_unsafe_calls(hip: Hip) -> None:
    def in_thread() -> int:
        result: list[int] = []
        worker = threading.Thread(target=lambda: result.append(CALLS["hipMalloc"](hip)))
        worker.start()
        worker.join()
        return result[0]

    for mode, here, elsewhere in ((GLOBAL, UNSUPPORTED, UNSUPPORTED), (THREAD_LOCAL, UNSUPPORTED, 0), (RELAXED, 0, 0)):
        stream = begin(hip, mode)
        assert in_thread() == elsewhere
        assert end(hip, stream)[0] == (INVALID if elsewhere else 0)
        stream = begin(hip, mode)
        assert CALLS["hipMalloc"](hip) == here
        assert end(hip, stream)[0] == (INVALID if here else 0)
    mode_ = ctypes.c_int(RELAXED)
    stream = begin(hip, GLOBAL)
    hip.ok("hipThreadExchangeStreamCaptureMode", ctypes.byref(mode_))
    assert mode_.value == GLOBAL
    assert CALLS["hipMalloc"](hip) == 0
    hip.ok("hipThreadExchangeStreamCaptureMode", ctypes.byref(mode_))
    assert mode_.value == RELAXED
    assert end(hip, stream)[0] == 0


@client
def test_waiting_for_a_capturing_stream_ends_the_capture(hip: Hip) -> None:
    for call in ("hipStreamSynchronize", "hipStreamQuery"):
        stream = begin(hip, RELAXED)
        assert getattr(hip, call)(stream) == UNSUPPORTED
        assert hip.hipMemsetAsync(None, 0, size(0), stream) == INVALID
        assert end(hip, stream) == (INVALID, 0)
        hip.ok(call, stream)


@client
def test_work_on_the_legacy_stream(hip: Hip) -> None:
    at = hip.malloc(4)
    free = begin(hip, RELAXED)
    hip.ok("hipMemsetAsync", at, 0, size(4), None)  # does not wait for a non-blocking stream
    assert end(hip, free)[0] == 0
    blocking = begin(hip, RELAXED, flags=0)
    assert hip.hipMemsetAsync(at, 0, size(4), None) == IMPLICIT
    assert end(hip, blocking)[0] == INVALID
    assert hip.hipStreamBeginCapture(None, GLOBAL) == UNSUPPORTED


@client
def test_captures_do_not_mix(hip: Hip) -> None:
    first, second = begin(hip, RELAXED), begin(hip, RELAXED)
    event, outside = (hip.value("hipEventCreate") for _ in range(2))
    hip.ok("hipEventRecord", event, first)
    assert hip.hipStreamWaitEvent(second, event, 0) == MERGE
    assert end(hip, first)[0] == INVALID
    assert end(hip, second)[0] == INVALID
    hip.ok("hipEventRecord", outside, None)
    third = begin(hip, RELAXED)
    assert hip.hipStreamWaitEvent(third, outside, 0) == ISOLATION
    assert end(hip, third)[0] == INVALID


@client
def test_beginning_and_ending_in_the_wrong_place(hip: Hip) -> None:
    stream = begin(hip, THREAD_LOCAL)
    assert hip.hipStreamBeginCapture(stream, GLOBAL) == ILLEGAL_STATE
    codes: list[int] = []
    worker = threading.Thread(target=lambda: codes.append(end(hip, stream)[0]))
    worker.start()
    worker.join()
    assert codes == [WRONG_THREAD]
    code, graph = end(hip, stream)
    assert code == 0
    hip.ok("hipGraphDestroy", graph)
    assert end(hip, stream) == (ILLEGAL_STATE, 0)


@client
def test_a_stream_destroyed_in_a_capture(hip: Hip) -> None:
    from petitgen.driver import control

    before = control.live()
    stream = begin(hip)
    hip.ok("hipStreamDestroy", stream)
    assert CALLS["hipMemcpy"](hip) == 0
    assert control.live() == before


@client
def test_a_long_capture_ends_on_a_small_stack(hip: Hip) -> None:
    at = hip.malloc(64)
    stream = begin(hip, RELAXED)
    for n in range(20_000):
        assert hip.hipMemsetD32Async(at, n, size(16), stream) == 0
    codes: list[int] = []

    def finish() -> None:
        code, graph = end(hip, stream)
        codes.append(code)
        hip.ok("hipGraphDestroy", graph)

    before = threading.stack_size(256 << 10)  # thirteen bytes a node
    try:
        thread = threading.Thread(target=finish)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert codes == [0]


@client
def test_of_threads_that_begin_the_same_capture_one_does(hip: Hip) -> None:
    stream = hip.value("hipStreamCreateWithFlags", NON_BLOCKING)
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        codes.append(hip.hipStreamBeginCapture(stream, RELAXED))

    for _ in range(50):
        codes: list[int] = []
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [0] + [ILLEGAL_STATE] * 3
        code, graph = end(hip, stream)
        assert code == 0
        hip.ok("hipGraphDestroy", graph)
    assert status(hip, stream) == NONE
