# Every verb makes what it needs: a virtual environment with the pinned set, once, and again when the pins change.
# Only a `python3` (or `python`) is needed on PATH.

PYTHON ?= $(shell command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=
# Flower excludes pinned versions of protobuf, FastAPI and others: its tests have an environment, with these pins alone.
FLOWER := .venvs/flower
FLOWER_PINS := flwr|hypothesis|llvmlite|numba|numpy|pytest|pytest-xdist|scikit-learn|scipy

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-trainers test-lowest test-newest test-flower lint type gen docs site bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with every framework and tool, pinned by constraints.txt

# The frameworks, which is all that the demo needs. pip first: dependency groups need a newer one than Python brings.
$(BASE): pyproject.toml constraints.txt
	@echo "Making $(VENV): several GB of frameworks the first time, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) --editable ".[all,demo]"
	@touch $(BASE)

$(READY): $(BASE)
	$(PIP) --editable ".[all,demo,bench]" --group test --group peers --group lint --group docs
	@touch $(READY)

demo: $(BASE) ## train real models in five frameworks with the same optimizer; prints a table, saves a figure
	$(BIN)/scirs2 demo $(ARGS)

test: $(READY) ## run the test suite, with some optimizers of different kinds, others each week (ARGS="-k lion" to choose)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --sample tests $(ARGS)

test-all: $(READY) ## run every test with every optimizer
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests $(ARGS)

test-trainers: $(READY) ## add TRL, PEFT and sentence-transformers (230 MB) and run the tests that need them
	$(PIP) --group trainers
	$(BIN)/python -m pytest -n 2 tests/adapters/test_hf_trainers.py $(ARGS)

test-lowest: ## run the core checks with the oldest versions that are supported, each adapter apart (ARGS="jax tf" to choose)
	$(PYTHON) tests/versions.py lowest $(ARGS)

test-newest: ## run the core checks with the newest versions there are, each adapter apart (ARGS="jax tf" to choose)
	$(PYTHON) tests/versions.py newest $(ARGS)

test-flower: $(FLOWER)/.ready ## run the tests of the Flower strategy, in an environment of their own
	$(FLOWER)/bin/python -m pytest -n 2 --sample --adapters "" tests/adapters/test_flower*.py $(ARGS)

$(FLOWER)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(FLOWER)
	grep -E '^($(FLOWER_PINS))==' constraints.txt > $(FLOWER)/constraints.txt
	$(FLOWER)/bin/python -m pip install --quiet --disable-pip-version-check -c $(FLOWER)/constraints.txt \
		--editable ".[flower,sklearn]" pytest pytest-xdist hypothesis
	@touch $@

lint: $(READY) ## check style and formatting, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY) ## check types, strictly in the core
	$(BIN)/python -m mypy

gen: $(READY) ## write the generated stubs and tables anew
	$(BIN)/python docs/generate.py $(ARGS)

docs: gen ## generate, then run every example and code block
	$(BIN)/python -m pytest tests/boundaries/test_docs.py

site: $(READY) ## build the documentation site in the folder site
	$(PIP) --group site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet $(ARGS)

bench: $(READY) ## measure steps against each framework's own optimizer, as ratios
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the environment and everything built
	rm -rf $(VENV) .venvs build dist site *.egg-info demo-output report-output .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
