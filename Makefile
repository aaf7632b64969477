# Each command sets up what it needs, once. PYTHON=python3.12 make test takes another interpreter,
# and another venv.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
INSTALLED := $(VENV)/.installed
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist worksteal
LIBRARY_TESTS := loganneal_jax docs/schedules.md tests/loganneal_jax

.PHONY: train test test-all test-library lint types

train: $(INSTALLED)
	$(VENV)/bin/python -m experiments.train --config=configs/quickstart.py

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)
	$(PYTEST)

test-library: $(INSTALLED)
	$(PYTEST) $(LIBRARY_TESTS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/shellcheck scripts/*.sh scripts/*.sbatch .ci/run

types: $(INSTALLED)
	$(VENV)/bin/mypy

$(INSTALLED): pyproject.toml constraints.txt
	scripts/venv.sh $(PYTHON) $(VENV)
