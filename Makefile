# Every target sets itself up: Python >= 3.11, pip and make are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Processes of the test suite, of one thread each: two threads of one process gain little.
WORKERS ?= 2
SPHINX_ARGS ?=
DATA ?= $(SKDEEPGMM_DATA)
ARGS ?=

# What tests the source tree and not the package.
SOURCE_TESTS := $(foreach name,architecture docstrings figures benchmarks guide release trust,--ignore tests/test_$(name).py)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-min smoke lint format bench papers doc dist clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 12

# Written last, and only if every line above it succeeded. The version is in __init__.py.
$(VENV)/.ready: pyproject.toml setup.cfg constraints.txt skdeepgmm/__init__.py
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[test,plot]'
	@touch $@

$(VENV)/.ready-doc: $(VENV)/.ready
	@rm -f $@
	$(PIP) install -c constraints.txt -e '.[doc]'
	@touch $@

demo: $(VENV)/.ready ## cluster, score and sample real images; writes demo_output/
	$(BIN)/python -m skdeepgmm.demo --out demo_output

test: $(VENV)/.ready ## run the test suite without the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(VENV)/.ready ## run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# The wheel in an environment of its own, tested outside the checkout. Tests of the source
# tree, and its warnings-as-errors, are for the versions of constraints.txt.
define WHEEL_ENVIRONMENT
	rm -rf $(1) && $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip --disable-pip-version-check --quiet wheel --no-deps -w $(1)/wheel .
	$(1)/bin/python -m pip --disable-pip-version-check --quiet install $(2) $(1)/wheel/*.whl
endef

test-min: ## the wheel with the lowest versions (constraints-min.txt): smoke test, suite
	$(call WHEEL_ENVIRONMENT,.venv-min,-c constraints-min.txt pytest pytest-xdist hypothesis 'pandas<2.2' 'matplotlib<3.10')
	cd $$(mktemp -d) && OMP_NUM_THREADS=1 $(CURDIR)/.venv-min/bin/python $(CURDIR)/tests/smoke.py
	cd $$(mktemp -d) && cp -r $(CURDIR)/tests $(CURDIR)/pyproject.toml . && \
	    OMP_NUM_THREADS=1 $(CURDIR)/.venv-min/bin/python -m pytest -m "not slow" -n $(WORKERS) \
	    -o filterwarnings=default -o testpaths=tests $(SOURCE_TESTS) $(PYTEST_ARGS)

smoke: ## the wheel with the newest versions: smoke test
	$(call WHEEL_ENVIRONMENT,.venv-newest,--upgrade)
	cd $$(mktemp -d) && OMP_NUM_THREADS=1 $(CURDIR)/.venv-newest/bin/python $(CURDIR)/tests/smoke.py

dist: ## wheel and sdist in dist/, checked
	rm -rf .venv-dist dist && $(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip --disable-pip-version-check --quiet install build twine
	.venv-dist/bin/python -m build
	.venv-dist/bin/python -m twine check --strict dist/*

lint: $(VENV)/.ready ## style, types, import contracts, docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/python -m pytest -q tests/test_docstrings.py

format: $(VENV)/.ready ## apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready ## time EM, scores and samples against scikit-learn here
	$(BIN)/python benchmarks/em_speed.py
	$(BIN)/python benchmarks/curves.py

papers: $(VENV)/.ready ## measure what the papers claim, where it is not yet; DATA=folder
	SKDEEPGMM_DATA=$(DATA) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/papers/reproduce.py $(ARGS)

doc: $(VENV)/.ready-doc ## build the documentation; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html $(SPHINX_ARGS) doc doc/_build/html

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .venv-min .venv-newest .venv-dist build dist *.egg-info demo_output doc/_build doc/auto_examples \
	    doc/api/generated doc/sg_execution_times.rst .cache .pytest_cache \
	    .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
