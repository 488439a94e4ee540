"""The cache of compiled kernels: a torn file costs a compilation, a folder of somebody else is not used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import _jit

# One kernel, its result, and whether it came from the cache.
ADD = """
import numpy as np
from kernels.ewm import ewm_update
state = np.zeros((4, 1))
ewm_update(np.ones((1, 5)), 1.0, *state, np.zeros(1, dtype=np.int64))
print(state[0, 0], sum(ewm_update.stats.cache_hits.values()))
"""

compiled = pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="nothing is compiled")


def add(folder: Path) -> str:
    environ = {**os.environ, "ENGINE_KERNEL_CACHE": str(folder)}
    done = subprocess.run([sys.executable, "-c", ADD], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@compiled
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_torn_file_is_replaced(tmp_path: Path, suffix: str) -> None:
    assert add(tmp_path) == "5.0 0"
    for path in tmp_path.rglob(f"*.{suffix}"):
        path.write_bytes(b"")
    assert add(tmp_path) == "5.0 0"
    assert add(tmp_path) == "5.0 1"


@compiled
def test_constants_in_calls_make_no_further_versions() -> None:
    @_jit.kernel
    def add(x: float, n: int, is_twice: bool) -> float:
        return x + n * (1 + is_twice)

    @_jit.kernel
    def both(x: float) -> float:
        n = 0
        for _ in range(3):
            n = n + 1
            x = add(x, n, True)
        return add(x, 5, False) + add(x, 6, x > 0.0)

    x = 1.0 + 2.0 * (1 + 2 + 3)
    assert both(1.0) == (x + 5.0) + (x + 12.0)
    assert len(add.overloads) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_somebody_else_holds_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE_KERNEL_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr(_jit.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(_jit, "_IMAGE", tmp_path / "none")
    chosen = _jit._choose()
    assert chosen is not None
    assert chosen.parent == tmp_path / "mine" / "engine-kernels"
    os.chown(chosen.parent, 12345, 12345)
    fallback = _jit._choose()
    assert fallback is not None
    assert fallback.parent == tmp_path / f"engine-kernels-{os.getuid()}"
    os.chown(fallback.parent, 12345, 12345)
    assert _jit._choose() is None
