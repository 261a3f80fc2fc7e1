"""The emulator's process from the inside: what Ctrl-C may interrupt. No compiler here, and no second process."""

from __future__ import annotations

import socket

import pytest

from petitgen.driver.protocol import Status
from petitgen.driver.worker import Worker
from petitgen.errors import EmulationError


class Kernel:
    """A device whose launch ends as told."""

    arch = "gfx942"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def launch(self, body: bytes) -> str:
        if self.error:
            raise self.error
        return ""


class InterruptedWhenDone(Worker):
    """Ctrl-C arrives just as the launch is no longer one: before `launching` is set to False."""

    @property
    def launching(self) -> bool:
        return self._launching

    @launching.setter
    def launching(self, value: bool) -> None:
        if not value and self.__dict__.pop("_armed", False):
            self.interrupt()
        if value:
            self._armed = True
        self._launching = value


@pytest.mark.parametrize("error", [None, EmulationError("a fault")])
def test_an_interrupt_while_a_launch_is_ending_is_one_of_the_launch(error: Exception | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = InterruptedWhenDone(ours, [])
        try:
            answer = worker._launch(Kernel(error), b"")  # type: ignore[arg-type]
        except KeyboardInterrupt:
            pytest.fail("the interrupt has left the launch, and would end the process")
        assert answer == (Status.LAUNCH_FAILURE, "interrupted by the user")
        worker.interrupt()  # outside a launch: nothing
        worker.interrupt()


def test_a_second_interrupt_of_the_same_launch_does_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(ours, [])
        worker.launching = True
        with pytest.raises(KeyboardInterrupt):
            worker.interrupt()
        worker.interrupt()  # raises nothing
