"""How torch's threads on a CPU wait for work.  To be imported before torch, which reads it once, when it is loaded.

A thread of OpenMP that has nothing to do asks again and again for a while before it sleeps, since waking it takes
longer than a small product of matrices.  Libraries ask for long, as if the machine were theirs: beside three busy
programs a step of the laptop task then takes three times as long with two threads as with one.  Asking for a shorter
time keeps most of what the second thread gains on an idle machine (results/2026-11-28-threads).

Whoever has set one of these variables, or OMP_WAIT_POLICY, keeps what they set.
"""

import os

PATIENCE = {
    "GOMP_SPINCOUNT": "3000",  # turns of the loop in GNU's library, which torch has on Linux
    "KMP_BLOCKTIME": "1",  # milliseconds, in Intel's and LLVM's, which torch has on macOS; not tried
}

if "OMP_WAIT_POLICY" not in os.environ:
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
