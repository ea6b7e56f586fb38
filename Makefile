# make demo: set up, train on the built-in data, print the result beside PCA
# make test: set up, pass every check
# make bench: every benchmark, on an idle machine (about an hour; BENCH=--small: minutes); make bench-check: no ratio is lost
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | head -1)
# the small CPU build of torch in CI and where there is no GPU; users with one get CUDA
CONSTRAINTS := $(if $(or $(CI),$(if $(GPU),,yes)),-c constraints.txt)
TRAIN_ARGS ?=
BENCH ?=

.PHONY: demo test lint bench bench-check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m gtex_vae.train data=demo $(TRAIN_ARGS)

test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python benchmarks/run.py $(BENCH)

bench-check: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py --check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gtex-vae needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
