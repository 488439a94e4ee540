"""Hypothesis profiles, and the rule that CI skips nothing for want of a service or data."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

# Kernels compile at their first call, so no example has a deadline, and the first one may be slow.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in every run: a change that breaks a property breaks the run it came with, not a later one.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, database=None, print_blob=True)
# For the slow ways to run a kernel: interpreted, and with checked bounds.
settings.register_profile("few", parent=settings.get_profile("ci"), max_examples=10)
settings.load_profile("ci" if IN_CI else "dev")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("small disks are mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip because the stack or the data is not named is a failure: nobody would notice it."""
    report = yield
    reason = str(report.longrepr)
    if IN_CI and report.skipped and ("ENGINE_TEST_STACK" in reason or "ENGINE_TEST_DATA" in reason):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not be skipped in CI: {reason}"
    return report
