# make demo: set up, train on the built-in data, print the result beside PCA
# make test: set up, pass every check
# make test-newest, test-oldest: the stages with the newest packages on Python 3.13 or 3.12, and with the oldest allowed ones
# make bench: every benchmark, on an idle machine (about an hour; BENCH=--small: minutes); make bench-check: no ratio is lost
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | head -1)
# the small CPU build of torch in CI and where there is no GPU; users with one get CUDA
CONSTRAINTS := $(if $(or $(CI),$(if $(GPU),,yes)),-c constraints.txt)
TRAIN_ARGS ?=
BENCH ?=
# the newest Python that is found; where the default one is older, pip takes older packages
NEWEST_PYTHON ?= $(shell for python in python3.13 $$HOME/.pyenv/versions/3.13.*/bin/python python3.12 $$HOME/.pyenv/versions/3.12.*/bin/python; \
  do "$$python" -c '' 2>/dev/null && echo "$$python" && break; done)
STAGES = $(addprefix tests/stages/test_, training.py encode.py evaluate_input.py analyze.py generate.py pseudobulk_stage.py) \
  tests/inference tests/data/single_cell tests/data/readers/test_read.py tests/data/readers/test_backed.py tests/analysis/metrics

.PHONY: demo test test-newest test-oldest lint bench bench-check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m gtex_vae.train data=demo $(TRAIN_ARGS)

test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

test-newest: .venv-newest/.installed
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2 --dist loadgroup -m 'not slow' $(STAGES) $(PYTEST_ARGS)

test-oldest: .venv-oldest/.installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist loadgroup -m 'not slow' $(STAGES) $(PYTEST_ARGS)

.venv-newest/.installed: pyproject.toml
	@test -n "$(NEWEST_PYTHON)" || { echo "no Python 3.13 or 3.12 found: install one, or give NEWEST_PYTHON="; exit 1; }
	$(NEWEST_PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv-oldest/.installed: pyproject.toml constraints.txt constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -c constraints-oldest.txt -e '.[dev]'
	touch $@

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
	rm -rf $(VENV) .venv-newest .venv-oldest .pytest_cache .ruff_cache .mypy_cache
