# Each command sets up what it needs, once, with the newest supported Python that it finds. Set
# PYTHON=python3.11 to use another one, which gets an environment of its own.
PYTHON ?=
VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
INSTALLED := $(VENV)/.installed
PYTEST_FLAGS ?=
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_FLAGS)
LIBRARY_TESTS := loganneal_jax docs/schedules.md docs/peers.md tests/loganneal_jax

.PHONY: train test test-all test-library test-newest test-oldest constraints lint types schedules
.PHONY: dist first-hour docs results

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
	$(VENV)/bin/codespell
	$(VENV)/bin/python scripts/prose.py

types: $(INSTALLED)
	$(VENV)/bin/mypy

# The wheel and the source distribution, in dist/.
dist: $(INSTALLED)
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/python -m twine check --strict dist/*

# A new user's first hour with the wheel, in an environment outside this folder.
first-hour: $(INSTALLED)
	scripts/first_hour.sh $(VENV)

# The site, in build/docs/html. Broken links, and whatever else Sphinx warns of, are errors.
docs: $(INSTALLED)
	$(VENV)/bin/python -m sphinx --builder html --fail-on-warning --keep-going \
		--doctree-dir build/docs/doctrees docs build/docs/html

$(INSTALLED): pyproject.toml constraints.txt
	scripts/venv.sh $(VENV) "$(PYTHON)" constraints.txt

# Writes the tables and thumbnails that list every schedule, after one was added.
schedules: $(INSTALLED)
	$(VENV)/bin/python -m docs.schedules.tables

# Rebuilds the reports and tables of docs/results, and names the files that changed.
results: $(INSTALLED)
	$(VENV)/bin/python -m docs.results.rebuild

# The newest release of every dependency, without constraints.txt: finds what a new release breaks.
test-newest:
	scripts/venv.sh .venv-newest "$(PYTHON)"
	.venv-newest/bin/pip freeze --exclude-editable
	.venv-newest/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

# The library on the lowest versions that pyproject.toml declares.
WITHOUT_KERAS := --ignore=loganneal_jax/keras_schedule.py \
	--deselect=loganneal_jax/bridges.py::loganneal_jax.bridges.to_keras
OLDEST := jax==0.5.3 jaxlib==0.5.3 optax==0.2.4 numpy==1.26.4
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_FLAGS) $(WITHOUT_KERAS) $(LIBRARY_TESTS)

.venv-oldest/.installed: pyproject.toml
	$$(scripts/python.sh python3.11) -m venv --clear .venv-oldest
	.venv-oldest/bin/pip install --quiet --editable . $(OLDEST) chex pytest pytest-xdist pytest-timeout hypothesis
	touch $@

# Renews constraints.txt from the newest releases, for every supported Python.
constraints:
	python3 scripts/constraints.py > constraints.new
	mv constraints.new constraints.txt
