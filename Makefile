# Everything a newcomer needs: `make demo` and `make test` set themselves up from the lock file.
# PYTHON is the interpreter that makes the virtual environment (>= 3.10).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint lock perf clean

help:            ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## virtual environment with the locked, hash-checked packages

$(STAMP): requirements/dev.txt requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements/dev.txt
	$(BIN)/python -m pip --version > $@

lock:            ## refresh the lock files (needs `uv` on the PATH)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.10 requirements/dev.in -o requirements/dev.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.10 requirements/requirements.in -c requirements/dev.txt -o requirements/requirements.txt

demo: setup      ## generate the embedded dataset, train, test, re-run eval, print a table and the report's path
	$(BIN)/python -m datasets_vg prepare synthetic_city
	$(BIN)/python benchmark.py benchmarks/demo.yaml
	$(BIN)/python eval.py --config benchmarks/demo_eval.yaml

test: setup      ## linters, types and the tests that need neither a GPU nor long
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not gpu" $(PYTEST_ARGS)

perf: setup      ## speed and memory beside reference implementations, as ratios
	$(BIN)/python -m perf

clean:           ## remove the environment, the generated dataset and the caches (not logs/)
	rm -rf $(VENV) datasets .mypy_cache .ruff_cache .pytest_cache
