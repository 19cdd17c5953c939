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
	$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	$(BIN)/python -m pip --version > $@

lock:            ## refresh the lock files (needs `uv` on the PATH)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.10 requirements/dev.in -o requirements/dev.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.10 requirements/requirements.in -c requirements/dev.txt -o requirements/requirements.txt
