"""What the shim and the worker say to each other; shim/worker.c states the same structs in C.

A request is REQUEST and then `bytes` bytes; an answer is REPLY and then `bytes` bytes of text. All are little-endian.

  operation  body                                    answer
  CHANGES    CHANGE, any number of times             none
  LOAD       MODULE, then the code object            the description below, or why not
  UNLOAD     MODULE                                  empty
  LAUNCH     LAUNCH, then the kernel arguments       empty, or the story of what went wrong

The worker first says REPLY with status 0 when it is ready. The status of an answer is a hipError_t. The description of a
module is lines of text: `image ADDRESS BYTES`, `variable NAME ADDRESS BYTES`, and for each kernel, in the order that
LAUNCH counts them, `kernel NAME KERNARG MAX_THREADS VGPRS SGPRS LDS SCRATCH ARGUMENTS [OFFSET SIZE]...` (bytes, of
explicit arguments only).
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

REQUEST = struct.Struct("<IIQ")  # operation, device, bytes
REPLY = struct.Struct("<IIQ")  # status, reserved, bytes
CHANGE = struct.Struct("<IIQQ")  # Change, device, address, bytes; for peers the other device instead of the address
MODULE = struct.Struct("<Q")  # number
LAUNCH = struct.Struct("<Q10I")  # module, kernel, grid x y z, block x y z, dynamic LDS, bytes of arguments; 4 unused
SOCKET, MEMORY = 3, 4  # file descriptors of the worker
EVERY_DEVICE = 0xFFFF_FFFF


class Operation(IntEnum):
    CHANGES = 1
    LOAD = 2
    UNLOAD = 3
    LAUNCH = 4


class Change(IntEnum):
    ADOPT = 1
    RELEASE = 2
    PEER_ON = 3
    PEER_OFF = 4


class Status(IntEnum):
    """The hipError_t values the worker answers with."""

    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    INVALID_IMAGE = 200
    NO_BINARY_FOR_GPU = 209
    LAUNCH_FAILURE = 719


def receive(connection: socket.socket, size: int) -> bytes | None:
    """Exactly `size` bytes, or None when the other side is gone."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)


def answer(connection: socket.socket, status: Status, text: str = "") -> None:
    """Send one REPLY."""
    body = text.encode()
    connection.sendall(REPLY.pack(status, 0, len(body)) + body)
