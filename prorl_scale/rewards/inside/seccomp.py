"""Seccomp filters: which system calls a process inside the sandbox may not make.

A filter is a small program the kernel runs on each system call.  `base_filter` goes to bubblewrap and holds for
everything in the sandbox.  `forbid_processes` is put on by a process that is about to touch model text: from then on it
can make threads, but no processes, so the address-space limit of one process bounds the memory of the whole answer.
"""

import ctypes
import errno
import platform
import struct

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
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, the kernel's name for it

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000  # any CLONE_NEW* flag

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in what the kernel shows a filter


def base_filter() -> bytes:
    """The filter of everything in a sandbox.  Raises OSError on a machine whose call numbers are not listed."""
    return _filter(_BASE, clone_must_set=None)


def process_filter() -> bytes:
    """The filter that leaves threads and takes away processes and signals."""
    return _filter(_PROCESSES, clone_must_set=_CLONE_THREAD)


def _filter(denied: dict[str, tuple[int, int | None]], clone_must_set: int | None) -> bytes:
    if platform.machine() not in _MACHINES:
        raise OSError(f"no system call filter for {platform.machine()}: only {', '.join(_MACHINES)} are known")
    column, arch = _MACHINES[platform.machine()]

    def op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        """One instruction; the jumps count the instructions to skip."""
        return struct.pack("=HBBI", code, then, otherwise, value)

    program = op(_LOAD, _ARCH) + op(_JUMP_EQUAL, arch, 1, 0) + op(_RETURN, _KILL) + op(_LOAD, _NUMBER)
    if column == 0:  # x86_64 has a second set of numbers (x32) from 2**30 on, which the list below would not match
        program += op(_JUMP_AT_LEAST, 0x40000000, 0, 1) + op(_RETURN, _KILL)
    for numbers in denied.values():
        if (number := numbers[column]) is not None:
            program += op(_JUMP_EQUAL, number, 0, 1) + op(_RETURN, _ERRNO | errno.EPERM)
    # clone3 hides its flags behind a pointer that no filter can follow; told it does not exist, libc uses clone.
    program += op(_JUMP_EQUAL, _CLONE3[column], 0, 1) + op(_RETURN, _ERRNO | errno.ENOSYS)
    program += op(_JUMP_EQUAL, _CLONE[column], 0, 3) + op(_LOAD, _FIRST_ARGUMENT)
    if clone_must_set is None:
        program += op(_JUMP_SET, _CLONE_NAMESPACES, 0, 1)
    else:
        program += op(_JUMP_SET, clone_must_set, 1, 0)
    return program + op(_RETURN, _ERRNO | errno.EPERM) + op(_RETURN, _ALLOW)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_processes() -> None:
    """Put `process_filter` on the calling process, for good.  Raises OSError where the kernel refuses."""
    program = process_filter()
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    header = _Program(len(program) // 8, program)
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, ctypes.byref(header), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refused the system call filter")
