# Two commands: `make run` and `make test`. Python 3.11+ and make are all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
export PORT

.PHONY: help run test test-all lint types check-front bench sample-report clean

help:
	@echo "make run        prepare everything and start Attune on PORT ($(PORT))"
	@echo "make test       set up what the tests need and run every check"
	@echo "make test-all   the same with the full simulations"
	@echo "make bench      every benchmark; results in var/bench"

# --- set-up: each step leaves a stamp and runs again only when its inputs change -------------------------------------
$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Attune needs Python 3.11 or newer: make PYTHON=python3.11 run"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet uv || echo "uv is not to be had here; pip does it, more slowly"
	@touch $@

$(VENV)/run.stamp: requirements.txt | $(VENV)/pip.stamp
	@echo "Installing packages (once; about a minute) …"
	@sh scripts/install.sh $(BIN) requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements.txt requirements-dev.txt | $(VENV)/pip.stamp
	@sh scripts/install.sh $(BIN) requirements-dev.txt
	@touch $@ $(VENV)/run.stamp

frontend/node_modules/.stamp: frontend/package-lock.json frontend/package.json | $(VENV)/run.stamp
	@echo "Installing the workbench's packages …"
	@cd frontend && PATH="$(abspath $(BIN)):$$PATH" npm ci --no-audit --no-fund --loglevel=error
	@touch $@

FRONTEND := $(shell find frontend/src -type f 2>/dev/null) frontend/vite.config.ts frontend/tsconfig.json
frontend/dist/.stamp: frontend/node_modules/.stamp $(FRONTEND)
	@echo "Building the workbench …"
	@cd frontend && PATH="$(abspath $(BIN)):$$PATH" npm run --silent build
	@touch $@

run: $(VENV)/run.stamp frontend/dist/.stamp
	@$(BIN)/python -m config.run

# --- checks -----------------------------------------------------------------------------------------------------------
lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp
	$(BIN)/mypy

check-front: $(VENV)/dev.stamp frontend/node_modules/.stamp
	cd frontend && PATH="$(abspath $(BIN)):$$PATH" npm run --silent check && PATH="$(abspath $(BIN)):$$PATH" npm test --silent

test: $(VENV)/dev.stamp frontend/dist/.stamp
	@sh scripts/check.sh $(BIN) "not slow"

test-all: $(VENV)/dev.stamp frontend/dist/.stamp
	@sh scripts/check.sh $(BIN) ""

bench: $(VENV)/dev.stamp frontend/dist/.stamp
	@$(BIN)/python -m benchmarks

sample-report: $(VENV)/run.stamp
	@sh scripts/sample-report.sh $(BIN)

clean:
	rm -rf $(VENV) frontend/node_modules frontend/dist staticfiles
