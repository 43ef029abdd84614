# `make demo` and `make test` set up all they need; python3 must be 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?=
MINUTES ?= 10
KILLS ?= 200
SEED ?=
PORT ?=

.PHONY: demo test lint bench fuzz soak kills format clean k8s image

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

# the fuzzer is a compiled program of its own; what it learns stays beside it for the next run
.venv-fuzz/.done: pyproject.toml
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-fuzz/bin/python -m pip install --quiet --editable . --group fuzz
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
	$(BIN)/python tests/bench/state.py
	$(BIN)/python tests/bench/memory.py
	$(BIN)/python tests/bench/hostile.py
	$(BIN)/python tests/bench/backfill.py
	$(BIN)/python tests/bench/look.py

soak: $(VENV)/.dev
	$(BIN)/python tests/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

kills: $(VENV)/.dev
	$(BIN)/python tests/kills.py --kills $(KILLS) $(if $(SEED),--seed $(SEED))

fuzz: .venv-fuzz/.done $(VENV)/.dev .venv-litellm/.done
	mkdir -p .venv-fuzz/corpus
	.venv-fuzz/bin/python tests/fuzz/target.py -max_total_time=$(or $(SECONDS),60) -max_len=8192 \
		-rss_limit_mb=2048 -timeout=60 -report_slow_units=60 -print_final_stats=1 -artifact_prefix=tests/fuzz/findings/ \
		.venv-fuzz/corpus tests/fuzz/corpus tests/fuzz/findings
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -n 2 $$(grep -rl hypothesis tests --include='test_*.py')

# what k8s/ holds of dashboards/
k8s: $(VENV)/.dev
	$(BIN)/python k8s/make_monitoring.py

# podman or docker, whichever is there; BASE is any image with Python 3.11 or newer and pip
ENGINE ?= $(shell command -v podman || command -v docker)
IMAGE ?= ai-sidecar:latest
BASE ?=
image:
	@test -n "$(ENGINE)" || { echo 'make image needs podman or docker'; exit 1; }
	$(ENGINE) build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

clean:
	rm -rf $(VENV) .venv-litellm .venv-fuzz
