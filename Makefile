# `make demo` and `make test` set up all they need; python3 must be 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?=
PORT ?=

.PHONY: demo test lint bench format clean

$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("ai-sidecar needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

# litellm is large, and pins what others want newer: it has an environment of its own
.venv-litellm/.done: pyproject.toml
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-litellm/bin/python -m pip install --quiet --group litellm || echo 'litellm cannot be installed: its test is skipped'
	touch $@

demo: $(VENV)/.run
	$(BIN)/ai-sidecar demo $(if $(PORT),--port $(PORT)) $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.dev .venv-litellm/.done
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/read.py
	$(BIN)/python tests/bench/serve.py
	$(BIN)/python tests/bench/backfill.py

clean:
	rm -rf $(VENV) .venv-litellm
