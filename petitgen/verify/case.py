"""What verifying a kernel gives, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from petitgen.emulator.sanitizer import Finding


class Problem(Protocol):
    """The size of a problem, and what else there is to say of it; its text names it in reports."""

    @property
    def work(self) -> int:
        """How long it takes, roughly and in any unit: kernels with most of it start first."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one problem. Right when nothing is wrong in it. Ops may have cases with more to say.

    shape         the problem
    error         the emulator stopped, or the kernel could not be launched: its message
    mismatch      a wrong result; its text says which
    trespasses    memory changed that the kernel must not touch
    instructions  wave-instructions executed
    faults        what the sanitizer found, if it was on
    """

    shape: Any
    error: str
    mismatch: Any
    trespasses: tuple[str, ...]
    instructions: int
    seconds: float
    faults: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not (self.error or self.mismatch or self.trespasses or self.faults)

    @property
    def title(self) -> str:
        """Which problem it was."""
        return str(self.shape)

    @property
    def findings(self) -> list[str]:
        """What is wrong, a line each."""
        wrong = str(self.mismatch) if self.mismatch else ""
        return [text for text in (self.error, wrong, *self.trespasses, *map(str, self.faults)) if text]


@dataclass(frozen=True, slots=True)
class Op:
    """How kernels of an op are verified.

    plan  (kernel, shapes, slices that were asked for) -> the problems for the kernel; VerifyError for what it does not take
    case  (target, kernel, problem, sanitize) -> what became of it
    """

    plan: Callable[..., tuple[Any, ...]]
    case: Callable[..., Case]
