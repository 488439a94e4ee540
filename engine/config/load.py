"""Files and folders to one map: read, fill in %{ENV}, spell as today, merge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config.document import DocumentError, parse_document
from engine.config.legacy import Raw, respell
from engine.config.report import Report

_MAX_BYTES = 16 << 20
_SUFFIXES = (".yaml", ".yml")


def read_files(paths: Sequence[Path], environ: Mapping[str, str], report: Report) -> Raw:
    """All files merged in the order given, those of a folder by name."""
    merged: Raw = {}
    for path in list_files(paths, report):
        merged = merge(merged, respell(_read(path, environ, report), report))
    return merged


def list_files(paths: Sequence[Path], report: Report) -> list[Path]:
    """The files that arguments mean; a folder means the .yaml and .yml files directly inside."""
    files: list[Path] = []
    for path in paths:
        try:
            if not path.is_dir():
                path.stat()
                files.append(path)
                continue
            found = sorted(f for f in path.iterdir() if f.suffix in _SUFFIXES and f.is_file())
        except (OSError, ValueError) as err:
            reason = "no such file or folder" if isinstance(err, FileNotFoundError | ValueError) else err.strerror
            report.problem(str(path), str(reason))
            continue
        if not found:
            report.problem(str(path), "a folder without .yaml files")
        files += found
    return files


def _read(path: Path, environ: Mapping[str, str], report: Report) -> Raw:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            report.problem(str(path), f"larger than {_MAX_BYTES >> 20} MiB")
            return {}
        document, repeated = parse_document(content.decode("utf-8-sig"), environ)
    except OSError as err:
        report.problem(str(path), f"cannot be read: {err.strerror}")
        return {}
    except UnicodeDecodeError:
        report.problem(str(path), "not UTF-8 text")
        return {}
    except DocumentError as err:
        report.problem(str(path), str(err))
        return {}
    for text in repeated:
        report.warn(str(path), f"{text}; the last one counts")
    if document is None:
        report.warn(str(path), "empty")
        return {}
    if not isinstance(document, dict):
        report.problem(str(path), "expected a map of sections (reader, writer, models, schedulers, …)")
        return {}
    return document


def digest(files: Iterable[Path]) -> bytes:
    """What files hold, as a short text; that one cannot be read is part of it."""
    found = hashlib.blake2b(digest_size=16)
    for path in files:
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as err:
            content = repr(err.errno).encode()
        found.update(f"{path}\0{len(content)}\0".encode())
        found.update(content)
    return found.digest()


def merge(base: Any, over: Any) -> Any:
    """Maps merge key by key, anything else is replaced by the later value."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
