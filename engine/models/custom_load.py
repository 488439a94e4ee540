"""Loading the file of a custom model, which imports its base from `model.model` as in vmanomaly's image."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import ModelError
from engine.models import custom_base

# Where vmanomaly's documentation mounts the file; its releases differ.
DEFAULT_FILES = (Path("/vmanomaly/src/model/custom.py"), Path("/vmanomaly/model/custom.py"))
_CLASS = "CustomModel"

_lock = threading.Lock()
_loaded: dict[Path, type[Any]] = {}


def find_file(configured: str) -> Path | None:
    """The file with the class: the configured one, else the first that exists of the places in vmanomaly's image."""
    files = (Path(configured),) if configured else DEFAULT_FILES
    return next((file for file in files if os.path.isfile(file)), None)


def load_class(file: Path) -> type[Any]:
    """`CustomModel` of a file; a file is run once in the life of a process.

    The package `model` exists from then on and not before: nobody else's is hidden without need. It stays, as
    pickled state names classes by their modules: `model.custom` for a file of that name, else the file's name there.
    Files beside the class are its modules, too, as in vmanomaly's image.

    Raises
    ------
    ModelError : with file, line and what is wrong there; or another file of that name was loaded before.
    """
    with _lock:
        file = file.resolve()
        if file not in _loaded:
            if other := next((known for known in _loaded if known.stem == file.stem), None):
                raise ModelError(f"{file}: {other} is in use, expected files of custom models to differ in name")
            _loaded[file] = _run(file)
        return _loaded[file]


def where(error: BaseException, file: Path | str) -> str:
    """What went wrong and where: the last line of `file` on the way to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    text = str(error) or "no reason given"
    kind = "" if isinstance(error, ImportError | ModelError) else f"{type(error).__name__}: "
    return f"{file}{f':{lines[-1]}' if lines else ''}: {kind}{text}"


def _run(file: Path) -> type[Any]:
    if importlib.util.find_spec("pandas") is None:
        raise ModelError(f"{file}: custom models need pandas; install it with: pip install 'engine[custom]'")
    name = "model.custom" if file.stem == "model" else f"model.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"{file}: expected a Python file, named *.py")
    before = {known: sys.modules.get(known) for known in ("model", "model.model", name)}
    if not _loaded:
        sys.modules["model"], sys.modules["model.model"] = _package()
    sys.modules["model"].__path__.append(str(file.parent))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as err:
            raise ModelError(where(err, file)) from err
        return _class_of(module, file)
    except ModelError:
        for known, its in before.items():
            sys.modules.pop(known)
            if its is not None:
                sys.modules[known] = its
        raise


def _package() -> tuple[ModuleType, ModuleType]:
    """`model` and `model.model`."""
    package, base = ModuleType("model"), ModuleType("model.model")
    package.__path__ = []
    package.model = base  # type: ignore[attr-defined]  # as an import does
    for name in custom_base.__all__:
        setattr(base, name, getattr(custom_base, name))
    return package, base


def _class_of(module: ModuleType, file: Path) -> type[Any]:
    found = getattr(module, _CLASS, None)
    if found is None:
        raise ModelError(f"{file}: has no class {_CLASS}")
    if not isinstance(found, type) or not issubclass(found, custom_base.Model):
        raise ModelError(f"{file}: {_CLASS}, expected a class derived from Model of model.model")
    return found
