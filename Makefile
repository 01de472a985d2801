# Needs Python 3.11 to 3.13 and make, nothing else: everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
CORE := $(VENV)/.core
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
BENCH_FLAGS ?=
COMPILE_VENV := .venv-compile
COMPILE_INSTALLED := $(COMPILE_VENV)/.installed
PIP_INSTALL := -m pip --disable-pip-version-check --no-input install --quiet
LOCK_FLAGS ?=
# The lock names every package, so nothing is resolved; Python compiles a module when it is first imported.
WHOLE_LOCK := --no-deps --no-compile
# tests/conftest.py says which tests stay together and which begin.
PARALLEL ?= --numprocesses auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder --durations 15

define supported-python
@command -v $(PYTHON) >/dev/null \
  || { echo "PYTHON=$(PYTHON) is not a command: covlab needs Python 3.11, 3.12 or 3.13" >&2; exit 1; }
@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
  "PYTHON=$(PYTHON) is Python %d.%d: covlab needs 3.11, 3.12 or 3.13 (make PYTHON=python3.12 ...)" % v)'
endef

.DEFAULT_GOAL := help
.PHONY: help env reproduce test test-all tests-marked tests-near-jax check site bench bench-compile lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

env: $(INSTALLED)  ## create or update .venv from requirements.lock

reproduce: $(CORE)  ## Figure 1 at CPU scale, then the ledger of all claims
	$(PY) -m experiments.figure1 scale=cpu
	$(PY) -m experiments.ledger

# What `make test` leaves out; CI runs make test LEFT_OUT=slow.
LEFT_OUT ?= slow or long

# Type checks keep one core busy, and so do the last tests: together they take less time than in turn.
test: $(INSTALLED)  ## checks and, at the same time, every test not marked slow or long
	@$(MAKE) --no-print-directory --jobs=2 check tests-marked

tests-marked: $(INSTALLED)
	$(PY) -m pytest -m "not ($(LEFT_OUT))" $(PARALLEL)

# What leans most on the inside of JAX: options of its compiler, kept programs, the hash, whole runs.
NEAR_JAX := tests/tasks/test_hashing.py tests/training/test_kept.py tests/training/test_trainer.py \
  tests/models/test_contract.py tests/covlab/launch/test_overlap.py tests/covlab/api

tests-near-jax: $(INSTALLED)  ## tests nearest to JAX, on another Python: make tests-near-jax PYTHON=python3.13 VENV=.venv-newest
	$(PY) -m pytest -m "not slow" $(PARALLEL) $(NEAR_JAX)

test-all: check  ## checks, then every test, then bench-compile
	$(PY) -m pytest $(PARALLEL)
	@$(MAKE) --no-print-directory bench-compile

check: $(INSTALLED)  ## lint, format, types, import direction, the documentation's links
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) docs/build_site.py

site: $(INSTALLED)  ## build the documentation into build/site; a broken link or reference is an error
	$(PY) docs/build_site.py

# An environment of its own: PyTorch and Flax are not needed for anything else.
bench: $(BENCH_INSTALLED)  ## run all benchmarks (BENCH_FLAGS="--cores 2"); records in results/benchmarks
	$(BENCH_VENV)/bin/python -m benchmarks --out results/benchmarks $(BENCH_FLAGS)

# An environment of its own: the compilers take gigabytes. Nothing here needs a TPU or a GPU.
bench-compile:  ## cycles and memory on TPU and GPU, by their compilers, against results/benchmarks/compiled.json
	@if $(MAKE) --no-print-directory $(COMPILE_INSTALLED); \
	  then $(COMPILE_VENV)/bin/python -m benchmarks.compiled --check results/benchmarks/compiled.json $(BENCH_FLAGS) \
	    && $(COMPILE_VENV)/bin/python -m pytest tests/covlab/plan/test_meshes.py; \
	  else echo "bench-compile: skipped, the compilers of benchmarks/requirements-compiled.txt cannot be installed"; fi

# Pins that still fit are kept; LOCK_FLAGS=--upgrade moves them all.
lock:  ## resolve requirements.lock again (LOCK_FLAGS=--upgrade for newer versions)
	$(supported-python)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(PYTHON) -m venv "$$dir" \
	  && "$$dir/bin/python" $(PIP_INSTALL) uv \
	  && "$$dir/bin/uv" pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 \
	       pyproject.toml --extra dev -o requirements.lock $(LOCK_FLAGS) \
	  && if grep -nE '://|file:|@' requirements.lock; then echo "requirements.lock names an address" >&2; exit 1; fi

clean:  ## remove caches and build output; environments and runs stay
	rm -rf build dist .cache .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find $(wildcard tasks models decoding metrics training tracking theory covlab experiments conf benchmarks tests) \
	  -type d -name __pycache__ -prune -exec rm -rf {} +

# The last file that venv writes: an interrupted creation starts over.
$(VENV)/bin/activate:
	$(supported-python)
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.lock pyproject.toml | $(VENV)/bin/activate
	@echo "installing requirements.lock into $(VENV) (about a minute)"
	@$(PY) $(PIP_INSTALL) $(WHOLE_LOCK) -r requirements.lock
	@$(PY) $(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch $(CORE) $@

# What covlab runs with, without tests, linters and the site: make reproduce needs no more.
$(CORE): requirements.lock pyproject.toml | $(VENV)/bin/activate
	@echo "installing covlab and what it needs into $(VENV) (half a minute)"
	@$(PY) $(PIP_INSTALL) --no-compile --constraint requirements.lock hatchling editables
	@$(PY) $(PIP_INSTALL) --no-compile --no-build-isolation --constraint requirements.lock --editable .
	@touch $@

$(COMPILE_VENV)/bin/activate:
	$(supported-python)
	@$(PYTHON) -m venv $(COMPILE_VENV)

$(COMPILE_INSTALLED): requirements.lock benchmarks/requirements-compiled.txt pyproject.toml | $(COMPILE_VENV)/bin/activate
	@echo "installing requirements.lock and benchmarks/requirements-compiled.txt into $(COMPILE_VENV) (a few minutes)"
	@$(COMPILE_VENV)/bin/python $(PIP_INSTALL) -r requirements.lock -r benchmarks/requirements-compiled.txt
	@$(COMPILE_VENV)/bin/python $(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

$(BENCH_VENV)/bin/activate:
	$(supported-python)
	@$(PYTHON) -m venv $(BENCH_VENV)

$(BENCH_INSTALLED): requirements.lock benchmarks/requirements.txt pyproject.toml | $(BENCH_VENV)/bin/activate
	@echo "installing requirements.lock and benchmarks/requirements.txt into $(BENCH_VENV) (a few minutes)"
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) -r requirements.lock -r benchmarks/requirements.txt
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@
