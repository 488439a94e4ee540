"""The tree is the architecture: layers, no circles, files that can be read in one sitting."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "kernels")
MAX_LINES = 350
SOURCES = sorted(p for top in (*PACKAGES, "benchmarks", "tests", ".ci") for p in (ROOT / top).rglob("*.py"))


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules}).prepare()


def test_no_module_takes_a_private_name_of_another() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = [
        f"{importer}: {detail['line_contents']}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        for detail in graph.get_import_details(importer=importer, imported=imported)
    ]
    assert imports
    names = ((line, line.partition(" import ")[2].replace("(", "").split(",")) for line in imports)
    private = [line for line, found in names if any(name.strip().startswith("_") for name in found)]
    # `__version__` and the like are public; `_jit` is the kernels' own module and imported as one.
    assert [line for line in private if "import __" not in line and "kernels import _jit" not in line] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_LINES
