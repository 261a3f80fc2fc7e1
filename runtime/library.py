"""What runtime.load returns: the kernels of one architecture, ready to launch."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from runtime import dense, experts, host, kernels, modules, scaled, tuned
from runtime.copies import Copies
from runtime.epilogue import NONE, Epilogue, check_columns, options_of
from runtime.errors import ArchError, ClosedError, HipError, ManifestError, OperandError
from runtime.formats import HOST_ORDER
from runtime.grouped import GroupedLauncher, GroupedProblem, choose_grouped, sorted_problem
from runtime.hip import Hip
from runtime.launch import Launch, Launcher, Nothing, State, refuse_gradient, stream_handle
from runtime.manifest import Kernel, Manifest
from runtime.memory import DeviceArray, allocate, array_dtype, dtype_name
from runtime.packing import PackedWeight
from runtime.plan import Plan
from runtime.select import Problem, Selection, choose, contracts, force, problem_of
from runtime.stacks import DeviceStack, PackedStack, upload_stack
from runtime.weights import DeviceWeight, check_packed, upload

_ids = itertools.count()
_states: weakref.WeakSet[State] = weakref.WeakSet()


class Library:
    """The kernels of one architecture. Made by runtime.load; safe to use from several threads.

    arch      gfx90a or gfx942
    devices   ordinals of the devices that run them
    device    the one for what is not on a device yet: the current device when loaded, if it is among them
    virtual   whether they are emulated
    kernels   by name: what the devices can run of the manifest
    """

    def __init__(self, hip: Hip, manifest: Manifest, targets: list[str]) -> None:
        self._hip, self.manifest, self.arch = hip, manifest, manifest.arch
        self.devices = tuple(i for i, target in enumerate(targets) if target.split(":")[0] == self.arch)
        if not self.devices:
            raise ArchError(_no_device(self.arch, targets, hip))
        current = hip.current_device()
        self.device = current if current in self.devices else self.devices[0]
        target = targets[self.device]
        self.kernels = {name: k for name, k in manifest.kernels.items() if kernels.runs_on(k, target)}
        if not self.kernels:
            built = sorted({kernel.target for kernel in manifest.kernels.values()})
            raise ArchError(f"device {self.device} is {target}, the kernels need {', '.join(built) or 'to be built'}")
        self.virtual = hip.virtual
        self._units = {index: hip.compute_units(index) for index in self.devices}
        self._tables: dict[int, tuned.Table] = {}  # by number of compute units
        self._state = State(next(_ids))
        _states.add(self._state)
        self._weights, self._stacks = Copies(partial(upload, hip)), Copies(partial(upload_stack, hip))
        self._orders: dict[tuple[str, str], str] = {}
        self._end = weakref.finalize(self, _release, hip, self._state)
        self._end.atexit = False

    # ---- the product --------------------------------------------------------------------------
    def gemm(
        self,
        x: Any,
        w: PackedWeight | DeviceWeight,
        bias: Any = None,
        out: Any = None,
        stream: Any = None,
        *,
        residual: Any = None,
        activation: str | None = None,
        x_scale: Any = None,
        dtype: Any = None,
    ) -> Any:
        """x [M, K] @ W^T -> [M, N] in the type of x (bf16 or fp16), which has to match W's K.

        x       torch tensor on a ROCm device or DeviceArray: launched where it lies, asynchronously, in the order of
                `stream` (None: torch's current stream, or the null stream). numpy array or CPU tensor: copied to the
                device and back, and done when this returns.
        w       a DeviceWeight, or a PackedWeight, which is copied to the device once and stays while it is alive
        bias    [N] of the kind and type of x; DeviceArray [1, N]. Added before anything is rounded
        out     [M, N] of the kind and type of x, rows may have a pitch; None: made
        residual    [M, N] of the kind and type of x, added last; may be out itself
        activation  silu, gelu, gelu_tanh, or swiglu: W then has gate and up in turn, and out is [M, N/2] (runtime/epilogue.py)
        x_scale     float32 [M]: x is FP8 (runtime/scaled.py), and out, bias and residual are of `dtype`, bf16 or fp16
        Raises ShapeError, OperandError, ClosedError, HipError, CodeObjectError.
        """
        if x_scale is not None or dtype is not None:
            return scaled.gemm(self, x, x_scale, w, bias, out, stream, residual, activation, dtype)
        try:
            device = x.get_device()
        except AttributeError:
            device = -1
        if type(device) is not int or device < 0:
            return host.gemm(self, x, w, bias, out, stream, residual, options_of(bias, residual, activation))
        if not isinstance(w, DeviceWeight):
            w = self.upload_once(w, device, x.dtype)
        if bias is not None or residual is not None or activation is not None:
            return dense.finished(self, x, w, bias, out, stream, residual, options_of(bias, residual, activation))
        if out is None:
            try:
                key: Any = (self._state.id, x.dtype, x.shape, x.stride(), device)
            except (AttributeError, RuntimeError) as error:
                raise OperandError(f"x is a {type(x).__name__} without strides: use x.to_dense() ({error})") from error
            launcher = w.launchers.get(key)
            if launcher is None:
                launcher = dense.prepare(self, key, x, w, None)
            out = x.new_empty((x.shape[0], w.n)) if type(x) is not DeviceArray else dense.empty(self, x, w.n)
        else:
            try:
                there = out.dtype, out.shape, out.stride(), out.get_device()
                key = (self._state.id, x.dtype, x.shape, x.stride(), device, *there)
            except (AttributeError, RuntimeError):
                raise OperandError(f"out is a {type(out).__name__}, x is on device {device}: both have to be dense"
                                   " tensors there, or DeviceArrays") from None  # fmt: skip
            if out.requires_grad:
                refuse_gradient()
            launcher = w.launchers.get(key)
            if launcher is None:
                launcher = dense.prepare(self, key, x, w, out)
        if x.requires_grad:
            refuse_gradient()
        launcher.run(x.data_ptr(), out.data_ptr(), stream_handle(stream, x))
        return out

    def grouped_gemm(
        self,
        x: Any,
        w: PackedStack | DeviceStack,
        rows: Any,
        bias: Any = None,
        out: Any = None,
        stream: Any = None,
        *,
        residual: Any = None,
        activation: str | None = None,
    ) -> Any:
        """Each row of x [M, K] @ the W [N, K]^T of its expert -> [M, N] in the type of x (bf16 or fp16).

        x     torch tensor on a ROCm device: launched where it lies, asynchronously, in the order of `stream`. numpy array or
              CPU tensor: copied to the device and back, and done when this returns
        w     a stack of weights, one for each expert: runtime.stack of packed weights, or a DeviceStack
        rows  integers [M]: the expert of each row of x. Or [tokens, topk]: the experts of each token; x then has a row for each
              token, or for each of its experts, and the result has tokens * topk rows, those of a token together. Or a
              runtime.Sorting, which is what AITER's moe_sorting gives; with weights, results are multiplied with them
        bias  [experts, N] of the kind and type of x
        out   [tokens * topk, N] of the kind and type of x; None: made, with zeros in rows whose expert is not there
        residual    as out; added last; may be out itself
        activation  as for gemm; swiglu takes stacked runtime.pack_gate_up weights, and out is [.., N/2]
        Raises ShapeError, OperandError, ClosedError, HipError, CodeObjectError.
        """
        return experts.grouped_gemm(self, x, w, rows, bias, out, stream, residual, activation)

    def plan(
        self,
        w: PackedWeight | DeviceWeight,
        m: int,
        dtype: Any = "bf16",
        lda: int | None = None,
        ldc: int | None = None,
        kernel: str | None = None,
        device: int | None = None,
        slices: int | None = None,
        *,
        bias: bool = False,
        residual: bool = False,
        activation: str | None = None,
        ldr: int | None = None,
    ) -> Plan:
        """A prepared GEMM of m rows: plan(x, out, stream) launches it and costs the least.

        lda, ldc  row pitches of x and out in elements; None: K and N (N/2 with swiglu)
        kernel    the name of the kernel to take; None: the one that select chooses
        device    for a PackedWeight; a DeviceWeight is where it is
        slices    with `kernel`: how many workgroups share a tile of out along K; None: an estimate
        bias, residual  whether plan(x, out, stream, bias, residual) adds them; ldr: row pitch of the residual; None: as out
        activation      as gemm's
        The code object is loaded here, so that a plan can be launched while a graph is captured.
        """
        if getattr(dtype, "__name__", str(dtype)).removeprefix("torch.") in ("fp8", "float8_e4m3fnuz", "float8_e4m3fn"):
            raise OperandError("there is no plan for FP8 activations: lib.gemm with x_scale keeps what it prepares for a layout")
        if not isinstance(w, DeviceWeight):
            w = self.upload_once(w, self.device if device is None else device, dtype)
        self.ordinal(w.device)
        for name, wanted in (("bias", bias), ("residual", residual)):
            if not isinstance(wanted, bool):
                raise OperandError(f"{name} is a {type(wanted).__name__}: a plan is made with True or False, and called with the {name}")
        if ldr is not None and not residual:
            raise OperandError("ldr is the row pitch of a residual, which this plan has not: residual=True")
        options = options_of(bias or None, residual or None, activation)
        check_columns(w.n, options)
        problem = problem_of(f"gemm_{w.format}_{dtype_name(dtype)}", m, w.n, w.k, lda, ldc, options, ldr)
        if m == 1:  # whatever its pitch is, nobody takes that step
            problem = replace(problem, lda=w.k, ldc=problem.columns, ldr=problem.columns)
        selection = self._select(problem if m else replace(problem, m=1), w.device, kernel, slices)
        launcher = self._launcher(problem, w, selection) if m else Nothing()
        return Plan(self, launcher, selection, problem, w)

    def select(
        self, contract: str, m: int, n: int, k: int, lda: int | None = None, ldc: int | None = None
    ) -> Selection:
        """The kernel that a GEMM of this shape launches, and why. contract: gemm_nvfp4_bf16. ShapeError."""
        problem = problem_of(contract, m, n, k, lda, ldc)
        if problem.m < 1:
            raise OperandError(f"{problem}: sizes start at 1")
        return self._select(problem, self.device)

    def select_grouped(
        self, contract: str, tokens: int, topk: int, experts: int, n: int, k: int, block: int | None = None
    ) -> Selection:
        """The kernel that grouped_gemm launches for tokens that sort_by_expert sorts, and why. contract: grouped_nvfp4_bf16.
        OperandError, ShapeError."""
        problem = sorted_problem(contract, tokens, topk, experts, n, k, block)
        return choose_grouped(self.kernels.values(), problem, self.arch, self._units[self.device])

    @property
    def contracts(self) -> tuple[str, ...]:
        """The GEMMs that this library has kernels for: what select takes. Grouped GEMM and quantization choose by themselves."""
        return contracts(self.kernels.values())

    # ---- quantization -------------------------------------------------------------------------
    def quantize(self, format: str, x: Any, **options: Any) -> Any:
        """x, a torch tensor of bfloat16 or float16, to nvfp4, mxfp4 or amdfp4: a runtime.quantize.Quantized.

        options  axis, block_2d, outer_scale, rounding, seed and offset of runtime.quantize.quantize, whose bits these are
        A tensor on a device of the library is quantized there, in the order of torch's current stream; one on the CPU is
        copied there and back. Raises OperandError, ShapeError, ClosedError, HipError.
        """
        from runtime.quantize import device

        return device.quantize(self, format, x, **options)

    def dequantize(self, q: Any, dtype: Any = None) -> Any:
        """The values of a runtime.quantize.Quantized as a torch tensor, bfloat16 (None) or float16, where q is."""
        from runtime.quantize import device

        return device.dequantize(self, q) if dtype is None else device.dequantize(self, q, dtype)

    def quantize_rows(self, x: Any, *, weight: Any = None, eps: float = 1e-6, residual: Any = None) -> Any:
        """Rows of a torch tensor [M, K], bfloat16 or float16, to FP8: codes (E4M3FNUZ as uint8 [M, K]) and scales (float32 [M]).

        weight    [K] of the type of x: RMSNorm first, with eps
        residual  [M, K] of the type of x: added to x before; the sum is a third result
        Where tensors may be, and what is raised: as quantize. docs/quantization.md, "FP8 a token".
        """
        from runtime.quantize import device

        return device.quantize_rows(self, x, weight=weight, eps=eps, residual=residual)

    # ---- weights and arrays -------------------------------------------------------------------
    def upload(self, packed: PackedWeight, device: int | None = None, activations: Any = "bf16") -> DeviceWeight:
        """A copy of a packed weight on a device of this library, freed when the object goes.

        activations  the dtype of the x that it is multiplied with: kernels of another one may read the codes in
                     another order (runtime.formats.ORDERS), and refuse this copy. OperandError for one that none of the
                     library's kernels for this format takes
        """
        check_packed(packed)
        taken = sorted({kernel.activations for kernel in self.kernels.values() if kernel.order and kernel.weights == packed.format})
        if taken and array_dtype(activations) not in taken:
            raise OperandError(f"no kernel of {self!r} multiplies {packed.format} weights with x of {array_dtype(activations)}:"
                               f" give activations={' or '.join(map(repr, taken))}")  # fmt: skip
        return upload(self._hip, packed, self.ordinal(device), self.order(packed.format, activations))

    def upload_once(self, packed: PackedWeight, device: int | None = None, activations: Any = "bf16") -> DeviceWeight:
        """The copy that gemm keeps while `packed` is alive, one for each code order; made on the first call."""
        if not isinstance(packed, PackedWeight):
            check_packed(packed)
        return self._weights.get(packed, self.ordinal(device), self.order(packed.format, activations))

    def upload_stack(self, packed: PackedStack, device: int | None = None, activations: Any = "bf16") -> DeviceStack:
        """The copy of a stack that grouped_gemm keeps while `packed` is alive, one for each code order; made on the first
        call. OperandError for what is no PackedStack."""
        if not isinstance(packed, PackedStack):
            raise OperandError(f"packed is a {type(packed).__name__}: runtime.stack makes a PackedStack of packed weights")
        return self._stacks.get(packed, self.ordinal(device), self.order(packed.format, activations))

    def order(self, format: str, activations: Any) -> str:
        """The code order that the kernels for a weight format and a dtype of x read: of runtime.formats.ORDERS."""
        key = format, array_dtype(activations)
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = _order(self.kernels.values(), *key)
        return order

    def empty(
        self, shape: tuple[int, int], dtype: Any, pitch: int | None = None, device: int | None = None
    ) -> DeviceArray:
        """Uninitialised memory for a matrix, rows `pitch` elements apart."""
        return allocate(self._hip, shape, dtype, pitch, self.ordinal(device))

    def array(self, host_array: Any, pitch: int | None = None, device: int | None = None) -> DeviceArray:
        """A copy of a numpy array or CPU tensor [rows, columns] on a device. The gaps between rows are zero."""
        return host.to_device(self._hip, host_array, pitch, self.ordinal(device))

    def numpy(self, array: DeviceArray) -> np.ndarray:
        """A copy of a DeviceArray on the host, after everything on its device is done."""
        if not isinstance(array, DeviceArray):
            raise OperandError(f"array is a {type(array).__name__}: a DeviceArray is needed")
        if array.device not in self.devices:
            raise OperandError(f"{array!r} is on none of this library's devices ({self.arch}): {list(self.devices)}")
        return host.to_host(self._hip, array, self.recent(array.device))

    def synchronize(self, stream: Any = None, device: int | None = None) -> None:
        """Wait for a stream, or for all of a device. Errors of kernels that ran come out here, with their names."""
        device = self.ordinal(device)
        with self._hip.on(device):
            self._hip.synchronize(
                None if stream is None else stream_handle(stream, None), tuple(self._state.names(device))
            )

    # ---- the end ------------------------------------------------------------------------------
    def close(self) -> None:
        """Wait for the devices and unload the code objects. Launches are refused from now on; closing again is fine.

        No other thread may be launching. Garbage collection does the same.
        """
        try:
            if self._state.closed is None:
                self._finish()
        finally:
            self._weights.clear()
            self._stacks.clear()
            self._end()

    def _finish(self) -> None:
        """Wait for every device. A failure that was told before, and that the device repeats, is not told again."""
        failure: HipError | None = None
        for device in list(self._state.recent):
            told = set(self._hip.epoch(device).faults)
            try:
                with self._hip.on(device):
                    self._hip.synchronize(None, self.recent(device))
            except HipError as error:
                if error.code not in told:
                    failure = failure or error
        if failure is not None:
            raise failure

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "virtual " if self.virtual else ""
        state = ", closed" if self._state.closed else ""
        return f"<Library {self.arch}, {len(self.kernels)} kernels, {where}devices {list(self.devices)}{state}>"

    @property
    def hip(self) -> Hip:
        """HIP as this process has it, for calls beside the library's own."""
        return self._hip

    @property
    def state(self) -> State:
        """What its launches share."""
        return self._state

    def recent(self, device: int) -> tuple[str, ...]:
        """Names of the kernels last launched on a device, the latest last."""
        return tuple(self._state.recent.get(device, ()))

    # ---- inside -------------------------------------------------------------------------------
    def ordinal(self, device: int | None) -> int:
        """`device`, or the library's own for None. ClosedError, OperandError for one that is not the library's."""
        if self._state.closed:
            raise ClosedError(self._state.closed)
        if device is None:
            return self.device
        if device not in self.devices or device is True or device is False:
            raise OperandError(f"device {device!r:.60} is none of this library's ({self.arch}): {list(self.devices)}")
        return device

    def _select(self, problem: Problem, device: int, name: str | None = None, slices: int | None = None) -> Selection:
        units = self._units[device]
        if name is not None:
            if not isinstance(name, str) or name not in self.kernels:
                raise OperandError(f"no kernel {name!r} among the {len(self.kernels)} of {self!r}")
            return force(self.kernels[name], problem, self.arch, units, slices)
        if slices is not None:
            raise OperandError("slices are those of one kernel: name it with kernel=, or leave slices out")
        if units not in self._tables:
            self._tables[units] = tuned.load(self.arch, units, self.virtual)
        return choose(self.kernels.values(), problem, self.arch, units, self._tables[units])

    def _launcher(self, problem: Problem, w: DeviceWeight, selection: Selection) -> Launcher:
        if self._state.closed:
            raise ClosedError(self._state.closed)
        w.check_order(selection.kernel)
        function = modules.LOADED.function(self._hip, self.manifest, selection.kernel, w.device, self._state.id)
        return Launcher(self._hip, self._state, function, selection.kernel, problem, w, self.arch, selection.slices)

    def launcher_for(
        self, w: DeviceWeight, dtype: str, m: int, lda: int, ldc: int, options: Epilogue = NONE, ldr: int = 0
    ) -> Launch:
        """What launches m rows with these pitches and this epilogue. dtype: bf16, fp16, or fp8_bf16 for FP8 and results of bf16."""
        self.ordinal(w.device)
        if m == 0:
            return Nothing()
        problem = Problem(f"gemm_{w.format}_{dtype}", m, w.n, w.k, lda, ldc, options, ldr)
        return self._launcher(problem, w, self._select(problem, w.device))

    def grouped_launcher(self, w: DeviceStack, problem: GroupedProblem) -> GroupedLauncher:
        """What launches a grouped GEMM of these sizes, kept with the stack."""
        device = self.ordinal(w.device)
        launcher = w.launchers.get((self._state.id, problem))
        if launcher is None:
            selection = choose_grouped(self.kernels.values(), problem, self.arch, self._units[device])
            w.check_order(selection.kernel)
            launcher = GroupedLauncher(self, self._state, problem, w, selection)
            w.remember((self._state.id, problem), launcher)
        return launcher


def _release(hip: Hip, state: State) -> None:
    """Ends a library; runs once, by close or by the garbage collector."""
    if state.closed is None:
        state.closed = "the library was closed: runtime.load gives a new one"
    for workspaces in list(state.workspaces.values()):
        workspaces.clear()
    modules.LOADED.release(hip, state.id)


def _no_device(arch: str, targets: list[str], hip: Hip) -> str:
    there = ", ".join(f"{i}: {target}" for i, target in enumerate(targets)) or "none"
    return f"no {arch} among the devices of {hip.library} ({there})"


def _order(candidates: Iterable[Kernel], format: str, activations: str) -> str:
    """HOST_ORDER if there are no such kernels: the launch will say so."""
    wanted = format, activations
    orders = {kernel.order for kernel in candidates if kernel.order and (kernel.weights, kernel.activations) == wanted}
    if len(orders) > 1:
        raise ManifestError(f"kernels for {format} and {activations} read their codes in several orders"
                            f" ({', '.join(sorted(orders))}): build all of them again")  # fmt: skip
    return orders.pop() if orders else HOST_ORDER


def _after_fork() -> None:
    for state in list(_states):
        state.closed = "this library belongs to the process this one was forked from: HIP does not survive a fork;" \
                       " use multiprocessing's 'spawn', or load in the child only"  # fmt: skip
    modules.after_fork()


os.register_at_fork(after_in_child=_after_fork)
