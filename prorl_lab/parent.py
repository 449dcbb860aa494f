"""A child that must not outlive its parent asks the kernel for a signal when that ends."""

import ctypes
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)


def signal_at_its_end(number: int) -> bool:
    """Have this process sent a signal when its parent ends, however that ends -> was it asked for?  Linux alone."""
    if not sys.platform.startswith("linux"):
        return False
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    return True
