"""Inside the sandbox: the line to the outside, and the limits a process puts on itself."""

import json
import math
import os
import pickle
import resource
import struct
import time
from typing import Any

FOLDER_BYTES = 32 * 2**20  # of the writable folder


class Line:
    """The inside end of a Child: receive pickles, send JSON."""

    def __init__(self, fd: int, unsafe: bool):
        self.fd, self.unsafe = fd, unsafe
        self.held = bytearray()  # messages that go with the next that is sent
        os.set_inheritable(fd, False)

    def ready(self, memory: int, processes: int) -> None:
        """Limit this process and say that it runs.  stderr goes: nobody reads that pipe any more, so it could fill."""
        # Without namespaces of its own the number of processes is that of all the user's.
        limit(memory, None if self.unsafe else processes)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        self.send("ready")

    def send(self, message: Any) -> None:
        self.hold(message)
        data, self.held = self.held, bytearray()
        write_all(self.fd, data)

    def hold(self, message: Any) -> None:
        """Send a message with the next one: waking the other side up costs more than a short message does."""
        data = json.dumps(message).encode()
        self.held += struct.pack("!I", len(data)) + data

    def receive(self) -> Any:
        """The next message.  Raises EOFError when the other side hung up."""
        (length,) = struct.unpack("!I", self._read(4))
        return pickle.loads(self._read(length))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = os.read(self.fd, min(size - len(data), 2**20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


def write_all(fd: int, data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def limit(memory: int, processes: int | None) -> None:
    """Put hard limits on the calling process and its children: bytes of address space, number of processes."""
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_FSIZE, FOLDER_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))


def limit_cpu(seconds: float, for_good: bool) -> None:
    """Have the kernel kill the calling process a second or two after it has used that much more CPU.

    The kernel counts whole seconds, so this is only the last wall: who waits for the process measures it finely.
    A limit for good can't be moved any more, nor its signal be caught.
    """
    value = math.ceil(time.process_time() + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (value, value if for_good else hard))
