# make train | test | test-all | lint | types; PYTHON=python3.12 make test takes another interpreter, and another venv.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
INSTALLED := $(VENV)/.installed

.PHONY: train test test-all lint types
.DEFAULT_GOAL := train

train: $(INSTALLED)
	$(VENV)/bin/python -m experiments.train --config=configs/quickstart.py

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

$(INSTALLED): pyproject.toml constraints.txt scripts/venv.sh
	scripts/venv.sh $(PYTHON) $(VENV)
	touch $@
