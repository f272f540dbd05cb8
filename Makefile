# The front door: `make` lists the targets. Needs Python 3.11 or newer and nothing else; everything goes into $(VENV).
# Other values on the command line: `make run ARGS="--http-port 0"`, `make test ARGS="-k wal"`, `make PYTHON=python3.12 test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command "make lock" --group build pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run test check warm lint format bench docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

run: $(VENV)/installed-run ## install what is needed and start the server with its store in ./data
	@$(BIN)/spanlake serve $(ARGS)

test: lint warm ## every check and every test
	$(BIN)/python -m pytest -q -n 2 $(ARGS)

check: lint warm ## every check and the fast tests
	$(BIN)/python -m pytest -q -n 2 -m "not slow" $(ARGS)

# Not once in every process of the tests, some of which wait for a server only so long.
warm: $(VENV)/installed-dev
	@$(BIN)/spanlake warmup

lint: $(VENV)/installed-dev ## formatting, lint, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/installed-dev ## rewrite the code in the project's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/installed-dev ## measure, and print the figures
	@for script in bench/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done

docs: $(VENV)/installed-run ## write docs/settings.md and docs/cli.md from the code
	$(BIN)/spanlake config --markdown > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(BIN)/spanlake --markdown > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

lock: $(VENV)/installed-dev ## take the newest versions that pyproject.toml allows into the lock files
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --extra dev --constraints requirements.lock --output-file requirements-dev.lock

clean: ## remove the virtual environment and all caches; never ./data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks build dist
	find src tests bench -name __pycache__ -prune -exec rm -rf {} +

# Stamps: each of these files says that its step is done since the files behind the colon changed.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "spanlake needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed-run: $(VENV)/created requirements.lock pyproject.toml
	@echo "installing into $(VENV) (a minute the first time)"
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/created requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV) with the development tools (minutes the first time)"
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
