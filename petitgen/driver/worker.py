"""The process that runs kernels for one client of the virtual GPU; the shim starts it and it ends with the client.

    python -m petitgen.driver.worker gfx942,gfx90a ARENA_BYTES WINDOW_BYTES

File descriptor 3 is the socket to the client, 4 the memory that both map.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence

from petitgen.driver import protocol
from petitgen.driver.devices import Device
from petitgen.driver.protocol import Change, Operation, Status
from petitgen.errors import CodeObjectError, DecodeError, EmulationError


class Worker:
    """Answers requests, one after the other."""

    def __init__(self, connection: socket.socket, devices: Sequence[Device]) -> None:
        self.connection = connection
        self.devices = devices
        self.launching = False

    def serve(self) -> None:
        """Until the client is gone."""
        while (head := protocol.receive(self.connection, protocol.REQUEST.size)) is not None:
            operation, device, size = protocol.REQUEST.unpack(head)
            body = protocol.receive(self.connection, size)
            if body is None:
                return
            if operation == Operation.CHANGES:
                self._changes(body)
            else:
                protocol.answer(self.connection, *self._answer(Operation(operation), device, body))

    def _changes(self, body: bytes) -> None:
        for change, owner, address, size in protocol.CHANGE.iter_unpack(body):
            for device in self.devices:
                device.change(Change(change), owner, address, size)

    def _answer(self, operation: Operation, device: int, body: bytes) -> tuple[Status, str]:
        """Every fault becomes an answer: the client must never wait for one that does not come."""
        try:
            if operation is Operation.LOAD:
                (number,) = protocol.MODULE.unpack_from(body)
                return Status.SUCCESS, self.devices[device].load(number, body[protocol.MODULE.size :])
            if operation is Operation.UNLOAD:
                for each in self.devices:
                    each.unload(*protocol.MODULE.unpack(body))
                return Status.SUCCESS, ""
            return self._launch(self.devices[device], body)
        except EmulationError as error:
            return (Status.LAUNCH_FAILURE if operation is Operation.LAUNCH else Status.OUT_OF_MEMORY), str(error)
        except (CodeObjectError, DecodeError) as error:
            wrong_arch = f"for {self.devices[device].arch}" in str(error) or f"not {self.devices[device].arch}" in str(
                error
            )
            return (Status.NO_BINARY_FOR_GPU if wrong_arch else Status.INVALID_IMAGE), str(error)
        except Exception:
            return Status.LAUNCH_FAILURE, f"a fault of the emulator itself; please report it:\n{traceback.format_exc()}"

    def _launch(self, device: Device, body: bytes) -> tuple[Status, str]:
        try:
            self.launching = True
            try:
                story = device.launch(body)
            finally:
                self.launching = False
        except KeyboardInterrupt:  # at any point above, the inner finally among them
            story = "interrupted by the user"
        return (Status.LAUNCH_FAILURE if story else Status.SUCCESS), story

    def interrupt(self, *_: object) -> None:
        """Ctrl-C reaches the client and us: it ends a kernel that runs, and nothing else. Once for each launch."""
        if self.launching:
            self.launching = False
            raise KeyboardInterrupt


def end_with_client(connection: socket.socket) -> None:
    """Ends the process when the client is gone, in the middle of a kernel if need be."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP | select.POLLHUP)
    poll.poll()
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    names, size, window = arguments[0].split(","), int(arguments[1]), int(arguments[2])
    os.closerange(protocol.MEMORY + 1, 4096)  # what the client had open is not ours to keep
    arena = mmap.mmap(protocol.MEMORY, size, flags=mmap.MAP_SHARED | 0x4000)  # MAP_NORESERVE
    connection = socket.socket(fileno=protocol.SOCKET)
    devices = [Device(number, arch, arena, window) for number, arch in enumerate(names)]
    worker = Worker(connection, devices)
    signal.signal(signal.SIGINT, worker.interrupt)
    threading.Thread(target=end_with_client, args=(connection,), daemon=True).start()
    protocol.answer(connection, Status.SUCCESS)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client is gone
        worker.serve()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
