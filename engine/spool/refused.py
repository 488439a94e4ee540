"""Bodies that the database will never take, kept for whoever wants to know why."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FULL_BYTES = 16 << 20


class Refused:
    """Import lines in `refused.jsonl`; a full file becomes `refused.1.jsonl`, in place of the one before.

    Parameters
    ----------
    folder : None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(self, lines: bytes) -> bool:
        """Add a body; whether it was kept."""
        if self._folder is None or len(lines) > _FULL_BYTES:
            return False
        path = self._folder / "refused.jsonl"
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size + len(lines) > _FULL_BYTES:
                os.replace(path, self._folder / "refused.1.jsonl")
            with open(path, "ab") as file:
                return file.write(lines) == len(lines)
        return False
