"""A prepared GEMM: what is given is only compared with what was planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.epilogue import Epilogue
from runtime.errors import OperandError
from runtime.launch import Launch, refuse_gradient, stream_handle
from runtime.memory import KNOWN_DTYPES, DeviceArray, dtype_name, layout
from runtime.select import Problem, Selection
from runtime.weights import DeviceWeight

if TYPE_CHECKING:
    from runtime.library import Library


class Plan:
    """A prepared GEMM: plan(x, out) checks what it is given against what was planned and launches.

    selection  the kernel and why it was chosen
    """

    __slots__ = ("_added", "_device", "_dtype", "_launcher", "_library", "_out", "_x", "selection", "weight")

    def __init__(
        self, library: Library, launcher: Launch, selection: Selection, problem: Problem, weight: DeviceWeight
    ) -> None:
        self.selection, self.weight = selection, weight
        self._library, self._launcher = library, launcher  # the library must not go before its plans
        self._dtype, self._device = selection.kernel.activations, weight.device
        self._x = (problem.m, problem.k), _strides(problem.m, problem.lda)
        self._out = (problem.m, problem.columns), _strides(problem.m, problem.ldc)
        added: dict[str, Layout] = {}
        if problem.options & Epilogue.BIAS:
            added["bias"] = (1, problem.n), _strides(1, problem.n)
        if problem.options & Epilogue.RESIDUAL:
            added["residual"] = self._out[0], _strides(problem.m, problem.ldr)
        self._added = added

    def __call__(self, x: Any, out: Any, stream: Any = None, bias: Any = None, residual: Any = None) -> Any:
        """out = x @ W^T, in the order of `stream` (None: torch's current stream, or the null stream). Returns out.

        x and out: torch tensors on the device or DeviceArrays of the planned shapes, pitches and dtype. So are bias ([N],
        or [1, N]) and residual if the plan has them.
        """
        try:
            if (
                x.shape != self._x[0]
                or out.shape != self._out[0]
                or x.stride() != self._x[1]
                or out.stride() != self._out[1]
                or KNOWN_DTYPES.get(x.dtype) != self._dtype
                or KNOWN_DTYPES.get(out.dtype) != self._dtype
                or x.get_device() != self._device
                or out.get_device() != self._device
            ):
                self._check(x, out)
            if x.requires_grad or out.requires_grad:
                refuse_gradient()
        except (AttributeError, TypeError, RuntimeError) as error:  # not a tensor, or one without strides
            raise OperandError(f"x is a {type(x).__name__}, out a {type(out).__name__}: a plan takes DeviceArrays, or"
                               f" dense torch tensors on the device ({error})") from error  # fmt: skip
        if self._added or bias is not None or residual is not None:
            added = self._addresses(bias, residual)
            self._launcher.run(x.data_ptr(), out.data_ptr(), stream_handle(stream, x), *added)
        else:
            self._launcher.run(x.data_ptr(), out.data_ptr(), stream_handle(stream, x))
        return out

    def _addresses(self, bias: Any, residual: Any) -> tuple[int, int]:
        """Of what the epilogue adds: just what was planned."""
        for name, array in (("bias", bias), ("residual", residual)):
            if (array is None) == (name in self._added):
                raise OperandError(f"the plan was made {'with' if array is None else 'without'} a {name}")
            if array is None:
                continue
            if not all(hasattr(array, method) for method in ("stride", "get_device", "data_ptr")):
                raise OperandError(f"{name} is a {type(array).__name__}: a plan takes DeviceArrays, or dense torch tensors on the device")
            row = array.reshape(1, -1) if name == "bias" and not isinstance(array, DeviceArray) else array
            if not self._fits(row, self._added[name]):
                raise OperandError(f"{name} is {_text(tuple(array.shape), tuple(array.stride()))} {array.dtype} on device"
                                   f" {array.get_device()}; the plan is for {_text(*self._added[name])} {self._dtype} on"
                                   f" device {self._device}")  # fmt: skip
            if getattr(array, "requires_grad", False):
                refuse_gradient()
        return tuple(0 if array is None else array.data_ptr() for array in (bias, residual))  # type: ignore[return-value]

    def _check(self, x: Any, out: Any) -> None:
        """The same with patience: a dtype not met before, strides that differ and mean the same memory."""
        if not self._fits(x, self._x) or not self._fits(out, self._out):
            planned = f"x {_text(*self._x)} and out {_text(*self._out)}, {self._dtype} on device {self._device}"
            got = ", ".join(
                f"{name} {_text(tuple(t.shape), tuple(t.stride()))} {t.dtype} on device {t.get_device()}"
                for name, t in (("x", x), ("out", out))
            )
            raise OperandError(f"the plan is for {planned}; it was given {got}")

    def _fits(self, x: Any, planned: Layout) -> bool:
        rows, columns, pitch = layout(x, "operand")
        return (
            (rows, columns) == planned[0]
            and (rows <= 1 or pitch == planned[1][0])
            and dtype_name(x.dtype) == self._dtype
            and x.get_device() == self._device
        )


Layout = tuple[tuple[int, int], tuple[int, int]]  # shape and strides


def _strides(rows: int, pitch: int) -> tuple[int, int]:
    return pitch, 1


def _text(shape: tuple[int, ...], strides: tuple[int, ...]) -> str:
    return f"{list(shape)} with strides {list(strides)}"

