"""The one place for numba options, array types and the on-disk cache of compiled kernels.

Compiled kernels are kept in a folder named by the content of ``kernels/*.py``, the numba version and the
CPU: numba's own check does not notice a constant or function that changed in another file, and machine code
belongs to one CPU model. The first candidate that already holds the folder is used even if it cannot be
written (an image's read-only file system); otherwise the first that can be written.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import caching, event
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]
B1 = NDArray[np.bool_]

# Filled when the image is built, with ENGINE_KERNEL_CACHE set to it; only read afterwards.
_IMAGE = Path("/opt/engine/kernels")

_Fn = TypeVar("_Fn", bound=Callable[..., Any])

# NaN and infinity stay exact: the subset of fast-math that does not assume them away.
NAN_SAFE_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def _fingerprint() -> str:
    """Name of the cache folder: sources, numba version, CPU name and features."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{numba.__version__} {llvm.get_host_cpu_name()}".encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    return digest.hexdigest()[:24]


def _candidates() -> list[Path]:
    """Folders that may be made to hold compiled kernels, the preferred one first."""
    explicit = os.environ.get("ENGINE_KERNEL_CACHE")
    if explicit:
        return [Path(explicit)]
    found = []
    if "XDG_CACHE_HOME" in os.environ:
        found.append(Path(os.environ["XDG_CACHE_HOME"]) / "engine-kernels")
    if os.environ.get("HOME"):
        found.append(Path(os.environ["HOME"]) / ".cache" / "engine-kernels")
    return [*found, Path(tempfile.gettempdir()) / f"engine-kernels-{os.getuid()}"]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return _trusted(folder)
    except OSError:
        return False


def _trusted(folder: Path) -> bool:
    """Machine code is loaded from here: neither the folder nor the one that holds it may be another user's.

    One that ENGINE_KERNEL_CACHE names may be: mounted volumes often are.
    """
    explicit = os.environ.get("ENGINE_KERNEL_CACHE")
    is_named = explicit is not None and folder.parent == Path(explicit)
    try:
        owners = [f.stat().st_uid for f in ((folder,) if is_named else (folder, folder.parent))]
        return folder.is_dir() and all(owner in (0, os.getuid()) for owner in owners)
    except OSError:
        return False


def _choose() -> Path | None:
    """The cache folder of this process; None where nothing can be read or written."""
    name = _fingerprint()
    folders = [base / name for base in _candidates()]
    ready = [f for f in (_IMAGE / name, *folders) if _trusted(f)]
    return next((f for f in (*ready, *folders) if f in ready or _writable(f)), None)


CACHE_FOLDER = _choose()


class _Locator:
    """numba cache locator for kernels: one flat folder, stamped by its own name."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._line = py_func.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator | None:
        inside = Path(py_file).parent == Path(__file__).parent
        return cls(py_func, py_file) if inside and CACHE_FOLDER is not None else None

    def ensure_cache_path(self) -> None:
        """The folder exists: `_choose` made or found it."""

    def get_cache_path(self) -> str:
        return str(CACHE_FOLDER)

    def get_source_stamp(self) -> str:
        assert CACHE_FOLDER is not None
        return CACHE_FOLDER.name

    def get_disambiguator(self) -> str:
        return str(self._line)


caching.CacheImpl._locator_classes.insert(0, _Locator)


def _is_optional(access: Callable[..., Any]) -> Callable[..., Any]:
    """A cache that cannot be read (torn by a power cut) or written (full disk) costs a compilation, never a failure."""

    def wrapped(self: Any, *args: Any) -> Any:
        try:
            return access(self, *args)
        except Exception:  # noqa: BLE001 - a torn file can raise anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    return wrapped


caching.FunctionCache.load_overload = _is_optional(caching.FunctionCache.load_overload)
caching.FunctionCache.save_overload = _is_optional(caching.FunctionCache.save_overload)


class _FewCollections(event.Listener):  # type: ignore[misc]  # numba has no types
    """Lets garbage collections be rare while a kernel is compiled: they took a tenth of the time.

    numba compiles one kernel at a time; those that it calls are compiled within.
    """

    _before: tuple[int, int, int] = (0, 0, 0)
    _depth = 0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._before = gc.get_threshold()
            gc.set_threshold(20_000, *self._before[1:])
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            gc.set_threshold(*self._before)


event.register("numba:compile", _FewCollections())


def _compiled(function: _Fn, *, inner: bool = False, **options: Any) -> _Fn:
    """The function as numba compiles it at its first call.

    Parameters
    ----------
    inner : only ever called by other kernels, whose cache entries hold it.
    """
    cache = CACHE_FOLDER is not None and not inner
    # No C callback is ever taken of a kernel: making one for each is a twentieth of the time that compiling takes.
    jitted: Any = numba.njit(nogil=True, error_model="numpy", cache=cache, no_cfunc_wrapper=True, **options)(function)
    if not numba.config.DISABLE_JIT:
        jitted.get_call_template = _without_values(jitted.get_call_template)
    kept: _Fn = jitted
    return kept


def _without_values(template: Callable[..., Any]) -> Callable[..., Any]:
    """Kernels that call another one with constants share one version of it.

    numba compiles one for each constant otherwise, also for those that a loop's counter begins with: a tenth of the
    time. LLVM sees constants where it counts, in what it compiles into its caller.
    """

    def wrapped(args: Any, kws: Any) -> Any:
        return template(
            tuple(map(numba.types.unliteral, args)), {name: numba.types.unliteral(kind) for name, kind in kws.items()}
        )

    return wrapped


def kernel(function: _Fn) -> _Fn:
    """Compile a serial kernel that releases the GIL; exact float order, so results do not depend on the machine."""
    return _compiled(function)


def fast_kernel(function: _Fn) -> _Fn:
    """As `kernel`, free to reorder sums but not to assume NaN or infinity away: needs a benchmark and a NaN test."""
    return _compiled(function, fastmath=NAN_SAFE_FASTMATH)


def lean_kernel(function: _Fn) -> _Fn:
    """As `kernel`, without reference counts: for a kernel that allocates nothing and calls lean functions only.

    Where numba cannot prove them superfluous, counting the arrays that small functions are given costs more
    than the functions: reading numbers from text took four times as long.
    """
    return _compiled(function, _nrt=False)


def lean_inline(function: _Fn) -> _Fn:
    """Compile a small function that allocates nothing into the `lean_kernel`s that call it."""
    return _compiled(function, inner=True, forceinline=True, _nrt=False)


def inline(function: _Fn) -> _Fn:
    """Compile a small function into the kernels that call it."""
    return _compiled(function, inner=True, inline="always")


def lean_fast_kernel(function: _Fn) -> _Fn:
    """As `lean_kernel`, free to reorder sums as `fast_kernel` is."""
    return _compiled(function, fastmath=NAN_SAFE_FASTMATH, _nrt=False)


def lean_fast_inline(function: _Fn) -> _Fn:
    """As `lean_inline`, free to reorder sums as `fast_kernel` is."""
    return _compiled(function, inner=True, fastmath=NAN_SAFE_FASTMATH, forceinline=True, _nrt=False)
