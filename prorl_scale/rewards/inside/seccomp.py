"""Seccomp filters: which system calls a process inside the sandbox may not make.

A filter is a small program the kernel runs on each system call.  `base_filter` goes to bubblewrap and holds for all in
a sandbox.  The runner of model programs needs four calls of that list, to give each program namespaces and folders of
its own and to wait for it (`runner_filter`).  `process_filter` is put on by a process that is about to touch model
text, and adds to those: from then on it can make threads, but no processes, so the address-space limit of one process
bounds the memory of the whole answer, and it can touch no process but itself.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

# Numbers on (x86_64, aarch64), None where a machine lacks the call; a test compares them with libseccomp.
_BASE = {
    # the network
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # large or young parts of the kernel that no answer needs
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
    # memory that RLIMIT_AS and the tmpfs size do not count, and shared memory
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "quotactl": (179, 60),
    "syslog": (103, 116),
}
_PROCESSES = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
# Calls that name a process, or a whole user: a program may change its own priority or limits at most.
_OTHERS = {
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
}
_OWN_PID = {"tgkill": (234, 131), "prlimit64": (302, 261)}  # allowed where the first argument is this process, or 0
_FCNTL, _IOCTL = (72, 25), (16, 29)
_SIGNAL_OWNER = {"F_SETOWN": 8, "F_SETOWN_EX": 15, "FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}  # their second argument
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, the kernel's name for it

_SET_SECCOMP, _MODE_FILTER = 22, 2
_PID = 0x7FFFFFFF  # stands for a process that is not yet known
_RUNNER = ("mount", "umount2", "unshare", "pidfd_open")  # what our own runner of programs needs

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000  # any CLONE_NEW* flag

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in what the kernel shows a filter
_REFUSE = struct.pack("=HBBI", _RETURN, 0, 0, _ERRNO | errno.EPERM)


def base_filter() -> bytes:
    """The filter of everything in a sandbox.  Raises OSError on a machine whose call numbers are not listed."""
    return _filter(_BASE, [])


def runner_filter() -> bytes:
    """The base filter but for what gives a program namespaces of its own; these calls go with `process_filter`."""
    return _filter({name: numbers for name, numbers in _BASE.items() if name not in _RUNNER}, [])


def process_filter(pid: int) -> bytes:
    """The filter of process `pid`, which leaves it threads, and takes away processes and signals to others."""
    column, _ = _machine()
    rules = [_unless_first(numbers[column], (0, pid)) for numbers in _OWN_PID.values()]
    rules += [_if_second(numbers[column], _SIGNAL_OWNER.values()) for numbers in (_FCNTL, _IOCTL)]
    denied = {**{name: _BASE[name] for name in _RUNNER}, **_PROCESSES, **_OTHERS}
    return _filter(denied, rules, clone_must_set=_CLONE_THREAD)


def _machine() -> tuple[int, int]:
    if platform.machine() not in _MACHINES:
        raise OSError(f"no system call filter for {platform.machine()}: only {', '.join(_MACHINES)} are known")
    return _MACHINES[platform.machine()]


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; the jumps count the instructions to skip."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def _unless_first(number: int, allowed: tuple[int, ...]) -> bytes:
    """Refuse the call unless its first argument (its lower half: these are process ids) is one of `allowed`."""
    tests = b"".join(_op(_JUMP_EQUAL, value, len(allowed) - i, 0) for i, value in enumerate(allowed))
    return _when(number, _op(_LOAD, _FIRST_ARGUMENT) + tests + _REFUSE)


def _if_second(number: int, refused: Iterable[int]) -> bytes:
    """Refuse the call if its second argument (its lower half: these are small numbers) is one of `refused`."""
    tests = b"".join(_op(_JUMP_EQUAL, value, 0, 1) + _REFUSE for value in refused)
    return _when(number, _op(_LOAD, _SECOND_ARGUMENT) + tests)


def _when(number: int, body: bytes) -> bytes:
    """Instructions for one call alone.  They overwrite the number that was loaded, so it is loaded again."""
    body += _op(_LOAD, _NUMBER)
    return _op(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _filter(denied: dict[str, tuple[int, int | None]], rules: list[bytes], clone_must_set: int | None = None) -> bytes:
    column, arch = _machine()
    program = _op(_LOAD, _ARCH) + _op(_JUMP_EQUAL, arch, 1, 0) + _op(_RETURN, _KILL) + _op(_LOAD, _NUMBER)
    if column == 0:  # x86_64 has a second set of numbers (x32) from 2**30 on, which the list below would not match
        program += _op(_JUMP_AT_LEAST, 0x40000000, 0, 1) + _op(_RETURN, _KILL)
    for numbers in denied.values():
        if (number := numbers[column]) is not None:
            program += _op(_JUMP_EQUAL, number, 0, 1) + _REFUSE
    program += b"".join(rules)
    # clone3 hides its flags behind a pointer that no filter can follow; told it does not exist, libc uses clone.
    program += _op(_JUMP_EQUAL, _CLONE3[column], 0, 1) + _op(_RETURN, _ERRNO | errno.ENOSYS)
    program += _op(_JUMP_EQUAL, _CLONE[column], 0, 3) + _op(_LOAD, _FIRST_ARGUMENT)
    if clone_must_set is None:
        program += _op(_JUMP_SET, _CLONE_NAMESPACES, 0, 1)
    else:
        program += _op(_JUMP_SET, clone_must_set, 1, 0)
    return program + _REFUSE + _op(_RETURN, _ALLOW)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class ProcessFilter:
    """`process_filter`, made ahead of the fork of the process that will put it on: there it would take long."""

    def __init__(self) -> None:
        anyone = struct.pack("=I", _PID)
        program = process_filter(_PID)
        self._places = [i for i in range(len(program)) if program.startswith(anyone, i)]  # where the process is named
        self._memory = ctypes.create_string_buffer(program, len(program))
        self._header = ctypes.byref(_Program(len(program) // 8, ctypes.addressof(self._memory)))
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def put_on(self) -> None:
        """For good; where new privileges are forbidden, as bubblewrap does.  Raises OSError if the kernel refuses."""
        for place in self._places:
            struct.pack_into("=I", self._memory, place, os.getpid())
        if self._prctl(_SET_SECCOMP, _MODE_FILTER, self._header):
            raise OSError(ctypes.get_errno(), "the kernel refused the system call filter")


def forbid_processes() -> None:
    """Put `process_filter` on the calling process, for good.  Raises OSError if the kernel refuses."""
    ProcessFilter().put_on()
