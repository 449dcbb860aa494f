"""How many processors this process may use: what it is bound to, and what its control group grants."""

import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Processors by affinity and by the CPU quota of the control group (a container's limit), at least 1.

    `os.cpu_count` knows neither: in a container with 4 of 128 cores it says 128.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return bound if quota is None else max(1, min(bound, int(quota)))


def cpu_quota(groups: Path = _GROUPS, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors that the control group and those above it grant, the smallest; None without a limit.

    Both layouts are read: version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us` over `cpu.cfs_period_us`).
    """
    found = []
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        # In a container the path may be the host's, while what is mounted is the container's group: the root tells.
        parts = Path(path).parts[1:]
        for depth in range(len(parts) + 1):
            found.append(_quota_of(root.joinpath(*parts[:depth])))
    limits = [quota for quota in found if quota]
    return min(limits) if limits else None


def _quota_of(group: Path) -> float | None:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
