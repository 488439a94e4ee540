"""What the README tells to do works: its configuration, its commands, and `make` on a machine that lacks something."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from engine.config.schema import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ENGINE = Path(sys.executable).with_name("engine")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")

# Where each command of the README is run: a test, or a script that CI is.
RUN_BY = {
    "make demo": "tests/test_readme.py::test_make_demo_finds_the_incidents",
    ".venv/bin/engine demo": "tests/engine/test_demo.py::test_the_site_shows_the_report_beside_the_services_own_pages",
    ".venv/bin/engine models": "tests/test_readme.py::test_files_are_scored_as_shown",
    ".venv/bin/engine describe docs/examples/requests.csv.gz": "tests/test_readme.py::test_files_are_scored_as_shown",
    ".venv/bin/engine score docs/examples/requests.csv.gz --model temporal_envelope --labels label": (
        "tests/test_readme.py::test_files_are_scored_as_shown"
    ),
    "docker build -t engine .": "tests/e2e/test_container.py::test_the_image_holds_the_service_and_no_tests",
    "docker compose -f deploy/docker-compose.yml up -d": (
        "tests/test_deploy.py::test_the_stack_is_the_guides_with_an_alertmanager"
    ),
    ".venv/bin/engine config.yml --dryRun": "tests/test_readme.py::test_the_example_is_shown_as_it_would_run",
    ".venv/bin/engine config.yml": "tests/e2e/test_guide.py::test_fresh_stack_is_scored_within_three_intervals",
    "make test": ".ci/run::make test",
    "make check": ".ci/run::make check",
}


def blocks(language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_command_is_run_somewhere() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line and not line.startswith("#")]
    assert set(commands) == set(RUN_BY)
    for command, place in RUN_BY.items():
        path, name = place.split("::")
        text = (ROOT / path).read_text()
        assert re.search(rf"^(def )?{re.escape(name)}\b", text, re.MULTILINE), f"{command}: {place}"


def test_the_example_loads_strictly(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(next(b for b in blocks("yaml") if "schedulers:" in b))
    config = load_config([tmp_path / "config.yml"], {}, strict=True)
    assert not config.unavailable
    assert not config.warnings


def test_the_example_is_shown_as_it_would_run(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(next(b for b in blocks("yaml") if "schedulers:" in b))
    command = [str(ENGINE), "config.yml", "--dryRun"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "What will run" in done.stdout
    assert "prophet" in done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models", "temporal_envelope"),
        ("describe", "temporal_envelope for 1"),
        ("score", "average precision, mean over series"),
    ],
)
def test_files_are_scored_as_shown(name: str, expected: str) -> None:
    (line,) = [c for c in RUN_BY if c.startswith(f".venv/bin/engine {name}")]
    command = [str(ENGINE), *line.split()[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert done.stderr == ""


def test_the_rule_is_the_one_that_is_deployed() -> None:
    (rule,) = yaml.safe_load(next(b for b in blocks("yaml") if "alert:" in b))
    deployed = yaml.safe_load((ROOT / "deploy/vmalert_config.yml").read_text())["groups"][0]["rules"][0]
    assert rule["alert"] == deployed["alert"]
    assert rule["expr"].split() == ["anomaly_score", ">", "1"] == deployed["expr"].replace("1.0", "1").split()


def test_links_lead_to_files() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


@pytest.mark.e2e
@needs_make
def test_make_demo_finds_the_incidents(tmp_path: Path) -> None:
    """With what is installed already: that `make` installs it is shown by the run that this test is part of."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    command = ["make", "-o", ".venv/.run", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 incidents found" in done.stdout
    assert (tmp_path / "demo/report.html").stat().st_size > 1_000_000


def make_venv(folder: Path, python: str) -> str:
    """What `make venv` says where `python3` is this script, or missing; it must fail."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("sh", "touch", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if python:
        (programs / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (programs / "python3").chmod(0o755)
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    make = str(shutil.which("make"))
    done = subprocess.run([make, "venv"], cwd=folder, env={"PATH": str(programs)}, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode != 0
    assert not (folder / ".venv").exists()
    assert done.stdout == ""
    # The last line is make's own.
    (line,) = (text for text in done.stderr.splitlines() if not text.startswith("make"))
    return line


@needs_make
def test_without_python_make_says_how_to_get_it(tmp_path: Path) -> None:
    assert "sudo apt-get install -y python3 python3-venv" in make_venv(tmp_path, "")


@needs_make
def test_with_an_old_python_make_says_how_to_get_a_newer_one(tmp_path: Path) -> None:
    line = make_venv(tmp_path, 'case "$1" in -V) echo Python 3.10.12;; *) exit 1;; esac')
    assert "Python 3.11 or newer is needed, this is Python 3.10.12" in line
    assert "sudo apt-get install -y python3.11 python3.11-venv" in line


@needs_make
def test_without_the_venv_module_make_says_how_to_get_it(tmp_path: Path) -> None:
    line = make_venv(tmp_path, f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac')
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"sudo apt-get install -y python{version}-venv" in line
