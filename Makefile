# make demo     install into .venv if needed and take the first toy apart
# make test     unit tests            make lint     style, types, layers        make slow    the tests that train
# make verify   recovery of planted truth            make bench    speed         make clean   remove what was made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

# Small models are fastest on one thread, and idle threads that spin starve whatever else runs here.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install demo test slow lint verify bench clean

help:
	@sed -n 's/^# //p' Makefile | head -3

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("unbraid needs Python 3.11 or newer; try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Installing unbraid into $(VENV) (once; a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	@$(BIN)/unbraid decompose tms-5-2

test: $(STAMP)
	@$(BIN)/python -m pytest -m "not slow"

slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	@echo "== ruff check";    $(BIN)/ruff check .
	@echo "== ruff format";   $(BIN)/ruff format --check .
	@echo "== pyright";       $(BIN)/pyright --pythonpath $(BIN)/python
	@echo "== import-linter"; $(BIN)/lint-imports --no-cache

verify: $(STAMP)
	@$(BIN)/python -m benchmarks.recovery

bench: $(STAMP)
	@$(BIN)/python -m benchmarks.speed
	@$(BIN)/python -m benchmarks.language_step
	@$(BIN)/python -m benchmarks.path_engine

clean:
	@rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
