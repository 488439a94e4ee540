# `make demo` and `make test` work on a fresh clone: they create .venv, install into it, and run. `make help` lists the rest.

.DEFAULT_GOAL := help
.PHONY: help venv demo run test check e2e chaos bench format lock wheel clean

# The first Python that is new enough; `make PYTHON=/path/to/python test` takes another.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
endif

BIN := .venv/bin
# -qq: pip says something only where it fails.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
CONFIG ?= deploy/vmanomaly_config.yml

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.run ## two weeks of made-up CPU metrics: finds five incidents, writes demo/report.html
	@$(BIN)/engine demo --once

run: .venv/.run ## the service; CONFIG=file.yml names another configuration
	@$(BIN)/engine $(CONFIG)

test: .venv/.dev ## the unit tests
	@$(BIN)/pytest -n auto --dist worksteal

check: .venv/.dev ## lint, format, types, architecture
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -q tests/test_architecture.py

e2e: .venv/.dev ## the tests against real services; needs ENGINE_TEST_STACK
	@$(BIN)/pytest -m e2e -n 2 --dist loadfile

chaos: .venv/.dev ## CHAOS_MINUTES=3 of faults at random against the real database; needs ENGINE_TEST_STACK, and root for small disks
	@$(BIN)/pytest -m chaos -s tests/chaos

bench: .venv/.dev ## speeds, first `engine bench`; with URL=http://127.0.0.1:8428 also of a whole tick against that VictoriaMetrics
	@$(BIN)/engine bench
	@$(BIN)/python -m benchmarks.decode
	@$(BIN)/python -m benchmarks.encode
	@$(BIN)/python -m benchmarks.zscore
	@if [ -n "$(URL)" ]; then $(BIN)/python -m benchmarks.tick --datasource-url "$(URL)"; fi

format: .venv/.dev ## format the code and fix what a linter can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: ## resolve requirements*.lock again
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check -qq install uv
	@$(UV_COMPILE) --extra local --extra ui -o requirements.lock
	@$(UV_COMPILE) --extra local --extra ui --extra custom -c requirements.lock -o requirements-image.lock
	@$(UV_COMPILE) --extra local --extra ui --extra custom --group build --group test --group lint -c requirements-image.lock -o requirements-dev.lock
	@rm -r .venv-lock

UV_COMPILE = .venv-lock/bin/uv pip compile -q --upgrade --generate-hashes --no-header --universal --python-version 3.11 pyproject.toml

wheel: .venv/.dev ## dist/engine-*.whl
	@$(PIP) wheel --no-deps --no-build-isolation -w dist .

venv: .venv/.dev ## .venv with everything for development

clean: ## remove .venv, build products and caches
	rm -rf .venv build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# What is needed to begin: one line each, with the command that brings it.
.venv/bin/python:
	@command -v python3 >/dev/null || { \
		echo "python3 is missing; get it with: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, this is $$(python3 -V);" \
		"get one with: sudo apt-get install -y python3.11 python3.11-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "the venv module is missing; get it with:" \
		"sudo apt-get install -y $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@echo "Creating .venv ..."
	@$(PYTHON) -m venv .venv

.venv/.run: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing what the engine needs ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps -e .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.run
	@echo "Installing what the tests need ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
