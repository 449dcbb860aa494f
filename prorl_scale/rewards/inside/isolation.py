"""Inside the sandbox of programs: a program's own namespaces and folders, and giving up the right to make them.

The runner of programs has one privilege, CAP_SYS_ADMIN over the sandbox's own user namespace, with which it can do no
more than the sandbox itself may.  Each program gets a process and a mount namespace with it, so that it can name no
process but its own, and each test an empty folder, which is gone with the test.  The program itself has no privilege.
"""

import ctypes
import os
import platform
import struct

from .line import FOLDER_BYTES

_NEW_MOUNTS, _NEW_IPC, _NEW_PROCESSES = 0x00020000, 0x08000000, 0x20000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND = 1, 2, 4, 32, 4096
_DETACH = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine(), -1)  # elsewhere there is no filter either
_HEADER = struct.pack("Ii", 0x20080522, 0)  # version 3 of the interface, this process
_NONE = bytes(24)
FILES = 20_000  # that a writable folder may hold
_FOLDER = f"size={FOLDER_BYTES},nr_inodes={FILES},mode=700".encode()

_libc = ctypes.CDLL(None, use_errno=True)
_unshare, _mount, _unmount, _syscall = _libc.unshare, _libc.mount, _libc.umount2, _libc.syscall  # found once


def _checked(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def leave() -> None:
    """From here on what this process mounts is its own, and its next child is the first process of a new namespace."""
    _checked(_unshare(_NEW_PROCESSES | _NEW_MOUNTS | _NEW_IPC))


def mount_folder(path: str) -> None:
    """An empty writable folder.  Raises OSError."""
    _checked(_mount(b"none", path.encode(), b"tmpfs", _NO_SETUID | _NO_DEVICES, _FOLDER))


def unmount(path: str) -> None:
    """Take away what is mounted there, at once; who has it open keeps it.  Raises OSError."""
    _checked(_unmount(path.encode(), _DETACH))


def show_read_only(source: str, path: str) -> None:
    """Show the folder `source` at `path` as well, where it can't be written to.  Raises OSError."""
    _checked(_mount(source.encode(), path.encode(), None, _BIND, None))
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SETUID | _NO_DEVICES
    _checked(_mount(None, path.encode(), None, flags, None))


def drop_privileges() -> None:
    """Give up all capabilities, for good: a program can't execute a file that would bring them back."""
    _checked(_syscall(_CAPSET, _HEADER, _NONE))
