# make check   before every commit: format, lint, types, unit and contract tests, the wheel
# make test    everything, with real guests; installs what it needs on Debian
# make test-long  what takes many minutes more, most of it in emulated guests: npm, cloud images, drift, a million streams
# make demo    a kiro-vm from nothing: create, install, log in, whoami
# make bench   what bench/ measures, side by side

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help check test test-long demo bench format clean
help:
	@sed -n 's/^# //p' Makefile

$(STAMP): pyproject.toml
	@./.ci/system-packages demo
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 -m 'not vm and not slow and not utm' tests/unit tests/contract tests/test_architecture.py
	$(BIN)/python -m pytest -q tests/integration/test_wheel.py

test: $(STAMP)
	@./.ci/system-packages test
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	@# Emulated guests crash now and then under QEMU 7.2, and a loaded machine starves real sshds: once more, and said.
	$(BIN)/python -m pytest -q -n 2 -m "not vm and not slow" --reruns 1
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "(vm or slow) and not long" --reruns 1

test-long: $(STAMP)
	@./.ci/system-packages test
	$(BIN)/python -m pytest -q -m long

demo: $(STAMP)
	@./.ci/system-packages demo
	$(BIN)/python -m tests.demo

bench: $(STAMP)
	@./.ci/system-packages test
	$(BIN)/python bench/cli.py
	$(BIN)/python bench/create.py
	$(BIN)/python -m bench.terminal
	$(BIN)/python -m bench.exec
	$(BIN)/python -m bench.copy
	$(BIN)/python -m bench.proxy
	$(BIN)/python -m bench.wall
	$(BIN)/python -m bench.images

format: $(STAMP)
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
