"""What this container has: CPUs and memory, by affinity, cgroup and host."""

from __future__ import annotations

import os
import resource
from pathlib import Path

# Where the limits of the container are.
CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup 1 writes a huge number where there is no limit


def cpu_capacity() -> float:
    """CPUs that this process may use: the least of the affinity mask and the cgroup's quota."""
    count = float(len(os.sched_getaffinity(0)))
    for quota in (_cgroup2_quota(), _cgroup1_quota()):
        if quota is not None:
            count = min(count, quota)
    return count


def _cgroup2_quota() -> float | None:
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _cgroup1_quota() -> float | None:
    try:
        quota = int((CGROUP / "cpu/cpu.cfs_quota_us").read_text())
        period = int((CGROUP / "cpu/cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None


def memory_capacity() -> int:
    """Bytes that this process may use: the least of the cgroup's, the address-space limit and the host's memory."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((CGROUP / name).read_text()))
        except (OSError, ValueError):
            continue
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    return min(limit for limit in limits if 0 < limit < _UNLIMITED)
